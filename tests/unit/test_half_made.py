"""What jobs left half made: what mends it, in memory and in the store, and what it stops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from snapd.model import JobState, Verb
from snapd.operations import HalfMade
from snapd.store import JobRow, Store

VM = "22222222-2222-4222-8222-222222222201"
OTHER = "22222222-2222-4222-8222-222222222202"


def row(verb: Verb, snapshot: str, error: str = "", domain: str = VM, **how: Any) -> JobRow:
    """A job that has ended; error: by which it left something half made, "" = it is done."""
    state = JobState.FAILED if error else JobState.DONE
    if error:
        how = {"detail": {"reason": "half-made"}, **how}
        how["error_name"] = f"org.virtsnap.Error.{error}"
    return JobRow(0, verb, domain, "web-1", snapshot, "", -1, state, 1, finished=2, **how)


TORN = row(Verb.REVERT, "x", "Partial")
HALF_DELETED = row(Verb.DELETE, "x", "Partial")


@pytest.mark.parametrize(
    ("half", "later", "mended"),
    [
        (TORN, row(Verb.REVERT, "safety-1"), True),
        (TORN, row(Verb.REVERT, "x"), True),
        (TORN, row(Verb.DELETE, "x"), False),
        (TORN, row(Verb.CREATE, "x"), False),
        (TORN, row(Verb.REVERT, "x", domain=OTHER), False),
        (HALF_DELETED, row(Verb.DELETE, "x"), True),
        (HALF_DELETED, row(Verb.DELETE, "y"), False),
        (HALF_DELETED, row(Verb.REVERT, "y"), False),
    ],
    ids=lambda v: f"{v.verb}-{v.snapshot}" if isinstance(v, JobRow) else str(v),
)
def test_half_made_is_mended_by_what_makes_it_whole_alone(
    tmp_path: Path, half: JobRow, later: JobRow, mended: bool
) -> None:
    """The disks of a torn VM are of two moments until a revert has set all of them; where the
    snapshot that it was to go to is deleted they are still so."""
    kept = HalfMade()
    kept.note(half)
    kept.note(later)
    assert [r.snapshot for r in kept.rows()] == ([] if mended else ["x"])

    async def stored() -> list[JobRow]:
        store = await Store.open(tmp_path)
        try:
            await store.add_job(half)
            await store.add_job(later)
            return await store.half_made()
        finally:
            await store.close()

    assert [r.snapshot for r in asyncio.run(stored())] == ([] if mended else ["x"])
