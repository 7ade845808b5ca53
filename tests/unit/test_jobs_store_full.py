"""Jobs whose store cannot be written: nothing is done without an intent, and each has an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import LibvirtError, NoSpace
from snapd.model import JobState, Origin, Record, SnapshotKey
from snapd.operations import Job, Jobs, Outcome, ending
from snapd.store import JobRow, Store
from tests.unit.jobs_on_store import VM, at_once, ended, play, wanted

RECORD = Record(SnapshotKey(VM, "one", 7), Origin.MANUAL)


def full(store: Store, when: Callable[[JobRow], bool]) -> Callable[[], None]:
    """Have the store refuse such rows; returns what makes room."""
    real = store.update_job

    async def refusing(row: JobRow, *left: Any) -> None:
        if when(row):
            raise NoSpace("the disk is full")
        await real(row, *left)

    def make_room() -> None:
        store.update_job = real  # type: ignore[method-assign]

    store.update_job = refusing  # type: ignore[method-assign, assignment]
    return make_room


async def settled(store: Store) -> None:
    async with asyncio.timeout(5):
        while await store.open_jobs():
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)


def test_intent_that_cannot_be_written_keeps_the_act_from_being_done(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        acted = False

        async def judge(_job: Job) -> Outcome:
            raise AssertionError("nothing was done, so there is nothing to judge")

        async def work(job: Job) -> Outcome:
            nonlocal acted
            await job.intend({"name": "one"})
            acted = True
            return Outcome()

        jobs.judge = judge
        full(store, lambda row: row.intent is not None)
        job = await ended(await jobs.submit(wanted(), work))
        assert (job.row.state, acted) == (JobState.FAILED, False)
        assert job.row.error_message == "the disk is full"
        assert await store.open_jobs() == []

    play(tmp_path, body)


def test_note_of_how_far_it_is_that_cannot_be_written_lets_the_act_go_on(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        async def work(job: Job) -> Outcome:
            await job.intend({"name": "one"})
            await job.intend({"name": "one", "claimed": True}, begun=True)
            assert (job.row.intent or {})["claimed"]
            return Outcome()

        full(store, lambda row: "claimed" in (row.intent or {}))
        assert (await ended(await jobs.submit(wanted(), work))).row.state is JobState.DONE

    play(tmp_path, body)


@pytest.mark.parametrize("works", [True, False])
def test_end_that_cannot_be_written_is_told_and_written_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """Else its waiters wait for ever, its policy never runs again, its snapshot stays `creating`;
    and without the record the snapshot would be nobody's."""
    monkeypatch.setattr(ending, "RETRY", (0.01, 0.02))

    async def body(jobs: Jobs, store: Store) -> None:
        told: list[Job] = []
        late: list[str] = []
        jobs.listen(ended=told.append, freed=late.append)

        async def work(job: Job) -> Outcome:
            if not works:
                raise LibvirtError("libvirt said no")
            return Outcome(snapshot="one", created=7, record=RECORD)

        make_room = full(store, lambda row: row.state.finished)
        job = await ended(await jobs.submit(wanted(), work))
        state = JobState.DONE if works else JobState.FAILED
        assert (job.row.state, told, jobs.open_on(VM)) == (state, [job], [])
        assert [row.id for row in await store.open_jobs()] == [job.id]
        assert (await ended(await jobs.submit(wanted("two"), at_once))).row.state == "done"
        make_room()
        await settled(store)
        rows = await store.finished_jobs(1, 9)
        assert (rows[0].id, rows[0].state) == (job.id, state)
        assert (store.record(RECORD.key) == RECORD) is works
        assert late == [VM, VM]  # whose snapshot looked foreign until now
        _, total = await store.history({}, 0, 0, 0, 9)
        assert total == 2

    play(tmp_path, body)


def test_begin_that_cannot_be_written_fails_the_job(tmp_path: Path) -> None:
    async def body(jobs: Jobs, store: Store) -> None:
        make_room = full(store, lambda _row: True)
        job = await ended(await jobs.submit(wanted(), at_once))
        assert (job.row.state, job.row.error_name) == (JobState.FAILED, NoSpace("").name)
        assert not jobs.holds(VM)
        make_room()

    play(tmp_path, body)


def test_fault_in_taking_a_job_up_ends_it_and_leaves_its_intent_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Outcome:
        raise KeyError("way")

    async def body(jobs: Jobs, store: Store) -> None:
        monkeypatch.setattr("snapd.operations.jobs.settle", broken)
        row = wanted().row(JobState.RUNNING, 5)
        number = await store.add_job(row)
        (open_row,) = await store.open_jobs()
        await store.update_job(replace(open_row, intent={"name": "one"}))
        jobs.judge = broken
        await jobs.load()
        job = await ended(jobs.all[number])
        assert job.row.state is JobState.FAILED
        assert [r.intent for r in await store.open_jobs()] == [{"name": "one"}]

    play(tmp_path, body)
