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

    left: what is not settled yet, settled: what became of the rest. by: a person who asked for it:
    then it is tried once, whatever the policy's conditions, and told at once.
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
        self.error: SnapdError | None = None
        self.job: Job | None = None
        self.retry_at = 0
        self._desk, self._picture = desk, picture
        self._by, self._parent = by, parent
        self._told = asyncio.Event()
        self._tries = 0
        self._room_made = False
        self._last: JobRow | None = None

    # --- what others do to it

    @property
    def waiting(self) -> bool:
        """Whether it does nothing now but wait for its next try."""
        return self.retry_at > 0

    def look_again(self) -> None:
        """Something has changed: a hold, a policy, the VM."""
        self._told.set()

    def drop_held(self) -> None:
        """Take its job out of the queue where a policy is held now."""
        job = self.job
        if job and job.cancellable:
            if any(self._desk.kept_from(o.policy.name, self.uuid) for o in self.left):
                self._desk.operations.jobs.cancel(job)
        elif self.waiting:
            self.look_again()

    def withdraw(self) -> list[Owed]:
        """End it between two tries, and give back what it has not settled."""
        left, self.left = self.left, []
        self.look_again()
        return left

    # --- the making

    async def run(self) -> None:
        """Try until all is settled."""
        while self.left:
            error = await self._try()
            if error is None:
                continue
            self.error, again = error, self._again(error)
            if not again:
                await self._give_up(error)
                return
            for owed in self.left:
                await self._desk.runs.not_yet(owed, error, short=isinstance(error, NoSpace))
            await self._wait(again)

    async def _try(self) -> SnapdError | None:
        """One try; None = look at what is left, if anything is."""
        await self._drop_what_is_not_wanted()
        if not self.left:
            return None
        try:
            job = await self._create()
        except SnapdError as e:
            return e
        state = job.row.state
        if state is JobState.DONE:
            await self._done(job)
            return None
        if state is JobState.CANCELLED:
            return self._cancelled(job)
        error, self._last = job.error(), job.row
        if isinstance(error, NoSpace) and await self._make_room(error):
            return None
        return error

    async def _create(self) -> Job:
        asker = self._by or Asker(max_wait=self._patience())
        info, wish = self._picture.info, wish_of(self.left)
        self.job = job = await self._desk.operations.create(info, wish, asker, self._parent)
        try:
            self.drop_held()
            await job.ended.wait()
        finally:
            self.job = None
        return job

    def _cancelled(self, job: Job) -> SnapdError | None:
        """By a hold: the others are tried again. By the end of the daemon: the next one goes on.
        By a person: that was it."""
        if self._desk.operations.jobs.stopping:
            self.left = []
            return None
        if any(self._desk.kept_from(o.policy.name, self.uuid) for o in self.left):
            return None
        return Cancelled(job.row.error_message)

    async def _done(self, job: Job) -> None:
        done, self.left = self.left, []
        for owed in done:
            self._desk.refusals.forget(owed.policy.name, self.uuid)
            self.settled.append(await self._desk.runs.made(owed, job.row))
        if self._by is None:  # of one by hand, the run prunes
            await prune(self._desk, self._picture, done[0].policy.name)

    async def _make_room(self, error: NoSpace) -> bool:
        """Delete what one more snapshot would release anyway, once: whether it is worth another
        try. Since when there has been no room is on disk first, and the plan is made for that
        time: however often it is repeated, it releases nothing more."""
        if self._room_made or self._by is not None:
            return False
        self._room_made = True
        for owed in self.left:
            await self._desk.runs.not_yet(owed, error, short=True)
        rows = self._desk.slots.rows
        since = [rows[o.policy.name, self.uuid].short_since or o.slot for o in self.left]
        names = tuple(o.policy.name for o in self.left)
        wish = wish_of(self.left)
        try:
            return await self._desk.pruning.make_room(self._picture, names, min(since), wish)
        except SnapdError as e:
            log.warning("no room is made on VM %s: %s", self._picture.info.name, e.message)
            return False

    # --- what is still wanted

    async def _drop_what_is_not_wanted(self) -> None:
        """Settle what is not to be run now, with the reason."""
        desk, wanted = self._desk, []
        self._picture = desk.inventory.domains.get(self.uuid, self._picture)
        for owed in self.left:
            if why := desk.kept_from(owed.policy.name, self.uuid):
                await self._skip(owed, why)
            elif self._by is not None:
                wanted.append(owed)
            elif (now := self._still(owed)) is None:
                self.settled.append(
                    await desk.runs.skipped(owed, "the policy does not cover the VM any more")
                )
            elif nothing := await self._nothing_to_do(now):
                await self._skip(now, nothing, content=True)
            elif refusal := desk.refusals.standing(now.policy, self._picture):
                why = f"{refusal.message}; not tried again until the VM or the policy changes"
                await self._skip(now, why)
            else:
                wanted.append(now)
        self.left = wanted

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
        """How long the job may wait for its VM, in seconds: until the next slot."""
        ends = [self._ends(o) for o in self.left if o.scheduled]
        now = self._desk.clock()
        return min([RUN_MAX_WAIT, *(max(30.0, end - now) for end in ends)])

    def _ends(self, owed: Owed) -> int:
        return self._desk.slots.until(owed.policy, owed.slot)

    def _again(self, error: SnapdError) -> float:
        """Seconds to wait for the next try, growing; 0 = there is none before the next slot."""
        now = self._desk.clock()
        ends = [self._ends(o) for o in self.left if o.scheduled]
        if self._by is not None or len(ends) < len(self.left):
            return 0  # a trigger's moment has passed
        left = max(ends) - now
        if not isinstance(error, _PASSING):
            return 0
        pause = min(FIRST_RETRY * 2**self._tries, LONGEST_RETRY)
        self._tries += 1
        return pause if pause < left else 0

    async def _wait(self, seconds: float) -> None:
        """Until the next try, or until something makes it worth one. The time is the engine's to
        tell (`due`): no timer of the loop goes on while the host sleeps."""
        self.retry_at = int(self._desk.clock() + seconds)
        try:
            while self.left and not self.due() and not self._worth_a_look():
                self._told.clear()
                await self._told.wait()
        finally:
            self.retry_at = 0

    def due(self) -> bool:
        """Whether it waits no longer for its next try."""
        return self.retry_at <= self._desk.clock()

    def _worth_a_look(self) -> bool:
        """Whether what has changed changes anything for this one."""
        desk = self._desk
        return self.uuid not in desk.inventory.domains or any(
            desk.kept_from(o.policy.name, self.uuid)
            or desk.policies.in_force.get(o.policy.name) != o.policy
            for o in self.left
        )

    async def _give_up(self, error: SnapdError) -> None:
        left, self.left = self.left, []
        vm = self._picture.info.name
        for owed in left:
            if isinstance(error, Unsupported):
                self._desk.refusals.note(owed.policy, self._picture, error)
            log.error("policy %s on VM %s: %s", owed.policy.name, vm, error.message)
            self.settled.append(await self._desk.runs.failed(owed, error, self._last))


async def prune(desk: Desk, picture: DomainPicture, policy: str) -> None:
    """Retention, after a success; what keeps it from being carried out keeps nothing else."""
    try:
        await desk.pruning.after(picture, policy)
    except NoSuchDomain:
        pass  # it went meanwhile, with its snapshots
    except SnapdError as e:
        log.error("VM %s is not pruned: %s", picture.info.name, e.message)
