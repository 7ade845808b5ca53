"""One SQLite file that one thread alone touches: what every table's methods stand on."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from ..journal import NOT_WRITTEN, about
from . import opening

T = TypeVar("T")
log = logging.getLogger(__name__)


class Database:
    """The thread and its connection; both are opened and closed by the Store."""

    _pool: ThreadPoolExecutor
    _db: sqlite3.Connection
    _said = ""

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except sqlite3.Error as e:
            if (why := str(e)) != self._said:  # once, while a full disk lasts
                self._said = why
                log.error("the store: %s", why, extra=about(event=NOT_WRITTEN))
            raise opening.failure(e) from e
        self._said = ""
        return done

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk may have ended it
                self._db.execute("ROLLBACK")
            raise

    async def _page(
        self,
        table: str,
        time: str,
        equal: Mapping[str, object],
        since: int,
        until: int,
        after: int,
        limit: int,
    ) -> tuple[list[sqlite3.Row], int]:
        where = [f"{column} = ?" for column in equal]
        values = list(equal.values())
        if since:
            where.append(f"{time} >= ?")
            values.append(since)
        if until:
            where.append(f"{time} <= ?")
            values.append(until)
        found = " AND ".join(where) or "1"

        def work() -> tuple[list[sqlite3.Row], int]:
            total = self._db.execute(f"SELECT count(*) FROM {table} WHERE {found}", values)
            rows = self._db.execute(
                f"SELECT * FROM {table} WHERE {found} AND (? = 0 OR id < ?) "
                "ORDER BY id DESC LIMIT ?",
                [*values, after, after, limit],
            )
            return rows.fetchall(), total.fetchone()[0]

        return await self._run(work)
