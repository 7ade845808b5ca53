"""Snapshots, policies and clocks for hypothesis: what a plan is asked about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from snapd.model import Keep, Status
from snapd.planning.retention import Candidate, Decision, Rules, plan

NOW = 1795521600
HOUR, DAY = 3600, 86400
SKEW = 300  # seconds ahead of the clock that still count
KINDS = ("hourly", "daily", "weekly", "monthly", "yearly")
RULES = ("last", *KINDS, "within")

ANY = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def kept(decisions: Iterable[Decision]) -> list[Candidate]:
    return [d.candidate for d in decisions if d.keep]


def ids(decisions: Iterable[Decision], keep: bool = True) -> set[str]:
    return {d.candidate.id for d in decisions if d.keep is keep}


def counts(c: Candidate, now: float) -> bool:
    """Whether a rule may judge it: ours, not pinned, in order, of a time that is known and past."""
    mine = c.owned and not c.pinned and c.state == "ok"
    return mine and c.time_known and 0 < c.created <= now + SKEW


def newest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda c: (c.created, c.id), reverse=True)


# --- policies

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
         "Pacific/Apia"]  # fmt: skip
ZONE = st.sampled_from(ZONES).map(ZoneInfo)
COUNTS = st.sampled_from([0, 0, 0, 1, 2, 3, 6, 10**9])
KEEPS = st.builds(
    Keep,
    last=COUNTS,
    hourly=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=st.sampled_from([0, 0, 1, 3, -1]),
    within=st.sampled_from([0, 0, 0, HOUR, 5 * DAY, 9999 * 366 * DAY]),
)
AGE = st.none() | st.sampled_from([0, 1, HOUR, DAY]) | st.integers(0, 60 * DAY)
COUNT = st.none() | st.integers(0, 8)

# --- clocks and histories

ODD_TIMES = [
    seconds("1970-01-01T06:00:00Z"),
    seconds("2011-12-31T12:00:00+14:00"),  # the day after the one that Apia left out
    seconds("2024-02-29T23:30:00Z"),
    seconds("2024-12-30T12:00:00Z"),  # in week 1 of 2025
    seconds("2026-04-05T02:00:00+10:30"),  # Lord Howe has 01:30 to 02:00 again
    seconds("2026-10-25T02:30:00+01:00"),  # Berlin, in the second pass
    seconds("2027-01-01T12:00:00Z"),  # in week 53 of 2026
    seconds("2038-01-19T03:14:08Z"),
    seconds("2099-12-31T23:59:59Z"),
]
WIDE = st.integers(-4000 * DAY, 27000 * DAY)
NEWEST = st.sampled_from([NOW, *ODD_TIMES]) | WIDE.map(lambda offset: NOW + offset)
GAPS = st.sampled_from([0, 0, 1, 60, 900, HOUR, HOUR, 2 * HOUR, DAY, DAY, 8 * DAY, 40 * DAY,
                        400 * DAY])  # fmt: skip
CLOCK = st.sampled_from([0, 0, 0, 60, DAY, -SKEW, -SKEW - 1, -HOUR]) | WIDE
UNCOUNTED: list[dict[str, Any]] = [
    {"owned": False},
    {"pinned": True},
    {"time_known": False},
    *({"state": status.value} for status in Status if status is not Status.OK),
]
GOOD: list[dict[str, Any]] = [{}]
SNAPSHOTS = st.tuples(GAPS, st.sampled_from(GOOD * len(UNCOUNTED) + UNCOUNTED))
GOOD_SNAPSHOTS = st.tuples(GAPS, st.sampled_from(GOOD))


@st.composite
def histories(draw: st.DrawFn, *, plain: bool = False) -> list[Candidate]:
    """Snapshots close together and far apart, by name; plain: all of them good and ours."""
    at, made = draw(NEWEST), []
    for n, (gap, odd) in enumerate(
        draw(st.lists(GOOD_SNAPSHOTS if plain else SNAPSHOTS, max_size=16))
    ):
        at -= gap
        made.append(replace(Candidate(f"s{(n * 7) % 16:02}", at), **odd))  # jumbled
    return sorted(made, key=lambda c: c.id)


@dataclass(frozen=True)
class Case:
    """All that a plan is made from."""

    history: list[Candidate]
    keep: Keep
    now: int
    zone: ZoneInfo
    max_age: int | None
    max_count: int | None

    def plan(self, **changes: Any) -> list[Decision]:
        c = replace(self, **changes)
        return plan(c.history, c.keep, c.now, c.zone, max_age=c.max_age, max_count=c.max_count)

    def counted(self) -> list[Candidate]:
        """Those that a rule may judge, newest first."""
        return newest_first(c for c in self.history if counts(c, self.now))


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    plain: bool = False,
    clock: st.SearchStrategy[int] = CLOCK,
    max_age: st.SearchStrategy[int | None] = AGE,
    max_count: st.SearchStrategy[int | None] = COUNT,
) -> Case:
    """plain: the snapshots are good and ours. clock: seconds that it is ahead of the newest."""
    history = draw(histories(plain=plain))
    newest = max((c.created for c in history), default=NOW)
    return Case(
        history,
        draw(KEEPS),
        int(newest) + draw(clock),
        draw(ZONE),
        draw(max_age),
        draw(max_count),
    )


def one(rule: str, keep: Keep) -> Keep:
    """Of the rules only that one."""
    return replace(Keep(), **{rule: getattr(keep, rule)})


# --- several policies on one domain

LABELS = ("p1", "p2", "p3")
LABELLINGS = st.sampled_from([(), *((p,) for p in LABELS), ("p1", "p2"), ("p2", "p3"), LABELS])


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[Candidate], dict[str, Rules], set[str], int]:
    """A domain's snapshots, its policies, those of them that are held, and the time."""
    history = draw(histories())
    newest = max((c.created for c in history), default=NOW)
    some = draw(st.lists(LABELLINGS, min_size=len(history), max_size=len(history)))
    made = [replace(c, labels=labels) for c, labels in zip(history, some, strict=True)]
    rules = st.builds(Rules, KEEPS, ZONE, AGE, COUNT)
    policies = draw(st.dictionaries(st.sampled_from(LABELS), rules))
    held = draw(st.sets(st.sampled_from(LABELS), max_size=1))
    return made, policies, held, int(newest) + draw(CLOCK)
