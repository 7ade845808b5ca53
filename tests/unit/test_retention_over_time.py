"""What holds of plans made one after another: paths, clocks, other counts, what breaks off."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snapd.planning.retention import Candidate
from tests.unit.histories import (
    AGE,
    ANY,
    CLOCK,
    DAY,
    RULES,
    WIDE,
    Case,
    cases,
    counts,
    ids,
    kept,
    newest_first,
)

NO_CAP = st.none()
TWICE = settings(ANY, max_examples=200)
LAG = st.sampled_from([0, 1, 60])  # seconds from a snapshot to the prune that follows it
IN_ORDER = st.sampled_from([0, 60, DAY]) | st.integers(0, 27000 * DAY)
RANDOM = st.randoms(use_true_random=False)


def step_by_step(case: Case, lag: int) -> list[Candidate]:
    """What is left when each snapshot is followed by a prune; none is lost by the one after it."""
    left: list[Candidate] = []
    for new in newest_first(case.history)[::-1]:
        left = kept(case.plan(history=[*left, new], now=int(new.created) + lag))
        assert new in left
    return left


@given(cases(plain=True, max_count=NO_CAP), LAG)
@ANY
def test_plan_after_each_create_ends_as_once_at_the_end(case: Case, lag: int) -> None:
    assume(case.history)
    end = max(int(c.created) for c in case.history) + lag
    assert step_by_step(case, lag) == kept(case.plan(now=end))


@given(cases(plain=True), LAG)
@ANY
def test_plan_after_each_create_under_caps_keeps_none_that_once_would_not(
    case: Case, lag: int
) -> None:
    assume(case.history)
    end = max(int(c.created) for c in case.history) + lag
    assert {c.id for c in step_by_step(case, lag)} <= ids(case.plan(now=end))


@given(cases(), st.sampled_from([1, 900, DAY]), CLOCK)
@ANY
def test_plan_new_snapshot_is_never_deleted_by_the_run_that_made_it(
    case: Case, gap: int, clock: int
) -> None:
    """Wherever the clock has got to by then. (Of two of one second either may be the newest.)"""
    new = Candidate("new", max((int(c.created) for c in case.history), default=case.now) + gap)
    assert new in kept(case.plan(history=[*case.history, new], now=int(new.created) + clock))


@given(cases(), WIDE.map(lambda offset: -abs(offset)))
@ANY
def test_plan_clock_going_back_after_a_prune_deletes_nothing(case: Case, back: int) -> None:
    left = kept(case.plan())
    assert ids(case.plan(history=left, now=case.now + back), keep=False) == set()


@given(cases(clock=IN_ORDER, max_age=NO_CAP), st.integers(0, 27000 * DAY))
@ANY
def test_plan_clock_going_forward_without_age_rules_changes_nothing(case: Case, jump: int) -> None:
    assert case.plan() == case.plan(now=case.now + jump)


@given(cases(clock=IN_ORDER), st.integers(0, 27000 * DAY))
@ANY
def test_plan_round_that_leaves_age_out_is_safe_from_any_clock_ahead(case: Case, jump: int) -> None:
    """What the caller does when the clock has jumped: no more goes than before the jump."""
    jumped = ids(case.plan(now=case.now + jump, max_age=None), keep=False)
    assert jumped <= ids(case.plan(max_age=None), keep=False)


@given(cases(max_count=NO_CAP), st.sampled_from(RULES), st.sampled_from([1, 2, 10**9, -1]))
@TWICE
def test_plan_larger_count_never_deletes_more(case: Case, rule: str, more: int) -> None:
    """-1 is all. From no rule at all to one is another thing: no rule keeps all."""
    assume(not case.keep.empty and getattr(case.keep, rule) >= 0)
    if rule == "within":
        larger = replace(case.keep, within=case.keep.within + max(more, 0))
    else:
        count = getattr(case.keep, rule)
        larger = replace(case.keep, **{rule: -1 if more < 0 else count + more})
    assert ids(case.plan()) <= ids(case.plan(keep=larger))


@given(cases(max_count=st.integers(0, 8)), st.integers(1, 8))
@ANY
def test_plan_larger_max_count_never_deletes_more(case: Case, more: int) -> None:
    assert case.max_count is not None
    stays = ids(case.plan())
    assert stays <= ids(case.plan(max_count=case.max_count + more))
    assert stays <= ids(case.plan(max_count=None))


@given(cases(max_age=st.integers(0, 60 * DAY), max_count=NO_CAP), st.integers(1, 400 * DAY))
@ANY
def test_plan_larger_max_age_never_deletes_more(case: Case, more: int) -> None:
    assert case.max_age is not None
    stays = ids(case.plan())
    assert stays <= ids(case.plan(max_age=case.max_age + more))
    assert stays <= ids(case.plan(max_age=None))


@given(cases(clock=st.just(0), max_age=NO_CAP, max_count=NO_CAP), st.integers(0, 40 * DAY))
@ANY
def test_plan_newer_snapshot_only_adds_to_what_goes(case: Case, gap: int) -> None:
    new = Candidate("new", case.now + gap)
    assume(new.created > 0)
    before = ids(case.plan(now=case.now + gap), keep=False)
    after = ids(case.plan(history=[*case.history, new], now=case.now + gap), keep=False)
    assert before <= after


@given(cases(), RANDOM)
@ANY
def test_plan_broken_off_anywhere_ends_the_same_when_made_again(case: Case, random: Random) -> None:
    whole = case.plan()
    left = [d.candidate for d in whole if d.keep or random.random() < 0.5]
    assert kept(case.plan(history=left)) == kept(whole)


@given(cases(), RANDOM)
@ANY
def test_plan_delete_that_fails_never_moves_to_another_victim(case: Case, random: Random) -> None:
    """One at a time, oldest first, planned anew after each, as it is carried out."""
    victims = ids(case.plan(), keep=False)
    failing = {v for v in sorted(victims) if random.random() < 0.4}
    left, tried = list(case.history), []
    while going := [d.candidate for d in case.plan(history=left)
                    if not d.keep and d.candidate.id not in tried]:  # fmt: skip
        tried.append(going[-1].id)
        if going[-1].id not in failing:
            left.remove(going[-1])
    assert sorted(tried) == sorted(victims)
    assert {c.id for c in left} == ids(case.plan()) | failing


@given(cases(clock=IN_ORDER, max_age=AGE), st.lists(IN_ORDER, max_size=3))
@ANY
def test_plan_looked_at_later_and_later_never_takes_back_what_goes(
    case: Case, later: list[int]
) -> None:
    """Ages only grow: what one plan lets go the next does, too."""
    went: set[str] = set()
    for clock in sorted(later):
        goes = ids(case.plan(now=case.now + clock), keep=False)
        assert went <= goes
        went = goes


@given(cases())
@ANY
def test_plan_carried_out_leaves_a_good_one_wherever_there_was_one(case: Case) -> None:
    good = [c for c in case.history if counts(c, case.now)]
    assert bool(good) == any(counts(c, case.now) for c in kept(case.plan()))
