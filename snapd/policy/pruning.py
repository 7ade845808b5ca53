"""When retention is carried out: after a verified success, and what had to wait for it later."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ..errors import Busy, LimitExceeded, Protected, SnapdError, TimedOut, Unavailable
from ..inventory import Change, DomainPicture, Inventory
from ..journal import about
from ..model import JobState, Policy, Verb
from ..operations import DAEMON, Asker, Job, Operations, Request, Wish
from .prune import Pruner, victims

log = logging.getLogger(__name__)
MAX_WAIT = 3600.0
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


class Pruning:
    """Submits prunes; those that could not be done are tried again when they may succeed."""

    def __init__(
        self,
        operations: Operations,
        inventory: Inventory,
        pruner: Pruner,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.deferred: dict[str, Deferred] = {}
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
        info = picture.info
        plan = self._pruner.plan(self._inventory.domains.get(info.uuid, picture))
        going = {d.candidate.id for d in victims(plan)}
        if only is not None:
            going &= only
        if not going:
            return None
        request = Request(
            Verb.PRUNE,
            info.uuid,
            info.name,
            policy=policy,
            owner=owner,
            options={"at": self._clock()},
            max_wait=MAX_WAIT,
            parent=parent,
        )
        try:
            job = await self._operations.jobs.submit(
                request, lambda job: self._pruner.prune(job, only=only)
            )
        except SnapdError as e:
            if _passes(e):
                self._later(picture, policy, going, tries)
            raise
        await job.ended.wait()
        self._defer(job, picture, going, tries)
        return job

    def _defer(self, job: Job, picture: DomainPicture, going: Collection[str], tries: int) -> None:
        """Note what is to be tried again. What waits for a person, or was cancelled, is not."""
        row = job.row
        names: Collection[str] = ()
        if row.state is JobState.DONE:
            names = [s["Name"] for s in row.result.get("Stays", ()) if s["Reason"] != "pinned"]
        elif row.state is JobState.FAILED and _passes(job.error()):
            names = going
        if names:
            self._later(picture, row.policy, names, tries)

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
    ) -> bool:
        """Delete what one more snapshot, made at that time, would release, until there is room;
        whether any was deleted. Raises what keeps it from being a job."""
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
        return job.row.state is JobState.DONE and bool(job.row.result.get("Deleted"))

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


def _passes(error: SnapdError) -> bool:
    """Whether what kept a whole prune from being done goes by itself."""
    if isinstance(error, Protected):
        return error.reason in ("clock", "io-error")
    return isinstance(error, Busy | LimitExceeded | TimedOut | Unavailable)
