"""The rooms that a job passes through, in this process, and what they tell as a VM's own doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from snapd import inventory as rooms
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.inventory import Inventory
from snapd.model import JobState, SnapshotKey
from snapd.operations import Asker, DeleteWish, Job, Jobs, Operations, RevertWish, Wish
from snapd.store import Store

PAST_THE_ECHO = rooms.ECHO_SECONDS + 0.5


class Watched:
    """One VM by its UUID; told: the triggers so far, seen: the words of all events that could have
    been one."""

    def __init__(self, uri: str, uuid: str, store: Store) -> None:
        self.uuid = uuid
        self.told: list[str] = []
        self.seen: list[str] = []
        self.hypervisor = LibvirtHypervisor(uri)
        self.jobs = Jobs(store)
        self.inventory = Inventory(self.hypervisor, self.jobs.holds)
        self.operations = Operations(self.hypervisor, self.inventory, store, self.jobs)
        self.jobs.listen(ended=lambda job: self.inventory.let_go(job.row.domain))
        self.hypervisor.on_event(lambda e: self.seen.append(e.trigger) if e.trigger else None)
        self.inventory.on_trigger(lambda of, word: self.told.append(word) if of == uuid else None)

    async def _done(self, job: Job) -> None:
        await job.ended.wait()
        assert job.row.state is JobState.DONE, job.row.error_message
        await self.inventory.refresh(self.uuid)

    async def create(
        self, name: str, *, memory: bool = False, then: str = "continue"
    ) -> SnapshotKey:
        info = self.inventory.domains[self.uuid].info
        wish = Wish(name, memory="yes" if memory else "no", then=then)
        await self._done(await self.operations.create(info, wish, Asker()))
        made = self.inventory.domains[self.uuid].snapshots[name]
        return SnapshotKey(self.uuid, name, made.created)

    async def revert(
        self, key: SnapshotKey, *, safety: bool = False, after: str = "as-snapshot"
    ) -> None:
        info = self.inventory.domains[self.uuid].info
        wish = RevertWish(key, after=after, safety=safety)
        await self._done(await self.operations.revert(info, wish, Asker()))

    async def delete(self, key: SnapshotKey) -> None:
        info = self.inventory.domains[self.uuid].info
        await self._done(await self.operations.delete(info, DeleteWish(key), Asker()))

    async def tells(self, *words: str) -> None:
        """Wait until these, and no others, have been told since the last time."""
        async with asyncio.timeout(30):
            while self.told[: len(words)] != list(words):
                await asyncio.sleep(0.05)
        assert self.told == list(words)
        self.told.clear()

    async def own_doing(self) -> None:
        """Do all that stops or starts the VM; it runs before and is off afterwards."""
        ram = await self.create("ram", memory=True)
        disks = await self.create("disks")
        await self.revert(ram, safety=True)  # running to running
        await self.revert(disks, after="stopped")  # to off
        await self.revert(ram)  # off to running
        await self.revert(ram, after="stopped")  # stopped after the revert itself
        await self.revert(disks, after="running")  # started after it
        await self.create("restarted", then="restart")
        await self.delete(ram)
        await self.create("stopped", then="stop")
        await self.delete(disks)


def watch(uri: str, uuid: str, folder: Path, body: Callable[[Watched], Awaitable[None]]) -> None:
    """Run a test's body while a VM is watched."""

    async def main() -> None:
        store = await Store.open(folder)
        watched = Watched(uri, uuid, store)
        tasks = [
            asyncio.create_task(work)
            for work in (watched.hypervisor.keep(), watched.inventory.run())
        ]
        try:
            await watched.inventory.ready("cannot watch")
            await body(watched)
        finally:
            await watched.jobs.stop(1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await watched.hypervisor.close()
            await store.close()

    asyncio.run(main())
