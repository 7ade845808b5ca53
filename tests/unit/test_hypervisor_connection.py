"""The connection that is kept up, and left down where somebody has stopped libvirt."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import libvirt
import pytest

from snapd.errors import Unavailable
from snapd.hypervisor import connection
from snapd.hypervisor.connection import Connections
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor

HOST = Path(__file__).parents[1] / "data" / "testdriver" / "host.xml"
STOPPED = "libvirtd was stopped: systemctl start libvirtd"


class Server:
    """A stand-in for systemd: why is what it says when it is asked."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.connects = self.asked = 0

    async def connected(self) -> None:
        self.connects += 1

    async def stopped(self) -> str:
        self.asked += 1
        return self.why


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STOPPED_SECONDS", 0.02)


@asynccontextmanager
async def kept(
    uri: str, server: Server | None = None
) -> AsyncIterator[tuple[Connections, list[bool]]]:
    told: list[bool] = []
    made = Connections(uri, lambda _conn: None, told.append)
    task = asyncio.create_task(made.keep(server))
    try:
        yield made, told
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.close()


async def becomes(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


def test_one_that_was_stopped_is_not_dialled_until_it_runs_again() -> None:
    async def main() -> None:
        server = Server()
        async with kept("test:///default", server) as (made, told):
            await becomes(lambda: server.connects == 1)
            server.why = STOPPED
            made._lost.set()
            await becomes(lambda: not made.connected)
            asked = server.asked
            await becomes(lambda: server.asked > asked + 5)
            assert (told, made.error) == ([True, False], STOPPED)
            with pytest.raises(Unavailable, match="systemctl start libvirtd"):
                await made.read("list VMs", lambda conn: conn.numOfDomains())
            server.why = ""
            await becomes(lambda: server.connects == 2)
            assert (told, made.error) == ([True, False, True], "")

    asyncio.run(main())


def test_one_that_only_went_is_dialled_at_once() -> None:
    async def main() -> None:
        server = Server()
        async with kept("test:///default", server) as (made, told):
            await becomes(lambda: server.connects == 1)
            made._lost.set()
            await becomes(lambda: server.connects == 2)
            assert told == [True, False, True]

    asyncio.run(main())


@pytest.mark.parametrize("there", [True, False])
def test_libvirt_is_tried_when_the_first_try_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    begun, go_on, told = threading.Event(), threading.Event(), list[tuple[bool, bool]]()
    dial = Connections._dial

    def slowly(self: Connections) -> libvirt.virConnect:
        begun.set()
        go_on.wait(10)
        return dial(self)

    monkeypatch.setattr(Connections, "_dial", slowly)

    async def main() -> None:
        nowhere = f"qemu:///system?socket={tmp_path}/libvirt-sock"
        made = LibvirtHypervisor(f"test://{HOST}" if there else nowhere)
        made.on_connection(lambda up: told.append((up, made.tried)))
        task = asyncio.create_task(made.keep())
        await becomes(begun.is_set)
        assert (made.tried, told) == (False, [])
        go_on.set()
        await becomes(lambda: bool(told))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (told[0], made.tried, made.connected) == ((there, True), True, False)
        await made.close()

    asyncio.run(main())


def test_libvirt_of_a_session_is_not_started_and_the_error_says_who_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "BACKOFF_SECONDS", (0.01, 30.0))
    monkeypatch.setattr(connection, "SESSION_SECONDS", 0.01)
    caplog.set_level("WARNING")

    async def main() -> None:
        uri = f"qemu:///session?socket={tmp_path}/libvirt-sock"
        async with kept(uri) as (made, told):
            await becomes(lambda: bool(told))
            await asyncio.sleep(0.2)
            assert told == [False]
            with pytest.raises(Unavailable, match="start virt-manager, or virsh"):
                await made.read("list VMs", lambda conn: conn.numOfDomains())

    asyncio.run(main())
    assert caplog.text.count("cannot connect to libvirt") == 1  # said once, not each time


def test_connections_that_nobody_needs_are_closed_but_the_main_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """libvirtd wakes the daemon on each of them, again and again."""
    monkeypatch.setattr(connection, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.2)

    async def main() -> None:
        async with kept("test:///default") as (made, _told):
            await becomes(lambda: made.connected)
            made.shared = False  # as of a real libvirt
            go_on = threading.Event()
            held = asyncio.create_task(made.act("wait", lambda _conn: go_on.wait(10)))
            look = partial(made.look, "look", timeout=10, answered=lambda: None)
            await asyncio.gather(*(look(call=lambda _conn: time.sleep(0.1)) for _ in range(3)))
            looks, verbs = made._lanes["look"], made._lanes["verb"]
            conns = [lane.conn for lane in looks]
            assert (len(looks), len(verbs)) == (3, 1)
            await becomes(lambda: not looks)
            await becomes(lambda: not any(is_open(conn) for conn in conns))
            assert len(verbs) == 1  # a call is on it
            go_on.set()
            await held
            await becomes(lambda: not verbs)
            assert await look(call=lambda conn: conn.isAlive()) == 1  # when it's needed: a new one
            assert made.connected

    asyncio.run(main())


def is_open(conn: libvirt.virConnect) -> bool:
    return conn._o is not None
