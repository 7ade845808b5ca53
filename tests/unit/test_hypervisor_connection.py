"""The connection that is kept up, and left down where somebody has stopped libvirt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from snapd.errors import Unavailable
from snapd.hypervisor import connection
from snapd.hypervisor.connection import Connections

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
