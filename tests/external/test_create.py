"""Creates of external snapshots over D-Bus, of real guests: what came of them is said by libvirt,
qemu-img and the guest; going back is virsh's."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import SnapdError
from tests.bed.guest import Guest, virsh
from tests.client import Client, Daemon
from tests.external.test_overlays import header, sources
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import current, frozen, in_ram, listed, note, on_disks

PLAIN = {"kind": "external", "memory": "no", "quiesce": "no"}


@pytest.fixture
def two(new_guest: NewGuest, client: Client) -> Guest:
    """A running guest of a qcow2 and a raw disk, which the daemon knows."""
    guest = new_guest("two", disks=["qcow2", "raw"]).up()
    know(client, guest)
    return guest


def over(guest: Guest, name: str) -> list[str]:
    return [str(guest.folder / f"{guest.name}-vd{x}.{name}.qcow2") for x in "ab"]


def stands_on_both(guest: Guest, name: str, bases: list[str]) -> None:
    """Each disk is on a file of its own that is backed by what it was on, now and next time."""
    assert sources(guest) == over(guest, name)
    stored = guest.virsh("domblklist", "--details", "--inactive").splitlines()
    assert [row.split()[-1] for row in stored] == over(guest, name)
    for path, base in zip(over(guest, name), bases, strict=True):
        said = header(path)
        assert said["backing-filename"] == base
        form = "raw" if base.endswith(".raw") else "qcow2"
        assert said["backing-filename-format"] == form


def back(guest: Guest, name: str, *how: str) -> None:
    guest.virsh("snapshot-revert", name, *how)
    guest.wait()


def test_disk_only_of_running_guest_holds_both_disks_raw_ones_too(
    client: Client, two: Guest
) -> None:
    boot, bases = two.cmd("boot-id"), sources(two)
    note(two, "then")
    two.cmd("sh", "sync")
    with two.pulse() as pulse:
        made = client.create("two", "s1", **PLAIN)
    assert (made["Name"], made["Consistency"]) == ("s1", "crash")
    assert (listed(two), current(two)) == (["s1"], "s1")
    stands_on_both(two, "s1", bases)
    assert two.cmd("boot-id") == boot
    note(two, "now")
    row = client.snapshots("two")["s1"]
    assert (row["Kind"], row["State"], row["Origin"]) == ("external", "running", "manual")
    assert (row["Disks"], row["Status"]) == (["vda", "vdb"], "ok")
    print(f"standstill {pulse.standstill() * 1000:.0f} ms, told {row['PauseMilliseconds']} ms")
    client.create("two", "s2", **PLAIN)
    stands_on_both(two, "s2", over(two, "s1"))
    back(two, "s1", "--running")
    assert on_disks(two) == ["then", "then"]


def test_quiesced_by_the_agent_and_thawed_at_once(client: Client, two: Guest) -> None:
    note(two, "then")
    made = client.create("two", "s1", **{**PLAIN, "quiesce": "require"})
    assert made["Consistency"] == "quiesced"
    assert frozen(two) == "thawed"
    note(two, "now")
    back(two, "s1", "--running")
    assert on_disks(two) == ["then", "then"]


def test_shut_off_guest_goes_on_from_new_files(client: Client, two: Guest) -> None:
    note(two, "then")
    two.cmd("sh", "sync")
    bases = sources(two)
    two.virsh("destroy")
    know(client, two)
    made = client.create("two", "s1", **PLAIN)
    assert made["Consistency"] == "offline"
    stands_on_both(two, "s1", bases)
    two.start()
    two.wait()
    assert on_disks(two) == ["then", "then"]
    note(two, "now")
    two.virsh("destroy")
    two.virsh("snapshot-revert", "s1")
    two.start()
    two.wait()
    assert on_disks(two) == ["then", "then"]


def test_with_ram_while_the_guest_runs_on(client: Client, two: Guest) -> None:
    boot, bases = two.cmd("boot-id"), sources(two)
    note(two, "then")
    made = client.create("two", "s1", kind="external", memory="yes")
    assert made["Consistency"] == "memory"
    stands_on_both(two, "s1", bases)
    ram = two.folder / "two.s1.ram"
    assert ram.stat().st_mode & 0o777 == 0o600
    row = client.snapshots("two")["s1"]
    print(f"told {row['PauseMilliseconds']} ms")
    note(two, "now")
    two.virsh("snapshot-revert", "s1")
    assert (in_ram(two), on_disks(two)) == ("then", ["then", "then"])
    assert two.cmd("boot-id") == boot


def test_kind_auto_of_a_raw_disk_external_and_said(client: Client, two: Guest) -> None:
    looked = client.call("PreviewCreate", "two", "s1", memory="no")
    assert (looked["Verdict"], looked["Kind"]) == ("yes", "external")
    assert "disk vdb is raw" in next(
        row["Message"] for row in looked["Loses"] if row["Reason"] == "external"
    )
    client.create("two", "s1", memory="no", quiesce="no")
    row = client.snapshots("two")["s1"]
    assert (row["Kind"], row["Notes"]) == ("external", ["external"])
    assert client.call("PreviewCreate", "two", "s2", memory="no")["Kind"] == "external"
    refused = client.refused("CreateSnapshot", "two", "s2", kind="internal", memory="no")
    assert refused == ("Unsupported", "mixed-tree")


def test_file_in_the_way_is_left_as_it_is(client: Client, two: Guest) -> None:
    """Seen beforehand or not: an image, and somebody's notes."""
    before = {}
    for name, content in (("s1", b"QFI\xfb somebody's image"), ("s2", b"somebody's notes")):
        path = Path(over(two, name)[1])
        path.write_bytes(content)
        before[path] = content
        client.create("two", name, **PLAIN)
        assert not set(sources(two)) & set(over(two, name))
        assert all(source.endswith(".qcow2") for source in sources(two))
    ram = two.folder / "two.s3.ram"
    ram.write_bytes(b"somebody's notes")
    before[ram] = b"somebody's notes"
    there = sources(two)
    refused = client.refused("CreateSnapshot", "two", "s3", kind="external", memory="yes")
    assert refused[0] == "AlreadyExists"
    assert {path: path.read_bytes() for path in before} == before
    assert sources(two) == there
    assert sorted(two.folder.glob("*s3*")) == [ram]
    note(two, "now")


def test_daemon_killed_at_each_step_leaves_a_snapshot_or_nothing(
    client: Client, daemon: Daemon, bed: Any, two: Guest
) -> None:
    """Killed at once, and 20 to 300 ms later: the next one settles it by the facts."""
    del bed
    note(two, "kept")
    seen = set()
    for milliseconds in (0, 20, 40, 60, 80, 100, 130, 160, 200, 300):
        name = f"k{milliseconds}"
        there = sources(two)
        job = client.call("CreateSnapshot", "two", name, **PLAIN)
        time.sleep(milliseconds / 1000)
        daemon.kill()
        daemon.start()
        made = _ended(client, job)
        seen.add(made)
        assert (name in listed(two)) is made
        assert (sources(two) == there) is not made
        if made:
            stands_on_both(two, name, there)
            assert client.snapshots("two")[name]["Status"] == "ok"
            assert client.snapshots("two")[name]["Origin"] == "manual"
        else:
            assert list(two.folder.glob(f"*.{name}*")) == []
    print(f"made: {sorted(seen)}")
    assert on_disks(two) == ["kept", "kept"]
    assert two.state() == "running"


def _ended(client: Client, job: str) -> bool:
    try:
        client.wait(job)
    except SnapdError:
        return False
    return True


def test_libvirtd_killed_in_the_middle_leaves_a_snapshot_or_nothing(
    client: Client, bed: Any, two: Guest
) -> None:
    note(two, "kept")
    for milliseconds in (20, 60, 100, 150):
        name = f"k{milliseconds}"
        there = sources(two)
        job = client.call("CreateSnapshot", "two", name, **PLAIN)
        time.sleep(milliseconds / 1000)
        os.kill(bed.libvirtd_pid(), signal.SIGKILL)
        bed.mend_libvirtd()
        made = _ended(client, job)
        assert (name in listed(two)) is made
        assert (sources(two) == there) is not made
        know(client, two)
    assert on_disks(two) == ["kept", "kept"]


def test_pools_are_as_they_were(client: Client, two: Guest) -> None:
    before = virsh("pool-list", "--all")
    client.create("two", "s1", **PLAIN)
    assert virsh("pool-list", "--all") == before
    told = json.dumps(client.job(client.rows("ListJobs")[-1]["Path"]), default=str)
    assert str(two.folder) not in told
