"""An engine on a real store and a clock of the test's; the other rooms answer what a test tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from snapd.errors import LimitExceeded, SnapdError
from snapd.hypervisor import ChainFacts
from snapd.inventory import Change, DomainPicture, Inventory
from snapd.model import (
    Disk,
    DomainInfo,
    JobState,
    Keep,
    Kind,
    Policy,
    SnapshotInfo,
    State,
    Verb,
)
from snapd.operations import Asker, HalfMade, Job, Operations, Wish
from snapd.operations.ending import last_row
from snapd.operations.job import Outcome
from snapd.planning.retention import Candidate, Decision
from snapd.policy import ClockGuard, Engine, Holds, Policies, Pruner, Resting
from snapd.policy.attempt import Attempt
from snapd.store import JobRow, RunRow, SlotRow, Store

VM = "22222222-2222-4222-8222-222222222201"
VM2 = "22222222-2222-4222-8222-222222222202"
MINUTE, HOUR, DAY = 60, 3600, 86400
NOW = 1795600800  # a full hour
WEB1 = DomainInfo(VM, "web-1", State.RUNNING)
WEB2 = DomainInfo(VM2, "web-2", State.RUNNING)


class InForce:
    """The policies, as files would have them."""

    def __init__(self) -> None:
        self.in_force: dict[str, Policy] = {}
        self.listeners: list[Callable[..., None]] = []

    def on_change(self, call: Callable[..., None]) -> None:
        self.listeners.append(call)

    def change(self, name: str, policy: Policy | None) -> None:
        before = self.in_force.get(name)
        self.in_force = {n: p for n, p in self.in_force.items() if n != name}
        self.in_force |= {name: policy} if policy else {}
        for call in self.listeners:
            call(name, before, policy)


class Libvirt:
    """The VMs, as the inventory would have them."""

    def __init__(self, *infos: DomainInfo) -> None:
        self.domains = {i.uuid: DomainPicture(i) for i in infos}
        self.connected, self.loading, self.unread = True, False, dict[str, str]()
        self.hypervisor = SimpleNamespace(
            uri="test:///",
            tried=True,
            has_monitor=True,
            has_images=False,
            hanging=dict,
            chains=ChainFacts(),
            version=(0, 0, 0),
        )
        self.listeners: list[Callable[[Change], None]] = []
        self.refreshes: dict[str, asyncio.Event] = {}

    def on_change(self, call: Callable[[Change], None]) -> None:
        self.listeners.append(call)

    def on_status(self, _call: Callable[[], None]) -> None: ...

    async def refresh(self, uuid: str) -> DomainPicture:
        """The VM answers at once, or when its event is set."""
        if wait := self.refreshes.get(uuid):
            await wait.wait()
        return self.domains[uuid]

    def change(self, uuid: str, info: DomainInfo | None) -> None:
        """A VM comes, goes (None) or becomes another."""
        before = self.domains.pop(uuid, None)
        after = DomainPicture(info) if info else None
        self.domains |= {uuid: after} if after else {}
        for call in self.listeners:
            call(Change(uuid, before, after, 0))

    def stand_on(self, uuid: str, names: Sequence[str]) -> None:
        """A VM has external snapshots, one upon the other."""
        info, parents = self.domains[uuid].info, ("", *names)
        snapshots = {
            name: SnapshotInfo(name, n, State.RUNNING, Kind.EXTERNAL, parent=parents[n])
            for n, name in enumerate(names)
        }
        disks = (Disk("vda", "/images/web.raw", "raw"),)
        current = replace(info, current=[*names][-1], disks=disks)
        self.domains[uuid] = DomainPicture(current, snapshots)


Answer = SnapdError | Exception | None


@dataclass
class Stubs:
    """What the engine asks of other rooms, in as few words as can be.

    answers: what comes of the next tries, by VM: None = made, an error = the job fails. refuses: no
    try becomes a job at all. slow: jobs end only when let() is called. prunes: what comes of the
    next ones: an error, or the names that stay, each for a word; pruned: when, where, and which
    names alone. room: for which policies room was made, and as of when.
    """

    now: float = NOW
    boot: float = 1e6
    awake: float = 1e6
    policies: InForce = field(default_factory=InForce)
    libvirt: Libvirt = field(default_factory=lambda: Libvirt(WEB1))
    made: list[Wish] = field(default_factory=list)
    asked: list[tuple[str, Wish, Asker]] = field(default_factory=list)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    refuses: bool = False
    slow: bool = False
    running: list[Job] = field(default_factory=list)
    going: tuple[Decision, ...] = ()
    prunes: list[SnapdError | tuple[str, ...] | dict[str, str]] = field(default_factory=list)
    pruned: list[tuple[int, str, frozenset[str] | None]] = field(default_factory=list)
    room: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    half_made: HalfMade = field(default_factory=HalfMade)
    stopping: bool = False
    changed_answers: list[Any] = field(default_factory=list)
    ended: list[Callable[[Job], None]] = field(default_factory=list)
    told: list[RunRow] = field(default_factory=list)
    host_stopping: bool = False
    store: Any = None

    @property
    def jobs(self) -> Stubs:
        return self

    def listen(self, ended: Callable[[Job], None]) -> None:
        self.ended.append(ended)

    # --- time

    def pass_(self, seconds: float) -> None:
        self.sleep(seconds)
        self.awake += seconds

    def sleep(self, seconds: float) -> None:
        """The host is suspended for so long."""
        self.now += seconds
        self.boot += seconds

    # --- a revert breaks off, and another one mends it

    def tear(self) -> None:
        row = JobRow(3, Verb.REVERT, VM, "web-1", "s2", "", 0, JobState.FAILED, 1, finished=2)
        failed: dict[str, Any] = {
            "error_name": "org.virtsnap.Error.Partial",
            "detail": {"reason": "half-made"},
        }
        job = Job(replace(row, **failed), cast(Any, None))
        self.half_made.note(job.row)
        for call in self.ended:
            call(job)

    def mend(self) -> None:
        row = JobRow(4, Verb.REVERT, VM, "web-1", "s1", "", 0, JobState.DONE, 1, finished=2)
        self.half_made.note(row)

    # --- operations

    async def create(self, info: DomainInfo, wish: Wish, asker: Asker, parent: int = 0) -> Job:
        if self.refuses:
            raise LimitExceeded(f"VM {info.name} has 16 requests waiting")
        wish.check()
        self.asked.append((info.uuid, wish, asker))
        number = len(self.asked)
        state = JobState.QUEUED
        row = JobRow(
            number, Verb.CREATE, info.uuid, info.name, "", "", asker.uid, state, int(self.now)
        )
        job = Job(row, cast(Any, self))
        if not self.slow:
            self.let(job, wish)
        else:
            self.running.append(job)
        return job

    def let(self, job: Job, wish: Wish | None = None) -> None:
        """Have a job run to its end."""
        wish = wish or self.asked[job.id - 1][1]
        answers = self.answers.get(job.row.domain, [])
        answer = answers.pop(0) if answers else None
        if isinstance(answer, SnapdError):
            self.end(job, JobState.FAILED, answer)
        elif answer is not None:
            raise answer
        else:
            self.made.append(wish)
            self.end(job, JobState.DONE)

    def end(self, job: Job, state: JobState, error: SnapdError | None = None) -> None:
        name = f"s{len(self.made)}" if state is JobState.DONE else ""
        job.row = last_row(job.row, state, int(self.now), Outcome(snapshot=name), error)
        job.ended.set()
        for call in self.ended:
            call(job)

    def cancel(self, job: Job) -> None:
        self.end(job, JobState.CANCELLED, None)

    def changed(self, *_about: object) -> None: ...

    # --- pruning; `run` jobs are run

    def plan(self, _picture: DomainPicture) -> list[Decision]:
        return list(self.going)

    async def make_room(self, _job: Job, names: tuple[str, ...], at: int, _wish: Wish) -> Outcome:
        self.room.append((names, at))
        return Outcome(result={"Deleted": ["old"], "Stays": []})

    async def prune(
        self, job: Job, *, only: frozenset[str] | None = None, waits: frozenset[str]
    ) -> Outcome:
        self.pruned.append((int(self.now), job.row.domain, only))
        answer = self.prunes.pop(0) if self.prunes else ()
        if isinstance(answer, SnapdError):
            raise answer
        words = answer if isinstance(answer, dict) else dict.fromkeys(answer, "busy")
        stays = [{"Name": name, "Reason": word} for name, word in words.items()]
        return Outcome(result={"Deleted": [], "Stays": stays})

    async def submit(self, request: Any, work: Callable[[Job], Awaitable[Outcome]]) -> Job:
        if self.refuses:
            raise LimitExceeded("VM web-1 has 16 requests waiting")
        job = Job(request.row(JobState.RUNNING, int(self.now)), cast(Any, self))

        async def run() -> None:
            try:
                outcome = await work(job)
            except SnapdError as e:
                job.row = last_row(job.row, JobState.FAILED, int(self.now), Outcome(), e)
            else:
                job.row = last_row(job.row, JobState.DONE, int(self.now), outcome, None)
            job.ended.set()

        self._runs = asyncio.create_task(run())
        return job

    async def changed_since(self, _picture: DomainPicture) -> bool:
        answer = self.changed_answers.pop(0) if self.changed_answers else True
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    # --- policies

    def add(self, name: str, schedule: str = "0 * * * *", **more: Any) -> Policy:
        made = Policy(name, "admin", f"{name}{more}", ("*",), Keep(last=2), "UTC", schedule, **more)
        self.policies.change(name, made)
        return made

    def wake(self) -> None:
        for call in self.policies.listeners:
            call("", None, None)

    @property
    def in_force(self) -> dict[str, Policy]:
        return self.policies.in_force


class RestingStub:
    def __init__(self, stubs: Stubs) -> None:
        self.changed = stubs.changed_since

    async def stop(self) -> None: ...


Body = Callable[[Stubs, Engine, Store], Awaitable[None]]


def made_engine(stubs: Stubs, store: Store) -> Engine:
    """Another daemon's, so to speak, on the same store."""
    stubs.store = store
    guard = ClockGuard(0, lambda: stubs.now, lambda: stubs.boot, lambda: stubs.awake, lambda: True)
    holds = Holds(store, lambda: stubs.now)
    engine = Engine(
        cast(Policies, stubs.policies),
        cast(Operations, stubs),
        cast(Inventory, stubs.libvirt),
        store,
        cast(Pruner, stubs),
        guard,
        holds,
        cast(Resting, RestingStub(stubs)),
        lambda: stubs.now,
        host_stopping=lambda: stubs.host_stopping,
    )
    engine.on_run(stubs.told.append)
    return engine


def play(folder: Path, body: Body, stubs: Stubs | None = None) -> None:
    """Run a test's body with an engine that doesn't run yet."""

    async def main(stubs: Stubs) -> None:
        store = await Store.open(folder)
        engine = made_engine(stubs, store)
        try:
            await body(stubs, engine, store)
        finally:
            stubs.stopping = True
            await engine.stop()
            await store.close()

    asyncio.run(main(stubs or Stubs()))


async def running(engine: Engine, until: Callable[[], object]) -> None:
    """Let the engine run until something is so, at most 5 s."""
    task = asyncio.create_task(engine.run())
    try:
        async with asyncio.timeout(5):
            while not until():
                assert not task.done(), task
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def look(stubs: Stubs, engine: Engine) -> None:
    """Look once, and let all run that does not wait for anything."""
    await engine.look()
    await quiet(stubs, engine)


async def quiet(stubs: Stubs, engine: Engine) -> None:
    """Wait until every task of the engine has ended, or waits for its next try or for a job."""
    for _ in range(5):
        await asyncio.sleep(0)  # whoever was told something takes notice
    async with asyncio.timeout(5):
        while len(engine._tasks) > sum(_rests(a) for a in engine._attempts):
            await asyncio.sleep(0.001)


def _rests(attempt: Attempt) -> bool:
    job = attempt.job
    return attempt.waiting or (job is not None and not job.ended.is_set())


async def tries(stubs: Stubs, engine: Engine, seconds: int) -> list[int]:
    """The seconds after now at which something was tried, looked at each half a minute."""
    begun, found, count = stubs.now, [], len(stubs.asked)
    while stubs.now < begun + seconds:
        stubs.pass_(30)
        await look(stubs, engine)
        found += [int(stubs.now - begun)] * (len(stubs.asked) - count)
        count = len(stubs.asked)
    return found


def owing(engine: Engine, policy: str, uuid: str = VM, last: int = NOW - HOUR) -> None:
    """Have the policy last dealt with that slot there."""
    name = engine._inventory.domains[uuid].info.name
    engine.slots[policy, uuid] = SlotRow(policy, uuid, last, domain_name=name, last_ok=last)


def outcomes(stubs: Stubs, domain: str = VM) -> list[tuple[str, str, int]]:
    """(policy, outcome, slot) of each settled run so far."""
    return [(r.policy, r.outcome, r.slot) for r in stubs.told if r.domain == domain]


def delete(name: str) -> Decision:
    return Decision(Candidate(name, 1), keep=False, reasons=("last",))
