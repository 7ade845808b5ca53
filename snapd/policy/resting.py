"""Whether a VM that is off may have written to its disks since its newest snapshot.

A stamp of its images is kept with the snapshot: whoever writes to one, by a start that nobody saw
or by hand, changes it. So do our own jobs on a VM that is off, which are not to count: the stamp
is compared when one begins, and taken anew when it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from ..errors import SnapdError
from ..inventory import DomainPicture, Inventory
from ..journal import NOT_WRITTEN, about
from ..model import DomainInfo, JobState, Snapshot, SnapshotKey, State, Status, Verb
from ..operations import WAITING, Catalog, Job, Jobs
from ..planning.retention import SKEW
from ..store import RestRow, Store

log = logging.getLogger(__name__)
STOP_SECONDS = 5.0


@dataclass(slots=True)
class _Work:
    """A job of ours at work on a domain. mark: as Resting._mark when it began; waited: somebody
    else was at work there after that."""

    job: Job
    mark: tuple[int, int]
    waited: bool = False


class Resting:
    """Judges VMs that are off. Where there are no images (the test driver) it goes by what this
    daemon has seen alone."""

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        catalog: Catalog,
        jobs: Jobs,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._inventory, self._catalog = store, inventory, catalog
        self._jobs, self._clock = jobs, clock
        self._left: dict[str, RestRow] = {}  # of domains not seen active since that snapshot
        self._owed: set[str] = set()  # as they were left but for what our jobs did: to be stamped
        self._at_work: dict[str, _Work] = {}
        self._news: Counter[str] = Counter()
        self._lost = 0
        self._tasks: set[asyncio.Task[None]] = set()
        inventory.on_active(self._on_active)
        inventory.on_status(self._on_status)
        jobs.listen(changed=self._on_job_changed, ended=self._on_job_ended)

    async def load(self) -> None:
        """Take up what an earlier daemon wrote; before VMs are read."""
        self._left = {row.domain: row for row in await self._store.rests() if row.stamp}

    async def stop(self) -> None:
        """Finish what jobs that ended just now have left to do; for a few seconds."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- judging

    async def changed(self, picture: DomainPicture) -> bool:
        """Whether the VM may have written to its disks since its newest good snapshot of ours; in
        doubt it has: a snapshot too many is better than one too few."""
        info = picture.info
        newest = self._newest(picture)
        if not _is_off(info) or newest is None or newest.state.active:
            return True
        while rest := self._left.get(info.uuid):
            if SnapshotKey(rest.domain, rest.name, rest.created) != newest.key:
                return True
            if info.uuid in self._owed:
                return False
            same = await self._is_as_left(info, rest)
            if self._left.get(info.uuid) is rest and info.uuid not in self._owed:
                return not same
        return True

    def _newest(self, picture: DomainPicture) -> Snapshot | None:
        """Of several of one second, the one that the VM is on."""
        until, current = self._clock() + SKEW, picture.info.current
        good = [
            s
            for s in self._catalog.of(picture)
            if s.owned and s.status is Status.OK and s.info.time_known and s.info.created <= until
        ]
        return max(good, key=lambda s: (s.info.created, s.info.name == current), default=None)

    async def _is_as_left(self, info: DomainInfo, rest: RestRow) -> bool:
        hypervisor = self._inventory.hypervisor
        stamp = await hypervisor.stamp(info)
        return stamp == rest.stamp and (stamp != "" or not hypervisor.has_images)

    # --- what makes knowledge old

    def _mark(self, uuid: str) -> tuple[int, int]:
        """Another one after everything that may have changed the domain."""
        return self._lost, self._news[uuid]

    def _on_active(self, uuid: str) -> None:
        self._news[uuid] += 1
        self._owed.discard(uuid)
        if self._left.pop(uuid, None):
            self._spawn(self._write(uuid))

    def _on_status(self) -> None:
        """Without a connection, what starts and stops is not seen: then only images tell."""
        if not self._inventory.connected:
            self._lost += 1
            self._owed.clear()
            self._left = {uuid: row for uuid, row in self._left.items() if row.stamp}

    async def _write(self, uuid: str) -> None:
        """Have the store say what is known now, be it nothing."""
        try:
            await self._store.write_rest(self._left.get(uuid) or RestRow(uuid, "", 0, ""))
        except SnapdError as e:
            log.error(
                "how VM %s was left could not be written down: %s",
                uuid,
                e.message,
                extra=about(uuid=uuid, error=e, event=NOT_WRITTEN),
            )

    # --- our own jobs

    def _on_job_changed(self, job: Job, properties: tuple[str, ...]) -> None:
        """What runs inside another job is that one's, and never told to begin."""
        uuid = job.turn
        if uuid and "State" in properties and job.row.state is JobState.RUNNING:
            self._news[uuid] += 1
            self._at_work[uuid] = work = _Work(job, self._mark(uuid))
            if job.row.verb is Verb.REVERT:
                self._owed.discard(uuid)
            else:
                self._spawn(self._look_before(uuid, work))
        elif job.phase == WAITING and (other := self._at_work.get(uuid)):
            other.waited = True  # on whoever has the images open
            self._owed.discard(uuid)

    async def _look_before(self, uuid: str, work: _Work) -> None:
        """Find whether the domain is as it was left, before the job writes to its images."""
        rest, picture = self._left.get(uuid), self._inventory.domains.get(uuid)
        if rest is None or picture is None or uuid in self._owed:
            return
        same = await self._is_as_left(picture.info, rest)
        still = self._mark(uuid) == work.mark and self._left.get(uuid) is rest
        if same and still and not self._may_have_acted(work):
            self._owed.add(uuid)

    def _may_have_acted(self, work: _Work) -> bool:
        """Whether the job, or one that runs inside it, may have written to an image by now, or who
        it waited for."""
        job = work.job
        inside = [j for j in self._jobs.all.values() if j.inline and j.row.parent == job.id]
        begun = any(j.row.intent is not None or j.ended.is_set() for j in (job, *inside))
        return begun or work.waited

    def _on_job_ended(self, job: Job) -> None:
        row, work = job.row, self._at_work.get(job.row.domain)
        if work is None or work.job is not job:
            return
        del self._at_work[row.domain]
        if row.verb is Verb.REVERT:  # be it that it broke off
            self._on_active(row.domain)
        made = row.verb is Verb.CREATE and row.state is JobState.DONE
        if made and work.mark == self._mark(row.domain):
            self._left[row.domain] = RestRow(row.domain, row.snapshot, row.created, "")
            self._owed.add(row.domain)
        if row.domain in self._owed:
            self._spawn(self._stamp(row.domain, self._mark(row.domain)))

    async def _stamp(self, uuid: str, mark: tuple[int, int]) -> None:
        """Stamp a domain's images anew, unless another job has begun: then at that one's end."""
        picture = self._inventory.domains.get(uuid)
        stamp = await self._inventory.hypervisor.stamp(picture.info) if picture else ""
        try:
            after = await self._inventory.refresh(uuid)  # it may have been started meanwhile
        except SnapdError as e:
            fields = about(uuid=uuid, error=e)
            log.info("VM %s counts as changed: %s", uuid, e.message, extra=fields)
            after = None
        if mark != self._mark(uuid) or uuid not in self._owed:
            return
        self._owed.discard(uuid)
        row = self._left.pop(uuid)
        if picture and after and _images(after) == _images(picture):
            self._left[uuid] = replace(row, stamp=stamp)
        await self._write(uuid)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="resting")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("whether a VM has changed: %s", error, exc_info=error)


def _is_off(info: DomainInfo) -> bool:
    return info.state is State.SHUTOFF and info.instance < 0


def _images(picture: DomainPicture) -> tuple[object, ...]:
    return picture.info.disks, picture.info.nvram
