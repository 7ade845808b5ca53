"""Deleting external snapshots of real guests: libvirt merges, in any order, running and off. What
the guest has stays, what the other snapshots hold stays, no file is left, the images are sound."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.client import Client
from tests.external.standing import chain_of, stands_alone, targets
from tests.qemu.conftest import know
from tests.qemu.steps import listed, note, on_disks, qemu_img

NAMES = ("s1", "s2", "s3")
LONG = pytest.mark.long
SHORT = (("s1", "s2", "s3"), ("s2", "s3", "s1"), ("s3", "s2", "s1"))
ORDERS = [
    pytest.param(order, id="-".join(order), marks=() if order in SHORT else LONG)
    for order in permutations(NAMES)
]
EXTERNAL = {"kind": "external", "memory": "no", "quiesce": "no"}


def _bases(guest: Guest, name: str) -> dict[str, str]:
    """target -> the file that holds what the snapshot goes back to, by libvirt's record."""
    root = ET.fromstring(guest.virsh("snapshot-dumpxml", name))
    return {
        disk.find("target").get("dev", ""): disk.find("source").get("file", "")  # type: ignore[union-attr]
        for disk in root.iterfind("domain/devices/disk")
    }


class Copies:
    """What each snapshot held when it was made, to be compared with what it holds now."""

    def __init__(self, guest: Guest, folder: Path) -> None:
        self._guest, self._folder = guest, folder

    def take(self, name: str) -> None:
        for target, file in _bases(self._guest, name).items():
            copy = self._folder / f"{name}-{target}"
            qemu_img("convert", "-U", "-f", "qcow2", "-O", "qcow2", file, copy)

    def agree(self, name: str) -> None:
        for target, file in _bases(self._guest, name).items():
            copy = self._folder / f"{name}-{target}"
            qemu_img("compare", "-U", "-f", "qcow2", "-F", "qcow2", file, copy)


@pytest.fixture(scope="module")
def module_three(session_bed: PrivateLibvirt) -> Iterator[Guest]:
    hardware = Hardware(agent=False)
    guest = Guest.make("three", session_bed.images, disks=2, disk_mib=32, hardware=hardware)
    yield guest.up()
    session_bed.mend_libvirtd()
    guest.remove()


@pytest.fixture
def three(module_three: Guest, client: Client, tmp_path: Path) -> Guest:
    """A running guest without a snapshot on its first files."""
    guest = module_three
    if guest.state() != "running":
        guest.start()
    guest.wait()
    assert listed(guest) == []
    know(client, guest)
    return guest


def _make_three(client: Client, guest: Guest, copies: Copies) -> None:
    for name in NAMES:
        note(guest, f"before {name}")
        guest.cmd("sh", "sync")
        client.create(guest.name, name, **EXTERNAL)
        copies.take(name)
    note(guest, "now")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("state", ["running", "off"])
def test_three_go_in_any_order(
    client: Client, three: Guest, tmp_path: Path, order: tuple[str, ...], state: str
) -> None:
    copies = Copies(three, tmp_path)
    _make_three(client, three, copies)
    stands_alone(three, list(NAMES))
    if state == "off":
        three.cmd("sh", "sync")
        three.virsh("destroy")
        know(client, three)
    left = list(NAMES)
    for name in order:
        result = client.delete(three.name, name)
        assert result["Deleted"] == [name]
        left.remove(name)
        stands_alone(three, left)
        rows = client.snapshots(three.name)
        assert [(r["Name"], r["Status"]) for r in rows.values()] == [(n, "ok") for n in left]
        parents = [r["Parent"].rpartition("/")[2] for r in rows.values()]
        assert parents == ["", *left[:-1]][: len(left)]
        for other in left:
            copies.agree(other)
    assert [chain_of(three, t) for t in targets(three)] == [[d.path] for d in three.disks]
    if state == "off":
        assert three.state() == "shut off"
        three.start()
        three.wait()
    assert on_disks(three) == ["now", "now"]


def test_children_go_with_it_and_all_of_ours_at_once(
    client: Client, three: Guest, tmp_path: Path
) -> None:
    copies = Copies(three, tmp_path)
    _make_three(client, three, copies)
    looked = client.call("PreviewDelete", three.name, "s2", children=True)
    assert (looked["Verdict"], looked["Kind"]) == ("yes", "external")
    assert looked["SpaceNeed"] > 0
    assert client.delete(three.name, "s2", children=True)["Deleted"] == ["s3", "s2"]
    stands_alone(three, ["s1"])
    copies.agree("s1")
    client.create(three.name, "s4", **EXTERNAL)
    job = client.call("DeleteOwnSnapshots", three.name, manual=True)
    assert sorted(client.wait(job)["Deleted"]) == ["s1", "s4"]
    stands_alone(three, [])
    assert on_disks(three) == ["now", "now"]


def test_branches_are_refused_until_their_leaves_are_gone(client: Client, three: Guest) -> None:
    note(three, "first")
    three.cmd("sh", "sync")
    client.create(three.name, "s1", **EXTERNAL)
    client.create(three.name, "s2", **EXTERNAL)
    three.virsh("snapshot-revert", "s1", "--running")
    three.wait()
    know(client, three)
    files = set(three.folder.iterdir())
    assert client.refused("DeleteSnapshot", three.name, "s1") == ("Unsupported", "active-non-leaf")
    client.create(three.name, "s3", **EXTERNAL)
    assert client.refused("DeleteSnapshot", three.name, "s1") == ("Unsupported", "branching")
    assert files < set(three.folder.iterdir())
    client.delete(three.name, "s2")
    assert sorted(listed(three)) == ["s1", "s3"]
    assert not any("s1" in f.name for f in three.folder.iterdir() if f.suffix == ".qcow2")
    client.delete(three.name, "s3")
    client.delete(three.name, "s1")
    stands_alone(three, [])
    assert on_disks(three) == ["first", "first"]


def test_ram_goes_with_it(client: Client, three: Guest) -> None:
    client.create(three.name, "s1", kind="external", memory="yes")
    (ram,) = (f for f in three.folder.iterdir() if f.suffix == ".ram")
    client.delete(three.name, "s1")
    assert not ram.exists()
    stands_alone(three, [])


def test_image_that_needs_the_base_of_another_is_no_merge(client: Client, three: Guest) -> None:
    """Somebody's clone stands on the first disk: it would read what the guest wrote since."""
    client.create(three.name, "s1", **EXTERNAL)
    clone = three.folder / "clone.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", three.disks[0].path, clone)
    clone_xml = three.xml.replace("<name>three</name>", "<name>clone</name>")
    clone_xml = clone_xml.replace(three.uuid, "11111111-2222-4333-8444-555555555555")
    clone_xml = clone_xml.replace(str(three.disks[0].path), str(clone))
    clone_xml = clone_xml.replace(str(three.disks[1].path), str(clone.with_suffix(".none")))
    three.define(clone_xml)
    try:
        refused = client.refused("DeleteSnapshot", three.name, "s1")
        assert refused == ("Protected", "shared-base")
    finally:
        subprocess.run(["virsh", "-c", "qemu:///system", "undefine", "clone"], check=True)
        clone.unlink()
    client.delete(three.name, "s1")
    stands_alone(three, [])


def test_merge_that_libvirt_left_between_two_disks_is_finished(
    client: Client, three: Guest
) -> None:
    """As a libvirtd that was killed between the disks leaves it; its own delete fails for ever."""
    note(three, "before")
    client.create(three.name, "s1", **EXTERNAL)
    note(three, "now")
    three.cmd("sh", "sync")
    three.virsh("blockcommit", "vda", "--active", "--pivot", "--delete")
    said = three.virsh("snapshot-delete", "s1", check=False)
    assert "failed to find" in said
    three.virsh("destroy")
    know(client, three)
    files = set(three.folder.iterdir())
    assert client.refused("DeleteSnapshot", three.name, "s1") == ("Partial", "half-made")
    assert set(three.folder.iterdir()) == files
    three.start()
    three.wait()
    know(client, three)
    assert client.delete(three.name, "s1")["Deleted"] == ["s1"]
    stands_alone(three, [])
    assert on_disks(three) == ["now", "now"]
