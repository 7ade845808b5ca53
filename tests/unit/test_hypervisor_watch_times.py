"""When a change of libvirt's records was over, as it is told: whoever has looked since knows it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from snapd.errors import SnapdError, TimedOut
from snapd.hypervisor import DomainEvent, watch
from snapd.hypervisor.watch import Watch


class Host:
    """A folder of records of two VMs, and the time that was told of each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.at = folder, dict[str, float]()
        self.error: SnapdError | None = None

    async def names(self) -> dict[str, str]:
        if self.error:
            raise self.error
        return {"web": "web", "db": "db"}

    def tell(self, event: DomainEvent) -> None:
        self.at[event.uuid] = event.at

    def write(self, vm: str, snapshot: str) -> float:
        """As libvirt does; returns when it was done."""
        made = self.folder / vm
        made.mkdir(parents=True, exist_ok=True)
        (made / f"{snapshot}.xml.new").write_text("<domainsnapshot/>")
        (made / f"{snapshot}.xml.new").rename(made / f"{snapshot}.xml")
        return time.monotonic()

    async def told(self, vm: str) -> float:
        """The last time told, when no more comes."""
        await asyncio.sleep(6 * watch.GATHER_SECONDS)
        return self.at.pop(vm)


def play(host: Host, body: Callable[[Host], Awaitable[None]]) -> None:
    async def main() -> None:
        watcher = Watch(os.fsencode(host.folder), host.names, host.tell)
        task = asyncio.create_task(watcher.run())
        async with asyncio.timeout(30):
            await watcher.begun.wait()
            await body(host)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GATHER_SECONDS", 0.1)
    monkeypatch.setattr(watch, "REST_SECONDS", 0.1)


def test_change_is_told_with_its_own_time(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write("web", "old")

    async def body(host: Host) -> None:
        over = host.write("web", "new")
        await asyncio.sleep(watch.GATHER_SECONDS / 4)
        looked = time.monotonic()
        assert over <= await host.told("web") < looked

    play(host, body)


@pytest.mark.parametrize("writes", [2, 3 * watch.TAKES])
def test_time_told_of_many_changes_is_not_before_the_last(tmp_path: Path, writes: int) -> None:
    host = Host(tmp_path)
    host.write("web", "old")

    async def body(host: Host) -> None:
        over = 0.0
        for n in range(writes):
            over = host.write("web", f"n-{n}")
            await asyncio.sleep(watch.GATHER_SECONDS / 100)
        assert over <= await host.told("web") <= time.monotonic()

    play(host, body)


def test_no_time_is_told_where_a_change_may_not_have_been_seen(tmp_path: Path) -> None:
    """A folder that has just come is watched a little later, and one that goes no more."""
    host = Host(tmp_path)
    host.write("web", "old")

    async def body(host: Host) -> None:
        host.write("db", "new")
        assert await host.told("db") == 0
        host.write("web", "new")
        for file in (host.folder / "web").iterdir():
            file.unlink()
        (host.folder / "web").rmdir()
        assert await host.told("web") == 0

    play(host, body)


def test_change_is_told_once_a_busy_libvirt_lists_its_vms_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stays, so nothing else has them read."""
    monkeypatch.setattr(watch, "BUSY_SECONDS", 0.1)
    host = Host(tmp_path)
    host.write("web", "old")

    async def body(host: Host) -> None:
        host.error = TimedOut("cannot list the VMs: no answer from libvirt within 10 s")
        over = host.write("web", "new")
        await asyncio.sleep(0.5)
        assert not host.at
        asked = time.monotonic()
        host.error = None
        assert over <= await host.told("web") < asked

    play(host, body)
