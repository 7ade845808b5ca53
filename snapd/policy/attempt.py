"""One snapshot for all that a domain is owed at a time, tried until it is made or given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import (
    AgentUnavailable,
    Busy,
    Cancelled,
    Internal,
    InvalidArgument,
    LibvirtError,
    LimitExceeded,
    NoSpace,
    NoSuchDomain,
    PreflightFailed,
    SnapdError,
    TimedOut,
    Unavailable,
    Unsupported,
)
from ..inventory import DomainPicture, Inventory
from ..journal import NOT_WRITTEN, about
from ..model import JobState
from ..operations import Asker, Job, Operations
from ..settings import matches
from ..store import JobRow, RunRow
from .holds import Holds, told
from .owed import Owed, wish_of
from .policies import Policies
from .prune import torn
from .pruning import Pruning
from .refusals import Refusals
from .resting import Resting
from .runs import Runs
from .slots import Slots

log = logging.getLogger(__name__)
RUN_MAX_WAIT = 3600.0
LATE_WAIT = 30.0
BEFORE_NEXT = 5.0
"""So long before the next slot a job that has not begun gives up: else that one is an overlap."""
FIRST_RETRY, LONGEST_RETRY = 60.0, 3600.0
_PASSING = (
    AgentUnavailable,
    Busy,
    LibvirtError,
    LimitExceeded,
    NoSpace,
    PreflightFailed,
    TimedOut,
    Unavailable,
)
"""What may be otherwise in a while, and is tried again."""
_OF_WISHES = (AgentUnavailable, InvalidArgument, NoSpace, PreflightFailed, Unsupported)
"""What one policy may be refused for, and another that asks for something else not."""


@dataclass(frozen=True)
class Desk:
    """What attempts work with."""

    operations: Operations
    inventory: Inventory
    policies: Policies
    holds: Holds
    slots: Slots
    runs: Runs
    pruning: Pruning
    refusals: Refusals
    resting: Resting
    clock: Callable[[], float]

    def kept_from(self, policy: str, uuid: str) -> str:
        """Why a policy is to leave a domain alone now; "" = it isn't. A torn VM is not snapshotted:
        what is of two moments would take the place of the good ones."""
        if hold := self.holds.covering(policy, uuid):
            return told(hold)
        return torn(self.operations.jobs.half_made, uuid)


class Attempt:
    """What several policies owe one domain, in the making.

    left: what is not settled yet, settled: what became of the rest, parts: what of it is to be
    tried apart, once this one has ended. by: a person who asked for it: then it is tried once,
    whatever the policy's conditions, and told at once. last: the job that failed last.
    """

    def __init__(
        self,
        desk: Desk,
        picture: DomainPicture,
        owed: list[Owed],
        *,
        by: Asker | None = None,
        parent: int = 0,
    ) -> None:
        self.uuid = picture.info.uuid
        self.left = owed
        self.settled: list[RunRow] = []
        self.parts: list[Attempt] = []
        self.last: JobRow | None = None
        self.error: SnapdError | None = None
        self.job: Job | None = None
        self.retry_at = 0
        self._desk, self._picture = desk, picture
        self._by, self._parent = by, parent
        self._told = asyncio.Event()
        self._tries = 0
        self._room_made = False
        self._dropped = False
        self._retry_by = 0.0

    # --- what others do to it

    @property
    def waiting(self) -> bool:
        """Whether it does nothing now but wait for its next try."""
        return self.retry_at > 0

    @property
    def by_hand(self) -> bool:
        return self._by is not None

    def try_again(self, now: int) -> None:
        """Have it tried again if it waits and its time has come: by the clock, since no timer of
        the loop goes on while the host sleeps, or by the loop, should the clock be set back."""
        loop = asyncio.get_running_loop()
        if self.waiting and (now >= self.retry_at or loop.time() >= self._retry_by):
            self.retry_at = 0
            self._told.set()

    def goes_along(self, others: list[Owed]) -> bool:
        """Whether it is to be tried with these: it would fare as they do, or their slot is the one
        after its own."""
        same = {o.policy.name for o in others} & {o.policy.name for o in self.left}
        return bool(same or {o.demands for o in others} & {o.demands for o in self.left})

    def drop_held(self) -> None:
        """Take its job out of the queue where a policy is held now; where it waits for its next
        try, have it look whether that is still wanted."""
        job = self.job
        if job and job.cancellable:
            if any(self._desk.kept_from(o.policy.name, self.uuid) for o in self.left):
                self._dropped = True
                self._desk.operations.jobs.cancel(job)
        elif self.waiting:
            self._told.set()

    def withdraw(self) -> list[Owed]:
        """End it between two tries, and give back what it has not settled."""
        left, self.left = self.left, []
        self._told.set()
        return left

    # --- the making

    async def run(self) -> None:
        """Try until all is settled, or is to be tried apart. A fault of ours ends it, too."""
        try:
            while self.left:
                if error := await self._try():
                    await self._failed(error)
        except Exception as e:
            vm = self._picture.info.name
            log.exception("policies on VM %s", vm, extra=about(self._picture.info))
            what = f"internal error ({type(e).__name__}) on VM {vm}; the journal has it"
            await self._give_up(self.left, Internal(what))

    async def _failed(self, error: SnapdError) -> None:
        """Give up what cannot be tried again, and wait for the next try of the rest."""
        desk, self.error = self._desk, error
        passing = isinstance(error, _PASSING) and not self.by_hand
        if passing and desk.operations.jobs.stopping:
            self.left = []  # they stay open, for the next daemon
            return
        if isinstance(error, _OF_WISHES) and (apart := self._apart()):
            self.left, self.parts = [], apart
            return
        pause = min(FIRST_RETRY * 2**self._tries, LONGEST_RETRY)
        self._tries += 1
        by = desk.clock() + pause
        over = [o for o in self.left if not (passing and o.scheduled and by < self._ends(o))]
        await self._give_up(over, error)
        try:
            for owed in self.left:
                await desk.runs.not_yet(owed, error, short=isinstance(error, NoSpace))
        except SnapdError as e:
            fields = about(self._picture.info, error=e, event=NOT_WRITTEN)
            log.error("that a policy failed could not be noted: %s", e.message, extra=fields)
        if self.left:
            await self._wait(pause)

    def _apart(self) -> list[Attempt]:
        """One attempt for each of those that ask for the same; none where all do."""
        groups: dict[object, list[Owed]] = {}
        for owed in self.left:
            groups.setdefault(owed.demands, []).append(owed)
        several = list(groups.values()) if len(groups) > 1 else []
        return [Attempt(self._desk, self._picture, owed) for owed in several]

    async def _try(self) -> SnapdError | None:
        """One try; None = look at what is left, if anything is."""
        try:
            await self._drop_what_is_not_wanted()
            if not self.left:
                return None
            if error := await self._desk.pruning.refusal(self._picture, self.left[0].policy.name):
                return error
            job = await self._create()
        except SnapdError as e:
            return e
        state = job.row.state
        if state is JobState.DONE:
            await self._done(job)
            return None
        if state is JobState.CANCELLED:
            return self._cancelled(job)
        error, self.last = job.error(), job.row
        if isinstance(error, NoSpace) and await self._make_room(error):
            return None
        return error

    async def _create(self) -> Job:
        self.last, self._dropped = None, False
        asker = self._by or Asker(max_wait=self._patience())
        info, in_force = self._picture.info, self._desk.policies.in_force.values()
        wish = wish_of(self.left, [p for p in in_force if matches(p, info.name, info.uuid)])
        self.job = job = await self._desk.operations.create(info, wish, asker, self._parent)
        try:
            self.drop_held()
            await job.ended.wait()
        finally:
            self.job = None
        return job

    def _cancelled(self, job: Job) -> SnapdError | None:
        """By a hold: what is not held, or not any more, is tried again. By the end of the daemon:
        the next one goes on. By a person: that was it."""
        if self._desk.operations.jobs.stopping and not self.by_hand:
            self.left = []
            return None
        return None if self._dropped else Cancelled(job.row.error_message)

    async def _done(self, job: Job) -> None:
        done, self.left = self.left, []
        for owed in done:
            self._desk.refusals.forget(owed.policy.name, self.uuid)
            self.settled.append(await self._desk.runs.made(owed, job.row))
        if not self.by_hand:  # of one by hand, the run prunes
            await prune(self._desk, self._picture, done[0].policy.name)

    async def _make_room(self, error: NoSpace) -> bool:
        """Delete what one more snapshot would release anyway, once: whether it is worth another
        try. Since when there has been no room is on disk first, and the plan is made for that
        time: however often it is repeated, it releases nothing more."""
        if self._room_made or self.by_hand:
            return False
        self._room_made = True
        try:
            for owed in self.left:
                await self._desk.runs.not_yet(owed, error, short=True)
            rows, wish = self._desk.slots.rows, wish_of(self.left)
            since = [rows[o.policy.name, self.uuid].short_since or o.slot for o in self.left]
            names = wish.policies
            room = await self._desk.pruning.make_room(self._picture, names, min(since), wish)
            error.message += f"; {room.why}" if room.why else ""
            return room.made
        except SnapdError as e:
            info = self._picture.info
            fields = about(info, policy=self.left[0].policy.name, error=e)
            log.warning("no room is made on VM %s: %s", info.name, e.message, extra=fields)
            return False

    # --- what is still wanted

    async def _drop_what_is_not_wanted(self) -> None:
        """Settle what is not to be run now, with the reason."""
        self._picture = self._desk.inventory.domains.get(self.uuid, self._picture)
        for owed in tuple(self.left):
            wanted = await self._wanted(owed)
            place = self.left.index(owed)
            self.left[place : place + 1] = [wanted] if wanted else []

    async def _wanted(self, owed: Owed) -> Owed | None:
        """What is owed, by the policy as it is now; None = nothing: it is settled."""
        desk, now = self._desk, owed if self.by_hand else self._still(owed)
        if why := desk.kept_from(owed.policy.name, self.uuid):
            await self._skip(owed, why)
        elif self.by_hand:
            return owed
        elif now is None:
            await self._skip(owed, "the policy does not cover the VM any more")
        elif self.error and now.scheduled and desk.clock() >= self._ends(now):
            self.settled.append(await desk.runs.failed(now, self.error, self.last))
        elif nothing := await self._nothing_to_do(now):
            await self._skip(now, nothing, content=True)
        elif refusal := desk.refusals.standing(now.policy, self._picture):
            why = f"{refusal.message}; not tried again until the VM or the policy changes"
            await self._skip(now, why)
        else:
            return now
        return None

    async def _skip(self, owed: Owed, why: str, *, content: bool = False) -> None:
        self.settled.append(await self._desk.runs.skipped(owed, why, content=content))

    def _still(self, owed: Owed) -> Owed | None:
        """What is owed by the policy as it is now; None = nothing, by a policy that is gone or
        doesn't match."""
        info = self._picture.info
        policy = self._desk.policies.in_force.get(owed.policy.name)
        covered = policy is not None and matches(policy, info.name, info.uuid)
        if policy is None or not covered or self.uuid not in self._desk.inventory.domains:
            return None
        return owed if policy == owed.policy else replace(owed, policy=policy)

    async def _nothing_to_do(self, owed: Owed) -> str:
        """Why the policy's own condition leaves this one out; "" = it doesn't."""
        if owed.policy.only_if == "running" and not self._picture.info.state.active:
            return "the VM is not running (only_if = running)"
        if owed.policy.only_if == "changed" and not await self._desk.resting.changed(self._picture):
            return "the VM has not run since its last snapshot (only_if = changed)"
        return ""

    # --- trying again

    def _patience(self) -> float:
        """How long the job may wait for its VM, in seconds: while its slot is served, and not into
        the next one."""
        now, slots = self._desk.clock(), self._desk.slots
        waits = [RUN_MAX_WAIT]
        for owed in (o for o in self.left if o.scheduled):
            following = slots.following(owed.policy, self.uuid, owed.slot)
            waits.append(max(LATE_WAIT, self._ends(owed) - now))
            waits.append(max(1.0, following - now - BEFORE_NEXT))
        return min(waits)

    def _ends(self, owed: Owed) -> int:
        return self._desk.slots.until(owed.policy, self.uuid, owed.slot)

    async def _wait(self, seconds: float) -> None:
        """Until the next try, or until something makes it worth one. When that is, is the engine's
        to tell: see try_again()."""
        self.retry_at = int(self._desk.clock() + seconds)
        self._retry_by = asyncio.get_running_loop().time() + seconds
        try:
            while self.left and self.waiting and not self._worth_a_look():
                self._told.clear()
                await self._told.wait()
        finally:
            self.retry_at = 0

    def _worth_a_look(self) -> bool:
        """Whether what has changed changes anything for this one."""
        desk = self._desk
        return self.uuid not in desk.inventory.domains or any(
            desk.kept_from(o.policy.name, self.uuid)
            or desk.policies.in_force.get(o.policy.name) != o.policy
            for o in self.left
        )

    async def _give_up(self, over: list[Owed], error: SnapdError) -> None:
        self.left = [o for o in self.left if o not in over]
        for owed in over:
            if isinstance(error, Unsupported) and error.reason != "chain-limit":
                self._desk.refusals.note(owed.policy, self._picture, error)
            self.settled.append(await self._desk.runs.failed(owed, error, self.last))


async def prune(desk: Desk, picture: DomainPicture, policy: str) -> None:
    """Retention, after a success; what keeps it from being carried out keeps nothing else."""
    try:
        await desk.pruning.after(picture, policy)
    except NoSuchDomain:
        pass  # it went meanwhile, with its snapshots
    except SnapdError as e:
        fields = about(picture.info, policy=policy, error=e)
        log.warning("VM %s is not pruned: %s", picture.info.name, e.message, extra=fields)
