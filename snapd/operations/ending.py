"""How a job ends: the row that stays of it."""

from __future__ import annotations

import logging
from dataclasses import replace

from ..errors import SnapdError
from ..model import JobState
from ..store import JobRow
from .job import Outcome, detail_of

log = logging.getLogger(__name__)


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
    log.warning("%s of VM %s failed: %s", row.verb, row.domain_name or row.policy, error.message)
    return replace(row, error_name=error.name, error_message=error.message, detail=detail_of(error))
