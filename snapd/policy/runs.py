"""What became of each slot: a row of the store for it, and the policy's last result.

A run's row is written before anything is done for it, with the slot that it settles, and stays
open until it is known what came of it: so no slot is doubled, and none is lost in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import SnapdError
from ..journal import NOT_WRITTEN, RUN_FAILED, Event, about
from ..model import DomainInfo
from ..store import JobRow, RunRow, SlotRow, Store
from .clock import ClockGuard
from .owed import Owed
from .slots import Slots

log = logging.getLogger(__name__)
MADE, CAUGHT_UP, SKIPPED, FAILED = "made", "caught-up", "skipped", "failed"


class Runs:
    """Writes runs down and tells of them when they are settled."""

    def __init__(
        self, store: Store, slots: Slots, guard: ClockGuard, clock: Callable[[], float]
    ) -> None:
        self._store, self._slots, self._guard, self._clock = store, slots, guard, clock
        self._listeners: list[Callable[[RunRow], None]] = []
        self._late: list[RunRow] = []

    def listen(self, call: Callable[[RunRow], None]) -> None:
        """Have each settled run told."""
        self._listeners.append(call)

    async def begin(self, info: DomainInfo, several: Sequence[Owed], now: int) -> list[Owed]:
        """Write down, at once and before anything else is done, that these are being run: their
        slots count as dealt with from now on. Where that fails nothing has begun."""
        rows = [_opened(o, info, now) for o in several]
        missed = [_missed(o, row) for o, row in zip(several, rows, strict=True) if o.missed]
        keys = [(o.policy.name, info.uuid) for o in several]
        known = {key: row for key in keys if (row := self._slots.rows.get(key))}
        slots = []
        for o in several:
            row = self._slots.row(o.policy.name, info, now)
            if o.scheduled:
                row = replace(row, last_slot=o.slot)
            self._slots.rows[row.policy, row.domain] = row
            slots.append(row)
        try:
            opened = await self._store.write_runs([*missed, *rows], slots)
        except SnapdError:
            for row in slots:
                key = (row.policy, row.domain)
                self._slots.rows.pop(key, None)
                self._slots.rows.update({key: known[key]} if key in known else {})
            raise
        begun = zip(several, opened[len(missed) :], strict=True)
        before = iter(opened)
        return [replace(o, run=r, before=next(before) if o.missed else None) for o, r in begun]

    # --- how they ended

    async def made(self, owed: Owed, job: JobRow) -> RunRow:
        """Its snapshot is there."""
        now = int(self._clock())
        changes = {
            "last_run": now,
            "last_success": now,
            "last_ok": now,
            "error_name": "",
            "error_message": "",
            "short_since": 0,
        }
        run = await self._settle(owed, MADE, owed.reason, job, changes)
        if now > self._guard.last and not self._guard.distrust():
            self._guard.last = now
            try:
                await self._store.write_fact("clock", now)
            except SnapdError as e:
                fields = about(error=e, event=NOT_WRITTEN)
                log.error("the time could not be written down: %s", e.message, extra=fields)
        return run

    async def failed(self, owed: Owed, error: SnapdError, job: JobRow | None) -> RunRow:
        """Nothing was made, and for this slot nothing will be."""
        changes: dict[str, Any] = {"last_run": int(self._clock()), **_error(error)}
        return await self._settle(owed, FAILED, error.message, job, changes)

    async def skipped(self, owed: Owed, why: str, *, content: bool = False) -> RunRow:
        """Nothing was to be run. content: since there was nothing to do, which is no fault."""
        now = int(self._clock())
        changes: dict[str, Any] = {}
        if content:
            changes = {"last_run": now, "last_ok": now, "error_name": "", "error_message": ""}
        return await self._settle(owed, SKIPPED, why, None, changes)

    async def not_yet(self, owed: Owed, error: SnapdError, *, short: bool = False) -> None:
        """It failed and will be tried again: the policy's last error says so meanwhile. short:
        there was no room. Raises what keeps it from being written down."""
        row = self._row(owed)
        short_since = row.short_since or (owed.slot if short else 0)
        now = int(self._clock())
        row = replace(row, last_run=now, short_since=short_since)
        await self._slots.write(replace(row, error_name=error.name, error_message=error.message))

    async def _settle(
        self,
        owed: Owed,
        outcome: str,
        reason: str,
        job: JobRow | None,
        changes: dict[str, Any],
    ) -> RunRow:
        assert owed.run is not None
        run = replace(
            owed.run,
            finished=int(self._clock()),
            outcome=outcome,
            reason=reason,
            snapshot=job.snapshot if job else "",
            job=job.id if job else 0,
        )
        _say(run, changes)
        slot = replace(self._row(owed), **changes)
        self._slots.rows[slot.policy, slot.domain] = slot
        rows = [*_covered(owed.before, run), run]
        self._late += rows
        try:
            await self.write_late()
        except SnapdError as e:
            fields = _fields(run, e, NOT_WRITTEN)
            log.error(
                "what became of it could not be noted, and will be later: %s",
                e.message,
                extra=fields,
            )
        for row in rows:
            for call in self._listeners:
                call(row)
        return run

    async def write_late(self) -> None:
        """Write what has ended and is not written down yet: a store that is full for a while keeps
        no run open. Raises what keeps it from that."""
        rows, self._late = self._late, []
        if not rows:
            return
        slots = [self._slots.rows[key] for key in dict.fromkeys((r.policy, r.domain) for r in rows)]
        try:
            await self._store.write_runs(rows, slots)
        except BaseException:
            self._late = rows + self._late
            raise

    def _row(self, owed: Owed) -> SlotRow:
        assert owed.run is not None
        key = (owed.run.policy, owed.run.domain)
        begun = owed.run.started
        new = SlotRow(*key, begun, domain_name=owed.run.domain_name, last_ok=begun)
        return self._slots.rows.get(key, new)


def _say(run: RunRow, changes: Mapping[str, Any]) -> None:
    """One line that a run came to nothing; what was made is told by its job."""
    level = logging.INFO if "last_ok" in changes else logging.WARNING
    level = logging.DEBUG if run.outcome == MADE else level
    event = RUN_FAILED if run.outcome == FAILED else None
    fields = _fields(run, changes.get("error_name", ""), event)
    log.log(
        level,
        "policy %s on VM %s: %s: %s",
        run.policy,
        run.domain_name,
        run.outcome,
        run.reason,
        extra=fields,
    )


def _fields(run: RunRow, error: SnapdError | str, event: Event | None) -> dict[str, str]:
    """What a line about a run has."""
    return about(
        run.domain_name,
        uuid=run.domain,
        snapshot=run.snapshot,
        policy=run.policy,
        job=run.job,
        error=error,
        event=event,
    )


def _opened(owed: Owed, info: DomainInfo, now: int) -> RunRow:
    slot, word = owed.slot, owed.word
    return RunRow(0, owed.policy.name, info.uuid, info.name, slot, now, 0, "", word, "", 0)


def _missed(owed: Owed, run: RunRow) -> RunRow:
    """The open row of the slots that were missed before this one."""
    what = f"{owed.missed} slots from {owed.oldest} on"
    return replace(run, slot=owed.oldest, outcome=CAUGHT_UP, reason=what)


def is_missed(run: RunRow) -> bool:
    """Whether an open row is that of the slots that were missed before another one."""
    return run.outcome == CAUGHT_UP


def _covered(missed: RunRow | None, run: RunRow) -> list[RunRow]:
    """The row of missed slots, settled as the run is that was to make up for them."""
    if missed is None:
        return []
    ended = replace(missed, finished=run.finished)
    if run.outcome != MADE:
        return [replace(ended, outcome=SKIPPED, reason=f"{missed.reason} were missed")]
    why = f"{missed.reason}, covered by one run"
    return [replace(ended, reason=why, snapshot=run.snapshot, job=run.job)]


def _error(error: SnapdError) -> dict[str, str]:
    return {"error_name": error.name, "error_message": error.message}
