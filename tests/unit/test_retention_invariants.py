"""What holds of every plan: what never goes, what makes no difference, how much stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snapd.model import Keep
from snapd.planning.retention import Candidate, plan
from tests.unit.histories import (
    ANY,
    CLOCK,
    KINDS,
    RULES,
    SKEW,
    ZONE,
    Case,
    cases,
    counts,
    ids,
    kept,
    newest_first,
    one,
)

NO_CAP = st.none()
TWICE = settings(ANY, max_examples=200)


@given(cases())
@ANY
def test_plan_every_snapshot_is_decided_once_with_reasons_newest_first(case: Case) -> None:
    decisions = case.plan()
    assert [d.candidate for d in decisions] == newest_first(case.history)
    assert all(d.reasons and all(d.reasons) for d in decisions)


def standing(c: Candidate, now: int) -> str:
    """How the reason starts of what no rule may judge; "" = it may."""
    if not c.owned:
        return "foreign"
    if c.pinned:
        return "pinned"
    if c.state != "ok":
        return f"state:{c.state}"
    if not c.time_known or c.created <= 0:
        return "time-unknown"
    return "future" if c.created - now > SKEW else ""


@given(cases())
@TWICE
def test_plan_never_deletes_foreign_pinned_unfinished_future_nor_of_unknown_age(case: Case) -> None:
    for d in case.plan():
        if why := standing(d.candidate, case.now):
            assert d.keep
            assert d.reasons == (why,)


@given(cases())
@ANY
def test_plan_newest_that_counts_always_stays_whatever_the_caps(case: Case) -> None:
    for caps in ({}, {"max_count": 0}, {"max_age": 0}, {"max_count": 0, "max_age": 0}):
        assert ids(case.plan(**caps)) >= {c.id for c in case.counted()[:1]}


@given(cases())
@ANY
def test_plan_of_what_a_plan_kept_deletes_nothing(case: Case) -> None:
    left = kept(case.plan())
    assert ids(case.plan(history=left), keep=False) == set()


@given(cases(), st.randoms(use_true_random=False))
@ANY
def test_plan_order_of_the_input_changes_nothing(case: Case, random: object) -> None:
    shuffled = list(case.history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert case.plan() == case.plan(history=shuffled) == case.plan(history=case.history[::-1])


@given(cases())
@ANY
def test_plan_of_two_of_one_time_the_later_by_name_stays(case: Case) -> None:
    twins = [replace(c, created=case.now) for c in case.history if counts(c, case.now)]
    assume(case.now > 0)
    stays = ids(case.plan(history=twins, keep=Keep(daily=5)))
    assert stays == {max(c.id for c in twins)} if twins else not stays


@given(cases(), st.sampled_from(["foreign", "pinned", "state", "time-unknown", "future", ""]))
@TWICE
def test_plan_what_does_not_count_changes_nothing_for_the_rest(case: Case, odd: str) -> None:
    """Foreign ones and pinned ones take no place of a quota, and those from the future move no
    horizon; "" = all of these at once."""
    rest = [
        c for c in case.history
        if not (why := standing(c, case.now)) or (odd and not why.startswith(odd))
    ]  # fmt: skip
    assert case.plan(history=rest) == [d for d in case.plan() if d.candidate in rest]


@given(cases())
@ANY
def test_plan_without_any_keep_rule_keeps_all(case: Case) -> None:
    assert ids(case.plan(keep=Keep()), keep=False) == set()


@given(cases(max_age=NO_CAP, max_count=NO_CAP))
@ANY
def test_plan_rules_are_ored_each_with_its_own_quota(case: Case) -> None:
    assume(not case.keep.empty)
    alone = [one(rule, case.keep) for rule in RULES]
    stays = [ids(case.plan(keep=keep)) for keep in alone if not keep.empty]
    assert ids(case.plan()) == set().union(*stays)


@given(cases())
@ANY
def test_plan_keeps_no_more_than_its_counts_add_up_to_and_at_least_one(case: Case) -> None:
    keep = replace(case.keep, within=0, yearly=max(case.keep.yearly, 0))
    assume(not keep.empty)
    good = [d for d in case.plan(keep=keep) if counts(d.candidate, case.now)]
    total = sum(getattr(keep, rule) for rule in RULES)
    assert sum(d.keep for d in good) <= total
    assert any(d.keep for d in good) or not good


@given(cases(max_count=st.integers(0, 8)))
@ANY
def test_plan_keeps_no_more_than_max_count_but_the_newest(case: Case) -> None:
    assume(not case.keep.empty)
    good = [d for d in case.plan() if d.keep and counts(d.candidate, case.now)]
    assert len(good) <= max(case.max_count or 0, 1)


@given(cases(max_age=st.integers(0, 60 * 86400)))
@ANY
def test_plan_keeps_nothing_of_max_age_or_older_but_the_newest(case: Case) -> None:
    assume(not case.keep.empty)
    assert case.max_age is not None
    good = [c for c in kept(case.plan()) if counts(c, case.now)]
    newest = case.counted()[:1]
    assert [c for c in good if c not in newest and c.created <= case.now - case.max_age] == []


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


# which ones are of one bucket, said in another way than by the numbers of a calendar
PERIODS: dict[str, Callable[[datetime], object]] = {
    "hourly": lambda at: int(at.timestamp()) // 3600,
    "daily": lambda at: at.date(),
    "weekly": lambda at: _monday(at.date()),
    "monthly": lambda at: at.date().replace(day=1),
    "yearly": lambda at: at.date().replace(month=1, day=1),
}
# there an hour of the clock is an hour
WHOLE_HOURS = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]).map(ZoneInfo)


@given(
    cases(max_age=NO_CAP, max_count=NO_CAP),
    st.sampled_from(KINDS),
    st.integers(1, 5),
    WHOLE_HOURS,
)
@TWICE
def test_plan_keeps_the_newest_of_each_of_the_n_latest_periods_that_have_one(
    case: Case, kind: str, n: int, whole: ZoneInfo
) -> None:
    zone = whole if kind == "hourly" else case.zone
    newest: dict[object, str] = {}
    for c in case.counted():
        newest.setdefault(PERIODS[kind](datetime.fromtimestamp(c.created, zone)), c.id)
    keep = Keep(**{kind: n})
    found = [d for d in case.plan(keep=keep, zone=zone) if counts(d.candidate, case.now)]
    assert ids(found) == set(list(newest.values())[:n])


@given(cases(), st.integers(0, 6))
@ANY
def test_plan_keeps_the_last_n(case: Case, n: int) -> None:
    assume(n or not case.keep.empty)
    keep = replace(case.keep, last=n)
    stays = ids(case.plan(keep=keep, max_age=None, max_count=None))
    assert stays >= {c.id for c in case.counted()[:n]}


@given(cases(max_age=NO_CAP, max_count=NO_CAP, clock=CLOCK), ZONE, st.integers(1, 6))
@ANY
def test_plan_in_another_zone_never_deletes_the_last_n(case: Case, zone: ZoneInfo, n: int) -> None:
    """It may delete others: their buckets are cut elsewhere."""
    keep = replace(case.keep, last=n)
    left = kept(case.plan(keep=keep))
    again = plan(left, keep, case.now, zone)
    assert ids(again) >= {c.id for c in case.counted()[:n]}
