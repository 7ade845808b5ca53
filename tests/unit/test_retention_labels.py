"""What holds of the plan of a domain with several policies, and of that for safety snapshots."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from snapd.planning.retention import Candidate, Decision, Rules, plan, plan_labels, plan_safety
from tests.unit.histories import (
    ANY,
    CLOCK,
    DAY,
    LABELS,
    NOW,
    WIDE,
    counts,
    histories,
    ids,
    kept,
    labelled,
    newest_first,
)

Labelled = tuple[list[Candidate], dict[str, Rules], set[str], int]
LABELLED = labelled()
RANDOM = st.randoms(use_true_random=False)


def of_label(made: list[Candidate], label: str) -> list[Candidate]:
    return [c for c in made if label in c.labels]


def alone(made: list[Candidate], label: str, rules: Rules, now: int) -> list[Decision]:
    """What a policy would do with what carries its label, if it were the only one."""
    return plan(of_label(made, label), rules.keep, now, rules.zone,
                max_age=rules.max_age, max_count=rules.max_count)  # fmt: skip


@given(LABELLED)
@ANY
def test_plan_labels_every_snapshot_is_decided_once_with_reasons(domain: Labelled) -> None:
    made, policies, held, now = domain
    decisions = plan_labels(made, policies, now, held)
    assert [d.candidate for d in decisions] == newest_first(made)
    assert all(d.reasons and all(d.reasons) for d in decisions)


@given(LABELLED)
@ANY
def test_plan_labels_deletes_just_what_each_of_its_labels_lets_go(domain: Labelled) -> None:
    made, policies, held, now = domain
    goes = {
        label: ids(alone(made, label, policies[label], now), keep=False)
        for label in LABELS
        if label in policies and label not in held
    }
    expected = {
        c.id for c in made
        if c.labels and all(label in goes and c.id in goes[label] for label in c.labels)
    }  # fmt: skip
    assert ids(plan_labels(made, policies, now, held), keep=False) == expected


@given(LABELLED)
@ANY
def test_plan_labels_never_deletes_what_it_cannot_judge(domain: Labelled) -> None:
    """Foreign, pinned, not in order, future, of unknown age; made for no policy or one unknown."""
    made, policies, held, now = domain
    for d in plan_labels(made, policies, now, held):
        if not counts(d.candidate, now) or not d.candidate.labels:
            assert d.keep
        if not set(d.candidate.labels) <= policies.keys() - held:
            assert d.keep


@given(LABELLED)
@ANY
def test_plan_labels_newest_good_of_the_domain_and_of_each_label_stays(domain: Labelled) -> None:
    made, policies, held, now = domain
    stays = ids(plan_labels(made, policies, now, held))
    good = newest_first(c for c in made if counts(c, now))
    assert {c.id for c in good[:1]} <= stays
    for label in LABELS:
        assert {c.id for c in of_label(good, label)[:1]} <= stays


@given(LABELLED)
@ANY
def test_plan_labels_of_what_a_plan_kept_deletes_nothing(domain: Labelled) -> None:
    made, policies, held, now = domain
    left = kept(plan_labels(made, policies, now, held))
    assert ids(plan_labels(left, policies, now, held), keep=False) == set()


@given(LABELLED)
@ANY
def test_plan_labels_order_and_what_does_not_count_change_nothing(domain: Labelled) -> None:
    made, policies, held, now = domain
    decisions = plan_labels(made, policies, now, held)
    assert plan_labels(made[::-1], policies, now, held) == decisions
    rest = [c for c in made if counts(c, now)]
    assert plan_labels(rest, policies, now, held) == [d for d in decisions if d.candidate in rest]


@given(LABELLED, st.sampled_from(LABELS))
@ANY
def test_plan_labels_policy_that_is_removed_or_held_lets_go_of_nothing(
    domain: Labelled, label: str
) -> None:
    """And so fewer go, and none that did not go before."""
    made, policies, _, now = domain
    before = ids(plan_labels(made, policies, now), keep=False)
    others = {name: rules for name, rules in policies.items() if name != label}
    mine = {c.id for c in of_label(made, label)}
    for found in (plan_labels(made, others, now), plan_labels(made, policies, now, {label})):
        assert ids(found, keep=False) == before - mine


@given(LABELLED, st.sampled_from(LABELS))
@ANY
def test_plan_labels_snapshots_of_another_policy_take_no_place(
    domain: Labelled, label: str
) -> None:
    made, policies, held, now = domain
    rest = [c for c in made if c.labels != (label,)]
    with_them, without = (plan_labels(m, policies, now, held) for m in (made, rest))
    assert [d for d in with_them if label not in d.candidate.labels] == [
        d for d in without if label not in d.candidate.labels
    ]


@given(LABELLED, RANDOM)
@ANY
def test_plan_labels_broken_off_or_failing_never_moves_to_another_victim(
    domain: Labelled, random: Random
) -> None:
    """Carried out one by one, oldest first, planned anew after each; a failed one is skipped."""
    made, policies, held, now = domain
    victims = ids(plan_labels(made, policies, now, held), keep=False)
    left, tried = list(made), set()
    while going := [d.candidate for d in plan_labels(left, policies, now, held)
                    if not d.keep and d.candidate.id not in tried]:  # fmt: skip
        tried.add(going[-1].id)
        if random.random() < 0.6:
            left.remove(going[-1])
    assert tried == victims


@given(LABELLED, WIDE.map(abs))
@ANY
def test_plan_labels_clock_going_back_after_a_prune_deletes_nothing(
    domain: Labelled, back: int
) -> None:
    made, policies, held, now = domain
    left = kept(plan_labels(made, policies, now, held))
    assert ids(plan_labels(left, policies, now - back, held), keep=False) == set()


@given(LABELLED, st.sampled_from([(LABELS[0],), LABELS[:2], LABELS]))
@ANY
def test_plan_labels_new_snapshot_is_never_deleted_by_the_run_that_made_it(
    domain: Labelled, labels: tuple[str, ...]
) -> None:
    made, policies, held, now = domain
    at = max((int(c.created) for c in made), default=now) + 1
    new = Candidate("new", at, labels=labels)
    assert new in kept(plan_labels([*made, new], policies, max(at, now), held))


# --- safety snapshots


@st.composite
def safety(draw: st.DrawFn) -> tuple[list[Candidate], int, int, int | None]:
    """Snapshots taken before reverts, the time, how many and how old they may get."""
    made = draw(histories())
    newest = max((c.created for c in made), default=NOW)
    ages = st.none() | st.integers(0, 60 * DAY)
    return made, int(newest) + draw(CLOCK), draw(st.integers(1, 6)), draw(ages)


Safety = tuple[list[Candidate], int, int, int | None]


@given(safety())
@ANY
def test_plan_safety_keeps_the_newest_few_while_young_and_the_newest_always(of: Safety) -> None:
    made, now, last, max_age = of
    decisions = plan_safety(made, now, last=last, max_age=max_age)
    assert [d.candidate for d in decisions] == newest_first(made)
    assert all(d.reasons for d in decisions)
    assert all(d.keep for d in decisions if not counts(d.candidate, now))
    good = newest_first(c for c in made if counts(c, now))
    young = [c for c in good[:last] if max_age is None or now - c.created < max_age]
    newest = {c.id for c in good if c.created == good[0].created}
    expected = {c.id for c in young} | newest
    assert {c.id for c in good} & ids(decisions) == expected


def test_plan_safety_the_way_back_from_a_revert_survives_others_of_its_second() -> None:
    """libvirt's times are whole seconds: which of them is the newest, nobody can tell."""
    made = [Candidate(f"safety-{word}", NOW) for word in ("", "b", "c", "d")]
    assert kept(plan_safety([*made, Candidate("a", NOW - 1)], NOW, last=2)) == made[::-1]


@given(safety(), RANDOM, WIDE.map(abs))
@ANY
def test_plan_safety_made_again_after_any_break_and_with_the_clock_back_takes_no_other(
    of: Safety, random: Random, back: int
) -> None:
    made, now, last, max_age = of
    whole = plan_safety(made, now, last=last, max_age=max_age)
    left = [d.candidate for d in whole if d.keep or random.random() < 0.5]
    assert kept(plan_safety(left, now, last=last, max_age=max_age)) == kept(whole)
    after = plan_safety(kept(whole), now - back, last=last, max_age=max_age)
    assert ids(after, keep=False) == set()


@given(safety(), st.integers(1, 3), st.integers(1, 60 * DAY))
@ANY
def test_plan_safety_larger_limits_never_delete_more(of: Safety, more: int, older: int) -> None:
    made, now, last, max_age = of
    stays = ids(plan_safety(made, now, last=last, max_age=max_age))
    assert stays <= ids(plan_safety(made, now, last=last + more, max_age=max_age))
    larger = None if max_age is None else max_age + older
    assert stays <= ids(plan_safety(made, now, last=last, max_age=larger))


@given(safety(), st.integers(1, DAY))
@ANY
def test_plan_safety_new_one_never_goes_by_the_run_that_made_it(of: Safety, gap: int) -> None:
    made, now, last, max_age = of
    at = max((int(c.created) for c in made), default=now) + gap
    new = replace(Candidate("new", at), labels=())
    assert new in kept(plan_safety([*made, new], max(at, now), last=last, max_age=max_age))
