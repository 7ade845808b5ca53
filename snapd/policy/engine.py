"""Slots -> operations: what runs the plans, and is boring.

When something is due is planning/schedule.py's to say, and slots.py keeps the last slot of each
policy and domain; it is settled before a run (so a crash never doubles it) and after.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import SnapdError
from ..inventory import DomainPicture, Inventory
from ..model import JobState, Origin, Policy, Verb
from ..operations import DAEMON, Asker, Job, Operations, Outcome, Request, Wish
from ..planning.schedule import Due
from ..settings import matches
from ..store import Store
from .clock import ClockGuard
from .holds import Holds, told
from .policies import Policies
from .prune import Pruner, torn, victims
from .runs import Runs
from .slots import Slots

log = logging.getLogger(__name__)
SLICE_SECONDS = 30.0
RUN_MAX_WAIT = 3600.0


class Engine:
    """Takes policies' snapshots when they are due, and has the rest pruned after each success."""

    def __init__(
        self,
        policies: Policies,
        operations: Operations,
        inventory: Inventory,
        store: Store,
        pruner: Pruner,
        guard: ClockGuard,
        holds: Holds,
        clock: Callable[[], float] = time.time,
        host: str = "",
    ) -> None:
        self._slots = Slots(store, host)
        self.slots = self._slots.rows
        self._policies, self._operations, self._inventory = policies, operations, inventory
        self._pruner, self._guard = pruner, guard
        self._holds, self._clock = holds, clock
        self._wake = asyncio.Event()
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, tuple[Job, str, tuple[str, ...]]] = {}
        self._runs = Runs(store, self._slots, guard, clock)
        self.on_run = self._runs.listen
        policies.on_change(lambda *_: self._wake.set())
        holds.on_change(self._on_holds)
        operations.jobs.listen(ended=self._on_job_ended)
        inventory.on_status(self._wake.set)
        inventory.on_change(lambda _change: self._wake.set())

    # --- what is due

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

    async def load(self) -> None:
        """Take up the slots that an earlier daemon settled."""
        await self._slots.load()

    async def run(self) -> None:
        """Look, run what is due, sleep at most 30 s of wall time; for ever."""
        while True:
            self._wake.clear()  # what wakes us during the tick has us look again at once
            try:
                await self._tick()
            except SnapdError as e:
                log.error("the policies could not be run: %s", e.message)
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _pause(self) -> float:
        """Seconds until the next slot or the end of a hold, in slices, since no sleep notices a
        clock step."""
        fires = [self.next_run(p) for p in self._policies.in_force.values()]
        fires.append(self._holds.next_end())
        now = self._clock()
        ahead = [fire - now for fire in fires if fire > now]
        return max(0.05, min([SLICE_SECONDS, *ahead]))

    async def _tick(self) -> None:
        self._guard.watch()
        await self._holds.expire()
        if not self._inventory.connected or self._inventory.loading:
            return  # what is missed meanwhile is caught up
        now = int(self._clock())
        owed: dict[str, list[tuple[Policy, Due]]] = {}
        for policy in self._policies.in_force.values():
            if not policy.schedule:
                continue
            for picture in self.domains_of(policy):
                if found := await self._slots.due(policy, picture.info.uuid, now):
                    owed.setdefault(picture.info.uuid, []).append((policy, found))
        for uuid, several in owed.items():
            await self._begin(self._inventory.domains[uuid], several, now)

    # --- running

    async def _begin(
        self, picture: DomainPicture, several: list[tuple[Policy, Due]], now: int
    ) -> None:
        """One snapshot for all policies that are due on the domain together."""
        uuid, made = picture.info.uuid, []
        for policy, found in several:
            slot = self.slots[policy.name, uuid]
            await self._slots.settle(replace(slot, last_slot=found.slot))
            busy = self._running.get((policy.name, uuid))
            if not found.run:
                why = "missed, and too late by now"
                await self._runs.skipped(policy, picture, found.slot, now, why)
            elif why := self._kept_from(policy.name, uuid):
                await self._runs.skipped(policy, picture, found.slot, now, why)
            elif busy and not busy.done():
                why = "the last run is still at work"
                await self._runs.skipped(policy, picture, found.slot, now, why)
            else:
                made.append((policy, found))
        if not made:
            return
        made.sort(key=lambda pair: pair[0].name)
        task = asyncio.create_task(self._scheduled(picture, made, now))
        for policy, _found in made:
            self._running[policy.name, uuid] = task
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("what became of a slot could not be noted: %s", error)

    async def _scheduled(
        self, picture: DomainPicture, several: list[tuple[Policy, Due]], now: int
    ) -> None:
        policy, found = several[0]
        names = tuple(p.name for p, _ in several)
        reason = f"policy {', '.join(names)}, slot {found.slot}"
        if found.missed or found.late:
            reason += f", caught up ({found.missed} missed before)"
        wish = _wish([p for p, _ in several], found.slot, reason)
        try:
            job = await self._operations.create(
                picture.info, wish, Asker(max_wait=self._patience(policy, found.slot))
            )
            await self._ended(job, picture.info.uuid, names)
        except SnapdError as e:
            log.error("policy %s on VM %s: %s", policy.name, picture.info.name, e.message)
            for p, f in several:
                await self._runs.settled(p, picture, f.slot, now, None, e)
            return
        held = [(p, f) for p, f in several if self._kept_from(p.name, picture.info.uuid)]
        if held and job.row.state is JobState.CANCELLED:
            await self._let_out(picture, several, held, now)
            return
        for p, f in several:
            if f.missed:
                why = f"{f.missed} slots from {f.oldest} on, covered by one run"
                await self._runs.add(p, picture, f.oldest, now, "caught-up", why, job)
            await self._runs.settled(p, picture, f.slot, now, job)
        if job.row.state is JobState.DONE:
            try:
                await self._prune(picture, names[0], DAEMON, 0)
            except SnapdError as e:
                log.error("VM %s is not pruned: %s", picture.info.name, e.message)

    async def _let_out(
        self,
        picture: DomainPicture,
        several: list[tuple[Policy, Due]],
        held: list[tuple[Policy, Due]],
        now: int,
    ) -> None:
        """Skip what was held while it stood in the queue, and have the rest run all the same."""
        for p, f in held:
            why = self._kept_from(p.name, picture.info.uuid)
            await self._runs.skipped(p, picture, f.slot, now, why or "held meanwhile")
        if rest := [pair for pair in several if pair not in held]:
            await self._scheduled(picture, rest, now)

    async def _ended(self, job: Job, uuid: str, policies: tuple[str, ...]) -> None:
        """Wait for a run's end; a hold that comes before its turn takes it out of the queue."""
        self._waiting[job.id] = (job, uuid, policies)
        try:
            self._drop_held()
            await job.ended.wait()
        finally:
            self._waiting.pop(job.id, None)

    def _kept_from(self, policy: str, uuid: str) -> str:
        """Why a policy is to leave a domain alone now; "" = it isn't. A torn VM is not snapshotted:
        what is of two moments would take the place of the good ones."""
        if hold := self._holds.covering(policy, uuid):
            return told(hold)
        return torn(self._operations.jobs.half_made, uuid)

    def _on_holds(self) -> None:
        self._drop_held()
        self._wake.set()

    def _on_job_ended(self, job: Job) -> None:
        if job.row.verb is Verb.REVERT:
            self._drop_held()

    def _drop_held(self) -> None:
        for job, uuid, policies in list(self._waiting.values()):
            if job.cancellable and any(self._kept_from(p, uuid) for p in policies):
                self._operations.jobs.cancel(job)

    def _patience(self, policy: Policy, slot: int) -> float:
        """How long a run may wait for its VM: until the next slot."""
        return float(min(RUN_MAX_WAIT, max(30, self._slots.next_fire(policy, slot) - slot)))

    async def _prune(
        self, picture: DomainPicture, policy: str, owner: int, parent: int
    ) -> Job | None:
        """Prune a domain, after a verified success only; nothing to delete makes no job."""
        info = picture.info
        if not victims(self._pruner.plan(self._inventory.domains.get(info.uuid, picture))):
            return None
        request = Request(
            Verb.PRUNE,
            info.uuid,
            info.name,
            policy=policy,
            owner=owner,
            options={"at": self._clock()},
            max_wait=RUN_MAX_WAIT,
            parent=parent,
        )
        job = await self._operations.jobs.submit(request, self._pruner.prune)
        await job.ended.wait()
        return job

    async def confirm_prune(
        self, picture: DomainPicture, policy: Policy, plan: str, asker: Asker
    ) -> Job:
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

    async def run_policy(
        self, policy: Policy, pictures: Sequence[DomainPicture], asker: Asker
    ) -> Job:
        """Run a policy now, whatever its schedule says; slots stay as they are."""
        request = Request(
            Verb.RUN,
            "",
            "",
            policy=policy.name,
            owner=asker.uid,
            options={"domains": [p.info.uuid for p in pictures]},
            request=asker.request,
        )

        async def work(run: Job) -> Outcome:
            run.enter("running")
            rows = await asyncio.gather(
                *(self._run_one(run, policy, p, asker.max_wait) for p in pictures)
            )
            return Outcome(result={"Domains": list(rows)})

        return await self._operations.jobs.submit(request, work)

    async def _run_one(
        self, run: Job, policy: Policy, picture: DomainPicture, max_wait: float
    ) -> dict[str, object]:
        """One domain's part of a run. A failure here is that domain's alone."""
        started = int(self._clock())
        row: dict[str, object] = {"DomainUUID": picture.info.uuid, "Job": 0, "Snapshot": ""}
        wish = _wish([policy], 0, f"policy {policy.name}, run by hand")
        if why := self._kept_from(policy.name, picture.info.uuid):
            await self._runs.skipped(policy, picture, started, started, why)
            return {**row, "Outcome": "skipped", "Reason": why}
        try:
            asker = Asker(run.row.owner, max_wait)
            job = await self._operations.create(picture.info, wish, asker, run.id)
        except SnapdError as e:
            await self._runs.settled(policy, picture, started, started, None, e)
            return {**row, "Outcome": "failed", "Reason": e.message}
        await self._ended(job, picture.info.uuid, (policy.name,))
        why = self._kept_from(policy.name, picture.info.uuid)
        if why and job.row.state is JobState.CANCELLED:
            await self._runs.skipped(policy, picture, started, started, why)
            return {**row, "Outcome": "skipped", "Reason": why}
        await self._runs.settled(policy, picture, started, started, job)
        row |= {"Job": job.id, "Snapshot": job.row.snapshot}
        if job.row.state is not JobState.DONE:
            return {**row, "Outcome": "failed", "Reason": job.row.error_message}
        try:
            pruned = await self._prune(picture, policy.name, run.row.owner, run.id)
        except SnapdError as e:
            return {**row, "Outcome": "made", "Reason": e.message}
        return {**row, "Outcome": "made", "Reason": pruned.row.error_message if pruned else ""}


def _wish(policies: Sequence[Policy], slot: int, reason: str) -> Wish:
    """What several policies want together: the most careful of each."""
    quiesce = next((q for q in ("require", "try") if any(p.quiesce == q for p in policies)), "no")
    return Wish(
        stem=policies[0].name,
        at=slot,
        memory="yes" if any(p.memory for p in policies) else "no",
        quiesce=quiesce,
        max_pause=min(p.max_pause for p in policies),
        origin=Origin.POLICY,
        policies=tuple(p.name for p in policies),
        reason=reason,
    )
