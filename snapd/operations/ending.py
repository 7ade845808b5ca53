"""How a job ends: the row that stays of it, and that it gets to disk in the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ..errors import Cancelled, Inconsistent, Internal, OutcomeUnknown, SnapdError
from ..journal import (
    JOB_FAILED,
    JOB_UNSURE,
    NOT_WRITTEN,
    REVERT_BROKE_OFF,
    REVERTED,
    SNAPSHOT_DELETED,
    SNAPSHOT_MADE,
    Event,
    of_job,
)
from ..model import JobState, Record, SnapshotKey, Verb
from ..store import HistoryRow, JobRow, Store
from .job import DAEMON, Outcome, detail_of

log = logging.getLogger(__name__)
RETRY = (1.0, 60.0)
"""Seconds from one attempt to write to the next: the first, and the longest."""


def last_row(
    row: JobRow, state: JobState, now: int, outcome: Outcome, error: SnapdError | None
) -> JobRow:
    """The job's last row: no intent is open any more."""
    row = replace(
        row,
        state=state,
        finished=now,
        intent=None,
        snapshot=outcome.snapshot or row.snapshot,
        created=outcome.created or row.created,
        result=outcome.result,
    )
    if error is None:
        return row
    _say_failed(row, error)
    return replace(row, error_name=error.name, error_message=error.message, detail=detail_of(error))


def _say_failed(row: JobRow, error: SnapdError) -> None:
    """An end that nobody knows is an admin's; what a policy's job fails at is told with its run."""
    level, event = logging.WARNING, JOB_FAILED
    if isinstance(error, Inconsistent | OutcomeUnknown):
        level, event = logging.ERROR, JOB_UNSURE
        if row.verb is Verb.REVERT:
            event = REVERT_BROKE_OFF
    elif isinstance(error, Cancelled) or (row.policy and row.owner == DAEMON):
        level = logging.INFO
    what, fields = row.domain_name or row.policy, of_job(row, error, event)
    log.log(level, "%s of VM %s failed: %s", row.verb, what, error.message, extra=fields)


_DONE: dict[str, tuple[Event, str]] = {
    Verb.CREATE: (SNAPSHOT_MADE, "made"),
    Verb.DELETE: (SNAPSHOT_DELETED, "deleted"),
    Verb.REVERT: (REVERTED, "reverted to"),
}


def _say_done(row: JobRow, reason: str) -> None:
    """One line for each act on a snapshot: what, who, why."""
    event, done = _DONE[row.verb]
    who = f"uid {row.owner}"
    if row.owner == DAEMON:
        who = f"policy {row.policy}" if row.policy else "the daemon"
    log.info(
        "snapshot %s of VM %s was %s by %s (job %d)%s",
        row.snapshot,
        row.domain_name,
        done,
        who,
        row.id,
        f": {reason}" if reason else "",
        extra=of_job(row, event=event),
    )


def fault(row: JobRow, error: Exception) -> Internal:
    """The error of a job that failed by a fault of ours, which the journal is told of."""
    log.error("job %d (%s)", row.id, row.verb, exc_info=error, extra=of_job(row))
    what = f"internal error ({type(error).__name__}); the journal has it under job {row.id}"
    return Internal(what)


async def broken_off(store: Store, row: JobRow, why: str) -> Cancelled:
    """The error of a job without an intent that is ended before its own end: what it has done, by
    the jobs inside it and by a hold, is there all the same. why: the words before that."""
    try:
        parts = await store.parts_of(row.id)
        holds = [h for h in await store.holds() if h.reason.startswith(signed(row.id, ""))]
    except SnapdError as e:
        return Cancelled(f"{why}; what it did before that is not known: {e.message}")
    done = sum(p.state is JobState.DONE for p in parts)
    left = sum(p.intent is not None for p in parts)
    said = [f"history has what {done} of its parts did"] if done else []
    said += [f"{left} more had begun, and history has what came of it"] if left else []
    said += ["the policies stay held on the VM"] if holds else []
    ways = ("unhold",) if holds else ()
    return Cancelled(f"{why}; {'; '.join(said) or 'nothing was changed'}", ways=ways)


def signed(job: int, reason: str) -> str:
    """A hold's reason, with the job that it is by."""
    return f"job {job}: {reason}"


class Last(NamedTuple):
    """What is written when a job ends: Store.update_job's arguments."""

    row: JobRow
    history: HistoryRow | None
    record: Record | None
    forget: SnapshotKey | None


class Closing:
    """Writes jobs' last rows. A store that cannot be written (a full disk) keeps no job from its
    end: its row is written once that can be done, and an intent that is open until then is settled
    at the next start as any other. told(domain): a row was written late."""

    def __init__(self, store: Store, told: Callable[[str], None]) -> None:
        self._store, self._told = store, told
        self._late: set[asyncio.Task[None]] = set()

    async def note(self, row: JobRow) -> None:
        """Write what is good to know, and no more than that."""
        try:
            await self._store.update_job(row)
        except SnapdError as e:
            fields = of_job(row, e, NOT_WRITTEN)
            log.error(
                "job %d: where it stands could not be written down: %s",
                row.id,
                e.message,
                extra=fields,
            )

    async def write(self, last: Last) -> None:
        """Write the row and what its act leaves behind; later, where it can't be done now."""
        if last.history and last.row.state is JobState.DONE:
            _say_done(last.row, last.history.reason)
        try:
            await self._store.update_job(*last)
        except SnapdError as e:
            number = last.row.id
            log.error(
                "the end of job %d is not written down, which is retried: %s",
                number,
                e.message,
                extra=of_job(last.row, e, NOT_WRITTEN),
            )
            task = asyncio.create_task(self._again(last))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _again(self, last: Last) -> None:
        delay = RETRY[0]
        while True:
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY[1])
            record = last.record
            if record and (since := self._store.record(record.key)):  # as foreign, but pinned
                last = last._replace(record=replace(record, pin_reason=since.pin_reason))
            try:
                await self._store.update_job(*last)
            except SnapdError as e:
                fields = of_job(last.row, e)
                log.debug(
                    "the end of job %d is not written down yet: %s",
                    last.row.id,
                    e.message,
                    extra=fields,
                )
            else:
                fields = of_job(last.row)
                log.info("the end of job %d is written down now", last.row.id, extra=fields)
                self._told(last.row.domain)
                return

    async def stop(self) -> None:
        """Try no more."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
