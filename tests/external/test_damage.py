"""Chains of real guests that somebody damaged, at every layer: what Audit and the verbs say of it,
that nothing is made worse, and that all is well again when it is mended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.guest import Guest
from tests.client import Client
from tests.external.moments import calm
from tests.external.test_audit import aside, audit, overlay, statuses, sums, words
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import listed, note, on_disks

PLAIN = {"kind": "external", "memory": "no", "quiesce": "no"}
MOVED = ("moved-layer", "vda")
WORD = "not-in-chain"


@pytest.fixture
def chained(client: Client, new_guest: NewGuest, request: pytest.FixtureRequest) -> Guest:
    """A running guest of that name on a chain of three."""
    guest = new_guest(request.param, disks=["qcow2", "raw"], disk_mib=16, memory=128)
    guest.define()
    guest.start()
    calm(guest)
    know(client, guest)
    for name in ("s1", "s2", "s3"):
        note(guest, name)
        client.create(guest.name, name, **PLAIN)
    note(guest, "now")
    assert audit(client, guest) == set()
    return guest


def verdicts(client: Client, guest: Guest, verb: str) -> dict[str, str]:
    return {name: client.call(verb, guest.name, name)["Verdict"] for name in listed(guest)}


def goes_back_to(client: Client, guest: Guest, *names: str) -> None:
    for name in names:
        client.revert(guest.name, name, safety_snapshot=False)
        calm(guest)
        assert on_disks(guest) == [name, name]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chained", ["committed"], indirect=True)
def test_overlay_that_another_tool_committed_is_told_and_what_it_overwrote_is_no_way_back(
    client: Client, chained: Guest
) -> None:
    guest = chained
    three, two, one = (overlay(guest, name) for name in ("s3", "s2", "s1"))
    guest.virsh("blockcommit", "vda", "--wait", "--top", str(two), "--base", str(one))
    know(client, guest)
    proof = f"{three} stands on {one}, and on {two} by libvirt's record of snapshot s3"
    assert audit(client, guest) == {(*MOVED, proof)}
    assert verdicts(client, guest, "PreviewDelete") == dict.fromkeys(("s1", "s2", "s3"), WORD)
    assert verdicts(client, guest, "PreviewRevert") == {"s1": "yes", "s2": WORD, "s3": "yes"}
    before = sums(guest).keys()
    for verb in ("RevertSnapshot", "DeleteSnapshot"):
        assert client.refused(verb, guest.name, "s2") == ("Inconsistent", WORD)
    assert (sums(guest).keys(), on_disks(guest)) == (before, ["now", "now"])
    goes_back_to(client, guest, "s3", "s1")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chained", ["pulled"], indirect=True)
def test_chain_that_another_tool_pulled_up_is_told_and_every_moment_is_right(
    client: Client, chained: Guest
) -> None:
    guest = chained
    guest.virsh("blockpull", "vda", "--wait")
    know(client, guest)
    top, two = overlay(guest, "s3"), overlay(guest, "s2")
    proof = f"{top} stands on nothing, and on {two} by libvirt's record of snapshot s3"
    assert audit(client, guest) == {(*MOVED, proof)}
    assert verdicts(client, guest, "PreviewDelete") == dict.fromkeys(("s1", "s2", "s3"), WORD)
    goes_back_to(client, guest, "s2", "s3")


@contextmanager
def zeroed(path: Path) -> Iterator[None]:
    """While the file is no image."""
    sound = path.read_bytes()
    path.write_bytes(bytes(512) + sound[512:])
    try:
        yield
    finally:
        path.write_bytes(sound)


def test_layer_that_is_gone_or_no_image_is_named_by_audit_and_keeps_every_verb_off(
    client: Client, new_guest: NewGuest
) -> None:
    guest = new_guest("hurt-off", disks=["qcow2", "raw"], disk_mib=16, memory=128)
    guest.define()
    know(client, guest)
    names = ("s1", "s2", "s3")
    for name in names:
        client.create(guest.name, name, **PLAIN)
    assert audit(client, guest) == set()
    before, (base, raw), middle = sums(guest), guest.images, overlay(guest, "s1")
    for file, target, lost in ((base, "vda", 3), (raw, "vdb", 3), (middle, "vda", 2)):
        with aside(file):
            found = {("missing-layer", file.name), ("unchecked", target)}
            assert words(audit(client, guest)) == found
            held = ["ok"] * (3 - lost) + ["broken"] * lost
            assert [*statuses(client, guest).values()] == held
            for verb in ("PreviewRevert", "PreviewDelete"):
                assert verdicts(client, guest, verb) == dict.fromkeys(names, "missing-file")
            refused = client.refused("CreateSnapshot", guest.name, "s4", **PLAIN)
            assert refused == ("PreflightFailed", "missing-file")
    for file in (base, middle):
        with zeroed(file):
            assert ("broken-layer", file.name) in words(audit(client, guest))
            for verb in ("PreviewRevert", "PreviewDelete"):
                assert "yes" not in verdicts(client, guest, verb).values()
    assert audit(client, guest) == set()
    assert statuses(client, guest) == dict.fromkeys(names, "ok")
    for verb in ("PreviewRevert", "PreviewDelete"):
        assert verdicts(client, guest, verb) == dict.fromkeys(names, "yes")
    assert sums(guest) == before
