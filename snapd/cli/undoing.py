"""What takes the last revert of a VM back, out of its history and its snapshots. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import PREFIX
from .output import times
from .output.text import name

Row = dict[str, Any]
DONE = "done"
_HALF_DONE = tuple(f"{PREFIX}{kind}:" for kind in ("Partial", "Inconsistent", "OutcomeUnknown"))


class LastRevert(NamedTuple):
    """Rows of ListHistory: the revert, the making of its safety snapshot (None = it had none), and
    all that came later, newest first."""

    revert: Row
    safety: Row | None
    later: Sequence[Row]


def last_revert(history: Sequence[Row]) -> LastRevert | None:
    """The last one that did something; history: of one VM, newest first."""
    for n, row in enumerate(history):
        if row["Verb"] != "revert":
            continue
        safety = _made_within(row, history[n + 1 :])
        half_done = safety is not None and row["Result"].startswith(_HALF_DONE)
        if row["Result"] == DONE or half_done:
            return LastRevert(row, safety, history[:n])
    return None


def still_there(made: Row, snapshots: Sequence[Row]) -> Row | None:
    """The safety snapshot in the list of those that there are."""
    for row in snapshots:
        if (row["Name"], row["Created"]) == (made["SnapshotName"], made["Created"]):
            return row if row["Origin"] == "safety" else None
    return None


def since(last: LastRevert, snapshots: Sequence[Row]) -> list[str]:
    """What was done to the VM after that revert, as far as anybody can tell, oldest first."""
    ours = [
        f"snapshot {name(row['SnapshotName'])} was made {times.minute(row['Time'])}"
        for row in reversed(last.later)
        if row["Verb"] == "create" and row["Result"] == DONE
    ]
    others = [
        f"another tool made snapshot {name(row['Name'])} {times.minute(row['Created'])}"
        for row in snapshots
        if row["Origin"] == "foreign" and row["TimeKnown"] and row["Created"] > last.revert["Time"]
    ]
    return ours + others or _moved(last, snapshots)


def _moved(last: LastRevert, snapshots: Sequence[Row]) -> list[str]:
    """Whether its current snapshot is another one than that of the revert, which nobody of us has
    done; not to be told where that one is gone."""
    target = (last.revert["SnapshotName"], last.revert["Created"])
    current = next((row for row in snapshots if row["Current"]), None)
    there = any((row["Name"], row["Created"]) == target for row in snapshots)
    if not there or (current and (current["Name"], current["Created"]) == target):
        return []
    which = f"snapshot {name(current['Name'])}" if current else "no snapshot"
    return [f"another tool made {which} its current one"]


def _made_within(revert: Row, earlier: Sequence[Row]) -> Row | None:
    """What was made by a job that began after the revert's and ended before it: one VM's jobs go
    one after the other, so only the revert itself can have begun it."""
    number = _number(revert)
    made = (row for row in earlier if row["Verb"] == "create" and row["Result"] == DONE)
    return next((row for row in made if _number(row) > number), None)


def _number(row: Row) -> int:
    tail = row["Job"].rpartition("/")[2]
    return int(tail) if tail.isdecimal() else 0
