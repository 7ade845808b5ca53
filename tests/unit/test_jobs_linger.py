"""How long an ended job can still be asked: ten minutes, and at most 1,000 of them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from snapd.model import JobState, Verb
from snapd.operations import Jobs
from snapd.store import JobRow, Store
from tests.unit.jobs_on_store import VM, at_once, ended, play, until, wanted

NOW = 1795000000


def finished(folder: Path, *times: int) -> None:
    """Have the store know jobs that ended then, numbered 1, 2, ..."""

    async def body(jobs: Jobs, store: Store) -> None:
        await store.add_job(row(times[0]))

    play(folder, body)
    with closing(sqlite3.connect(folder / "store.sqlite")) as db, db:
        columns = [name for _n, name, *_ in db.execute("PRAGMA table_info(jobs)") if name != "id"]
        names = ", ".join(columns)
        same = ", ".join("?" if name == "finished" else name for name in columns)
        copy = f"INSERT INTO jobs ({names}) SELECT {same} FROM jobs WHERE id = 1"
        db.executemany(copy, [(time,) for time in times[1:]])


def row(time: int) -> JobRow:
    return JobRow(
        id=0,
        verb=Verb.CREATE,
        domain=VM,
        domain_name="vm 1",
        snapshot="one",
        created=0,
        policy="",
        owner=5,
        state=JobState.DONE,
        queued=time,
        started=time,
        finished=time,
    )


def test_ended_job_is_there_for_ten_minutes(tmp_path: Path) -> None:
    now, removed = [float(NOW)], []

    async def body(jobs: Jobs, store: Store) -> None:
        jobs.listen(removed=lambda job: removed.append(job.id))
        await jobs.load()
        assert list(jobs.all) == [2, 3]
        async with asyncio.timeout(15):
            while len(removed) < 1:
                await asyncio.sleep(0.05)
        assert (removed, list(jobs.all)) == ([2], [3])

    finished(tmp_path, NOW - 601, NOW - 599, NOW - 300)
    play(tmp_path, body, clock=lambda: now[0])


def test_ended_jobs_are_at_most_1000_the_oldest_going_first(tmp_path: Path) -> None:
    removed: list[int] = []

    async def body(jobs: Jobs, store: Store) -> None:
        jobs.listen(removed=lambda job: removed.append(job.id))
        await jobs.load()
        assert sorted(jobs.all) == list(range(6, 1006))
        gate = asyncio.Event()
        running = await jobs.submit(wanted("works"), until(gate))
        assert removed == []  # one that works doesn't count
        done = await ended(await jobs.submit(wanted("two", domain="other"), at_once))
        assert removed == [6]
        assert {running.id, done.id} <= set(jobs.all)
        gate.set()
        await ended(running)
        assert removed == [6, 7]
        assert len(jobs.all) == 1000

    finished(tmp_path, *[NOW - 10] * 1005)
    play(tmp_path, body, clock=lambda: float(NOW))


def test_job_that_works_for_longer_than_ten_minutes_stays(tmp_path: Path) -> None:
    now = [float(NOW)]

    async def body(jobs: Jobs, store: Store) -> None:
        gate = asyncio.Event()
        long = await jobs.submit(wanted("one"), until(gate))
        await asyncio.sleep(0.05)
        now[0] += 3600
        other = await ended(await jobs.submit(wanted("two", domain="other"), at_once))
        assert {long.id, other.id} <= set(jobs.all)
        gate.set()
        await ended(long)
        assert jobs.all[long.id].row.finished == NOW + 3600
        await asyncio.sleep(0.05)
        assert long.id in jobs.all

    play(tmp_path, body, clock=lambda: now[0])
