"""What holds of every plan: partition, path independence, monotony, safety of what is not ours."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snapd.model import (
    Keep,
)
from snapd.planning.retention import (
    Candidate,
    Decision,
    Rules,
    plan,
    plan_labels,
)

NOW = 1795521600
DAY = 86400


def kept(decisions: list[Decision]) -> list[Candidate]:
    return [d.candidate for d in decisions if d.keep]


def ids(decisions: list[Decision], keep: bool = True) -> set[str]:
    return {d.candidate.id for d in decisions if d.keep is keep}


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
         "Pacific/Apia"]  # fmt: skip
COUNTS = st.integers(0, 6)
KEEPS = st.builds(
    Keep,
    last=COUNTS,
    hourly=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=st.integers(-1, 3),
    within=st.sampled_from([0, 0, 0, 3600, 5 * DAY]),
)
ZONE = st.sampled_from(ZONES).map(ZoneInfo)
AGE = st.none() | st.integers(0, 60 * DAY)
COUNT = st.none() | st.integers(0, 8)
MOMENT = st.integers(-4000 * DAY, 27000 * DAY).map(lambda offset: NOW + offset)


@st.composite
def histories(draw: st.DrawFn, *, plain: bool = False) -> list[Candidate]:
    """Snapshots close together and far apart, some of them not to be touched."""
    gaps = draw(st.lists(st.sampled_from([0, 1, 900, 3600, 7200, DAY, 8 * DAY, 40 * DAY]),
                         max_size=30))  # fmt: skip
    at, made = NOW + draw(st.sampled_from([-DAY, 0, 0, 200, 400])), []
    for n, gap in enumerate(gaps):
        at -= gap
        odd = "" if plain else draw(st.sampled_from(["", "", "", "", "foreign", "pinned", "bad"]))
        made.append(
            Candidate(
                f"s{n:02}",
                at,
                owned=odd != "foreign",
                pinned=odd == "pinned",
                state="broken" if odd == "bad" else "ok",
            )
        )
    return draw(st.permutations(made))


def counts(c: Candidate, now: float = NOW) -> bool:
    return c.owned and not c.pinned and c.state == "ok" and c.created <= now + 300


ANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(histories(), KEEPS, MOMENT, ZONE, AGE, COUNT)
@ANY
def test_plan_any_input_is_a_partition_with_reasons_newest_first(
    history: list[Candidate],
    keep: Keep,
    now: int,
    zone: ZoneInfo,
    max_age: int | None,
    max_count: int | None,
) -> None:
    decisions = plan(history, keep, now, zone, max_age=max_age, max_count=max_count)
    assert sorted(d.candidate.id for d in decisions) == sorted(c.id for c in history)
    assert all(d.reasons for d in decisions)
    times = [d.candidate.created for d in decisions]
    assert times == sorted(times, reverse=True)
    eligible = [d for d in decisions if counts(d.candidate, now)]
    assert all(d.keep for d in decisions if d not in eligible)
    assert not eligible or eligible[0].keep
    again = plan(kept(decisions), keep, now, zone, max_age=max_age, max_count=max_count)
    assert all(d.keep for d in again)
    if keep.empty:
        assert all(d.keep for d in decisions)
    elif max_count is not None:
        assert len([d for d in eligible if d.keep]) <= max(max_count, 1)
    if max_age is not None and not keep.empty:
        assert all(not d.keep or d.candidate.created > now - max_age for d in eligible[1:])


@given(histories(), KEEPS, ZONE, AGE, COUNT)
@ANY
def test_plan_order_and_what_does_not_count_change_nothing(
    history: list[Candidate],
    keep: Keep,
    zone: ZoneInfo,
    max_age: int | None,
    max_count: int | None,
) -> None:
    def go(candidates: list[Candidate]) -> dict[str, Decision]:
        decisions = plan(candidates, keep, NOW, zone, max_age=max_age, max_count=max_count)
        return {d.candidate.id: d for d in decisions if counts(d.candidate)}

    assert go(history) == go(history[::-1]) == go([c for c in history if counts(c)])


@given(histories(plain=True), KEEPS, ZONE, AGE)
@ANY
def test_plan_pruned_after_each_create_equals_pruned_once(
    history: list[Candidate], keep: Keep, zone: ZoneInfo, max_age: int | None
) -> None:
    made = sorted(history, key=lambda c: (c.created, c.id))
    held: list[Candidate] = []
    now = NOW
    for new in made:
        now = max(int(new.created), now - 10**9)
        held = kept(plan([*held, new], keep, now, zone, max_age=max_age))
        assert new in held
    assert held == kept(plan(made, keep, now, zone, max_age=max_age))


@given(histories(), KEEPS, ZONE, st.sampled_from(["last", "hourly", "daily", "weekly", "monthly"]))
@ANY
def test_plan_larger_count_never_deletes_more(
    history: list[Candidate], keep: Keep, zone: ZoneInfo, kind: str
) -> None:
    if keep.empty:
        return  # keeps all: there the first rule is what deletes
    values = {f: getattr(keep, f) for f in Keep.__dataclass_fields__}
    larger = Keep(**{**values, kind: values[kind] + 1})
    assert ids(plan(history, keep, NOW, zone)) <= ids(plan(history, larger, NOW, zone))


@given(histories(), KEEPS, ZONE, st.integers(0, 60 * DAY), st.integers(0, 8))
@ANY
def test_plan_larger_cap_never_deletes_more(
    history: list[Candidate], keep: Keep, zone: ZoneInfo, max_age: int, max_count: int
) -> None:
    by_age = [ids(plan(history, keep, NOW, zone, max_age=max_age + more)) for more in (0, DAY)]
    by_count = [ids(plan(history, keep, NOW, zone, max_count=max_count + more)) for more in (0, 1)]
    assert by_age[0] <= by_age[1]
    assert by_count[0] <= by_count[1]


@given(histories(), KEEPS, ZONE, st.integers(0, 27000 * DAY), COUNT)
@ANY
def test_plan_time_passing_without_age_rules_changes_nothing(
    history: list[Candidate], keep: Keep, zone: ZoneInfo, later: int, max_count: int | None
) -> None:
    now = NOW + 400  # nothing is from the future
    assert ids(plan(history, keep, now, zone, max_count=max_count)) == ids(
        plan(history, keep, now + later, zone, max_count=max_count)
    )


@given(histories(), KEEPS, ZONE, AGE, COUNT, st.integers(0, 4000 * DAY))
@ANY
def test_plan_clock_going_back_after_a_prune_deletes_nothing(
    history: list[Candidate],
    keep: Keep,
    zone: ZoneInfo,
    max_age: int | None,
    max_count: int | None,
    back: int,
) -> None:
    held = kept(plan(history, keep, NOW, zone, max_age=max_age, max_count=max_count))
    assert all(
        d.keep for d in plan(held, keep, NOW - back, zone, max_age=max_age, max_count=max_count)
    )


@given(histories(), KEEPS, ZONE, AGE, COUNT, st.randoms())
@ANY
def test_plan_broken_off_anywhere_ends_the_same(
    history: list[Candidate],
    keep: Keep,
    zone: ZoneInfo,
    max_age: int | None,
    max_count: int | None,
    random: Any,
) -> None:
    whole = plan(history, keep, NOW, zone, max_age=max_age, max_count=max_count)
    left = [d.candidate for d in whole if d.keep or random.random() < 0.5]
    again = plan(left, keep, NOW, zone, max_age=max_age, max_count=max_count)
    assert kept(again) == kept(whole)


@given(histories(plain=True), st.integers(1, 6), ZONE)
@ANY
def test_plan_daily_keeps_the_newest_of_each_recent_day(
    history: list[Candidate], n: int, zone: ZoneInfo
) -> None:
    days: dict[Any, Candidate] = {}
    for c in sorted(history, key=lambda c: (c.created, c.id), reverse=True):
        if counts(c):
            days.setdefault(datetime.fromtimestamp(c.created, zone).date(), c)
    expected = {c.id for c in list(days.values())[:n]}
    future = {c.id for c in history if not counts(c)}
    assert ids(plan(history, Keep(daily=n), NOW, zone)) == expected | future


@given(histories(), KEEPS, KEEPS, ZONE, COUNT, st.randoms())
@ANY
def test_plan_labels_newest_good_of_domain_and_label_stays(
    history: list[Candidate],
    one: Keep,
    two: Keep,
    zone: ZoneInfo,
    max_count: int | None,
    random: Any,
) -> None:
    labelled = [
        Candidate(c.id, c.created, c.owned, c.pinned, c.state, labels=random.choice(LABELS))
        for c in history
    ]
    rules = {"p1": Rules(one, zone, 0, max_count), "p2": Rules(two, zone)}
    decisions = plan_labels(labelled, rules, NOW)
    good = [d for d in decisions if counts(d.candidate)]
    assert not good or good[0].keep
    for label in rules:
        mine = [d for d in good if label in d.candidate.labels]
        assert not mine or mine[0].keep


LABELS = [(), ("p1",), ("p2",), ("p1", "p2"), ("p3",)]
