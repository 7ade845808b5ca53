"""When retention is carried out: after a verified success, and what had to wait for it later."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from ..errors import Busy, LimitExceeded, Protected, SnapdError, TimedOut, Unavailable
from ..inventory import Change, DomainPicture, Inventory
from ..journal import about
from ..model import JobState, Kind, Policy, Verb
from ..operations import DAEMON, Asker, Job, Operations, Request, Wish
from .chains import FULL, Heap, Pile, Stuck, noted, pile, refusal
from .prune import Pruner, victims

log = logging.getLogger(__name__)
MAX_WAIT = 3600.0
LANE_WAIT = 60.0
"""So long a prune that others of its storage wait for may wait for its VM; then it is deferred."""
LANE_SECONDS = 3600.0
"""So long they wait for one that has begun."""
FIRST_SECONDS, LONGEST_SECONDS = 300, 3600
SOONER_SECONDS = 60
"""What happens to a VM brings its next try forward, but never closer to the last than this."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """What a plan could not delete. names: its victims, and no others; tried, due: seconds UTC."""

    policy: str
    names: frozenset[str]
    tries: int
    tried: int
    due: int


@dataclass(frozen=True, slots=True)
class Room:
    """What came of making room: whether anything was deleted, and what kept the rest."""

    made: bool
    why: str = ""


class Pruning:
    """Submits prunes; those that could not be done are tried again when they may succeed.

    heaps: domain -> what libvirt would not merge at the last prune, for words that no wait changes:
    that is looked at again after each success, and not between.
    """

    def __init__(
        self,
        operations: Operations,
        inventory: Inventory,
        pruner: Pruner,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.deferred: dict[str, Deferred] = {}
        self.heaps: dict[str, Heap] = {}
        self._lanes: dict[PurePath, asyncio.Lock] = {}
        self._operations, self._inventory, self._pruner = operations, inventory, pruner
        self._clock = clock
        self._busy: set[str] = set()
        inventory.on_change(self._on_change)

    async def after(
        self, picture: DomainPicture, policy: str, owner: int = DAEMON, parent: int = 0
    ) -> Job | None:
        """Prune a domain, after a verified success only; nothing to delete makes no job. Raises
        what keeps it from being a job."""
        uuid = picture.info.uuid
        self.deferred.pop(uuid, None)
        return await self._prune(picture, policy, None, 0, owner, parent)

    async def _prune(
        self,
        picture: DomainPicture,
        policy: str,
        only: frozenset[str] | None,
        tries: int,
        owner: int = DAEMON,
        parent: int = 0,
    ) -> Job | None:
        picture = self._inventory.domains.get(picture.info.uuid, picture)
        info = picture.info
        going = {d.candidate.id for d in victims(self._pruner.plan(picture))}
        if only is not None:
            going &= only
        if not going:
            return None
        folders = _folders(picture, going)
        request = Request(
            Verb.PRUNE,
            info.uuid,
            info.name,
            policy=policy,
            owner=owner,
            options={"at": self._clock()},
            max_wait=LANE_WAIT if folders else MAX_WAIT,
            parent=parent,
        )
        async with self._lane(folders):
            try:
                waits = frozenset(self.waits(info.uuid))
                job = await self._operations.jobs.submit(
                    request, lambda job: self._pruner.prune(job, only=only, waits=waits)
                )
            except SnapdError as e:
                if _passes(e):
                    self._later(picture, policy, going, tries)
                raise
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LANE_SECONDS if folders else None):
                    await job.ended.wait()
        await job.ended.wait()
        self._defer(job, picture, going, tries)
        return job

    @contextlib.asynccontextmanager
    async def _lane(self, folders: Sequence[PurePath]) -> AsyncIterator[None]:
        """Merges of one storage one at a time, where the disks are in one folder: those that wait
        are no jobs yet, so that they hold up nothing else."""
        async with contextlib.AsyncExitStack() as held:
            for folder in folders:
                lane = self._lanes.setdefault(folder, asyncio.Lock())
                await held.enter_async_context(lane)
            yield

    def _defer(self, job: Job, picture: DomainPicture, going: Collection[str], tries: int) -> None:
        """Note what is to be tried again. What waits for a person, or was cancelled, is not."""
        row = job.row
        names: Collection[str] = ()
        if row.state is JobState.DONE:
            stays = {s["Name"]: s["Reason"] for s in row.result.get("Stays", ())}
            self._note(row.domain, stays)
            lasting = self.waits(row.domain)
            names = [n for n, word in stays.items() if word != "pinned" and n not in lasting]
        elif row.state is JobState.FAILED and _passes(job.error()):
            names = going
        if names:
            self._later(picture, row.policy, names, tries)

    def _note(self, uuid: str, stays: dict[str, str]) -> None:
        """Note what is stuck now."""
        picture, before = self._inventory.domains.get(uuid), self.waits(uuid)
        self.heaps.pop(uuid, None)
        if picture and (found := noted(before, stays, picture, int(self._clock()))):
            self.heaps[uuid] = Heap(found, pile(self._pruner.plan(picture), picture))

    def waits(self, uuid: str) -> dict[str, Stuck]:
        """What could not be merged on a domain, as far as it is still there."""
        picture, heap = self._inventory.domains.get(uuid), self.heaps.get(uuid)
        if picture is None or heap is None:
            return {}
        return {name: s for name, s in heap.waits.items() if name in picture.snapshots}

    def full(self, uuid: str) -> SnapdError | None:
        """Why no other overlay was to be put on a domain's chain after the last prune."""
        picture, heap = self._inventory.domains.get(uuid), self.heaps.get(uuid)
        if picture is None or heap is None or not self.waits(uuid):
            return None
        return refusal(heap.pile, self.waits(uuid), picture)

    async def refusal(self, picture: DomainPicture, policy: str) -> SnapdError | None:
        """Why no other overlay may be put on a VM's chain: too much has piled up there that its
        policies let go. Tried first is whether that can be merged by now, and nothing else: no age
        marches on while nothing succeeds."""
        uuid = picture.info.uuid
        found = self._pile(picture)
        if not found.full:
            return None
        try:
            only = frozenset(self.waits(uuid)) or frozenset(found.released)
            await self._prune(picture, policy, only, 0)
        except SnapdError as e:
            fields = about(picture.info, policy=policy, error=e)
            log.warning("VM %s is not pruned: %s", picture.info.name, e.message, extra=fields)
        now = self._inventory.domains.get(uuid, picture)
        return refusal(self._pile(picture), self.waits(uuid), now)

    def _pile(self, picture: DomainPicture) -> Pile:
        now = self._inventory.domains.get(picture.info.uuid, picture)
        if not any(s.kind is Kind.EXTERNAL for s in now.snapshots.values()):
            return Pile((), 1)
        return pile(self._pruner.plan(now), now)

    def _later(
        self, picture: DomainPicture, policy: str, names: Collection[str], tries: int
    ) -> None:
        now, info = int(self._clock()), picture.info
        wait = min(FIRST_SECONDS * 2**tries, LONGEST_SECONDS)
        self.deferred[info.uuid] = Deferred(policy, frozenset(names), tries + 1, now, now + wait)
        log.warning(
            "VM %s: %d snapshots that retention lets go stay for now: tried again in %d s",
            info.name,
            len(names),
            wait,
            extra=about(info, policy=policy),
        )

    def _on_change(self, change: Change) -> None:
        """A VM that was busy may not be any more."""
        found = self.deferred.get(change.uuid)
        if found and change.after and not change.after.info.busy:
            soon = max(int(self._clock()), found.tried + SOONER_SECONDS)
            self.deferred[change.uuid] = replace(found, due=min(found.due, soon))

    def next_due(self) -> int:
        """When the next deferred prune is to be tried; 0 = none."""
        return min((d.due for u, d in self.deferred.items() if u not in self._busy), default=0)

    def due(self, now: int) -> list[str]:
        """The domains whose deferred prunes are to be tried now."""
        return [u for u, d in self.deferred.items() if d.due <= now and u not in self._busy]

    async def again(self, uuid: str) -> None:
        """Try a deferred prune; what stays is deferred anew, for longer."""
        found, picture = self.deferred.get(uuid), self._inventory.domains.get(uuid)
        if found is None or picture is None:
            self.deferred.pop(uuid, None)
            return
        self._busy.add(uuid)
        try:
            del self.deferred[uuid]
            await self._prune(picture, found.policy, found.names, found.tries)
        except SnapdError as e:
            fields = about(picture.info, policy=found.policy, error=e)
            log.warning("VM %s is not pruned: %s", picture.info.name, e.message, extra=fields)
            now = int(self._clock())
            self.deferred.setdefault(uuid, replace(found, tried=now, due=now + LONGEST_SECONDS))
        finally:
            self._busy.discard(uuid)

    async def make_room(
        self, picture: DomainPicture, names: tuple[str, ...], at: int, wish: Wish
    ) -> Room:
        """Delete what one more snapshot, made at that time, would release, until there is room.
        Raises what keeps it from being a job."""
        request = Request(
            Verb.PRUNE,
            picture.info.uuid,
            picture.info.name,
            policy=names[0],
            options={"room": at, "tried": self._clock()},
            max_wait=MAX_WAIT,
        )
        job = await self._operations.jobs.submit(
            request, lambda job: self._pruner.make_room(job, names, at, wish)
        )
        await job.ended.wait()
        row = job.row
        made = row.state is JobState.DONE and bool(row.result.get("Deleted"))
        short = [s["Name"] for s in row.result.get("Stays", ()) if s["Reason"] in FULL]
        if made or not short:
            return Room(made)
        return Room(
            made,
            f"{len(short)} snapshots may go for it, but they are overlays: merging one needs room "
            "itself",
        )

    async def confirm(self, picture: DomainPicture, policy: Policy, plan: str, asker: Asker) -> Job:
        """Carry out a plan that a person has looked at."""
        request = Request(
            Verb.PRUNE,
            picture.info.uuid,
            picture.info.name,
            policy=policy.name,
            owner=asker.uid,
            options={"plan": plan},
            max_wait=asker.max_wait,
            request=asker.request,
        )
        return await self._operations.jobs.submit(
            request, lambda job: self._pruner.prune(job, plan)
        )


def _folders(picture: DomainPicture, going: Collection[str]) -> list[PurePath]:
    """Where merges of a domain write, in an order that is everybody's; none, where none are."""
    kinds = {s.kind for name in going if (s := picture.snapshots.get(name))}
    if Kind.EXTERNAL not in kinds:
        return []
    return sorted({PurePath(d.source).parent for d in picture.info.disks if d.writable})


def _passes(error: SnapdError) -> bool:
    """Whether what kept a whole prune from being done goes by itself."""
    if isinstance(error, Protected):
        return error.reason in ("clock", "io-error")
    return isinstance(error, Busy | LimitExceeded | TimedOut | Unavailable)
