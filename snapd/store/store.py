"""The store's one way in: a locked folder, a SQLite file, a thread that alone touches it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ..model import JobState, Record, SnapshotKey
from . import opening
from .opening import StoreBroken
from .policy_rows import PolicyRows
from .rows import HistoryRow, JobRow, RunRow, read_record, record_columns
from .statements import FOR_POLICY, FORGET, HALF_MADE, MARK, MENDED, put

T = TypeVar("T")
log = logging.getLogger(__name__)
HISTORY_SECONDS = 400 * 86400
RUN_SECONDS = 400 * 86400
REQUEST_SECONDS = 86400
GONE_SECONDS = 30 * 86400
"""How long the record of a snapshot that others removed is kept; where it is pinned, for ever."""


class Store(PolicyRows):
    """Ownership, pins, jobs with intents, runs, slots, holds, history.

    Records are mirrored in memory (`record`, `records_of`), which is sound since the folder is
    locked: nobody else writes. Every write is committed (WAL, synchronous=FULL) before its
    coroutine returns. Any may raise NoSpace or Internal, and then nothing of it is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pool = ThreadPoolExecutor(1, "store")
        self._records: dict[str, dict[tuple[str, int], Record]] = {}
        self._gone: set[SnapshotKey] = set()
        self._lock = -1
        self._db: sqlite3.Connection

    # --- opening and closing

    @classmethod
    async def open(cls, folder: Path) -> Store:
        """Lock the folder and open the file. Raises StoreInUse, StoreBroken (see set_aside), or
        NoSpace, Internal or OSError: the file is as it was, and may open the next time."""
        store = cls(folder)
        try:
            await store._run(store._open)
        except BaseException:
            store._close()
            raise
        return store

    def _open(self) -> None:
        self._lock = opening.lock(self.folder)
        path = self.folder / "store.sqlite"
        try:
            self._db = opening.connect(path)
            for row in self._db.execute("SELECT * FROM snapshots"):
                self._mirror(record := read_record(row))
                self._gone.update([record.key] if row["gone"] else [])
            for row in self._db.execute("SELECT * FROM jobs WHERE finished = 0"):
                JobRow.read(row)  # or it would be found out in the middle of the start
        except sqlite3.DatabaseError as e:
            if opening.passes(e):
                raise  # it is no worse for that, and is not set aside
            raise StoreBroken(f"the store {path.name} is damaged: {e}") from e
        except (ValueError, TypeError) as e:
            raise StoreBroken(f"the store {path.name} holds what makes no sense: {e}") from e

    async def close(self) -> None:
        """Close the file and let the lock go. Waits for writes under way."""
        await self._run(lambda: None)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._pool.shutdown(wait=True)
        if hasattr(self, "_db"):
            self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # --- records of snapshots

    def _mirror(self, record: Record) -> None:
        of_domain = self._records.setdefault(record.key.domain, {})
        of_domain[record.key.name, record.key.created] = record
        self._gone.discard(record.key)

    def _unmirror(self, key: SnapshotKey) -> None:
        self._gone.discard(key)
        self._records.get(key.domain, {}).pop((key.name, key.created), None)

    def record(self, key: SnapshotKey) -> Record | None:
        """Our record of a snapshot that is there: None = foreign."""
        return self._records.get(key.domain, {}).get((key.name, key.created))

    def records_of(self, domain: str) -> list[Record]:
        """Those of its snapshots that are there, as far as we know."""
        records = self._records.get(domain, {}).values()
        return [r for r in records if r.key not in self._gone]

    def gone(self, key: SnapshotKey) -> bool:
        """Whether the snapshot has a record, but others have removed it."""
        return key in self._gone

    async def change_records(
        self,
        records: Iterable[Record] = (),
        forget: Iterable[SnapshotKey] = (),
        history: Iterable[HistoryRow] = (),
    ) -> None:
        """Add or replace records and forget others, with what history says of it, all or nothing.

        It counts from the call on, before it is on disk: who looks meanwhile (a delete that asks
        for a pin) must not act on what is about to be untrue.
        """
        added, gone, rows = tuple(records), tuple(forget), tuple(history)
        keys = (*(r.key for r in added), *gone)
        before = {key: self.record(key) for key in keys}
        for record in added:
            self._mirror(record)
        for key in gone:
            self._unmirror(key)

        def work() -> None:
            with self._transaction() as db:
                for record in added:
                    put(db, "snapshots", record_columns(record), replace=True)
                for key in gone:
                    db.execute(FORGET, (key.domain, key.name, key.created))
                for row in rows:
                    put(db, "history", row.columns())

        try:
            await self._run(work)
        except Exception:
            for key, record_before in before.items():
                if record_before:
                    self._mirror(record_before)
                else:
                    self._unmirror(key)
            raise

    async def mark_gone(self, key: SnapshotKey, act: HistoryRow) -> None:
        """Note that others removed a snapshot; its record counts for nothing, but is kept: what was
        only not listed for a while (a damaged file of libvirt's) is what it was, and pinned."""

        def work() -> None:
            with self._transaction() as db:
                db.execute(MARK, (act.time, key.domain, key.name, key.created))
                put(db, "history", act.columns())

        self._gone.add(key)
        await self._run(work)

    async def mark_back(self, key: SnapshotKey) -> None:
        """Note that a snapshot which was gone is there again."""
        self._gone.discard(key)
        where = (key.domain, key.name, key.created)
        await self._run(lambda: self._db.execute(MARK, (0, *where)))

    # --- jobs

    async def add_job(self, row: JobRow) -> int:
        """Insert a job; its id is given by the store and never used again."""

        def work() -> int:
            columns = row.columns()
            del columns["id"]
            return put(self._db, "jobs", columns)

        return await self._run(work)

    async def update_job(
        self,
        row: JobRow,
        history: HistoryRow | None = None,
        record: Record | None = None,
        forget: SnapshotKey | None = None,
    ) -> None:
        """Write a job's row; with it, in one transaction, what its act leaves behind."""

        def work() -> None:
            with self._transaction() as db:
                put(db, "jobs", row.columns(), replace=True)
                if history:
                    put(db, "history", history.columns())
                if record:
                    put(db, "snapshots", record_columns(record), replace=True)
                if forget:
                    db.execute(FORGET, (forget.domain, forget.name, forget.created))

        await self._run(work)
        if record:
            self._mirror(record)
        if forget:
            self._unmirror(forget)

    async def open_jobs(self) -> list[JobRow]:
        """Jobs that no daemon has finished: the open intents."""
        return await self._jobs("finished = 0")

    async def finished_jobs(self, since: int, limit: int) -> list[JobRow]:
        return await self._jobs("finished >= ? AND finished > 0", (since,), limit)

    async def parts_of(self, job: int) -> list[JobRow]:
        """The jobs that ran inside that one, or for it."""
        return await self._jobs("parent = ?", (job,))

    async def half_made(self) -> list[JobRow]:
        """Jobs that left something half made which no later job has mended: a create's or delete's
        is by one on that snapshot, a revert's by another revert of the domain only."""
        return await self._jobs(f"{HALF_MADE} AND NOT {MENDED}")

    async def job_of_request(self, owner: int, request: str, now: int) -> JobRow | None:
        """The job of a caller's own id, remembered for a day."""
        where = "owner = ? AND request = ? AND queued >= ?"
        rows = await self._jobs(where, (owner, request, now - REQUEST_SECONDS), 1)
        return rows[0] if rows else None

    async def create_of_run(self, run: RunRow) -> JobRow | None:
        """The newest job that was to make a run's snapshot, since the run began."""
        where = f"verb = 'create' AND domain = ? AND queued >= ? AND {FOR_POLICY}"
        rows = await self._jobs(where, (run.domain, run.started, run.policy), 1)
        return rows[0] if rows else None

    async def _jobs(
        self, where: str, values: Iterable[object] = (), limit: int = -1
    ) -> list[JobRow]:
        sql = f"SELECT * FROM jobs WHERE {where} ORDER BY id DESC LIMIT {limit}"
        rows = await self._run(lambda: self._db.execute(sql, tuple(values)).fetchall())
        return [JobRow.read(row) for row in reversed(rows)]

    # --- history, facts

    async def add_history(self, row: HistoryRow) -> None:
        await self._run(lambda: put(self._db, "history", row.columns()))

    async def history(
        self, equal: Mapping[str, object], since: int, until: int, after: int, limit: int
    ) -> tuple[list[tuple[int, HistoryRow]], int]:
        """Acts, newest first, with their numbers, and how many match. after: the number that the
        last page ended with, 0 = the beginning."""
        rows, total = await self._page("history", "time", equal, since, until, after, limit)
        return [(row["id"], HistoryRow.read(row)) for row in rows], total

    async def fact(self, key: str) -> Any:
        """A small value of the daemon's own (the last clock, for example); None = never set."""
        row = await self._run(
            lambda: self._db.execute("SELECT value FROM facts WHERE key=?", (key,)).fetchone()
        )
        return json.loads(row["value"]) if row else None

    async def write_fact(self, key: str, value: object) -> None:
        columns = {"key": key, "value": json.dumps(value)}
        await self._run(lambda: put(self._db, "facts", columns, replace=True))

    async def trim(self, now: int) -> None:
        """Let go of what is older than it has to be kept."""

        def work() -> list[sqlite3.Row]:
            with self._transaction() as db:
                db.execute("DELETE FROM history WHERE time < ?", (now - HISTORY_SECONDS,))
                over = now - RUN_SECONDS
                db.execute("DELETE FROM runs WHERE finished > 0 AND finished < ?", (over,))
                db.execute("DELETE FROM slots WHERE max(last_slot, last_run) < ?", (over,))
                old = "finished > 0 AND finished < ? AND state != ?"
                when = (now - 2 * REQUEST_SECONDS, JobState.UNKNOWN.value)
                db.execute(f"DELETE FROM jobs WHERE {old} AND {HALF_MADE} AND {MENDED}", when)
                db.execute(f"DELETE FROM jobs WHERE {old} AND NOT ({HALF_MADE})", when)
                gone = "gone > 0 AND gone < ? AND pin_reason IS NULL"
                sql = f"DELETE FROM snapshots WHERE {gone} RETURNING *"
                return db.execute(sql, (now - GONE_SECONDS,)).fetchall()

        for row in await self._run(work):
            self._unmirror(read_record(row).key)
