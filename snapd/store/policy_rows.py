"""What only policies need of the store: holds, slots, runs, how VMs that are off were left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .database import Database
from .rows import HistoryRow, HoldRow, RestRow, RunRow, SlotRow
from .statements import put


class PolicyRows(Database):
    """Every write is committed before its coroutine returns."""

    # --- holds

    async def holds(self) -> list[HoldRow]:
        rows = await self._run(lambda: self._db.execute("SELECT * FROM holds").fetchall())
        return [HoldRow.read(row) for row in rows]

    async def change_holds(
        self,
        hold: Iterable[HoldRow] = (),
        drop: Iterable[HoldRow] = (),
        history: Iterable[HistoryRow] = (),
    ) -> None:
        """Drop holds, then add or replace others, with what history says of it."""

        def work() -> None:
            with self._transaction() as db:
                for row in drop:
                    where = (row.policy, row.domain)
                    db.execute("DELETE FROM holds WHERE policy=? AND domain=?", where)
                for row in hold:
                    put(db, "holds", row.columns(), replace=True)
                for act in history:
                    put(db, "history", act.columns())

        await self._run(work)

    # --- slots and runs

    async def slots(self) -> list[SlotRow]:
        rows = await self._run(lambda: self._db.execute("SELECT * FROM slots").fetchall())
        return [SlotRow.read(row) for row in rows]

    async def write_slot(self, slot: SlotRow) -> None:
        await self._run(lambda: put(self._db, "slots", slot.columns(), replace=True))

    async def write_runs(
        self, runs: Sequence[RunRow], slots: Sequence[SlotRow] = ()
    ) -> list[RunRow]:
        """Insert runs (id 0; their ids are given) or replace them, with the slots that they settle,
        all or nothing."""

        def work() -> list[int]:
            with self._transaction() as db:
                numbers = [self._put_run(run) for run in runs]
                for slot in slots:
                    put(db, "slots", slot.columns(), replace=True)
                return numbers

        numbers = await self._run(work)
        return [replace(run, id=number) for run, number in zip(runs, numbers, strict=True)]

    def _put_run(self, run: RunRow) -> int:
        columns = run.columns()
        if not run.id:
            del columns["id"]
        return put(self._db, "runs", columns, replace=bool(run.id))

    async def open_runs(self) -> list[RunRow]:
        """Runs that a daemon has begun and none has settled."""
        sql = "SELECT * FROM runs WHERE finished = 0 ORDER BY id"
        rows = await self._run(lambda: self._db.execute(sql).fetchall())
        return [RunRow.read(row) for row in rows]

    async def runs(
        self, equal: Mapping[str, object], since: int, until: int, after: int, limit: int
    ) -> tuple[list[RunRow], int]:
        """Settled runs, newest first; arguments as history()."""
        done = max(since, 1)
        rows, total = await self._page("runs", "finished", equal, done, until, after, limit)
        return [RunRow.read(row) for row in rows], total

    # --- how VMs that are off were left

    async def rests(self) -> list[RestRow]:
        rows = await self._run(lambda: self._db.execute("SELECT * FROM rests").fetchall())
        return [RestRow.read(row) for row in rows]

    async def write_rest(self, row: RestRow) -> None:
        await self._run(lambda: put(self._db, "rests", row.columns(), replace=True))
