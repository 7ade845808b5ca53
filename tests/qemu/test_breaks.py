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
from tests.qemu.steps import listed, tag, tags

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


@pytest.mark.parametrize("off", [False, True])
def test_create_broken_off_with_a_tag_in_one_disk_is_removed_from_it(
    daemon: Daemon, bus: PrivateBus, guest: Guest, off: bool
) -> None:
    """Also where the VM is off by then: nobody but libvirt can remove a tag from its image."""
    daemon.kill()
    tag(guest, "half", 0)
    job = _plant(daemon, guest, "half")
    if off:
        guest.virsh("destroy")
    daemon.start()
    with Client(bus.address) as client:
        path = f"/org/virtsnap/Snapd1/jobs/{job}"
        client.until("it is settled", lambda: client.job(path)["Finished"], timeout=60)
        row = client.job(path)
        assert (row["State"], row["ErrorDetail"].get("Reason", "")) == ("failed", "")
        assert row["ErrorMessage"].endswith("nothing had been done")
        assert (tags(guest), listed(guest)) == ([[], []], [])
        assert client.rows("ListHistory", "vm", snapshot="half")


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
    assert ("the VM is off now" in row["ErrorMessage"]) == (state == "shut off")
    assert tags(guest) == [[], []]
    if state != "shut off":
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
