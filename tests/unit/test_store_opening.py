"""Opening the store: nobody else's meanwhile, what is broken or of another version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from snapd.model import (
    Consistency,
    Origin,
    Record,
    SnapshotKey,
    State,
)
from snapd.store import (
    HistoryRow,
    HoldRow,
    RunRow,
    SlotRow,
    Store,
    StoreBroken,
    StoreInUse,
    asides,
    set_aside,
)
from tests.unit.stores import JOB, play


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
        assert await store.slots() == [SlotRow("a", "VM", 17, last_success=18, last_ok=18)]
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
        assert db.execute("PRAGMA user_version").fetchone() == (4,)
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
