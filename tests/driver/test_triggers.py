"""What a VM did by itself, told apart from what was done to it by us."""

from __future__ import annotations

import asyncio
from pathlib import Path

import libvirt

from tests.driver.house import HOST, WEB1
from tests.watched import PAST_THE_ECHO, Watched, watch

DUMP_CRASH = libvirt.VIR_DUMP_CRASH


def domain(watched: Watched) -> libvirt.virDomain:
    """In the connection of the room itself: the test driver's state lives in it."""
    conn = watched.hypervisor._connections._main
    assert conn is not None
    return conn.lookupByUUIDString(WEB1)


def test_start_shutdown_and_crash_are_told(tmp_path: Path) -> None:
    async def body(watched: Watched) -> None:
        dom = domain(watched)
        dom.shutdown()
        await watched.tells("shutdown")
        dom.create()
        await watched.tells("start")
        dom.destroy()
        await watched.tells("shutdown")
        dom.create()
        await watched.tells("start")
        dom.coreDump(str(tmp_path / "core"), DUMP_CRASH)
        await watched.tells("crash")

    watch(f"test://{HOST}", WEB1, tmp_path, body)


def test_what_jobs_do_is_not_told(tmp_path: Path) -> None:
    async def body(watched: Watched) -> None:
        await watched.own_doing()
        await asyncio.sleep(PAST_THE_ECHO)
        assert "shutdown" in watched.seen and "start" in watched.seen
        domain(watched).create()
        await watched.tells("start")

    watch(f"test://{HOST}", WEB1, tmp_path, body)


def test_pause_reboot_and_a_revert_of_somebody_else_are_not_told(tmp_path: Path) -> None:
    async def body(watched: Watched) -> None:
        dom = domain(watched)
        dom.revertToSnapshot(dom.snapshotLookupByName("by-hand"), 0)
        dom.suspend()
        dom.resume()
        dom.reboot()
        dom.shutdown()
        await watched.tells("shutdown")

    watch(f"test://{HOST}", WEB1, tmp_path, body)
