"""A VM whose images can be looked at, and the rooms that judge whether it has changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.hypervisor import DomainEvent, DomainFacts, EventKind
from snapd.inventory import Inventory
from snapd.model import (
    Consistency,
    DomainInfo,
    Origin,
    Record,
    SnapshotInfo,
    SnapshotKey,
    State,
)
from snapd.operations import (
    Asker,
    Catalog,
    DeleteWish,
    Job,
    Jobs,
    Operations,
    RevertWish,
    Wish,
)
from snapd.policy.resting import Resting
from snapd.store import Store
from tests.unit.standin import StandIn, play
from tests.unit.vms import OFF, UUID

ASKER = Asker(1000)
DAY = 86400


class Vm(StandIn):
    """Off. What libvirt does to its snapshots is written to its images. gate: what the answer
    about a stamp waits for; reading: what the facts wait for; acting: what an act waits for in the
    middle."""

    def __init__(self, *snapshots: SnapshotInfo) -> None:
        super().__init__(OFF, snapshots, *(s.name for s in snapshots))
        self.gate, self.reading, self.acting = (asyncio.Event() for _ in range(3))
        for event in (self.gate, self.reading, self.acting):
            event.set()
        self.stamping = False
        self.holder = ""
        self.unreadable = False

    def tell(self, *kinds: EventKind) -> None:
        for kind in kinds:
            for call in self.on_events:
                call(DomainEvent(UUID, kind))

    def start_and_stop(self) -> None:
        """As a guest that is up for so short a time that no listing meets it."""
        self.tell(EventKind.STARTED, EventKind.RESUMED, EventKind.OTHER, EventKind.STOPPED)

    def lose_connection(self) -> None:
        for up in (False, True):
            self.connected = up
            for call in self.on_connections:
                call(up)

    async def read(self, _uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
        self._step("read", done=False)
        return await super().read(_uuid)

    async def facts(self, _uuid: str, snapshot: str = "") -> DomainFacts:
        await asyncio.sleep(0.05)  # libvirt and qemu-img take their time
        await self.reading.wait()
        return replace(await super().facts(_uuid, snapshot), holder=self.holder)

    async def stamp(self, _info: Any) -> str:
        self.stamping = True
        told = "" if self.unreadable else await super().stamp(_info)
        await self.gate.wait()
        return told

    async def create(self, _uuid: str, name: str, _description: str) -> None:
        self.written += 1
        await self.acting.wait()
        self._step("create", done=False)
        for tags in self.tags_in.values():
            tags.append(name)
        now, state = int(time.time()), State.SHUTOFF
        self.list(SnapshotInfo(name, now, state, current=True, disks=("vda", "vdb")))

    async def delete(self, _uuid: str, name: str, **_how: Any) -> None:
        self.written += 1
        await self.acting.wait()
        self._step("delete", done=False)
        await super().delete(_uuid, name, **_how)
        for tags in self.tags_in.values():
            tags.remove(name)

    async def revert(self, _uuid: str, name: str, **_how: Any) -> None:
        self.written += 1
        await self.acting.wait()
        self._step("revert", done=False)


class Bench:
    """The rooms around one VM, and what a test does with them."""

    def __init__(self, vm: Vm, operations: Operations, jobs: Jobs, store: Store) -> None:
        self.vm, self.jobs, self.store, self.operations = vm, jobs, store, operations
        self.inventory: Inventory = operations.context.inventory
        catalog = Catalog(self.inventory, store, jobs)
        self.resting = Resting(store, self.inventory, catalog, jobs)

    async def changed(self) -> bool:
        async with asyncio.timeout(10):
            return await self.resting.changed(self.inventory.domains[UUID])

    async def create(self, name: str) -> Job:
        job = await self.operations.create(self.vm.info, Wish(name=name, memory="no"), ASKER)
        await job.ended.wait()
        return job

    async def start_delete(self, name: str) -> Job:
        return await self.operations.delete(self.vm.info, DeleteWish(self.key(name)), ASKER)

    async def delete(self, name: str) -> Job:
        job = await self.start_delete(name)
        await job.ended.wait()
        return job

    def key(self, name: str) -> SnapshotKey:
        listed = self.inventory.domains[UUID].snapshots[name]
        return SnapshotKey(UUID, name, listed.created)

    async def own(self, info: SnapshotInfo, state: State = State.SHUTOFF) -> None:
        """Have the store say that we made it of a VM in that state."""
        key = SnapshotKey(UUID, info.name, info.created)
        made = Record(key, Origin.POLICY, ("nightly",), state, Consistency.CRASH)
        await self.store.change_records([made])

    async def begin_delete(self, name: str) -> Job:
        """Until it writes; vm.acting is its to go on by."""
        self.vm.acting.clear()
        written = self.vm.written
        job = await self.start_delete(name)
        await self.until(lambda: self.vm.written > written)
        return job

    async def go_on(self, job: Job) -> None:
        self.vm.acting.set()
        await job.ended.wait()
        await self.still()

    async def start_revert(self, name: str) -> Job:
        wish = RevertWish(self.key(name), safety=False)
        return await self.operations.revert(self.vm.info, wish, ASKER)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not reached():
                await asyncio.sleep(0.005)

    async def still(self) -> None:
        """Until all is stamped that is to be."""
        await self.resting.stop()


@pytest.fixture(autouse=True)
def sound(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing has failed behind anybody's back."""
    yield
    told = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert [r.getMessage() for r in told if r.name == "snapd.policy.resting"] == []


Body = Callable[[Bench], Awaitable[None]]


def on(folder: Path, body: Body, vm: Vm | None = None, has_images: bool = True) -> None:
    """Run the body, with a daemon of its own on the folder's store."""

    vm = vm or Vm()

    async def main(operations: Operations, jobs: Jobs, store: Store) -> None:
        bench = Bench(vm, operations, jobs, store)
        await bench.resting.load()
        await body(bench)
        await bench.still()

    vm.has_images = has_images
    vm.on_events, vm.on_connections = [], []
    play(folder, vm, main)


async def made(bench: Bench) -> None:
    """Two snapshots of ours, and nothing else since."""
    await bench.create("old")
    await bench.create("new")
    assert not await bench.changed()
