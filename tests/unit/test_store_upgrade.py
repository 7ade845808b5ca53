"""A store of an older version: kept once, brought up, or left as it was."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from snapd.model import Consistency, JobState, Origin, Record, SnapshotKey, State, Verb
from snapd.store import HistoryRow, HoldRow, RunRow, SlotRow, Store, StoreBroken, opening
from snapd.store.schema import STEPS
from tests.unit.stores import JOB, play

DATA = Path(__file__).parents[1] / "data" / "store"
OLD = (1, 2, 3)
WEB = "22222222-2222-4222-8222-222222222201"
DB = "22222222-2222-4222-8222-222222222203"
NIGHTLY = SnapshotKey(WEB, "nightly-20261120T013000Z", 1795138205)
PINNED = SnapshotKey(WEB, 'before "ü"', 1795200000)
SAFETY = SnapshotKey(DB, "safety-20261121T100000Z", 1795255200)


def laid(folder: Path, version: int, more: str = "") -> Path:
    """A store of that version in the folder."""
    path = folder / "store.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((DATA / f"v{version}.sql").read_text() + more)
    return path


def copies(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("store-v"))


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [f"{db.execute('PRAGMA user_version').fetchone()}", *db.iterdump()]


async def nothing(_store: Store) -> None: ...


@pytest.mark.parametrize("version", OLD)
def test_open_older_store_knows_all_that_it_knew(tmp_path: Path, version: int) -> None:
    path = laid(tmp_path, version)

    async def read(store: Store) -> None:
        quiesced = (State.RUNNING, Consistency.QUIESCED, 42)
        nightly = Record(NIGHTLY, Origin.POLICY, ("nightly", "weekly"), *quiesced)
        why, notes = "known good, says\nOps", ("memory-left-out",)
        offline = (State.SHUTOFF, Consistency.OFFLINE, -1)
        pinned = Record(PINNED, Origin.MANUAL, (), *offline, why, notes)
        safety = Record(SAFETY, Origin.SAFETY, (), State.PAUSED, Consistency.MEMORY, 2500)
        assert [store.record(k) for k in (NIGHTLY, PINNED, SAFETY)] == [nightly, pinned, safety]
        assert store.gone(NIGHTLY) is (version >= 3)
        assert not store.gone(PINNED)

        (job,) = await store.open_jobs()
        assert (job.id, job.verb, job.domain, job.snapshot, job.created, job.state) == (
            *(3, Verb.REVERT, DB, "good", 1795000000),
            JobState.RUNNING,
        )
        assert job.intent == {"name": "good", "disks": {"vda": "/images/db1.qcow2"}}
        assert [j.id for j in await store.half_made()] == [2]
        asked = await store.job_of_request(1000, "mine", 1795200020)
        assert asked and (asked.id, asked.warnings[0].reason) == (2, "tag-stays")

        made, failed = await store.slots()
        if made.domain == DB:
            made, failed = failed, made
        ran = (1795138200, 1795138200)
        assert made == SlotRow("nightly", WEB, *ran, last_success=1795138206, last_ok=1795138206)
        error = ("org.virtsnap.Error.NoSpace", "VM db1: no room")
        assert failed == SlotRow("nightly", DB, *ran, 0, *error, last_ok=1795138200)

        name = NIGHTLY.name
        runs, total = await store.runs({"domain": WEB}, 0, 0, 0, 10)
        ran = (1795138200, 1795138201)
        assert (
            runs == [RunRow(1, "nightly", WEB, "web-1", *ran, 1795138206, "made", "", name, 1)]
            and total == 1
        )
        acts, _total = await store.history({"domain": WEB}, 0, 1795138206, 0, 10)
        assert acts == [
            (
                1,
                HistoryRow(
                    *(1795138206, "create", WEB, "web-1", name, 1795138205, "nightly", -1),
                    *("slot", "done", 1),
                ),
            )
        ]
        held = [HoldRow("nightly", DB, "moving the disks", 1795255210, 0, 1000)]
        assert await store.holds() == (held if version >= 2 else [])
        assert await store.fact("clock") == 1795255300
        assert await store.rests() == []
        assert await store.add_job(JOB) == 4  # a number is never used again

    play(tmp_path, read, nothing)
    assert dump(path)[0] == "(4,)"


@pytest.mark.parametrize("version", OLD)
def test_open_older_store_keeps_it_once_as_it_was(tmp_path: Path, version: int) -> None:
    before = dump(laid(tmp_path, version))
    (tmp_path / "store-v0.db").write_text("of an upgrade long ago")
    play(tmp_path, nothing, nothing)
    assert copies(tmp_path) == [f"store-v{version}.db"]
    kept = tmp_path / f"store-v{version}.db"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert dump(kept) == before


def test_open_new_store_or_one_of_this_version_keeps_no_copy(tmp_path: Path) -> None:
    play(tmp_path, nothing, nothing)
    assert copies(tmp_path) == []


def test_open_kept_copy_put_back_is_the_older_store(tmp_path: Path) -> None:
    """What README tells who goes back to the older package."""
    path = laid(tmp_path, 3)
    before = dump(path)

    async def later(store: Store) -> None:
        await store.write_fact("clock", 1)

    play(tmp_path, later)
    (tmp_path / "store-v3.db").replace(path)
    assert dump(path) == before
    play(tmp_path, nothing)
    assert dump(tmp_path / "store-v3.db") == before


# --- what goes wrong


@pytest.mark.parametrize("version", OLD)
def test_open_older_store_that_cannot_be_brought_up_is_left_as_it_was(
    tmp_path: Path, version: int
) -> None:
    path = laid(tmp_path, version, "CREATE TABLE rests (other);")
    before = dump(path)
    with pytest.raises(StoreBroken, match=f"from schema {version} to 4 .*left as it was"):
        play(tmp_path, nothing)
    assert dump(path) == before
    assert dump(tmp_path / f"store-v{version}.db") == before


CHILD = """
import resource, sys
from pathlib import Path
from snapd.errors import SnapdError
from snapd.store import Store
import asyncio

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    asyncio.run(Store.open(Path(sys.argv[1])))
except SnapdError as e:
    print(type(e).__name__)
"""


def test_open_older_store_without_room_for_the_copy_is_left_as_it_was(tmp_path: Path) -> None:
    """No file may grow past 64 KiB, and the store is larger."""
    path = laid(tmp_path, 3)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO facts VALUES ('x', ?)", ("x" * (1 << 20),))
    before = dump(path)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path, str(64 << 10)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "Internal\n"  # not StoreBroken: nothing is wrong with it
    assert dump(path) == before
    assert copies(tmp_path) == []
    play(tmp_path, nothing)
    assert (dump(path)[0], copies(tmp_path)) == ("(4,)", ["store-v3.db"])


def test_connect_disk_full_in_the_middle_of_an_upgrade_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = laid(tmp_path, 3)
    before = dump(path)
    real = sqlite3.connect

    def small(database: Any, **how: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = real(database, **how)
        if database == path:
            db.execute("PRAGMA max_page_count = 1")  # as many as it has
        return db

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", small)
        with pytest.raises(sqlite3.OperationalError, match="full") as failed:
            opening.connect(path)
    assert opening.passes(failed.value)
    assert dump(path) == before
    opening.connect(path).close()
    assert dump(path)[0] == "(4,)"


SLOW = """
UPDATE slots SET last_ok = 0;
CREATE TABLE extra AS WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1e12)
    SELECT x FROM c;
"""
UPGRADE = """
import sys
from pathlib import Path
from snapd.store import opening
from snapd.store.schema import STEPS

opening.connect(Path(sys.argv[1]), {**STEPS, 5: sys.argv[2]})
"""


def test_connect_killed_in_the_middle_of_an_upgrade_does_it_again(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    opening.connect(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO slots (policy, domain, last_slot, last_ok) VALUES ('a', 'b', 1, 7)")
    before = dump(path)
    command = [sys.executable, "-c", UPGRADE, str(path), SLOW]
    with subprocess.Popen(command) as child:
        try:
            log = tmp_path / "store.sqlite-wal"
            deadline = time.monotonic() + 60
            while not (log.exists() and log.stat().st_size > 8 << 20):  # the step writes to it
                assert child.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            os.kill(child.pid, signal.SIGKILL)
    assert dump(tmp_path / "store-v4.db") == before
    quick = "ALTER TABLE slots ADD COLUMN more INTEGER NOT NULL DEFAULT 3;"
    with closing(opening.connect(path, {**STEPS, 5: quick})) as db:
        assert db.execute("SELECT last_ok, more FROM slots").fetchall()[0][:] == (7, 3)
        assert db.execute("PRAGMA user_version").fetchone()[0] == 5
    assert copies(tmp_path) == ["store-v4.db"]
    assert dump(tmp_path / "store-v4.db") == before


def test_connect_stopped_while_the_copy_was_made_begins_it_anew(tmp_path: Path) -> None:
    before = dump(laid(tmp_path, 2))
    (tmp_path / "store-v2.db.part").write_bytes(b"half")
    play(tmp_path, nothing)
    assert copies(tmp_path) == ["store-v2.db"]
    assert dump(tmp_path / "store-v2.db") == before
