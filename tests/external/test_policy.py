"""A policy on guests that internal snapshots can't serve: external ones, merged by retention."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bed.guest import Guest
from tests.bus import PrivateBus
from tests.client import Client, Daemon, Row
from tests.external.standing import chain_of, stands_alone
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import listed, note, on_disks, qemu_img


@contextmanager
def _policy(daemon: Daemon, client: Client, keep: int) -> Iterator[None]:
    """A policy on every VM, which runs when it is told to."""
    path = daemon.config / "policies.d" / "chains.toml"
    path.write_text(f'domains = ["*"]\nschedule = "@yearly"\n[keep]\nlast = {keep}\n')
    client.call("Reload")
    try:
        yield
    finally:
        path.unlink()
        client.call("Reload")


def _run(client: Client, guest: Guest) -> str:
    """Run it by hand on one VM; the name of what it made. The next one is of another second."""
    run = client.wait(client.call("RunPolicy", "chains", domain=guest.name), 180)
    (row,) = run["Domains"]
    assert (row["Outcome"], row["Reason"]) == ("made", ""), row
    done = int(time.time())
    client.until("another second", lambda: time.time() >= done + 1)
    (newest,) = [r for r in client.snapshots(guest.name).values() if r["Current"]]
    return str(newest["Name"])


def _fates(client: Client, guest: Guest) -> dict[str, Row]:
    return {row["Name"]: row for row in client.rows("PreviewRetention", guest.name, "")}


def test_policy_makes_external_ones_of_a_raw_disk_and_merges_what_it_lets_go(
    daemon: Daemon, client: Client, bus: PrivateBus, new_guest: NewGuest
) -> None:
    raw = new_guest("rawvm", disks=["qcow2", "raw"]).up()
    plain = new_guest("plain", disks=1)
    plain.define()
    know(client, raw)
    know(client, plain)
    with _policy(daemon, client, keep=3):
        told = {r["DomainName"]: r for r in client.rows("ListCoverage", "chains")}
        assert (told["rawvm"]["Verdict"], told["rawvm"]["Kind"]) == ("yes", "external")
        assert "vdb" in told["rawvm"]["Why"]
        assert (told["plain"]["Verdict"], told["plain"]["Kind"]) == ("yes", "internal")
        made = []
        for n in range(6):
            note(raw, f"before-{n}")
            made.append(_run(client, raw))
        note(raw, "now")
        assert sorted(listed(raw)) == sorted(made[3:])
        rows = client.snapshots("rawvm")
        assert {(r["Kind"], r["Status"], r["Origin"]) for r in rows.values()} == {
            ("external", "ok", "policy")
        }
        for target in ("vda", "vdb"):
            assert len(chain_of(raw, target)) == 1 + 3
        left = sorted(p.name for p in raw.folder.iterdir() if p.suffix == ".qcow2")
        assert len(left) == 1 + 2 * 3, left
        assert on_disks(raw) == ["now", "now"]
        assert [p for p in client.rows("ListProblems") if p["DomainName"] == "rawvm"] == []
        client.wait(client.call("RevertSnapshot", "rawvm", made[3], safety_snapshot=False))
        raw.wait()
        assert on_disks(raw) == ["before-3", "before-3"]


def test_branch_that_a_revert_left_defers_what_is_below_it_until_it_goes(
    daemon: Daemon, client: Client, bus: PrivateBus, new_guest: NewGuest
) -> None:
    guest = new_guest("branched", disks=["raw"]).up()
    know(client, guest)
    with _policy(daemon, client, keep=2):
        note(guest, "one")
        first = _run(client, guest)
        note(guest, "two")
        second = _run(client, guest)
        client.wait(client.call("RevertSnapshot", "branched", first, safety_snapshot=False))
        guest.wait()
        assert on_disks(guest) == ["one"]
        third = _run(client, guest)
        fate = _fates(client, guest)[first]
        assert (fate["Keep"], fate["Reasons"][-1]) == (False, "deferred: branching")
        assert sorted(listed(guest)) == sorted([first, second, third])
        note(guest, "three")
        fourth = _run(client, guest)
        assert sorted(listed(guest)) == sorted([third, fourth])
        assert len(chain_of(guest, "vda")) == 1 + 2
        assert on_disks(guest) == ["three"]
        assert len([p for p in guest.folder.iterdir() if "branched-" in p.name]) == 2
        client.wait(client.call("RevertSnapshot", "branched", third, safety_snapshot=False))
        guest.wait()
        assert on_disks(guest) == ["one"]


@pytest.mark.long
def test_big_qcow2_gets_external_ones_since_internal_ones_would_stand_it_still(
    daemon: Daemon, client: Client, bus: PrivateBus, new_guest: NewGuest
) -> None:
    """200 GiB whose metadata alone are there; then for comparison what was spared the guest."""
    guest = new_guest("huge", disks=2)
    qemu_img("resize", "-f", "qcow2", "--preallocation=metadata", guest.images[1], "200G")
    guest.up()
    know(client, guest)
    looked = client.call("PreviewCreate", "huge", "", memory="no")
    assert (looked["Verdict"], looked["Kind"]) == ("yes", "external")
    (why,) = (row["Message"] for row in looked["Loses"])
    assert "would stand it still for about 2.8 s" in why
    note(guest, "one")
    with _policy(daemon, client, keep=1):
        first = _run(client, guest)
        row = client.snapshots("huge")[first]
        assert (row["Kind"], row["Notes"], row["Status"]) == ("external", ["external"], "ok")
        (told,) = client.rows("ListCoverage", "chains")
        assert (told["Verdict"], told["Kind"]) == ("yes", "external")
        note(guest, "two")
        with guest.pulse() as pulse:
            second = _run(client, guest)
        assert listed(guest) == [second]
        stands_alone(guest, [second])
    client.wait(client.call("DeleteSnapshot", "huge", second))
    assert listed(guest) == []
    stands_alone(guest, [])
    assert on_disks(guest) == ["two", "two"]
    with guest.pulse() as inside:
        client.create("huge", "inside", kind="internal", memory="no", quiesce="no")
    spared, external = inside.standstill(), pulse.standstill()
    print(f"made and merged external: {external * 1000:.0f} ms, internal: {spared * 1000:.0f} ms")
    assert spared > 2 * external
