"""Slots and triggers -> attempts: what runs the plans, and is boring.

When something is due is planning/schedule.py's to say; slots.py keeps the last slot of each policy
and domain, runs.py what became of each, attempt.py does the work, begun.py takes up what an earlier
daemon has begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from ..errors import OutcomeUnknown, SnapdError
from ..inventory import DomainPicture, Inventory
from ..journal import about
from ..model import Policy, Verb
from ..operations import Job, Operations
from ..settings import matches
from ..store import Store
from .attempt import Attempt, Desk
from .begun import Begun
from .clock import DAY, ClockGuard
from .going import Going
from .holds import Holds
from .owed import Owed, together
from .policies import Policies
from .prune import Pruner
from .pruning import Pruning
from .refusals import Refusals
from .resting import Resting
from .runs import Runs
from .slots import Slots

log = logging.getLogger(__name__)
SLICE_SECONDS = 30.0
JOIN_SECONDS = 0.2
"""At least so long after a look nothing wakes us but what is rare."""
FAILED_SECONDS = 0.1
"""Until the first look after one that failed; each further failure doubles it."""
STOP_SECONDS = 3.0


class Engine:
    """Takes policies' snapshots when they are due, and has the rest pruned after each success.

    host_stopping: while it is so nothing new is begun; the next start makes up for it.
    """

    def __init__(
        self,
        policies: Policies,
        operations: Operations,
        inventory: Inventory,
        store: Store,
        pruner: Pruner,
        guard: ClockGuard,
        holds: Holds,
        resting: Resting,
        clock: Callable[[], float] = time.time,
        host: str = "",
        host_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._slots = Slots(store, host)
        self.slots = self._slots.rows
        self._runs = Runs(store, self._slots, guard, clock)
        self.on_run = self._runs.listen
        self.pruning = Pruning(operations, inventory, pruner, clock)
        self.refusals = Refusals(inventory, store.records_of)
        self.desk = Desk(
            operations,
            inventory,
            policies,
            holds,
            self._slots,
            self._runs,
            self.pruning,
            self.refusals,
            resting,
            clock,
        )
        self._policies, self._operations, self._inventory = policies, operations, inventory
        self._store, self._guard, self._holds, self._clock = store, guard, holds, clock
        self._host_stopping = host_stopping
        self._wake, self._at_once = asyncio.Event(), asyncio.Event()
        self._attempts = Going()
        self._tasks: set[asyncio.Task[object]] = set()
        self._begun = Begun(self.desk, store, self._keep)
        self._claims: dict[str, list[Owed]] = {}  # of triggers and earlier daemons, not begun yet
        self._triggers: list[tuple[str, str, int]] = []
        self._seen: frozenset[str] = frozenset()
        self._covered: set[tuple[str, str, str, str]] = set()
        self._meant: set[tuple[str, str, str]] | None = None  # by the last look
        self._tidied = 0.0
        policies.on_change(lambda *_: self._look_at_once(self._attempts))
        holds.on_change(lambda: self._look_again(self._attempts))
        operations.jobs.listen(ended=self._on_job_ended)
        inventory.on_status(self._look_at_once)
        inventory.on_change(lambda change: self._look_again(self._attempts.of(change.uuid)))

    async def load(self) -> None:
        """Take up the slots that an earlier daemon settled, and the runs that it has not. The
        policies in force now may be its own; those that come later are not."""
        await self._slots.load()
        await self._begun.load()
        self._meant = {_times(p) for p in self._policies.in_force.values()}

    # --- asking

    def domains_of(self, policy: Policy) -> list[DomainPicture]:
        """The domains whose present name the policy's globs match, by name."""
        found = [
            p for p in self._inventory.domains.values() if matches(policy, p.info.name, p.info.uuid)
        ]
        return sorted(found, key=lambda p: p.info.name)

    def next_run(self, policy: Policy, uuid: str = "") -> int:
        """When the policy's next slot is, for one domain or for any; 0 = never."""
        uuids = [uuid] if uuid else [p.info.uuid for p in self.domains_of(policy)]
        return self._slots.next_run(policy, uuids, int(self._clock()))

    def next_fire(self, policy: Policy, after: int) -> int:
        """The policy's slot after that time."""
        return self._slots.next_fire(policy, after)

    def retry_at(self, policy: str, uuid: str) -> int:
        """When what failed is tried again; 0 = it isn't."""
        of = self._attempts.of(uuid)
        found = [a.retry_at for a in of if any(o.policy.name == policy for o in a.left)]
        return max(found, default=0)

    def refused(self, policy: str, uuid: str) -> SnapdError | None:
        """Why a policy is not tried on a domain until one of the two changes."""
        meant, picture = self._policies.in_force.get(policy), self._inventory.domains.get(uuid)
        return self.refusals.standing(meant, picture) if meant and picture else None

    # --- the loop

    async def run(self) -> None:
        """Look, run what is due, sleep at most 30 s of wall time; for ever. A look that fails is
        made again after a while, whatever wakes us: a failure may do so itself."""
        failures = 0
        while True:
            self._wake.clear()  # what wakes us during the look has us look again after it
            self._at_once.clear()
            try:
                await self.look()
                pause, failures = self._pause(), 0
            except Exception as e:
                level = logging.DEBUG if failures else logging.ERROR
                fault = None if isinstance(e, SnapdError) else e
                log.log(level, "the policies could not be run: %s", e, exc_info=fault)
                await asyncio.sleep(min(FAILED_SECONDS * 2**failures, SLICE_SECONDS))
                failures = min(failures + 1, 16)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken()

    async def _woken(self) -> None:
        """What wakes us soon after a look has one more made, for all that does: a look goes over
        all VMs. Only what comes seldom is not put off."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOIN_SECONDS):
                await self._at_once.wait()
        await self._wake.wait()

    def _pause(self) -> float:
        """Seconds until something is due, in slices, since no sleep notices a clock step."""
        reading = self._inventory.loading  # nothing is begun then, and each VM wakes us
        due = [] if reading else [self.next_run(p) for p in self._policies.in_force.values()]
        due += [self._holds.next_end(), self.pruning.next_due()]
        due += [a.retry_at for a in self._attempts]
        now = self._clock()
        ahead = [at - now for at in due if at > now]
        return max(0.05, min([SLICE_SECONDS, *ahead]))

    async def look(self) -> None:
        """Begin all that is due now; returns when it is written down, not when it is done."""
        self._guard.watch()
        await self._runs.write_late()
        await self._holds.expire()
        if not self._inventory.connected or self._inventory.loading:
            return  # what is missed meanwhile is caught up
        if self._host_stopping() or self._guard.waking():
            return
        now = int(self._clock())
        await self._begun.take_up(self._claims, now)
        self._triggered()
        due = await self._due(now)
        for uuid in dict.fromkeys([*self._claims, *due]):
            await self._begin(uuid, due.get(uuid, []), now)
        for attempt in self._attempts:
            attempt.try_again(now)
        for uuid in self.pruning.due(now):
            self._keep(self.pruning.again(uuid))
        await self._tidy(now)

    async def _due(self, now: int) -> dict[str, list[Owed]]:
        """What the schedules ask for, by domain. A policy that has come to cover a domain since the
        last look, or has another schedule, owes nothing for the time before."""
        owed: dict[str, list[Owed]] = {}
        seen, covered, meant = frozenset(self._inventory.domains), set(), set()
        for policy in self._policies.in_force.values():
            meant.add(times := _times(policy))
            came = self._meant is not None and times not in self._meant
            for picture in self.domains_of(policy):
                uuid = picture.info.uuid
                covered.add(key := (*times, uuid))
                anew = came or (uuid in self._seen and key not in self._covered)
                await self._slots.join(policy.name, picture.info, now, anew=anew)
                found = self._slots.due(policy, uuid, now)
                if found and found.run:
                    owed.setdefault(uuid, []).append(Owed.of(policy, found))
                elif found:
                    (late,) = await self._runs.begin(picture.info, [Owed.of(policy, found)], now)
                    await self._runs.skipped(late, "missed, and too late by now")
        self._seen, self._covered, self._meant = seen, covered, meant
        return owed

    async def _tidy(self, now: int) -> None:
        """Once a day: let go of what is older than it has to be kept, by a clock that is right."""
        if abs(now - self._tidied) > DAY and not self._guard.distrust():
            self._tidied = now
            await self._store.trim(now)

    # --- beginning

    async def _begin(self, uuid: str, due: list[Owed], now: int) -> None:
        """One snapshot for all policies that a domain owes together, and for what an earlier
        attempt still waits to try again; a policy that is at work still is skipped."""
        picture, claims = self._inventory.domains.get(uuid), self._claims.get(uuid, [])
        begun = [o for o in claims if o.run is not None]
        if picture is None:  # it went during this look
            self._claims.pop(uuid, None)
            for owed in begun:
                await self._runs.skipped(owed, "the VM is gone")
            return
        new = [o for o in (*claims, *due) if o.run is None]
        begun += await self._runs.begin(picture.info, new, now)
        self._claims.pop(uuid, None)
        going: list[Owed] = []
        for attempt in self._attempts.of(uuid):
            if attempt.waiting and attempt.goes_along(begun):
                going += await self._withdrawn(attempt, {o.policy.name for o in begun})
        busy = self._at_work(uuid)
        for owed in begun:
            if owed.policy.name in busy:
                await self._runs.skipped(owed, "the last run is still at work")
            else:
                going.append(owed)
        for several in together(going):
            self._start(Attempt(self.desk, picture, several))

    def _at_work(self, uuid: str) -> set[str]:
        """The policies that an attempt of the engine's own is at work for. One by hand makes up for
        no slot: who asked for it waits shorter, and tries only once."""
        return {o.policy.name for a in self._attempts.of(uuid) if not a.by_hand for o in a.left}

    async def _withdrawn(self, attempt: Attempt, names: set[str]) -> list[Owed]:
        """What an attempt leaves to the next one; of policies whose next slot has come, nothing."""
        error = attempt.error or OutcomeUnknown("it was not tried again before the next slot")
        left = attempt.withdraw()
        for owed in left:
            if owed.policy.name in names:
                await self._runs.failed(owed, error, attempt.last)
        return [o for o in left if o.policy.name not in names]

    def _start(self, attempt: Attempt) -> None:
        self._attempts.add(attempt)
        self._keep(self._carry(attempt))

    async def carry_out(self, attempt: Attempt) -> None:
        """Have an attempt run to its end, known to all that others do meanwhile."""
        self._attempts.add(attempt)
        await self._carry(attempt)

    async def _carry(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        finally:
            self._attempts.remove(attempt)
        for part in attempt.parts:
            self._start(part)

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("a policy's run broke off", exc_info=error)

    async def stop(self) -> None:
        """Have what has ended noted; what waits to be tried again stays open in the store, for the
        next daemon."""
        for attempt in self._attempts:
            if attempt.waiting:
                attempt.withdraw()
        if tasks := list(self._tasks):
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(SnapdError):  # the next daemon finds it out
            await self._runs.write_late()
        await self.desk.resting.stop()

    # --- what else makes it run

    def trigger(self, uuid: str, word: str) -> None:
        """Something that a policy's `on` may name has happened to a domain."""
        if self._host_stopping() or not any(word in p.on for p in self._policies.in_force.values()):
            return
        self._keep(self._note_trigger(uuid, word, int(self._clock())))

    async def _note_trigger(self, uuid: str, word: str, at: int) -> None:
        """The domain is looked at first: a policy may ask for its state. That may take long."""
        with contextlib.suppress(SnapdError):  # it is gone, or it doesn't answer
            await self._inventory.refresh(uuid)
        self._triggers.append((uuid, word, at))

    def _triggered(self) -> None:
        """What triggers ask for, but within a policy's min_gap of its last run there."""
        triggers, self._triggers = self._triggers, []
        for uuid, word, at in triggers:
            if (picture := self._inventory.domains.get(uuid)) is None:
                continue
            for policy in self._policies.in_force.values():
                if word not in policy.on or not matches(policy, picture.info.name, uuid):
                    continue
                row, claims = self.slots.get((policy.name, uuid)), self._claims.get(uuid, ())
                busy = self._at_work(uuid) | {o.policy.name for o in claims}
                if policy.name in busy or (row and 0 <= at - row.last_run < policy.min_gap):
                    what = "it is at work there, or was within min_gap"
                    fields = about(picture.info, policy=policy.name)
                    vm = picture.info.name
                    log.info(
                        "policy %s: no run on %s of VM %s: %s",
                        policy.name,
                        word,
                        vm,
                        what,
                        extra=fields,
                    )
                else:
                    self._claims.setdefault(uuid, []).append(Owed(policy, at, word=word))

    def _look_again(self, attempts: Iterable[Attempt]) -> None:
        """Something has changed that may be another thing to these, and to what is due."""
        for attempt in attempts:
            attempt.drop_held()
        self._wake.set()

    def _look_at_once(self, attempts: Iterable[Attempt] = ()) -> None:
        self._look_again(attempts)
        self._at_once.set()

    def _on_job_ended(self, job: Job) -> None:
        if job.row.verb is Verb.REVERT:
            for attempt in self._attempts.of(job.row.domain):
                attempt.drop_held()
        if self._begun:
            self._wake.set()


def _times(policy: Policy) -> tuple[str, str, str]:
    """A policy as one that owes slots: under another schedule it is another one."""
    return policy.name, policy.schedule, policy.timezone
