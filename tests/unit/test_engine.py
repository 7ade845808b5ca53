"""The engine, on a real store and a clock of the test's: what is refused, what wakes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from snapd.errors import LimitExceeded, NoSpace
from snapd.inventory import DomainPicture, Inventory
from snapd.model import DomainInfo, JobState, Keep, Policy, State, Verb
from snapd.operations import Asker, HalfMade, Job, Operations
from snapd.planning.retention import Candidate, Decision
from snapd.policy import ClockGuard, Engine, Holds, Policies, Pruner, Resting
from snapd.policy.attempt import Attempt
from snapd.policy.owed import BY_HAND, Owed
from snapd.store import JobRow, RunRow, SlotRow, Store

VM = "22222222-2222-4222-8222-222222222201"
HOUR = 3600
NOW = 1795600800  # a full hour


@dataclass
class Stubs:
    """What the engine asks of other rooms, in as few words as can be."""

    now: float = NOW
    connected: bool = True
    loading: bool = False
    in_force: dict[str, Policy] = field(default_factory=dict)
    listeners: list[Callable[..., None]] = field(default_factory=list)
    domains: dict[str, DomainPicture] = field(
        default_factory=lambda: {VM: DomainPicture(DomainInfo(VM, "web-1", State.RUNNING))}
    )
    made: list[Any] = field(default_factory=list)
    refuses: bool = False
    jobs: Any = None
    going: tuple[Decision, ...] = ()
    half_made: HalfMade = field(default_factory=HalfMade)
    ended: list[Callable[[Job], None]] = field(default_factory=list)

    def listen(self, ended: Callable[[Job], None]) -> None:
        self.ended.append(ended)

    def tear(self) -> None:
        """A revert breaks off; it is told as jobs do."""
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

    def on_change(self, call: Callable[..., None]) -> None:
        self.listeners.append(call)

    def on_status(self, _call: Callable[[], None]) -> None: ...

    stopping: bool = False

    def plan(self, _picture: DomainPicture) -> list[Decision]:
        return list(self.going)

    def prune(self, _job: Job) -> None: ...

    async def create(self, info: DomainInfo, wish: Any, asker: Any, parent: int = 0) -> Job:
        if self.refuses:
            raise LimitExceeded("VM web-1 has 16 requests waiting")
        self.made.append(wish)
        state = JobState.DONE
        row = JobRow(7, Verb.CREATE, VM, "web-1", f"s{len(self.made)}", "", -1, state, 1)
        job = Job(row, cast(Any, None))
        job.ended.set()
        return job

    async def submit(self, _request: Any, _work: Any) -> Job:
        raise LimitExceeded("VM web-1 has 16 requests waiting")

    def add(self, name: str) -> None:
        keep = Keep(last=2)
        made = Policy(name, "admin", name, ("*",), keep, "UTC", "0 * * * *")
        self.in_force = self.in_force | {name: made}
        self.wake()

    def wake(self) -> None:
        """As policies do when one comes or goes; the engine listens to them second."""
        self.listeners[1]("", None, None)


Body = Callable[[Stubs, Engine, Store], Coroutine[Any, Any, None]]


def play(folder: Path, body: Body, stubs: Stubs | None = None) -> None:
    """Run a test's body beside a running engine."""

    async def main(stubs: Stubs) -> None:
        store = await Store.open(folder)
        stubs.jobs = stubs
        guard = ClockGuard(0, *[lambda: stubs.now] * 3)
        engine = Engine(
            cast(Policies, stubs),
            cast(Operations, stubs),
            cast(Inventory, stubs),
            store,
            cast(Pruner, stubs),
            guard,
            Holds(store, lambda: stubs.now),
            cast(Resting, stubs),
            lambda: stubs.now,
        )
        try:
            await body(stubs, engine, store)
        finally:
            await store.close()

    asyncio.run(main(stubs or Stubs()))


async def running(engine: Engine, until: Callable[[], bool]) -> None:
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


def owing(engine: Engine, policy: str) -> None:
    engine.slots[policy, VM] = SlotRow(policy, VM, NOW - HOUR)


def test_run_refused_before_it_is_a_job_is_tried_again_and_failed_at_the_next_slot(
    tmp_path: Path,
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        stubs.refuses = True
        owing(engine, "hourly")
        told: list[RunRow] = []
        engine.on_run(told.append)
        await running(engine, lambda: bool(engine.retry_at("hourly", VM)))
        (slot,) = await store.slots()
        assert (slot.error_name, slot.last_slot) == (LimitExceeded("").name, NOW)
        assert (engine.retry_at("hourly", VM), told) == (NOW + 60, [])
        stubs.now += HOUR
        stubs.refuses = False
        await running(engine, lambda: len(told) == 2)
        assert [(r.outcome, r.slot, r.job) for r in told] == [
            ("failed", NOW, 0),
            ("made", NOW + HOUR, 7),
        ]
        assert "16 requests" in told[0].reason
        rows, total = await store.runs({}, 0, 0, 0, 10)
        assert (total, rows) == (2, told[::-1])

    play(tmp_path, body)


def test_slot_that_cannot_be_written_is_owed_until_it_can(tmp_path: Path) -> None:
    """The disk of the store is full for a while: the engine lives on, and no slot is lost."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        write, refused = store.write_runs, 0

        async def full(*what: Any) -> list[RunRow]:
            nonlocal refused
            if refused < 2:
                refused += 1
                stubs.wake()
                raise NoSpace("the disk is full")
            return await write(*what)

        store.write_runs = full  # type: ignore[method-assign]
        await running(engine, lambda: bool(stubs.made))
        assert (refused, stubs.made[0].at) == (2, NOW)

    play(tmp_path, body)


def test_run_that_cannot_be_noted_does_not_end_the_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")

        write = store.write_runs

        async def full(runs: list[RunRow], *slots: Any) -> list[RunRow]:
            if runs[0].finished:
                raise NoSpace("the disk is full")
            return await write(runs, *slots)

        store.write_runs = full  # type: ignore[method-assign, assignment]
        await running(engine, lambda: "could not be noted: the disk is full" in caplog.text)

    play(tmp_path, body)
    assert "never retrieved" not in caplog.text


def test_prune_refused_does_not_lose_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        stubs.going = (Decision(Candidate("old", 1), keep=False, reasons=("last",)),)
        owing(engine, "hourly")
        told: list[RunRow] = []
        engine.on_run(told.append)
        await running(engine, lambda: bool(told) and "is not pruned" in caplog.text)
        assert [row.outcome for row in told] == ["made"]

    play(tmp_path, body)
    assert "never retrieved" not in caplog.text


def test_policy_that_comes_while_it_looks_is_looked_at_at_once(tmp_path: Path) -> None:
    """Else it would be new at its first slot only, half a minute late, and owe nothing for it."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("first")
        write = store.write_slot

        async def slow(slot: SlotRow) -> None:
            await write(slot)
            if "second" not in stubs.in_force:
                stubs.add("second")

        store.write_slot = slow  # type: ignore[method-assign]
        await running(engine, lambda: ("second", VM) in engine.slots)

    play(tmp_path, body)


def test_slot_is_run_once_however_often_it_looks(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")

        told: list[RunRow] = []
        engine.on_run(told.append)

        def look() -> bool:
            stubs.wake()
            return bool(told)

        await running(engine, look)
        await asyncio.sleep(0.05)  # its task ends
        await running(engine, lambda: True)
        assert len(stubs.made) == 1
        assert stubs.made[0].at == NOW
        stubs.now += HOUR
        await running(engine, lambda: len(stubs.made) == 2)

    play(tmp_path, body)


class Queue(Stubs):
    """Its jobs wait for their turn until they are let or cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Job] = []

    async def create(self, info: DomainInfo, wish: Any, asker: Any, parent: int = 0) -> Job:
        job = await super().create(info, wish, asker, parent)
        job.row = replace(job.row, id=len(self.made), state=JobState.QUEUED)
        job.ended.clear()
        self.waiting.append(job)
        return job

    def cancel(self, job: Job) -> None:
        job.row = replace(job.row, state=JobState.CANCELLED)
        job.ended.set()


def test_hold_takes_a_waiting_run_out_of_the_queue_and_has_the_others_run(tmp_path: Path) -> None:
    stubs = Queue()

    async def body(_stubs: Stubs, engine: Engine, store: Store) -> None:
        told: list[RunRow] = []
        engine.on_run(told.append)
        for name in ("a", "b"):
            stubs.add(name)
            owing(engine, name)
        await running(engine, lambda: bool(stubs.waiting))
        await engine._holds.hold("a", stubs.domains[VM].info, reason="moving")
        async with asyncio.timeout(5):
            while len(stubs.waiting) < 2:
                await asyncio.sleep(0.01)
        assert [wish.policies for wish in stubs.made] == [("a", "b"), ("b",)]
        job = stubs.waiting[1]
        assert job.row.state is JobState.QUEUED
        job.row = replace(job.row, state=JobState.DONE)
        job.ended.set()
        async with asyncio.timeout(5):
            while len(told) < 2:
                await asyncio.sleep(0.01)
        found = [(row.policy, row.outcome, row.reason) for row in told]
        assert found[0] == ("a", "skipped", "held: moving")
        assert found[1][:2] == ("b", "made")

    play(tmp_path, body, stubs)


def test_torn_vm_is_left_alone_by_policies_until_a_revert_has_mended_it(tmp_path: Path) -> None:
    """Or the torn state would take the place of the good ones, night after night."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        told: list[RunRow] = []
        engine.on_run(told.append)
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.tear()
        await running(engine, lambda: bool(told))
        assert ([r.outcome for r in told], stubs.made) == (["skipped"], [])
        assert "revert to 's2' (job 3) broke off" in told[0].reason
        policy, picture = stubs.in_force["hourly"], stubs.domains[VM]
        (owed,) = await engine.desk.runs.begin(picture.info, [Owed(policy, NOW, word=BY_HAND)], NOW)
        await engine.carry_out(Attempt(engine.desk, picture, [owed], by=Asker()))
        assert ([r.outcome for r in told], stubs.made) == (["skipped"] * 2, [])
        stubs.mend()
        stubs.now += HOUR
        await running(engine, lambda: len(stubs.made) == 1)

    play(tmp_path, body)


def test_revert_that_tears_the_vm_takes_its_run_out_of_the_queue(tmp_path: Path) -> None:
    stubs = Queue()

    async def body(_stubs: Stubs, engine: Engine, store: Store) -> None:
        told: list[RunRow] = []
        engine.on_run(told.append)
        stubs.add("a")
        owing(engine, "a")
        await running(engine, lambda: bool(stubs.waiting))
        stubs.tear()
        async with asyncio.timeout(5):
            while not told:
                await asyncio.sleep(0.01)
        assert [(r.outcome, stubs.waiting[0].row.state) for r in told] == [("skipped", "cancelled")]

    play(tmp_path, body, stubs)


@pytest.mark.parametrize("what", ["connected", "loading"])
def test_nothing_is_run_while_libvirt_is_not_read(tmp_path: Path, what: str) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        setattr(stubs, what, not getattr(stubs, what))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await running(engine, lambda: bool(stubs.made))
        setattr(stubs, what, not getattr(stubs, what))
        await running(engine, lambda: len(stubs.made) == 1)

    play(tmp_path, body)
