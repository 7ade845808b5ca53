"""The store: what is written is there after a restart, in whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from snapd.errors import Internal, NoSpace
from snapd.model import (
    JobState,
    SnapshotKey,
)
from snapd.store import (
    HistoryRow,
    RestRow,
    RunRow,
    SlotRow,
    Store,
)
from tests.unit.stores import DAY, JOB, KEY, RECORD, VM, play


def test_record_is_there_after_a_restart(tmp_path: Path) -> None:
    async def write(store: Store) -> None:
        job = replace(JOB, id=await store.add_job(JOB))
        await store.update_job(job, record=RECORD)
        assert store.record(KEY) == RECORD

    async def read(store: Store) -> None:
        assert store.record(KEY) == RECORD
        assert store.records_of(VM) == [RECORD]
        assert store.record(SnapshotKey(VM, KEY.name, KEY.created + 1)) is None
        await store.change_records(forget=[KEY])
        assert store.record(KEY) is None

    async def gone(store: Store) -> None:
        assert store.records_of(VM) == []

    play(tmp_path, write, read, gone)


@pytest.mark.parametrize(
    ("pin", "days", "kept"), [(None, 29, True), (None, 31, False), ("", 31, True)]
)
def test_record_of_a_snapshot_that_others_removed_counts_for_nothing_until_it_is_back(
    tmp_path: Path, pin: str | None, days: int, kept: bool
) -> None:
    now = 1795600000
    record = replace(RECORD, pin_reason=pin)
    act = HistoryRow(now, "delete", VM, "web-1", KEY.name, KEY.created)

    async def write(store: Store) -> None:
        await store.change_records([record])
        await store.mark_gone(KEY, act)

    async def read(store: Store) -> None:
        assert (store.records_of(VM), store.gone(KEY)) == ([], True)
        assert (await store.history({}, 0, 0, 0, 9))[1] == 1
        await store.trim(now + days * DAY)
        assert store.record(KEY) == (record if kept else None)
        if kept:
            await store.mark_back(KEY)
            assert store.records_of(VM) == [record]

    async def later(store: Store) -> None:
        assert store.records_of(VM) == ([record] if kept else [])
        assert not store.gone(KEY)

    play(tmp_path, write, read, later)


def test_job_is_there_after_a_restart_as_an_open_intent(tmp_path: Path) -> None:
    async def write(store: Store) -> None:
        assert await store.add_job(JOB) == 1

    async def read(store: Store) -> None:
        (found,) = await store.open_jobs()
        assert found == replace(JOB, id=1)
        ended = replace(
            found,
            state=JobState.FAILED,
            intent=None,
            finished=1795600060,
            error_name="x",
            error_message="y",
            detail={"reason": "raw-disk", "ways": ["a"]},
            result={"Deleted": ["b"]},
        )
        await store.update_job(ended, HistoryRow(1795600060, "create", VM, "web-1", job=1))
        assert await store.open_jobs() == []
        assert await store.finished_jobs(1795600060, 10) == [ended]
        assert await store.finished_jobs(1795600061, 10) == []
        assert await store.job_of_request(1000, "mine", 1795600000 + DAY) == ended
        assert await store.job_of_request(1000, "mine", 1795600001 + DAY) is None
        assert await store.job_of_request(1001, "mine", 1795600000) is None

    play(tmp_path, write, read)


def test_job_number_is_never_given_twice(tmp_path: Path) -> None:
    async def first(store: Store) -> None:
        assert await store.add_job(JOB) == 1
        assert await store.add_job(JOB) == 2
        await store.update_job(replace(JOB, id=2, state=JobState.DONE, intent=None, finished=1))
        await store.trim(1795600000)

    async def second(store: Store) -> None:
        assert await store.add_job(JOB) == 3

    play(tmp_path, first, second)


def test_update_job_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """A job's end and what it leaves behind are one transaction."""

    async def body(store: Store) -> None:
        job = replace(JOB, id=await store.add_job(JOB))
        bad = replace(RECORD, policies=("\ud800",), notes=("x",))
        broken = HistoryRow(1, "create", VM, "web-1", snapshot="\ud800")
        with pytest.raises(UnicodeEncodeError):
            await store.update_job(
                replace(job, state=JobState.DONE, intent=None, finished=5), broken, bad
            )
        (still,) = await store.open_jobs()
        assert still == job
        assert store.record(KEY) is None

    play(tmp_path, body)


def test_slots_runs_history_and_facts_round_trip(tmp_path: Path) -> None:
    slot = SlotRow("nightly", VM, 100, 101, 102, "name", "message", "web-1", 99, 98)
    run = RunRow(0, "nightly", VM, "web-1", 100, 101, 102, "made", "why", "one", 7)
    acts = [
        HistoryRow(10 * n, "create", VM, "web-1", f"s{n}", n, "p", 5, "why", "done", n, n)
        for n in range(1, 6)
    ]

    async def write(store: Store) -> None:
        begun = replace(run, finished=0, outcome="", reason="", snapshot="", job=0)
        first, second = await store.write_runs([begun, run])
        assert (first.id, second.id) == (1, 2)
        assert await store.open_runs() == [first]
        assert (await store.runs({}, 0, 0, 0, 10))[0] == [second]
        assert await store.write_runs([replace(run, id=1)], [slot]) == [replace(run, id=1)]
        assert await store.open_runs() == []
        await store.write_rest(RestRow(VM, "one", 5, "old"))
        await store.write_rest(RestRow(VM, "two", 6, "new"))
        assert await store.rests() == [RestRow(VM, "two", 6, "new")]
        for act in acts:
            await store.add_history(act)
        await store.write_fact("clock", 1795600000)

    async def read(store: Store) -> None:
        assert await store.slots() == [slot]
        rows, total = await store.runs({"domain": VM}, 0, 0, 0, 10)
        assert (rows, total) == ([replace(run, id=2), replace(run, id=1)], 2)
        assert await store.fact("clock") == 1795600000
        assert await store.fact("never") is None
        numbered, total = await store.history({}, 0, 0, 0, 2)
        assert ([row for _, row in numbered], total) == ([acts[4], acts[3]], 5)
        following, _ = await store.history({}, 0, 0, numbered[-1][0], 9)
        assert [row for _, row in following] == [acts[2], acts[1], acts[0]]
        between, total = await store.history({"domain": VM}, 20, 30, 0, 9)
        assert ([row for _, row in between], total) == ([acts[2], acts[1]], 2)
        assert await store.history({"snapshot": "other"}, 0, 0, 0, 9) == ([], 0)

    play(tmp_path, write, read)


def test_trim_keeps_what_has_to_be_kept(tmp_path: Path) -> None:
    now = 1795600000
    partial: dict[str, Any] = {
        "error_name": "org.virtsnap.Error.Partial",
        "detail": {"reason": "half-made"},
    }

    async def body(store: Store) -> None:
        for days in (399, 401):
            await store.add_history(HistoryRow(now - days * DAY, "create", VM, "web-1"))
        ended = replace(JOB, intent=None, state=JobState.DONE)
        failed = replace(ended, state=JobState.FAILED, **partial)
        rows = {
            "young": replace(ended, finished=now - DAY),
            "old": replace(ended, finished=now - 3 * DAY),
            "open": replace(JOB, queued=1),
            "half": replace(failed, finished=now - 30 * DAY, snapshot="half"),
            "mended": replace(failed, finished=now - 30 * DAY, snapshot="two"),
            "mender": replace(ended, finished=now - 29 * DAY, snapshot="two"),
        }
        numbers = {}
        for name, row in rows.items():
            numbers[name] = await store.add_job(row)
        assert [row.id for row in await store.half_made()] == [numbers["half"]]
        await store.trim(now)
        _, total = await store.history({}, 0, 0, 0, 9)
        assert total == 1
        left = {row.id for row in [*await store.finished_jobs(1, 99), *await store.open_jobs()]}
        assert left == {numbers[name] for name in ("young", "open", "half")}
        assert [row.id for row in await store.half_made()] == [numbers["half"]]

    play(tmp_path, body)


def test_change_records_counts_at_once_and_is_undone_where_it_cannot_be_written(
    tmp_path: Path,
) -> None:
    async def body(store: Store) -> None:
        pinned = replace(RECORD, pin_reason="audit")
        await store.change_records([RECORD])
        write = asyncio.ensure_future(store.change_records([pinned]))
        await asyncio.sleep(0)
        assert store.record(KEY) == pinned
        await write
        other = replace(RECORD, key=SnapshotKey(VM, "other", 1))
        bad = HistoryRow(1, "pin", VM, "web-1", reason=cast(str, object()))
        with pytest.raises(Internal):
            await store.change_records([other], [KEY], [bad])
        assert store.records_of(VM) == [pinned]

    async def later(store: Store) -> None:
        assert store.records_of(VM) == [replace(RECORD, pin_reason="audit")]
        assert await store.history({}, 0, 0, 0, 10) == ([], 0)

    play(tmp_path, body, later)


def test_write_to_a_full_disk_is_no_space_and_works_once_there_is_room(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        number = await store.add_job(JOB)
        row = replace(JOB, id=number, intent={"xml": "x" * 100_000})
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count={pages}")
        for _ in range(2):
            with pytest.raises(NoSpace, match="state folder is full"):
                await store.update_job(row, record=RECORD)
        assert (await store.open_jobs())[0].intent == JOB.intent
        assert store.record(KEY) is None
        store._db.execute("PRAGMA max_page_count=100000")
        await store.update_job(row, record=RECORD)
        assert store.record(KEY) == RECORD

    play(tmp_path, body)


def test_commit_that_fails_leaves_no_transaction_open(tmp_path: Path) -> None:
    """Or no write would ever work again."""

    async def body(store: Store) -> None:
        store._db.execute("PRAGMA foreign_keys=ON")
        store._db.execute("CREATE TABLE up (id INTEGER PRIMARY KEY)")
        store._db.execute("CREATE TABLE down (up REFERENCES up DEFERRABLE INITIALLY DEFERRED)")

        def work() -> None:
            with store._transaction() as db:
                db.execute("INSERT INTO down VALUES (1)")

        with pytest.raises(Internal):
            await store._run(work)
        await store.change_records([RECORD])

    play(tmp_path, body)
