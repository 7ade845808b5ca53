"""Jobs that went wrong, were stopped, or were left open: the facts decide how they ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from snapd.errors import (
    Busy,
    LibvirtError,
    OutcomeUnknown,
    Partial,
    SnapdError,
    TimedOut,
    Unavailable,
)
from snapd.model import JobState, Origin, Record, SnapshotKey, Verb
from snapd.operations import Job, Jobs, Outcome, Request
from snapd.operations import settling as module
from snapd.operations.job import Undone
from snapd.store import HoldRow, Store
from tests.unit.jobs_on_store import VM, at_once, ended, play, wanted

# ---- what went wrong


def test_work_that_raises_before_it_intends_is_not_judged(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        jobs.judge = unwanted

        async def work(job: Job) -> Outcome:
            raise LibvirtError("no", reason="raw-disk", disk="vda", ways=("detach-disk",))

        job = await ended(await jobs.submit(wanted(), work))
        assert job.row.state is JobState.FAILED
        error = job.error()
        assert (type(error), error.message) == (LibvirtError, "no")
        assert (error.reason, error.disk, error.ways) == ("raw-disk", "vda", ("detach-disk",))

    play(tmp_path, body)


async def unwanted(job: Job) -> Outcome:
    raise AssertionError("judged")


async def intending(job: Job) -> Outcome:
    await job.intend({"name": "one"})
    raise LibvirtError("libvirt said no")


RECORD = Record(SnapshotKey(VM, "one", 7), Origin.MANUAL)


@pytest.mark.parametrize(
    ("verdict", "state", "error"),
    [
        (Outcome(snapshot="one", created=7, record=RECORD), JobState.DONE, ""),
        (Undone(), JobState.FAILED, "libvirt said no"),
        (Partial("half of it"), JobState.FAILED, "half of it"),
    ],
)
def test_work_that_raises_after_it_intends_is_as_the_judge_says(
    tmp_path: Path, verdict: Outcome | Exception, state: JobState, error: str
) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        async def judge(job: Job) -> Outcome:
            assert job.row.intent == {"name": "one"}
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

        jobs.judge = judge
        job = await ended(await jobs.submit(wanted(), intending))
        assert (job.row.state, job.row.error_message) == (state, error)
        assert job.row.intent is None
        assert (store.record(RECORD.key) == RECORD) is (state is JobState.DONE)
        ((_, history),), total = await store.history({}, 0, 0, 0, 10)
        assert total == 1
        assert history.result.endswith(error or "done")

    play(tmp_path, body)


def test_settling_is_tried_again_until_the_facts_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", (0.01, 0.02))
    answers: list[Exception] = [Unavailable("x"), TimedOut("x"), OutcomeUnknown("x")]
    answers += [LibvirtError("cannot look"), Busy("another job"), Undone()]

    async def body(jobs: Jobs, store: Store) -> None:
        async def judge(job: Job) -> Outcome:
            raise answers.pop(0)

        jobs.judge = judge
        job = await ended(await jobs.submit(wanted(), intending))
        assert answers == []
        assert job.row.error_message == "libvirt said no"

    play(tmp_path, body)


@pytest.mark.parametrize("early", [Undone(), Partial("half of it")])
def test_call_that_broke_off_is_looked_at_twice_before_it_counts_as_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: Exception
) -> None:
    """libvirt may still be at it: the first look finds nothing, or half of it."""
    monkeypatch.setattr(module, "RETRY", (0.01, 0.02))

    async def body(jobs: Jobs, store: Store) -> None:
        looks: list[Job] = []

        async def judge(job: Job) -> Outcome:
            looks.append(job)
            if len(looks) == 1:
                raise early
            return Outcome(snapshot="one", created=7, record=RECORD)

        async def broken_off(job: Job) -> Outcome:
            await job.intend({"name": "one"})
            raise OutcomeUnknown("end of file")

        jobs.judge = judge
        job = await ended(await jobs.submit(wanted(), broken_off))
        assert (job.row.state, len(looks)) == (JobState.DONE, 2)

    play(tmp_path, body)


def test_judge_that_fails_by_a_fault_of_ours_ends_the_job(tmp_path: Path) -> None:
    """Or its waiters would wait for ever, and its snapshot be `creating` for ever."""

    async def body(jobs: Jobs, store: Store) -> None:
        async def judge(job: Job) -> Outcome:
            raise KeyError("way")

        jobs.judge = judge
        job = await ended(await jobs.submit(wanted(), intending))
        assert job.row.state is JobState.FAILED
        assert job.row.error_name.endswith(".Inconsistent")
        assert job.row.detail["reason"] == "half-made"
        assert f"job {job.id}" in job.row.error_message

    play(tmp_path, body)


def test_work_that_fails_by_a_fault_of_ours_is_internal_and_its_text_in_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        async def work(job: Job) -> Outcome:
            raise RuntimeError("/secret/path")

        job = await ended(await jobs.submit(wanted(), work))
        assert job.row.error_name.endswith(".Internal")
        assert "secret" not in job.row.error_message
        assert f"job {job.id}" in job.row.error_message
        (record,) = [r for r in caplog.records if r.exc_info]
        assert f"job {job.id}" in record.getMessage()
        assert record.exc_info and "/secret/path" in str(record.exc_info[1])

    play(tmp_path, body)


# ---- stopping


def test_stop_leaves_the_open_intent_and_begins_no_step(tmp_path: Path) -> None:
    acted = []

    async def body(jobs: Jobs, store: Store) -> None:
        intended, gate = asyncio.Event(), asyncio.Event()

        async def work(job: Job) -> Outcome:
            await job.intend({"name": "one"})
            intended.set()
            await gate.wait()
            job.enter("taking", acting=True)
            acted.append(1)
            return Outcome()

        first = await jobs.submit(wanted("one"), work)
        second = await jobs.submit(wanted("two"), at_once)
        await intended.wait()
        asyncio.get_running_loop().call_later(0.05, gate.set)
        await jobs.stop(5)
        assert second.row.state is JobState.CANCELLED
        assert not first.ended.is_set()
        (row,) = await store.open_jobs()
        assert (row.id, row.intent) == (first.id, {"name": "one"})

    play(tmp_path, body)
    assert acted == []


def test_stop_lets_a_running_step_end(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        async def work(job: Job) -> Outcome:
            await job.intend({"name": "one"})
            job.enter("taking", acting=True)
            begun.set()
            await asyncio.sleep(0.1)
            return Outcome()

        begun = asyncio.Event()
        job = await jobs.submit(wanted(), work)
        await begun.wait()
        await jobs.stop(5)
        assert job.row.state is JobState.DONE
        assert await store.open_jobs() == []

    play(tmp_path, body)


def test_stop_takes_no_more_requests(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        await jobs.stop(1)
        with pytest.raises(Unavailable):
            await jobs.submit(wanted(), at_once)

    play(tmp_path, body)


def test_load_has_the_open_intent_judged_before_the_domain_is_free(tmp_path: Path) -> None:
    async def before(jobs: Jobs, store: Store) -> None:
        intended = asyncio.Event()

        async def work(job: Job) -> Outcome:
            await job.intend({"name": "one"})
            intended.set()
            await asyncio.sleep(60)
            return Outcome()

        await jobs.submit(wanted("one"), work)
        await intended.wait()
        await jobs.stop(0.01)

    async def after(jobs: Jobs, store: Store) -> None:
        order = []

        async def judge(job: Job) -> Outcome:
            await asyncio.sleep(0.05)
            order.append("judged")
            return Outcome(snapshot="one", created=7)

        jobs.judge = judge
        await jobs.load()

        async def work(job: Job) -> Outcome:
            order.append("worked")
            return Outcome()

        await ended(await jobs.submit(wanted("two"), work))
        assert order == ["judged", "worked"]
        assert jobs.all[1].row.state is JobState.DONE

    play(tmp_path, before)
    play(tmp_path, after)


def test_inline_raises_the_error_of_its_job(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        async def refuse(job: Job) -> Outcome:
            raise LibvirtError("no", reason="raw-disk")

        async def work(job: Job) -> Outcome:
            await jobs.inline(job, wanted("inner"), refuse)
            return Outcome()

        job = await ended(await jobs.submit(wanted("outer"), work))
        inner = jobs.all[job.id + 1]
        assert inner.row.parent == job.id
        assert {j.row.error_message for j in (job, inner)} == {"no"}
        assert isinstance(job.error(), SnapdError)

    play(tmp_path, body)


def test_stop_between_parts_says_that_some_are_done(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        async def work(job: Job) -> Outcome:
            await jobs.inline(job, wanted("first"), at_once)
            done.set()
            await gate.wait()
            job.enter("deleting", acting=True)
            return Outcome()

        done, gate = asyncio.Event(), asyncio.Event()
        job = await jobs.submit(wanted("all"), work)
        await done.wait()
        asyncio.get_running_loop().call_later(0.05, gate.set)
        await jobs.stop(5)
        assert job.row.state is JobState.CANCELLED
        assert "history has what 1 of its parts did" in job.row.error_message

    play(tmp_path, body)


@pytest.mark.parametrize(
    ("parts", "held", "said"),
    [
        ([], False, "nothing was changed"),
        ([JobState.FAILED], False, "nothing was changed"),
        ([JobState.DONE, JobState.DONE, JobState.FAILED], False, "what 2 of its parts did"),
        ([JobState.RUNNING], False, "1 more had begun"),
        ([], True, "policies stay held"),
    ],
)
def test_load_job_without_intent_tells_what_it_had_done_all_the_same(
    tmp_path: Path, parts: list[JobState], held: bool, said: str
) -> None:
    """A daemon that was killed in a prune or in DeleteOwnSnapshots: what ran inside is done."""

    async def body(jobs: Jobs, store: Store) -> None:
        outer = Request(Verb.DELETE_OWN, VM, "vm 1").row(JobState.RUNNING, 5)
        number = await store.add_job(outer)
        for n, state in enumerate(parts):
            row = wanted(f"s{n}", parent=number).row(state, 5)
            intent = {"name": f"s{n}"} if state is JobState.RUNNING else None
            await store.add_job(replace(row, finished=0 if intent else 6, intent=intent))
        if held:
            why = f"job {number}: all of ours are deleted, so that the VM can be removed"
            await store.change_holds([HoldRow("", VM, why, 5)])
        await store.change_holds([HoldRow("p", VM, f"job {number}7: another", 5)])

        async def judge(job: Job) -> Outcome:
            return Outcome()

        jobs.judge = judge
        await jobs.load()
        job = jobs.all[number]
        assert job.row.state is JobState.CANCELLED
        assert said in job.row.error_message
        assert ("nothing was changed" in job.row.error_message) is (said == "nothing was changed")
        assert ("unhold" in job.error().ways) is held

    play(tmp_path, body)
