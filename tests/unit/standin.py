"""A hypervisor in memory, for faults that no real one makes on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from snapd.errors import SnapdError
from snapd.hypervisor import BareFacts, DomainFacts, Hypervisor, ImageCheck
from snapd.inventory import Inventory
from snapd.model import Disk, DomainInfo, SnapshotInfo, State
from snapd.operations import Jobs, Operations, settling
from snapd.store import Store
from tests.unit.vms import image_of


class StandIn:
    """One VM. tags: target -> names in its image. broken: method -> what it raises next, after it
    has done its work where `late` names it."""

    uri = "qemu:///system"
    error = ""
    connected = tried = has_images = has_monitor = True

    def __init__(
        self, info: DomainInfo, snapshots: Sequence[SnapshotInfo] = (), *tags: str
    ) -> None:
        self.info, self.snapshots = info, list(snapshots)
        self.tags_in = {d.target: list(tags) for d in info.disks if d.writable}
        self.broken: dict[str, list[SnapdError]] = {}
        self.late: set[str] = set()
        self.removed: list[tuple[str, str]] = []
        self.written = 0
        self.on_events: list[Callable[[Any], None]] = []
        self.on_connections: list[Callable[[bool], None]] = []

    def on_event(self, call: Callable[[Any], None]) -> None:
        self.on_events.append(call)

    def on_connection(self, call: Callable[[bool], None]) -> None:
        self.on_connections.append(call)

    def hanging(self) -> dict[str, int]:
        return {}

    def fail(self, method: str, *errors: SnapdError, late: bool = False) -> None:
        self.broken[method] = list(errors)
        if late:
            self.late.add(method)

    def _step(self, method: str, *, done: bool) -> None:
        if self.broken.get(method) and (method in self.late) == done:
            raise self.broken[method].pop(0)

    async def read(self, _uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
        return self.info, list(self.snapshots)

    async def unchanged(self, _uuids: Collection[str]) -> set[str]:
        return set()

    async def domain(self, uuid: str) -> DomainInfo:
        return (await self.read(uuid))[0]

    async def bare_facts(self, uuid: str) -> BareFacts:
        return bare(await self.facts(uuid))

    async def facts(self, _uuid: str, snapshot: str = "") -> DomainFacts:
        self._step("facts", done=False)
        numbered = {t: tuple(enumerate(names, 1)) for t, names in self.tags_in.items()}
        return DomainFacts(
            info=self.info,
            snapshots=tuple(self.snapshots),
            inactive=self.info.disks,
            inactive_xml="<domain/>",
            images={
                target: image_of(tags=tuple((str(n), name) for n, name in tags))
                for target, tags in numbered.items()
            },
            saved=self.info.disks if snapshot else (),
        )

    async def tags(self, _info: DomainInfo, disks: Sequence[Disk]) -> dict[str, tuple[str, ...]]:
        self._step("tags", done=False)
        return {d.target: tuple(self.tags_in[d.target]) for d in disks}

    async def stamp(self, _info: DomainInfo) -> str:
        return f"written {self.written} times" if self.has_images else ""

    async def take(self, _uuid: str, disks: Sequence[Disk], name: str) -> int:
        self._step("take", done=False)
        for disk in disks:
            self.tags_in[disk.target].append(name)
        self._step("take", done=True)
        return 40

    async def register(
        self, _uuid: str, name: str, _description: str, created: int, *about: Any, current: bool
    ) -> None:
        self._step("register", done=False)
        targets = tuple(about[1])
        self.list(SnapshotInfo(name, created, State.SHUTOFF, current=current, disks=targets))

    def list(self, snapshot: SnapshotInfo) -> None:
        self.snapshots.append(snapshot)
        self.info = replace(self.info, current=snapshot.name)

    async def remove_tags(
        self, _uuid: str, disks: Sequence[Disk], name: str, *, created: int | None = None
    ) -> None:
        for disk in disks:
            self.removed.append((disk.source, name))
            if name in self.tags_in[disk.target]:
                self.tags_in[disk.target].remove(name)

    async def delete(self, _uuid: str, name: str, **_how: Any) -> None:
        self.snapshots = [s for s in self.snapshots if s.name != name]

    async def revert(self, _uuid: str, name: str, **_how: Any) -> None:
        self._step("revert", done=False)
        raise AssertionError("a revert that works is for a real one")

    async def check_image(self, _disk: Disk) -> ImageCheck:
        return ImageCheck()

    async def freeze(self, _info: Any, _seconds: int) -> int:
        return 2

    async def thaw(self, _uuid: str, _seconds: int) -> int:
        return 2


def bare(facts: DomainFacts) -> BareFacts:
    names = frozenset(s.name for s in facts.snapshots)
    return BareFacts(facts.info, names, facts.inactive, facts.inactive_xml, facts.holder)


def play(
    folder: Path, vm: StandIn, body: Callable[[Operations, Jobs, Store], Awaitable[None]]
) -> None:
    """Run body(operations, jobs, store) on the VM; settling waits for milliseconds."""

    async def main() -> None:
        store = await Store.open(folder)
        jobs = Jobs(store)
        libvirt = cast(Hypervisor, vm)
        inventory = Inventory(libvirt, jobs.holds)
        operations = Operations(libvirt, inventory, store, jobs)
        await inventory.refresh(vm.info.uuid)
        before = settling.RETRY
        settling.RETRY = (0.01, 0.02)
        try:
            async with asyncio.timeout(20):
                await body(operations, jobs, store)
        finally:
            settling.RETRY = before
            await jobs.stop(1)
            await store.close()

    asyncio.run(main())
