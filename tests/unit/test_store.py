"""The store: what is written is there after a restart, in whole, and nobody else's meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from snapd.errors import Internal, NoSpace
from snapd.model import (
    Consistency,
    JobState,
    Origin,
    Record,
    SnapshotKey,
    State,
    Verb,
    Warned,
)
from snapd.store import (
    HistoryRow,
    HoldRow,
    JobRow,
    RunRow,
    SlotRow,
    Store,
    StoreBroken,
    StoreInUse,
    asides,
    set_aside,
)

VM = "22222222-2222-4222-8222-222222222201"
KEY = SnapshotKey(VM, 'one "quoted" \u00fc', 1795600000)
RECORD = Record(
    KEY,
    Origin.POLICY,
    ("a", "b"),
    State.RUNNING,
    Consistency.QUIESCED,
    42,
    "why, with \n lines",
    ("memory-left-out",),
)
JOB = JobRow(
    id=0,
    verb=Verb.CREATE,
    domain=VM,
    domain_name="web-1",
    snapshot="one",
    policy="nightly",
    owner=1000,
    state=JobState.RUNNING,
    queued=1795600000,
    parent=3,
    created=7,
    intent={"name": "one", "disks": {"vda": "/a"}},
    warnings=(Warned("nvram-left-out", "web-1", "told"),),
    request="mine",
    fingerprint="print",
)
DAY = 86400
Body = Callable[[Store], Coroutine[Any, Any, None]]


def play(folder: Path, *bodies: Body) -> None:
    """Each body with a store of its own, one after the other."""

    async def main(body: Body) -> None:
        store = await Store.open(folder)
        try:
            await body(store)
        finally:
            await store.close()

    for body in bodies:
        asyncio.run(main(body))


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
        await store.write_record(record)
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
    slot = SlotRow("nightly", VM, 100, 101, 102, "name", "message")
    run = RunRow(0, "nightly", VM, "web-1", 100, 101, 102, "made", "why", "one", 7)
    acts = [
        HistoryRow(10 * n, "create", VM, "web-1", f"s{n}", n, "p", 5, "why", "done", n, n)
        for n in range(1, 6)
    ]

    async def write(store: Store) -> None:
        assert (await store.add_run(run, slot)).id == 1
        assert (await store.add_run(run)).id == 2
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


# ---- opening


def test_open_folder_in_use_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(StoreInUse):
            await Store.open(tmp_path)
        assert await store.add_job(JOB) == 1

    async def later(store: Store) -> None:
        assert await store.add_job(JOB) == 2

    play(tmp_path, body, later)


def test_open_is_private_and_durable(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        await store.write_fact("x", 1)

    folder = tmp_path / "made" / "deep"
    play(folder, body)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "store.sqlite").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(folder / "store.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


async def nothing(_store: Store) -> None: ...


@pytest.mark.parametrize("harm", ["garbage", "newer", "row", "torn"])
def test_open_broken_store_is_refused_and_can_be_set_aside(tmp_path: Path, harm: str) -> None:
    play(tmp_path, nothing)
    path = tmp_path / "store.sqlite"
    if harm == "garbage":
        path.write_bytes(b"x" * 5000)
    elif harm == "torn":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        with sqlite3.connect(path) as db:
            db.execute(
                "PRAGMA user_version = 99"
                if harm == "newer"
                else "INSERT INTO snapshots (domain, name, created, origin, state, consistency)"
                " VALUES ('a', 'b', 1, 'nobody', 'running', 'crash')"
            )
        db.close()
    content = path.read_bytes()
    with pytest.raises(StoreBroken):
        play(tmp_path, nothing)
    aside = set_aside(tmp_path, "123")
    assert asides(tmp_path) == [aside]
    assert aside.read_bytes() == content
    play(tmp_path, nothing)


# ---- older stores

VERSION_1 = """
CREATE TABLE snapshots (
    domain TEXT NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL,
    origin TEXT NOT NULL, policies TEXT NOT NULL DEFAULT '[]',
    state TEXT NOT NULL, consistency TEXT NOT NULL, pause_ms INTEGER NOT NULL DEFAULT -1,
    pin_reason TEXT, notes TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (domain, name, created)
) WITHOUT ROWID;
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, parent INTEGER NOT NULL DEFAULT 0,
    domain TEXT NOT NULL, domain_name TEXT NOT NULL, snapshot TEXT NOT NULL,
    created INTEGER NOT NULL DEFAULT 0, policy TEXT NOT NULL, owner INTEGER NOT NULL,
    state TEXT NOT NULL, intent TEXT,
    error_name TEXT NOT NULL DEFAULT '', error_message TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '{}', warnings TEXT NOT NULL DEFAULT '[]',
    result TEXT NOT NULL DEFAULT '{}',
    queued INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0, request TEXT NOT NULL DEFAULT '',
    fingerprint TEXT NOT NULL DEFAULT ''
);
CREATE INDEX jobs_open ON jobs (state) WHERE finished = 0;
CREATE INDEX jobs_request ON jobs (owner, request) WHERE request != '';
CREATE TABLE slots (
    policy TEXT NOT NULL, domain TEXT NOT NULL, last_slot INTEGER NOT NULL,
    last_run INTEGER NOT NULL DEFAULT 0, last_success INTEGER NOT NULL DEFAULT 0,
    error_name TEXT NOT NULL DEFAULT '', error_message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (policy, domain)
) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, policy TEXT NOT NULL, domain TEXT NOT NULL,
    domain_name TEXT NOT NULL, slot INTEGER NOT NULL, started INTEGER NOT NULL,
    finished INTEGER NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    snapshot TEXT NOT NULL, job INTEGER NOT NULL
);
CREATE INDEX runs_domain ON runs (domain, id);
CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, not_before INTEGER NOT NULL,
    verb TEXT NOT NULL, domain TEXT NOT NULL, domain_name TEXT NOT NULL,
    snapshot TEXT NOT NULL, created INTEGER NOT NULL, policy TEXT NOT NULL,
    owner INTEGER NOT NULL, reason TEXT NOT NULL, result TEXT NOT NULL, job INTEGER NOT NULL
);
CREATE INDEX history_domain ON history (domain, id);
CREATE INDEX history_time ON history (time);
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

INSERT INTO snapshots VALUES ('VM', 'one', 1700000000, 'policy', '["a", "b"]', 'running',
    'quiesced', 42, 'audit', '["memory-left-out"]');
INSERT INTO jobs (id, verb, domain, domain_name, snapshot, policy, owner, state, intent, queued)
    VALUES (7, 'create', 'VM', 'web-1', 'two', '', 1000, 'running', '{"name": "two"}', 1795600000);
INSERT INTO slots (policy, domain, last_slot, last_success) VALUES ('a', 'VM', 17, 18);
INSERT INTO runs VALUES (3, 'a', 'VM', 'web-1', 17, 18, 19, 'made', 'why', 'one', 6);
INSERT INTO history VALUES (5, 1795600000, 0, 'create', 'VM', 'web-1', 'one', 1700000000, 'a', -1,
    'slot', 'done', 6);
INSERT INTO facts VALUES ('clock', '1795600000');
PRAGMA user_version = 1;
"""
"""A store as the first version made it, with a row of each kind."""


def test_open_store_of_version_1_keeps_everything_and_takes_holds(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.executescript(VERSION_1)
    db.close()
    hold = HoldRow("a", "VM", "moving", 1795600001, 1795600002, 1000)

    async def read(store: Store) -> None:
        key = SnapshotKey("VM", "one", 1700000000)
        what = (State.RUNNING, Consistency.QUIESCED, 42, "audit", ("memory-left-out",))
        assert store.records_of("VM") == [Record(key, Origin.POLICY, ("a", "b"), *what)]
        (job,) = await store.open_jobs()
        assert (job.id, job.snapshot, job.intent) == (7, "two", {"name": "two"})
        assert await store.slots() == [SlotRow("a", "VM", 17, last_success=18)]
        run = RunRow(3, "a", "VM", "web-1", 17, 18, 19, "made", "why", "one", 6)
        assert await store.runs({}, 0, 0, 0, 10) == ([run], 1)
        act = HistoryRow(
            1795600000, "create", "VM", "web-1", "one", 1700000000, "a", -1, "slot", "done", 6
        )
        assert await store.history({}, 0, 0, 0, 10) == ([(5, act)], 1)
        assert await store.fact("clock") == 1795600000
        assert await store.add_job(JOB) == 8
        assert await store.holds() == []
        await store.change_holds([hold])

    async def later(store: Store) -> None:
        assert await store.holds() == [hold]
        assert len(store.records_of("VM")) == 1

    play(tmp_path, read, later)
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)
    db.close()


def test_open_store_of_version_1_that_cannot_be_brought_up_is_left_as_it_was(
    tmp_path: Path,
) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.executescript(VERSION_1 + "CREATE TABLE holds (other);")
    db.close()
    with pytest.raises(StoreBroken):
        play(tmp_path, nothing)
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM snapshots").fetchone() == (1,)
    db.close()


# ---- acts on records


def test_change_records_counts_at_once_and_is_undone_where_it_cannot_be_written(
    tmp_path: Path,
) -> None:
    async def body(store: Store) -> None:
        pinned = replace(RECORD, pin_reason="audit")
        await store.write_record(RECORD)
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
        await store.write_record(RECORD)

    play(tmp_path, body)
