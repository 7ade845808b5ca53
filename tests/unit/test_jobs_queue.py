"""The queue of each domain: turns, limits, the same request, cancelling."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from snapd.errors import Busy, Cancelled, InvalidArgument, LimitExceeded, TimedOut
from snapd.model import DomainInfo, JobState, State
from snapd.operations import Job, Jobs, Outcome
from snapd.store import Store
from tests.unit.jobs_on_store import OTHER, VM, at_once, ended, play, until, wanted

# ---- turns


def test_submit_second_of_a_domain_waits_for_the_first(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        first = await jobs.submit(wanted("one"), until(gate))
        second = await jobs.submit(wanted("two"), at_once)
        third = await jobs.submit(wanted("one", OTHER), at_once)
        await ended(third)
        assert (first.row.state, second.row.state) == (JobState.RUNNING, JobState.QUEUED)
        assert jobs.holds(VM)
        assert not jobs.holds(OTHER)
        assert jobs.holder(VM) is first
        gate.set()
        await ended(second)
        assert second.row.state is JobState.DONE
        assert not jobs.holds(VM)

    play(tmp_path, body)


def test_submit_more_domains_than_parallel_waits(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        await jobs.submit(wanted("one"), until(gate))
        other = await jobs.submit(wanted("one", OTHER, max_wait=0), at_once)
        await ended(other)
        assert "limit of VMs at work" in other.row.error_message
        gate.set()

    play(tmp_path, body, parallel=1)


def test_submit_domain_at_work_for_long_no_longer_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stuck VM delays nobody else."""
    monkeypatch.setattr("snapd.operations.turns.PATIENCE_SECONDS", 0.05)

    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        await jobs.submit(wanted("one"), until(gate))
        other = await jobs.submit(wanted("one", OTHER), at_once)
        assert (await ended(other)).row.state is JobState.DONE
        third = await jobs.submit(wanted("two", max_wait=0), at_once)
        assert (await ended(third)).row.error_name == Busy("").name
        gate.set()

    play(tmp_path, body, parallel=1)


@pytest.mark.parametrize("max_wait", [0, 0.05])
def test_submit_past_max_wait_is_busy_with_the_holder_named(
    tmp_path: Path, max_wait: float
) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        first = await jobs.submit(wanted("one"), until(gate))
        await asyncio.sleep(0.05)
        late = await ended(await jobs.submit(wanted("two", max_wait=max_wait), at_once))
        assert late.row.error_name == Busy("").name
        assert f"job {first.id} (create one)" in late.row.error_message
        assert "vm 1" in late.row.error_message
        gate.set()

    play(tmp_path, body)


def test_submit_17th_of_a_domain_is_limit_exceeded(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        asked = (jobs.submit(wanted(f"s{n}"), until(gate)) for n in range(20))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(a) for a in answers] == [Job] * 16 + [LimitExceeded] * 4
        await jobs.submit(wanted("one", OTHER), at_once)
        gate.set()
        await asyncio.gather(*(ended(a) for a in answers if isinstance(a, Job)))
        assert (await ended(await jobs.submit(wanted("again"), at_once))).row.error_name == ""

    play(tmp_path, body)


# ---- the same request


def test_submit_same_request_while_it_runs_is_the_same_job(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        asked = (jobs.submit(wanted("one", owner=5), until(gate)) for _ in range(3))
        first, *others = await asyncio.gather(*asked)
        assert others == [first, first]
        assert await jobs.submit(wanted("one", owner=6), at_once) is not first
        assert await jobs.submit(wanted("one", owner=5, options={"x": 1}), at_once) is not first
        gate.set()
        await ended(first)
        assert await jobs.submit(wanted("one", owner=5), at_once) is not first

    play(tmp_path, body)


def test_submit_request_id_is_per_owner_and_for_one_day(tmp_path: Path) -> None:
    now = [1795000000.0]

    async def body(jobs: Jobs, store: Store) -> None:
        first = await ended(await jobs.submit(wanted("one", owner=5, request="r"), at_once))
        assert await jobs.submit(wanted("one", owner=5, request="r"), at_once) is first
        with pytest.raises(InvalidArgument):
            await jobs.submit(wanted("two", owner=5, request="r"), at_once)
        assert await jobs.submit(wanted("one", owner=6, request="r"), at_once) is not first
        now[0] += 86400 + 1
        later = await jobs.submit(wanted("two", owner=5, request="r"), at_once)
        assert later is not first

    play(tmp_path, body, clock=lambda: now[0])


# ---- cancelling


def test_cancel_in_the_turn_of_its_making_ends_it(tmp_path: Path) -> None:
    """Its task has not begun then, and whoever guesses the job's number can be that quick."""

    async def body(jobs: Jobs, store: Store) -> None:
        made = await jobs.submit(wanted("one"), at_once)
        jobs.cancel(made)
        assert (await ended(made)).row.error_name == Cancelled("").name
        assert not jobs.holds(VM)
        assert (await ended(await jobs.submit(wanted("two"), at_once))).row.error_name == ""

    play(tmp_path, body)


def test_cancel_queued_job_ends_it_and_running_one_is_busy(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        first = await jobs.submit(wanted("one"), until(gate))
        second = await jobs.submit(wanted("two"), at_once)
        await asyncio.sleep(0.05)
        assert (first.cancellable, second.cancellable) == (False, True)
        jobs.cancel(second)
        await ended(second)
        assert second.row.state is JobState.CANCELLED
        assert second.row.error_name == Cancelled("").name
        with pytest.raises(Busy):
            jobs.cancel(first)
        gate.set()
        third = await ended(await jobs.submit(wanted("three"), at_once))
        assert third.row.state is JobState.DONE

    play(tmp_path, body)


def test_wait_too_short_is_timed_out_and_the_job_goes_on(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        job = await jobs.submit(wanted(), until(gate))
        for timeout in (0, 0.02):
            with pytest.raises(TimedOut):
                await jobs.wait(job, timeout)
        gate.set()
        assert (await jobs.wait(job, None)).row.state is JobState.DONE
        assert await jobs.wait(job, 0) is job

    play(tmp_path, body)


# ---- acts that are no jobs


WEB = DomainInfo(VM, "web-1", State.RUNNING)


def test_occupied_waits_for_the_job_and_the_next_job_for_it(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        done, freed = asyncio.Event(), list[str]()
        jobs.listen(freed=freed.append)
        first = await jobs.submit(wanted("first"), until(done))
        order: list[str] = []

        async def act() -> None:
            async with jobs.occupied(WEB, "description of snapshot one", 10):
                assert jobs.holds(VM)
                order.append("act")
                await asyncio.sleep(0.05)
                order.append("acted")

        async def note(job: Job) -> Outcome:
            order.append("second")
            return Outcome()

        task = asyncio.create_task(act())
        await asyncio.sleep(0.05)
        second = await jobs.submit(wanted("second"), note)
        assert order == []
        done.set()
        await task
        await ended(first)
        await ended(second)
        assert order == ["act", "acted", "second"]
        assert (freed, jobs.holds(VM)) == ([VM], False)

    play(tmp_path, body)


def test_occupied_past_its_time_is_busy_with_the_holder_both_ways(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        done = asyncio.Event()
        job = await jobs.submit(wanted("first"), until(done))
        await asyncio.sleep(0.05)
        with pytest.raises(Busy, match=r"web-1 is busy: job 1 \(create first\)"):
            async with jobs.occupied(WEB, "description of snapshot one", 0.05):
                raise AssertionError("held by two")
        done.set()
        await ended(job)
        async with jobs.occupied(WEB, "description of snapshot one", 1):
            late = await ended(await jobs.submit(wanted("late", max_wait=0.05), at_once))
        assert late.row.error_name == Busy("").name
        assert "description of snapshot one" in late.row.error_message
        assert (await ended(await jobs.submit(wanted("then"), at_once))).row.state == "done"

    play(tmp_path, body)


def test_occupied_is_free_again_after_an_error(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        freed = list[str]()
        jobs.listen(freed=freed.append)
        with pytest.raises(Busy):
            async with jobs.occupied(WEB, "act", 1):
                raise Busy("refused")
        assert (freed, jobs.holds(VM)) == ([VM], False)

    play(tmp_path, body)


# ---- what is left of it


def test_job_that_lingers_no_more_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most so many that have ended, or a caller who asks for more fills the memory."""
    monkeypatch.setattr("snapd.operations.jobs.LINGER_COUNT", 2)

    async def body(jobs: Jobs, store: Store) -> None:
        made = [
            weakref.ref(await ended(await jobs.submit(wanted(f"n{n}"), at_once))) for n in "abcd"
        ]
        await asyncio.sleep(0)
        gc.collect()
        assert [job() is not None for job in made] == [False, False, True, True]

    play(tmp_path, body)
