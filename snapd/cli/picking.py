"""Which snapshots of a VM are meant, out of the rows that ListSnapshots answers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ..errors import InvalidArgument, NoSuchSnapshot
from .output import times
from .output.text import name

Row = dict[str, Any]
GLOB = "*?["
SLACK = 60
"""Seconds: a clock that was set back by so little makes no time one that is still to come."""


class Wanted(NamedTuple):
    """What to pick: the newest, of that policy ("" = any), from before that time (None = any)."""

    policy: str = ""
    before: int | None = None

    def __str__(self) -> str:
        of = f" of policy {name(self.policy)}" if self.policy else ""
        # 0 is a time here, and times.minute() has it for never
        early = self.before is not None
        before = f" from before {times.minute(self.before or 1)}" if early else ""
        return of + before


class Picked(NamedTuple):
    """A snapshot, and why it is that one: a phrase."""

    row: Row
    why: str


def passed_over(row: Row, now: float) -> str:
    """Why it is never picked, in a word or two; "" = it may be. now: seconds UTC.

    A safety snapshot holds what somebody went away from, a trial what is to be thrown away; one
    whose time cannot be believed may be older than all others.
    """
    if row["Status"] != "ok":
        return str(row["Status"])
    if row["Origin"] in ("safety", "trial"):
        return str(row["Origin"])
    if not row["TimeKnown"]:
        return "of unknown time"
    return "of a time to come" if row["Created"] > now + SLACK else ""


def pick(rows: Sequence[Row], wanted: Wanted, *, vm: str, now: float, see: str) -> Picked:
    """The one that --latest or --before means. A newer one is passed over for what it is, never
    for what hinders its revert. vm: its name as shown; see: the command that lists them.

    Raises NoSuchSnapshot; InvalidArgument where several are the newest.
    """
    asked = [row for row in rows if not wanted.policy or wanted.policy in row["Policies"]]
    fit = [row for row in asked if not passed_over(row, now) and _early(row, wanted)]
    if not fit:
        there = _counted(
            [passed_over(row, now) or "made later" for row in asked]
            + ["of no such policy"] * (len(rows) - len(asked))
        )
        what = f"there are only {there}" if there else "there is none at all"
        raise NoSuchSnapshot(
            f"VM {vm}: no snapshot{wanted} to pick, {what}; name the one you mean: {see}"
        )
    newest = max(row["Created"] for row in fit)
    last = _youngest([row for row in fit if row["Created"] == newest], rows)
    if len(last) > 1:
        which = ", ".join(sorted(name(row["Name"]) for row in last))
        raise InvalidArgument(
            f"VM {vm}: {which} are the newest{wanted}, of the same second; name the one you mean"
        )
    over = [
        word
        for row in asked
        if (word := passed_over(row, now))
        and (not row["TimeKnown"] or (row["Created"] > newest and _early(row, wanted)))
    ]
    passed = f"; passed over: {_counted(over)}" if over else ""
    return Picked(last[0], f"the newest of {len(fit)}{wanted}{passed}")


def named(rows: Iterable[Row], word: str) -> list[Row] | None:
    """Those that a word of the command line means: the one of exactly that name, else those that
    it fits as a glob; None where it is none, so that the daemon has to say what it means."""
    listed = list(rows)
    if exact := [row for row in listed if row["Name"] == word]:
        return exact
    if not any(letter in word for letter in GLOB):
        return None
    there = (row for row in listed if row["Status"] not in ("creating", "deleting"))
    return [row for row in there if fnmatchcase(row["Name"], word)]


def leaves_first(rows: Iterable[Row], tree: Sequence[Row]) -> list[Row]:
    """Each once, children before their parents, else the newest first: so external chains merge
    from their end. tree: all of the VM."""
    once = {(row["Name"], row["Created"]): row for row in rows}
    return sorted(
        once.values(),
        key=lambda row: (-len(_ancestors(row, tree)), -row["Created"], row["Name"]),
    )


def _early(row: Row, wanted: Wanted) -> bool:
    return wanted.before is None or bool(row["Created"] < wanted.before)


def _youngest(same: list[Row], tree: Sequence[Row]) -> list[Row]:
    """Of some that have one time, those that no other one of them stands on."""
    older = {path for row in same for path in _ancestors(row, tree)}
    return [row for row in same if row["Path"] not in older]


def _ancestors(row: Row, tree: Sequence[Row]) -> list[str]:
    """Paths, from its parent on; none where somebody's metadata go round in a circle."""
    parents = {each["Path"]: each["Parent"] for each in tree}
    found: list[str] = []
    path = row["Parent"]
    while path in parents and path not in found:
        found.append(path)
        path = parents[path]
    return [] if row["Path"] in found else found


def _counted(words: Iterable[str]) -> str:
    """`2 safety, 1 trial`."""
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())
