"""Slots -> operations: what runs the plans, and is boring.

When something is due is planning/schedule.py's to say; here the last slot of each policy and
domain is kept in the store, written before a run (so a crash never doubles it) and after.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import SnapdError
from ..inventory import DomainPicture, Inventory
from ..model import JobState, Origin, Policy, Verb
from ..operations import DAEMON, Asker, Job, Operations, Outcome, Request, Wish
from ..planning.schedule import Cron, Due, clamp, due, next_fire, parse, spread
from ..settings import matches
from ..store import RunRow, SlotRow, Store
from .policies import Policies
from .prune import ClockGuard, Pruner, victims, zone_of

log = logging.getLogger(__name__)
SLICE_SECONDS = 30.0
RUN_MAX_WAIT = 3600.0


def machine_id() -> str:
    """The host's id, for a spread that is the same every day; "" where there is none."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


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
        clock: Callable[[], float] = time.time,
        host: str = "",
    ) -> None:
        self.slots: dict[tuple[str, str], SlotRow] = {}
        self._policies, self._operations, self._inventory = policies, operations, inventory
        self._store, self._pruner, self._guard = store, pruner, guard
        self._clock, self._host = clock, host
        self._wake = asyncio.Event()
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next: dict[tuple[str, int], int] = {}
        self._on_run: list[Callable[[RunRow], None]] = []
        policies.on_change(lambda *_: self._wake.set())
        inventory.on_status(self._wake.set)
        inventory.on_change(lambda _change: self._wake.set())

    def on_run(self, call: Callable[[RunRow], None]) -> None:
        """Have each settled run told."""
        self._on_run.append(call)

    # --- what is due

    def domains_of(self, policy: Policy) -> list[DomainPicture]:
        """The domains whose present name the policy's globs match, by name."""
        found = [
            p for p in self._inventory.domains.values() if matches(policy, p.info.name, p.info.uuid)
        ]
        return sorted(found, key=lambda p: p.info.name)

    def next_run(self, policy: Policy, uuid: str = "") -> int:
        """When the policy's next slot is, for one domain or for any; 0 = never."""
        if not policy.schedule:
            return 0
        uuids = [uuid] if uuid else [p.info.uuid for p in self.domains_of(policy)]
        now = int(self._clock())
        slots = [self.slots.get((policy.name, u)) for u in uuids]
        return min((self._next_fire(policy, s.last_slot if s else now) for s in slots), default=0)

    def _next_fire(self, policy: Policy, last_slot: int) -> int:
        key = (policy.revision, last_slot)
        if key not in self._next:
            if len(self._next) > 10_000:
                self._next.clear()
            self._next[key] = next_fire(parse(policy.schedule), last_slot, zone_of(policy))
        return self._next[key]

    async def load(self) -> None:
        """Take up the slots that an earlier daemon settled."""
        self.slots = {(row.policy, row.domain): row for row in await self._store.slots()}

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
        """Seconds until the next slot, in slices, since no sleep notices a clock step."""
        fires = [self.next_run(p) for p in self._policies.in_force.values()]
        now = self._clock()
        ahead = [fire - now for fire in fires if fire > now]
        return max(0.05, min([SLICE_SECONDS, *ahead]))

    async def _tick(self) -> None:
        self._guard.watch()
        if not self._inventory.connected or self._inventory.loading:
            return  # what is missed meanwhile is caught up
        now = int(self._clock())
        owed: dict[str, list[tuple[Policy, Due]]] = {}
        for policy in self._policies.in_force.values():
            if not policy.schedule:
                continue
            for picture in self.domains_of(policy):
                if found := await self._due(policy, picture.info.uuid, now):
                    owed.setdefault(picture.info.uuid, []).append((policy, found))
        for uuid, several in owed.items():
            await self._begin(self._inventory.domains[uuid], several, now)

    async def _due(self, policy: Policy, uuid: str, now: int) -> Due | None:
        key = (policy.name, uuid)
        slot = self.slots.get(key)
        if slot is None:  # new: it owes nothing for the past
            await self._settle_slot(SlotRow(policy.name, uuid, now))
            return None
        if clamp(slot.last_slot, now) != slot.last_slot:
            log.warning("policy %s: its last slot lay in the future; it goes on from now", key[0])
            await self._settle_slot(replace(slot, last_slot=now))
            return None
        if self._next_fire(policy, slot.last_slot) > now:
            return None
        cron: Cron = parse(policy.schedule)
        found = due(
            cron,
            slot.last_slot,
            now,
            zone_of(policy),
            catch_up=policy.catch_up,
            max_lateness=policy.max_lateness,
        )
        late = spread(self._host, uuid, policy.name, policy.randomized_delay)
        return found if found and now >= found.slot + late else None

    async def _settle_slot(self, slot: SlotRow) -> None:
        self.slots[slot.policy, slot.domain] = slot
        await self._store.write_slot(slot)

    # --- running

    async def _begin(
        self, picture: DomainPicture, several: list[tuple[Policy, Due]], now: int
    ) -> None:
        """One snapshot for all policies that are due on the domain together."""
        uuid, made = picture.info.uuid, []
        for policy, found in several:
            slot = self.slots[policy.name, uuid]
            await self._settle_slot(replace(slot, last_slot=found.slot))
            busy = self._running.get((policy.name, uuid))
            if not found.run:
                await self._skipped(policy, picture, found, now, "missed, and too late by now")
            elif busy and not busy.done():
                await self._skipped(policy, picture, found, now, "the last run is still at work")
            else:
                made.append((policy, found))
        if not made:
            return
        made.sort(key=lambda pair: pair[0].name)
        task = asyncio.create_task(self._scheduled(picture, made, now))
        for policy, _found in made:
            self._running[policy.name, uuid] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _skipped(
        self, policy: Policy, picture: DomainPicture, found: Due, now: int, why: str
    ) -> None:
        log.warning("policy %s on VM %s: slot skipped: %s", policy.name, picture.info.name, why)
        await self._add_run(policy, picture, found.slot, now, "skipped", why, None)

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
            await job.ended.wait()
        except SnapdError as e:
            log.error("policy %s on VM %s: %s", policy.name, picture.info.name, e.message)
            for p, f in several:
                await self._settled(p, picture, f.slot, now, None, e)
            return
        for p, f in several:
            if f.missed:
                why = f"{f.missed} slots from {f.oldest} on, covered by one run"
                await self._add_run(p, picture, f.oldest, now, "caught-up", why, job)
            await self._settled(p, picture, f.slot, now, job)
        if job.row.state is JobState.DONE:
            try:
                await self._prune(picture, names[0], DAEMON, 0)
            except SnapdError as e:
                log.error("VM %s is not pruned: %s", picture.info.name, e.message)

    def _patience(self, policy: Policy, slot: int) -> float:
        """How long a run may wait for its VM: until the next slot."""
        return float(min(RUN_MAX_WAIT, max(30, self._next_fire(policy, slot) - slot)))

    async def _settled(
        self,
        policy: Policy,
        picture: DomainPicture,
        slot: int,
        started: int,
        job: Job | None,
        error: SnapdError | None = None,
    ) -> None:
        """Note what became of a slot: by its job, or by the error that kept it from being one."""
        uuid, now = picture.info.uuid, int(self._clock())
        done = job is not None and job.row.state is JobState.DONE
        name, message = (job.row.error_name, job.row.error_message) if job else ("", "")
        if error:
            name, message = error.name, error.message
        row = self.slots.get((policy.name, uuid), SlotRow(policy.name, uuid, started))
        row = replace(
            row,
            last_run=now,
            last_success=now if done else row.last_success,
            error_name=name,
            error_message=message,
        )
        self.slots[policy.name, uuid] = row
        outcome, reason = ("made", job.reason) if job and done else ("failed", message)
        await self._add_run(policy, picture, slot, started, outcome, reason, job, row)
        if done and now > self._guard.last:
            self._guard.last = now
            await self._store.write_fact("clock", now)

    async def _add_run(
        self,
        policy: Policy,
        picture: DomainPicture,
        slot: int,
        started: int,
        outcome: str,
        reason: str,
        job: Job | None,
        row: SlotRow | None = None,
    ) -> None:
        run = RunRow(
            0,
            policy.name,
            picture.info.uuid,
            picture.info.name,
            slot,
            started,
            int(self._clock()),
            outcome,
            reason,
            job.row.snapshot if job else "",
            job.id if job else 0,
        )
        run = await self._store.add_run(run, row)
        for call in self._on_run:
            call(run)

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
        try:
            asker = Asker(run.row.owner, max_wait)
            job = await self._operations.create(picture.info, wish, asker, run.id)
        except SnapdError as e:
            await self._settled(policy, picture, started, started, None, e)
            return {**row, "Outcome": "failed", "Reason": e.message}
        await job.ended.wait()
        await self._settled(policy, picture, started, started, job)
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
