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

pytestmark = pytest.mark.long  # boots and breaks for minutes: packaging/check --all
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


def test_stuck_vm_delays_no_other(client: Client, guest: Guest, new_guest: NewGuest) -> None:
    other = new_guest("stuck").up()
    know(client, other)
    pid = int(Path(f"/run/libvirt/qemu/{other.name}.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        stuck = client.call("CreateSnapshot", "stuck", "late", **PLAIN)
        client.create("vm", "meanwhile", **PLAIN)
        assert client.domain("vm") is not None
        assert not client.job(stuck)["Finished"]
    finally:
        os.kill(pid, signal.SIGCONT)
    client.until("the stuck one ends", lambda: client.job(stuck)["Finished"], timeout=60)
    made = client.job(stuck)["State"] == "done"
    assert other.tags(other.images[0]) == (["late"] if made else [])
