"""What a real guest did by itself, told apart from what was done to it by us or by a revert."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.bed.guest import Guest
from tests.qemu.conftest import NewGuest
from tests.watched import PAST_THE_ECHO, Watched, watch

QEMU = "qemu:///system"


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
