"""libvirtd, QEMU and the daemon killed or stopped in the middle: settled, never left."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from snapd.errors import Unavailable
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bus import PrivateBus
from tests.client import Client, Daemon
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import frozen, listed, note, on_disks, tag, tags

PLAIN = {"memory": "no", "quiesce": "no"}


def test_libvirtd_killed_and_started_is_noticed_and_the_next_event_heard(
    bed: PrivateLibvirt, client: Client, guest: Guest
) -> None:
    boot = guest.cmd("boot-id")
    bed.kill_libvirtd()
    client.until("it says so", lambda: not client.properties()["Connected"])
    row = client.domain("vm")
    assert row is not None and row["State"] == "running"
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        client.call("CreateSnapshot", "vm", "x")
    assert time.monotonic() - begun < 2
    bed.start_libvirtd()
    client.until("it is connected", lambda: client.properties()["Connected"], timeout=60)
    client.until("all is read", lambda: not client.properties()["Loading"], timeout=60)
    guest.virsh("suspend")
    client.until("the event is heard", lambda: (client.domain("vm") or {})["State"] == "paused")
    guest.virsh("resume")
    assert guest.cmd("boot-id") == boot
    client.create("vm", "after", **PLAIN)
    assert tags(guest) == [["after"], ["after"]]


def _plant(daemon: Daemon, guest: Guest, name: str) -> int:
    """The intent of a create by the monitor, as a daemon leaves it that dies in the middle."""
    intent = {
        "way": "monitor",
        "name": name,
        "description": "",
        "memory": False,
        "quiesce": "no",
        "state": "running",
        "instance": 0,
        "parent": "",
        "disks": {d.path.stem: str(d.path) for d in guest.disks},
        "left_out": ["hda"],
        "inactive_xml": guest.virsh("dumpxml", "--inactive", "--security-info"),
        "origin": "manual",
        "policies": [],
        "reason": "",
        "notes": [],
        "created": int(time.time()),
        "consistency": "",
        "pause_ms": -1,
    }
    with closing(sqlite3.connect(daemon.state / "store.sqlite")) as db, db:
        cursor = db.execute(
            "INSERT INTO jobs (verb, domain, domain_name, snapshot, policy, owner, state, intent,"
            " queued, started) VALUES ('create', ?, 'vm', ?, '', 0, 'running', ?, 1, 1)",
            (guest.uuid, name, json.dumps(intent)),
        )
        return int(cursor.lastrowid or 0)


@pytest.mark.parametrize("disks", [(0, 1), (0,), ()])
def test_create_broken_off_after_the_transaction_is_registered_or_removed(
    daemon: Daemon, bus: PrivateBus, guest: Guest, disks: tuple[int, ...]
) -> None:
    """A tag in all disks is registered, in one of them removed, in none: nothing happened."""
    daemon.kill()
    tag(guest, "half", *disks)
    job = _plant(daemon, guest, "half")
    daemon.start()
    with Client(bus.address) as client:
        path = f"/org/virtsnap/Snapd1/jobs/{job}"
        client.until("it is settled", lambda: client.job(path)["Finished"], timeout=60)
        row = client.job(path)
        whole = len(disks) == 2
        assert row["State"] == ("done" if whole else "failed")
        assert tags(guest) == ([["half"]] * 2 if whole else [[], []])
        assert listed(guest) == (["half"] if whole else [])
        assert client.rows("ListHistory", "vm", snapshot="half")
        if whole:
            assert client.snapshots("vm")["half"]["Origin"] == "manual"
            assert client.revert("vm", "half", safety_snapshot=False)["FinalState"] == "running"
            guest.wait()


def test_daemon_killed_while_libvirt_saves_ram_settles_it_at_start(
    daemon: Daemon, bus: PrivateBus, guest: Guest
) -> None:
    guest.cmd("fill", "40")
    with Client(bus.address) as client:
        know(client, guest)
        job = client.call("CreateSnapshot", "vm", "ram", memory="yes")
        client.until(
            "it has begun", lambda: client.job(job)["Phase"] == "taking", timeout=10, pause=0.01
        )
    daemon.kill()
    daemon.start()
    with Client(bus.address) as client:
        client.until("it is settled", lambda: client.job(job)["Finished"], timeout=90)
        row = client.job(job)
        made = "ram" in listed(guest)
        assert row["State"] == ("done" if made else "failed")
        # libvirt keeps RAM and state in the first disk; each disk has the tag, or none has it
        assert tags(guest) == ([["ram"], ["ram"]] if made else [[], []])


def test_daemon_killed_right_after_the_transaction_registers_it_and_thaws_at_start(
    daemon: Daemon, bus: PrivateBus, guest: Guest
) -> None:
    with Client(bus.address) as client:
        job = client.call("CreateSnapshot", "vm", "cut", memory="no", quiesce="require")
        await_tags(guest, [1, 1])
        daemon.kill()
    assert (listed(guest), frozen(guest)) == ([], "frozen"), "killed too late: nothing is shown"
    daemon.start()
    with Client(bus.address) as client:
        client.until("it is settled", lambda: client.job(job)["Finished"])
        assert client.job(job)["State"] == "done"
        assert client.snapshots("vm")["cut"]["Consistency"] == "crash"
        assert (listed(guest), tags(guest)) == (["cut"], [["cut"], ["cut"]])
        assert frozen(guest) == "thawed"
        (row,) = client.rows("ListHistory", "vm", snapshot="cut")
        assert (row["Verb"], row["Result"]) == ("create", "done")


def test_daemon_killed_in_the_middle_of_a_delete_settles_it_and_the_next_one_finishes(
    daemon: Daemon, bus: PrivateBus, guest: Guest
) -> None:
    with Client(bus.address) as client:
        client.create("vm", "going", **PLAIN)
        job = client.call("DeleteSnapshot", "vm", "going")
        await_tags(guest, [0, None])
        daemon.kill()
    assert listed(guest) == ["going"], "killed too late: nothing is shown"
    daemon.start()
    with Client(bus.address) as client:
        client.until("it is settled", lambda: client.job(job)["Finished"])
        assert client.job(job)["ErrorName"] == "org.virtsnap.Error.Partial"
        assert client.delete("vm", "going")["Deleted"] == ["going"]
    assert (listed(guest), tags(guest)) == ([], [[], []])


@pytest.mark.parametrize("pause", [0.0, 3.0])
def test_daemon_killed_in_the_middle_of_a_revert_says_how_libvirt_ended_it(
    daemon: Daemon, bus: PrivateBus, guest: Guest, pause: float
) -> None:
    note(guest, "then")
    boot = guest.cmd("boot-id")
    with Client(bus.address) as client:
        client.create("vm", "back", **PLAIN)
        note(guest, "now")
        job = client.call("RevertSnapshot", "vm", "back")
        client.until("it goes", lambda: client.job(job)["Phase"] == "reverting", pause=0.01)
        daemon.kill()
    time.sleep(pause)
    daemon.start()
    with Client(bus.address) as client:
        client.until("it is settled", lambda: client.job(job)["Finished"])
        row = client.job(job)
        guest.wait()
        if row["State"] == "failed" and not pause:  # killed before libvirt had the call
            assert row["ErrorMessage"].endswith("nothing had been done")
            time.sleep(5)  # nor does it come later
            assert (guest.cmd("boot-id"), on_disks(guest)) == (boot, ["now", "now"])
            return
        assert (row["State"], row["ErrorMessage"]) == ("done", "")
        assert row["Result"]["FinalState"] == "running"
        assert on_disks(guest) == ["then", "then"]
        safety = row["Result"]["SafetySnapshot"]
        assert safety in {snapshot["Path"] for snapshot in client.snapshots("vm").values()}


def test_sigterm_while_libvirt_saves_ram_waits_for_it_and_leaves_well(
    daemon: Daemon, bus: PrivateBus, guest: Guest
) -> None:
    guest.cmd("fill", "40")
    with Client(bus.address) as client:
        job = client.call("CreateSnapshot", "vm", "ram", memory="yes")
        client.until("it goes", lambda: client.job(job)["Phase"] == "taking", pause=0.01)
        assert daemon.stop() == 0
    daemon.start()
    with Client(bus.address) as client:
        client.until("it is settled", lambda: client.job(job)["Finished"])
        assert client.job(job)["State"] == "done"
        assert (listed(guest), tags(guest)) == (["ram"], [["ram"], ["ram"]])
        assert client.snapshots("vm")["ram"]["Origin"] == "manual"
    guest.cmd("sh", "rm /run/fill")


def test_libvirtd_killed_while_it_saves_ram_makes_nothing_and_what_it_left_is_said(
    bed: PrivateLibvirt, client: Client, guest: Guest
) -> None:
    """Started again, libvirt 9.0 either leaves the guest paused, or takes QEMU's late answer to the
    save for that to a question of its own, and ends QEMU (reason `daemon`)."""
    boot = guest.cmd("boot-id")
    guest.cmd("fill", "40")
    job = client.call("CreateSnapshot", "vm", "ram", memory="yes")
    client.until("QEMU saves", lambda: guest.state() == "paused", pause=0)
    bed.kill_libvirtd()
    bed.start_libvirtd()
    row = client.until("it is settled", lambda: (r := client.job(job))["Finished"] and r, 60)
    state = guest.state()
    assert (row["State"], listed(guest)) == ("failed", [])
    assert ("left paused" in row["ErrorMessage"]) == (state == "paused")
    assert ("is off now" in row["ErrorMessage"]) == (state == "shut off")
    if state != "shut off":
        assert tags(guest) == [[], []]
        guest.virsh("resume", check=False)
        assert guest.cmd("boot-id") == boot
        guest.cmd("sh", "rm /run/fill")


def test_libvirtd_that_hangs_is_given_up_and_found_again(
    bed: PrivateLibvirt, client: Client, guest: Guest
) -> None:
    bed.freeze_libvirtd()
    begun = time.monotonic()
    client.until("it says so", lambda: not client.properties()["Connected"], timeout=60)
    print(f"libvirtd hung: said after {time.monotonic() - begun:.1f} s")
    with pytest.raises(Unavailable):
        client.call("CreateSnapshot", "vm", "x")
    row = client.domain("vm")
    assert row is not None and row["State"] == "running"
    bed.thaw_libvirtd()
    client.until("it is connected", lambda: client.properties()["Connected"], timeout=60)
    client.create("vm", "after", **PLAIN)
    assert tags(guest) == [["after"], ["after"]]


@pytest.mark.parametrize("phase", ["checking", "taking"])
def test_vm_stuck_in_a_create_delays_no_other_and_ends_well_when_it_wakes(
    client: Client, guest: Guest, new_guest: NewGuest, phase: str
) -> None:
    stuck = new_guest("stuck").up()
    know(client, stuck)
    pid = int(Path(f"/run/libvirt/qemu/{stuck.name}.pid").read_text())
    if phase == "checking":
        os.kill(pid, signal.SIGSTOP)
    else:
        stuck.cmd("fill", "40")
    try:
        job = client.call("CreateSnapshot", "stuck", "late", memory="yes")
        client.until("it goes", lambda: client.job(job)["Phase"] == phase, pause=0.005)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1)
        begun = time.monotonic()
        assert client.domain("stuck") is not None
        assert "meanwhile" not in client.snapshots("vm")
        assert time.monotonic() - begun < 1
        client.create("vm", "meanwhile", **PLAIN)
        client.delete("vm", "meanwhile")
        assert time.monotonic() - begun < 4, "a stuck VM delays another one"
        print(f"lists, create, delete beside a stuck VM: {time.monotonic() - begun:.2f} s")
        assert not client.job(job)["Finished"]
        assert (listed(guest), tags(guest)) == ([], [[], []])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert client.wait(job)["Name"] == "late"
    assert stuck.tags(stuck.images[0]) == ["late"]
    assert client.snapshots("stuck")["late"]["Origin"] == "manual"


def await_tags(guest: Guest, counts: list[int | None]) -> None:
    """Return the instant the images' headers count so many snapshots (None = any number)."""
    handles = [os.open(path, os.O_RDONLY) for path in guest.images]
    deadline = time.monotonic() + 20
    try:
        while any(
            wanted is not None and int.from_bytes(os.pread(handle, 4, 60), "big") != wanted
            for handle, wanted in zip(handles, counts, strict=True)
        ):
            assert time.monotonic() < deadline, f"the images never held {counts} snapshots"
    finally:
        for handle in handles:
            os.close(handle)
