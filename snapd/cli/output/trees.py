"""Snapshots as a tree: what each was made on. Pure.

A bar goes straight down from a snapshot to the one that was made on it, and a line begins to its
right where it branches, so that a thousand nightly ones in a row are no thousand steps deep. The
last one goes on straight down; where the current one is among them, the line that leads there.
Between those that have nothing to do with each other there is no bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]


class Marks(NamedTuple):
    """What a tree is drawn with."""

    branch: str
    line: str
    bar: str
    other: str
    current: str


UNICODE = Marks("├─", "│ ", "│", "○ ", "● ")
ASCII = Marks("|-", "| ", "|", "o ", "* ")


def drawn(rows: Sequence[Row], marks: Marks) -> list[tuple[str, Row | None]]:
    """The snapshots of one VM from the first ones on, each with what stands before its name, and
    the bars between them (None). rows: with Path, Parent and Current, in the order in which they
    were made."""
    by_path = {row["Path"]: row for row in rows}
    on_top: dict[str, list[Row]] = {}
    for row in rows:
        on_top.setdefault(row["Parent"] if row["Parent"] in by_path else "", []).append(row)
    way = descent(by_path, [row["Path"] for row in rows if row["Current"]])
    shown: list[tuple[str, Row | None]] = []
    todo = [_Line(row, "", "", "") for row in reversed(on_top.get("", []))]
    while todo:
        row, bar, first, rest = todo.pop()
        if bar:
            shown.append((bar, None))
        shown.append((first + (marks.current if row["Current"] else marks.other), row))
        todo += _lines(on_top.get(row["Path"], []), rest, way, marks)
    drawn_ones = {row["Path"] for _, row in shown if row}
    # stands on itself, by a record that is wrong: it is there all the same
    return shown + [(marks.other, row) for row in rows if row["Path"] not in drawn_ones]


def descent(by_path: dict[str, Row], paths: Sequence[str]) -> set[str]:
    """Those snapshots, and all that they were made on."""
    found: set[str] = set()
    for path in paths:
        while path in by_path and path not in found:
            found.add(path)
            path = by_path[path]["Parent"]
    return found


class _Line(NamedTuple):
    """A snapshot, the bar above it ("" = none), what stands before it, and before those on top of
    it."""

    row: Row
    bar: str
    before: str
    on_top: str


def _lines(rows: Sequence[Row], before: str, way: set[str], marks: Marks) -> list[_Line]:
    """Of those that were made on the same one, the last one first."""
    straight = next((row for row in rows if row["Path"] in way), rows[-1] if rows else None)
    branches = [row for row in rows if row is not straight]
    found = [_Line(row, "", before + marks.branch, before + marks.line) for row in branches]
    if straight is not None:
        found.append(_Line(straight, before + marks.bar, before, before))
    return found[::-1]
