"""What a real guest did by itself, told apart from what was done to it by us or by a revert."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.bed.guest import Guest
from tests.client import Client, Daemon, Row
from tests.qemu.conftest import NewGuest
from tests.qemu.steps import await_state, listed, tags
from tests.watched import PAST_THE_ECHO, Watched, watch

QEMU = "qemu:///system"
POLICY = 'domains = ["vm"]\non = ["shutdown"]\nmin_gap = "{gap}"\n[keep]\nlast = 9\n'


def kill(guest: Guest) -> None:
    """End its QEMU as the kernel does that is out of memory."""
    os.kill(int(Path(f"/run/libvirt/qemu/{guest.name}.pid").read_text()), signal.SIGKILL)


def test_start_shutdown_and_crash_are_told(new_guest: NewGuest, tmp_path: Path) -> None:
    guest = new_guest("vm-told", agent=False)
    guest.define()

    async def body(watched: Watched) -> None:
        guest.start()
        await watched.tells("start")
        await asyncio.to_thread(guest.wait)
        guest.cmd("poweroff")
        await watched.tells("shutdown")
        guest.start()
        await watched.tells("start")
        guest.virsh("destroy")
        await watched.tells("shutdown")
        guest.start()
        await watched.tells("start")
        kill(guest)
        await watched.tells("crash")

    watch(QEMU, guest.uuid, tmp_path, body)


def test_what_jobs_and_reverts_do_is_not_told(new_guest: NewGuest, tmp_path: Path) -> None:
    guest = new_guest("vm-done-to", agent=False)
    guest.define()
    guest.start()

    async def body(watched: Watched) -> None:
        await watched.own_doing()
        await asyncio.sleep(PAST_THE_ECHO)
        assert "shutdown" in watched.seen and "start" in watched.seen
        guest.virsh("start")
        await watched.tells("start")
        guest.virsh("snapshot-create-as", "by-hand")
        guest.virsh("snapshot-revert", "by-hand")
        guest.virsh("managedsave")
        guest.virsh("start")
        guest.virsh("suspend")
        guest.virsh("resume")
        guest.virsh("reset")
        guest.virsh("destroy")
        await watched.tells("shutdown")
        guest.virsh("snapshot-revert", "by-hand")
        guest.virsh("destroy")
        await watched.tells("shutdown")

    watch(QEMU, guest.uuid, tmp_path, body)


def test_shutdown_of_a_guest_is_snapshotted_but_not_within_min_gap_nor_by_a_revert(
    daemon: Daemon, guest: Guest, client: Client
) -> None:
    files = {name: daemon.config / "policies.d" / f"{name}.toml" for name in ("often", "rare")}
    files["often"].write_text(POLICY.format(gap="0s"))
    files["rare"].write_text(POLICY.format(gap="1h"))
    try:
        client.call("Reload")
        guest.cmd("poweroff")
        (first,) = _made(client, 1)
        assert (first["Origin"], first["Consistency"]) == ("event", "offline")
        assert first["Policies"] == ["often", "rare"]
        assert first["Name"].startswith("often-2")
        assert listed(guest) == [first["Name"]]
        assert tags(guest) == [[first["Name"]]] * 2
        guest.start()
        guest.wait()
        guest.cmd("poweroff")
        _, second = _made(client, 2)
        assert second["Policies"] == ["often"]
        for after, state in (("running", "running"), ("stopped", "shut off")):
            client.revert("vm", first["Name"], after=after, safety_snapshot=False)
            await_state(guest, state)
        guest.virsh("snapshot-revert", first["Name"])
        time.sleep(2)
        assert [row["Name"] for row in _made(client, 2)] == [first["Name"], second["Name"]]
    finally:
        for file in files.values():
            file.unlink()
        client.call("Reload")


def _made(client: Client, count: int) -> list[Row]:
    """What policies have made, once it is that much and nothing is at work."""
    client.until("it is made", lambda: len(client.snapshots("vm")) >= count, 40)
    client.until("it is done", lambda: all(j["Finished"] for j in client.rows("ListJobs")))
    rows = list(client.snapshots("vm").values())
    assert len(rows) == count, rows
    return rows
