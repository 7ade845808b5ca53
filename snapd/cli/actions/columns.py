"""What stands in the columns of `list`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..client import Row
from ..output import times
from ..output.tables import Column
from ..output.text import name


class Shown(NamedTuple):
    """A column: the properties that it needs, and its cell, of a row and the time now."""

    column: Column
    fields: tuple[str, ...]
    cell: Callable[[Row, float], str]


def _created(row: Row) -> int:
    """0 = unknown."""
    return int(row["Created"]) if row["TimeKnown"] else 0


def _notes(row: Row, _now: float) -> str:
    blocker = row["RevertBlocker"]
    notes = {
        "current": row["Current"],
        row["Status"]: row["Status"] != "ok",
        f"no revert: {blocker}": blocker not in ("", "unchecked"),
        f"pinned: {row['PinReason']}".rstrip(": "): row["Pinned"],
    }
    return ", ".join(note for note, holds in notes.items() if holds)


def _parent(row: Row, _now: float) -> str:
    from ...wire import paths

    place = paths.parse(row["Parent"])
    return name(place.name) if place else ""


def _pause(row: Row, _now: float) -> str:
    from ..output.previews import span

    return span(row["PauseMilliseconds"]) if row["PauseMilliseconds"] >= 0 else ""


def _joined(field: str) -> Callable[[Row, float], str]:
    return lambda row, _now: " ".join(row[field])


def _plain(field: str) -> Callable[[Row, float], str]:
    return lambda row, _now: str(row[field])


_NOTES = ("Current", "Status", "RevertBlocker", "Pinned", "PinReason")
_TIME = ("Created", "TimeKnown")
COLUMNS = {
    "current": Shown(
        Column("", words=True), ("Current",), lambda row, _now: "*" if row["Current"] else ""
    ),
    "vm": Shown(Column("VM"), ("DomainName",), lambda row, _now: name(row["DomainName"])),
    "snapshot": Shown(Column("SNAPSHOT"), ("Name",), lambda row, _now: name(row["Name"])),
    "created": Shown(
        Column("CREATED", spare=6),
        _TIME,
        lambda row, _now: times.minute(_created(row)) if _created(row) else "unknown",
    ),
    "age": Shown(Column("AGE"), _TIME, lambda row, now: times.age(_created(row), now)),
    "state": Shown(Column("STATE", spare=3, words=True), ("State",), _plain("State")),
    "consistency": Shown(Column("CONSISTENCY", spare=5), ("Consistency",), _plain("Consistency")),
    "kind": Shown(Column("KIND", spare=7), ("Kind",), _plain("Kind")),
    "origin": Shown(Column("ORIGIN"), ("Origin",), _plain("Origin")),
    "policies": Shown(Column("POLICIES", spare=2), ("Policies",), _joined("Policies")),
    "notes": Shown(Column("NOTES", free=True, words=True), _NOTES, _notes),
    "description": Shown(
        Column("DESCRIPTION", spare=4, free=True), ("Description",), _plain("Description")
    ),
    "disks": Shown(Column("DISKS"), ("Disks",), _joined("Disks")),
    "left-out": Shown(Column("LEFT OUT"), ("DisksLeftOut",), _joined("DisksLeftOut")),
    "parent": Shown(Column("PARENT"), ("Parent",), _parent),
    "pause": Shown(Column("PAUSE"), ("PauseMilliseconds",), _pause),
    "status": Shown(Column("STATUS", words=True), ("Status",), _plain("Status")),
    "pin": Shown(
        Column("PINNED", free=True),
        ("Pinned", "PinReason"),
        lambda row, _now: (row["PinReason"] or "yes") if row["Pinned"] else "",
    ),
    "revert": Shown(Column("NO REVERT"), ("RevertBlocker",), _plain("RevertBlocker")),
    "delete": Shown(Column("NO DELETE"), ("DeleteBlocker",), _plain("DeleteBlocker")),
    "uuid": Shown(Column("UUID"), ("DomainUUID",), _plain("DomainUUID")),
}
"""By the names that parser.looking explains."""
DEFAULT = (
    "current",
    "vm",
    "snapshot",
    "created",
    "age",
    "state",
    "consistency",
    "kind",
    "origin",
    "policies",
    "notes",
    "description",
)


def titles(used: Sequence[str], *, asked: bool) -> list[Column]:
    """The columns as a table has them. asked: by name, and then none is left out, however narrow
    the terminal is."""
    columns = [COLUMNS[each].column for each in used]
    return [each._replace(spare=0) for each in columns] if asked else columns
