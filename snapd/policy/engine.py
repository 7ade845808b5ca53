"""Slots and triggers -> attempts: what runs the plans, and is boring.

When something is due is planning/schedule.py's to say; slots.py keeps the last slot of each policy
and domain, runs.py what became of each, attempt.py does the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import OutcomeUnknown, SnapdError
from ..inventory import DomainPicture, Inventory
from ..model import JobState, Keep, Policy, Verb
from ..operations import Job, Operations
from ..planning.schedule import GRACE
from ..settings import matches
from ..store import RunRow, Store
from .attempt import Attempt, Desk, prune
from .clock import DAY, ClockGuard
from .holds import Holds
from .owed import Owed
from .policies import Policies
from .prune import Pruner
from .pruning import Pruning
from .refusals import Refusals
from .resting import Resting
from .runs import Runs, is_missed
from .slots import Slots

log = logging.getLogger(__name__)
SLICE_SECONDS = 30.0
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
        self.refusals = Refusals(inventory)
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
        self._wake = asyncio.Event()
        self._attempts: list[Attempt] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: list[RunRow] = []
        self._triggers: list[tuple[str, str, int]] = []
        self._tidied = 0.0
        policies.on_change(lambda *_: self._on_change())
        holds.on_change(self._on_change)
        operations.jobs.listen(ended=self._on_job_ended)
        inventory.on_status(self._wake.set)
        inventory.on_change(lambda _change: self._on_change())

    async def load(self) -> None:
        """Take up the slots that an earlier daemon settled, and the runs that it has not."""
        await self._slots.load()
        self._open = await self._store.open_runs()

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
        of = [a.retry_at for a in self._of(uuid) if any(o.policy.name == policy for o in a.left)]
        return max(of, default=0)

    def refused(self, policy: str, uuid: str) -> SnapdError | None:
        """Why a policy is not tried on a domain until one of the two changes."""
        meant, picture = self._policies.in_force.get(policy), self._inventory.domains.get(uuid)
        return self.refusals.standing(meant, picture) if meant and picture else None

    def _of(self, uuid: str) -> list[Attempt]:
        return [a for a in self._attempts if a.uuid == uuid]

    # --- the loop

    async def run(self) -> None:
        """Look, run what is due, sleep at most 30 s of wall time; for ever."""
        while True:
            self._wake.clear()  # what wakes us during the look has us look again at once
            try:
                await self.look()
            except SnapdError as e:
                log.error("the policies could not be run: %s", e.message)
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _pause(self) -> float:
        """Seconds until something is due, in slices, since no sleep notices a clock step."""
        due = [self.next_run(p) for p in self._policies.in_force.values()]
        due += [self._holds.next_end(), self.pruning.next_due()]
        due += [a.retry_at for a in self._attempts]
        now = self._clock()
        ahead = [at - now for at in due if at > now]
        return max(0.05, min([SLICE_SECONDS, *ahead]))

    async def look(self) -> None:
        """Begin all that is due now; returns when it is written down, not when it is done."""
        self._guard.watch()
        await self._holds.expire()
        if not self._inventory.connected or self._inventory.loading:
            return  # what is missed meanwhile is caught up
        if self._host_stopping() or self._guard.waking():
            return
        now = int(self._clock())
        owed: dict[str, list[Owed]] = {}
        await self._take_up(owed, now)
        await self._triggered(owed)
        for policy in self._policies.in_force.values():
            await self._scheduled(policy, owed, now)
        for uuid, several in owed.items():
            await self._begin(self._inventory.domains[uuid], several, now)
        for attempt in self._attempts:
            if attempt.waiting and attempt.due():
                attempt.look_again()
        for uuid in self.pruning.due(now):
            self._keep(self.pruning.again(uuid))
        await self._tidy(now)

    async def _scheduled(self, policy: Policy, owed: dict[str, list[Owed]], now: int) -> None:
        """What a policy's schedule asks for, on each domain that it covers."""
        for picture in self.domains_of(policy):
            await self._slots.join(policy.name, picture.info, now)
            found = self._slots.due(policy, picture.info.uuid, now)
            if found and found.run:
                owed.setdefault(picture.info.uuid, []).append(Owed.of(policy, found))
            elif found:
                (begun,) = await self._runs.begin(picture.info, [Owed.of(policy, found)], now)
                await self._runs.skipped(begun, "missed, and too late by now")

    async def _tidy(self, now: int) -> None:
        """Once a day: let go of what is older than it has to be kept."""
        if abs(now - self._tidied) > DAY:
            self._tidied = now
            await self._store.trim(now)

    # --- beginning

    async def _begin(self, picture: DomainPicture, several: list[Owed], now: int) -> None:
        """One snapshot for all policies that a domain owes together, and for what an earlier
        attempt still waits to try again; a policy that is at work still is skipped."""
        uuid = picture.info.uuid
        new = [o for o in several if o.run is None]
        several = [o for o in several if o.run is not None]
        several += await self._runs.begin(picture.info, new, now)
        names = {o.policy.name for o in several}
        going: list[Owed] = []
        for attempt in self._of(uuid):
            if attempt.waiting:
                going += await self._withdrawn(attempt, names)
        busy = {o.policy.name for a in self._of(uuid) for o in a.left}
        for owed in several:
            if owed.policy.name in busy:
                await self._runs.skipped(owed, "the last run is still at work")
            else:
                going.append(owed)
        if going:
            self._keep(self.carry_out(Attempt(self.desk, picture, going)))

    async def _withdrawn(self, attempt: Attempt, names: set[str]) -> list[Owed]:
        """What an attempt leaves to the next one; of policies whose next slot has come, nothing."""
        error = attempt.error or OutcomeUnknown("it was not tried again before the next slot")
        left = attempt.withdraw()
        for owed in left:
            if owed.policy.name in names:
                await self._runs.failed(owed, error, None)
        return [o for o in left if o.policy.name not in names]

    async def carry_out(self, attempt: Attempt) -> None:
        """Have an attempt run to its end, known to all that others do meanwhile."""
        self._attempts.append(attempt)
        try:
            await attempt.run()
        finally:
            self._attempts.remove(attempt)

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        async def guarded() -> None:
            try:
                await work
            except SnapdError as e:
                log.error("what became of a slot could not be noted: %s", e.message)
            finally:
                self._wake.set()

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
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

    # --- what an earlier daemon left

    async def _take_up(self, owed: dict[str, list[Owed]], now: int) -> None:
        """Settle the runs that an earlier daemon had begun: made, if their snapshot is there;
        owed still, if nothing is and there is time; else failed."""
        while self._open:
            run = next((r for r in self._open if not is_missed(r)), None)
            if run is None:
                self._open.clear()
                return
            same = [r for r in self._open if is_missed(r) and _alike(r, run)]
            picture = self._inventory.domains.get(run.domain)
            policy = self._policies.in_force.get(run.policy)
            if policy and picture and picture not in self.domains_of(policy):
                policy = None
            known = policy or Policy(run.policy, "", "", (), Keep(), "UTC")
            before = same[0] if same else None
            claim = Owed(known, run.slot, word=run.reason, run=run, before=before)
            row = await self._store.create_of_run(run)
            if row and not row.state.finished:
                return  # it is being settled; its end wakes us
            self._open = [r for r in self._open if r is not run and r not in same]
            if row and row.state is JobState.DONE:
                await self._runs.made(claim, row)
                if picture:
                    self._keep(prune(self.desk, picture, run.policy))
            elif policy and picture and self._in_time(claim, run.domain, now):
                owed.setdefault(run.domain, []).append(claim)
            else:
                why = f"VM {run.domain_name}: the daemon ended before the snapshot was made"
                await self._runs.failed(claim, OutcomeUnknown(why), None)

    def _in_time(self, claim: Owed, uuid: str, now: int) -> bool:
        policy = claim.policy
        if not claim.scheduled or not policy.schedule:
            return False
        late = now - claim.slot > GRACE + self._slots.put_off(policy, uuid)
        return now < self._slots.until(policy, claim.slot) and (policy.catch_up or not late)

    # --- what else makes it run

    def trigger(self, uuid: str, word: str) -> None:
        """Something that a policy's `on` may name has happened to a domain."""
        if any(word in p.on for p in self._policies.in_force.values()):
            self._triggers.append((uuid, word, int(self._clock())))
            self._wake.set()

    async def _triggered(self, owed: dict[str, list[Owed]]) -> None:
        """What triggers ask for, but within a policy's min_gap of its last run there."""
        triggers, self._triggers = self._triggers, []
        for uuid, word, at in triggers:
            with contextlib.suppress(SnapdError):  # it is gone, or it doesn't answer
                await self._inventory.refresh(uuid)
            if (picture := self._inventory.domains.get(uuid)) is None:
                continue
            for policy in self._policies.in_force.values():
                info = picture.info
                if word not in policy.on or not matches(policy, info.name, uuid):
                    continue
                await self._slots.join(policy.name, info, at)
                row = self.slots[policy.name, uuid]
                names = {o.policy.name for o in owed.get(uuid, ())}
                busy = {o.policy.name for a in self._of(uuid) for o in a.left}
                if policy.name in names | busy or at - row.last_run < policy.min_gap:
                    log.info("policy %s: %s of VM %s is within min_gap", policy.name, word, uuid)
                else:
                    owed.setdefault(uuid, []).append(Owed(policy, at, word=word))

    def _on_change(self) -> None:
        for attempt in self._attempts:
            attempt.drop_held()
        self._wake.set()

    def _on_job_ended(self, job: Job) -> None:
        if job.row.verb is Verb.REVERT:
            for attempt in self._of(job.row.domain):
                attempt.drop_held()
        if self._open:
            self._wake.set()


def _alike(missed: RunRow, run: RunRow) -> bool:
    """Whether a row of missed slots is of the very run that was to make up for them."""
    parts = ("policy", "domain", "started")
    return all(getattr(missed, part) == getattr(run, part) for part in parts)
