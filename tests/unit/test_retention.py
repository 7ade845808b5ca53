"""Retention against restic's own results, and what its reasons say."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from snapd.model import (
    Keep,
    Origin,
    Record,
    Snapshot,
    SnapshotInfo,
    SnapshotKey,
    State,
    Status,
)
from snapd.planning.retention import (
    Candidate,
    Decision,
    Rules,
    candidate,
    needs_confirmation,
    plan,
    plan_labels,
    plan_safety,
)

DATA = Path(__file__).parents[1] / "data" / "planning"
RESTIC: dict[str, Any] = json.loads((DATA / "retention_restic.json").read_text())
UTC_ZONE = ZoneInfo("UTC")
NOW = 1795521600
DAY = 86400


def kept(decisions: list[Decision]) -> list[Candidate]:
    return [d.candidate for d in decisions if d.keep]


def ids(decisions: list[Decision], keep: bool = True) -> set[str]:
    return {d.candidate.id for d in decisions if d.keep is keep}


def seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace(".1Z", ".100Z").replace("Z", "+00:00")).timestamp()


def keep_of(policy: dict[str, Any]) -> Keep:
    counts = {key.removeprefix("keep_"): value for key, value in policy.items()}
    within = counts.pop("within", None)
    if within is None:
        return Keep(**counts)
    return Keep(**counts, within=within.get("d", 0) * DAY + within.get("h", 0) * 3600)


@pytest.mark.parametrize("case", RESTIC["cases"], ids=lambda case: f"restic{case['n']}")
def test_plan_restic_rules_keep_what_restic_keeps(case: dict[str, Any]) -> None:
    candidates = [Candidate(f"s{n}", seconds(text)) for n, text in enumerate(RESTIC["snapshots"])]
    now = max(c.created for c in candidates)
    decisions = plan(candidates, keep_of(case["policy"]), now, UTC_ZONE)
    assert [c.created for c in kept(decisions)] == [seconds(text) for text in case["kept"]]


def test_plan_iso_week_over_new_year_is_one_bucket() -> None:
    # cal -w: 2026-12-31 and 2027-01-01 are both in 2026-W53, 2027-01-04 starts 2027-W01
    days = ["2026-12-21", "2026-12-28", "2026-12-31", "2027-01-01", "2027-01-04"]
    made = [Candidate(day, seconds(f"{day}T12:00:00Z")) for day in days]
    decisions = plan(made, Keep(weekly=3), seconds("2027-01-04T12:00:00Z"), UTC_ZONE)
    assert ids(decisions) == {"2027-01-04", "2027-01-01", "2026-12-21"}


def test_plan_within_is_strict_and_counts_from_the_newest() -> None:
    made = [Candidate(f"d{n}", NOW - n * DAY) for n in (100, 101, 102, 103)]
    assert ids(plan(made, Keep(within=2 * DAY), NOW, UTC_ZONE)) == {"d100", "d101"}


def test_plan_skew_boundary_is_five_minutes() -> None:
    made = [Candidate("old", NOW - 60), Candidate("ahead", NOW + 300)]
    assert ids(plan(made, Keep(last=1), NOW, UTC_ZONE)) == {"ahead"}
    made = [Candidate("old", NOW - 60), Candidate("future", NOW + 301)]
    assert ids(plan(made, Keep(last=1), NOW, UTC_ZONE)) == {"old", "future"}


def test_plan_reasons_name_rule_place_and_quota() -> None:
    made = [Candidate(f"d{n}", NOW - n * DAY) for n in range(4)]
    odd = [
        Candidate("foreign", NOW - 10, owned=False),
        Candidate("pinned", NOW - 10, pinned=True),
        Candidate("creating", NOW - 10, state="creating"),
        Candidate("unknown", NOW - 10, time_known=False),
        Candidate("future", NOW + DAY),
    ]
    decisions = plan([*made, *odd], Keep(last=1, daily=3), NOW, UTC_ZONE, max_age=2 * DAY)
    assert {d.candidate.id: d.reasons for d in decisions} == {
        "d0": ("last 1/1", "daily 1/3", "newest"),
        "d1": ("daily 2/3",),
        "d2": ("max-age",),
        "d3": ("no-rule-matches",),
        "foreign": ("foreign",),
        "pinned": ("pinned",),
        "creating": ("state:creating",),
        "unknown": ("time-unknown",),
        "future": ("future",),
    }


def test_plan_without_keep_rule_keeps_all_whatever_the_caps() -> None:
    made = [Candidate(f"d{n}", NOW - n * DAY) for n in range(4)]
    for caps, reason in (({}, "no-policy"), ({"max_count": 0, "max_age": 1}, "no-keep-rule")):
        decisions = plan(made, Keep(), NOW, UTC_ZONE, **caps)
        assert [(d.keep, d.reasons) for d in decisions] == [(True, (reason,))] * 4


def test_plan_labels_each_policy_counts_its_own() -> None:
    made = [
        Candidate("both", NOW, labels=("p1", "p2")),
        Candidate("one", NOW - 1, labels=("p1",)),
        Candidate("two", NOW - 2, labels=("p2",)),
        Candidate("old-one", NOW - 3, labels=("p1",)),
        Candidate("hand", NOW - 4),
        Candidate("gone", NOW - 5, labels=("p3",)),
        Candidate("half-gone", NOW - 6, labels=("p1", "p3")),
        Candidate("foreign", NOW - 7, owned=False),
    ]
    rules = {"p1": Rules(Keep(last=2), UTC_ZONE), "p2": Rules(Keep(last=1), UTC_ZONE)}
    decisions = plan_labels(made, rules, NOW)
    assert {d.candidate.id: (d.keep, d.reasons) for d in decisions} == {
        "both": (True, ("p1: last 1/2", "p1: newest", "p2: last 1/1", "p2: newest")),
        "one": (True, ("p1: last 2/2",)),
        "two": (False, ("p2: no-rule-matches",)),
        "old-one": (False, ("p1: no-rule-matches",)),
        "hand": (True, ("no-policy",)),
        "gone": (True, ("p3: no-policy",)),
        "half-gone": (True, ("p3: no-policy",)),
        "foreign": (True, ("foreign",)),
    }


def test_plan_safety_keeps_three_young_ones_and_the_newest() -> None:
    young = [Candidate(f"y{n}", NOW - n) for n in range(5)]
    assert ids(plan_safety(young, NOW)) == {"y0", "y1", "y2"}
    old = [Candidate("a", NOW - 14 * DAY), Candidate("b", NOW - 14 * DAY - 1)]
    assert ids(plan_safety(old, NOW)) == {"a"}
    edge = [Candidate("a", NOW), Candidate("b", NOW - 14 * DAY + 1), Candidate("c", NOW - 14 * DAY)]
    decisions = plan_safety(edge, NOW)
    assert ids(decisions) == {"a", "b"}
    assert decisions[2].reasons == ("safety-max-age",)


def test_plan_safety_pinned_and_half_made_do_not_count() -> None:
    made = [
        Candidate("pinned", NOW, pinned=True),
        Candidate("creating", NOW, state="creating"),
        Candidate("a", NOW - 1),
        Candidate("b", NOW - 2),
    ]
    assert ids(plan_safety(made, NOW, last=1)) == {"pinned", "creating", "a"}


@pytest.mark.parametrize(
    ("deletions", "owned", "stop"),
    [(0, 0, False), (5, 5, False), (6, 6, True), (6, 11, True), (6, 12, False), (51, 101, True),
     (50, 100, False)],
)  # fmt: skip
def test_needs_confirmation_over_five_and_over_half(deletions: int, owned: int, stop: bool) -> None:
    assert needs_confirmation(deletions, owned) is stop


def snapshot(origin: Origin | None, pin: str | None = None) -> Snapshot:
    info = SnapshotInfo("s", NOW, State.RUNNING, time_known=False)
    record = (
        None
        if origin is None
        else Record(SnapshotKey("u", "s", NOW), origin, ("nightly",), pin_reason=pin)
    )
    return Snapshot("u", "vm", info, record, Status.DELETING)


def test_candidate_of_snapshot_carries_what_decides() -> None:
    made = candidate(snapshot(Origin.POLICY, pin=""))
    assert made == Candidate("s", NOW, True, True, "deleting", False, ("nightly",))
    assert candidate(snapshot(Origin.EVENT)).labels == ("nightly",)
    assert candidate(snapshot(None)) == Candidate("s", NOW, False, False, "deleting", False)


@pytest.mark.parametrize("origin", [Origin.MANUAL, Origin.SAFETY, Origin.TRIAL])
def test_candidate_of_snapshot_no_policy_made_has_no_label(origin: Origin) -> None:
    assert candidate(snapshot(origin)).labels == ()


def test_plan_100000_snapshots_takes_about_a_second() -> None:
    made = [Candidate(f"s{n}", NOW - n * 3600) for n in range(100_000)]
    keep = Keep(last=3, hourly=24, daily=7, weekly=4, monthly=12, yearly=5)
    start = time.process_time()
    decisions = plan(made, keep, NOW, ZoneInfo("Europe/Berlin"))
    assert time.process_time() - start < 2  # of a processor; 0.4 s on a slow one
    assert 40 <= len(kept(decisions)) <= 55


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.long)])
def test_plan_five_years_of_hours_keeps_few_and_the_same_as_at_once(every: int) -> None:
    """Pruned every tenth hour, to be quick; in the long run after each, as the daemon does it."""
    zone = ZoneInfo("Europe/Berlin")
    keep = Keep(last=3, hourly=24, daily=7, weekly=4, monthly=12, yearly=5)
    made = [Candidate(f"s{n:05}", NOW + n * 3600) for n in range(43_824)]
    held: list[Candidate] = []
    for start in range(0, len(made), every):
        batch = made[start : start + every]
        held = kept(plan([*held, *batch], keep, batch[-1].created, zone))
        assert len(held) <= 55
    assert held == kept(plan(made, keep, made[-1].created, zone))
    oldest = datetime.fromtimestamp(held[-1].created, zone)
    assert oldest.isoformat() == "2027-12-31T23:00:00+01:00"  # five years: 2031 back to 2027
