"""What holds of every plan for room: repeated, it releases nothing more than one success would."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snapd.model import (
    Keep,
    Origin,
    Policy,
    Record,
    Snapshot,
    SnapshotInfo,
    SnapshotKey,
    State,
    Status,
)
from snapd.planning.retention import Decision
from snapd.policy.prune import plan, plan_room
from snapd.settings import Settings

VM = "22222222-2222-4222-8222-222222222201"
AT = 1795521600
DAY = 86400
COUNTS = st.integers(0, 4)
KEEPS = st.builds(
    Keep,
    last=COUNTS,
    hourly=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=st.integers(-1, 2),
    within=st.sampled_from([0, 0, 3600, 5 * DAY]),
)
AGE = st.none() | st.integers(0, 60 * DAY)
NAMES = st.sampled_from([("p",), ("q",), ("p", "q")])
ANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def snapshot(
    name: str,
    created: int,
    labels: tuple[str, ...],
    origin: Origin = Origin.POLICY,
    status: Status = Status.OK,
    pin: str | None = None,
) -> Snapshot:
    info = SnapshotInfo(name, created, State.RUNNING)
    key = SnapshotKey(VM, name, created)
    record = None if origin is Origin.FOREIGN else Record(key, origin, labels, pin_reason=pin)
    return Snapshot(VM, "web-1", info, record, status)


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """Snapshots of two policies, by hand, before reverts and by others, some just after AT."""
    least = draw(st.sampled_from([0, 6, 14]))
    gaps = draw(st.lists(st.sampled_from([0, 1, 900, 3600, 7200, DAY, 8 * DAY, 40 * DAY]),
                         min_size=least, max_size=24))  # fmt: skip
    at, made = AT + draw(st.sampled_from([0, 0, 0, 200, 400, DAY])), []
    for n, gap in enumerate(gaps):
        at -= gap
        labels = draw(st.sampled_from([("p",), ("p",), ("q",), ("p", "q"), ("gone",), ()]))
        origin = draw(st.sampled_from([Origin.POLICY] * 6 + [Origin.SAFETY, Origin.FOREIGN]))
        status = draw(st.sampled_from([Status.OK] * 6 + [Status.BROKEN, Status.CREATING]))
        pin = draw(st.sampled_from([None] * 6 + [""]))
        made.append(snapshot(f"s{n:02}", at, labels, origin, status, pin))
    return draw(st.permutations(made))


@st.composite
def rules(draw: st.DrawFn, caps: bool) -> dict[str, Policy]:
    return {
        name: Policy(
            name,
            "admin",
            "r",
            ("*",),
            draw(KEEPS),
            draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"])),
            max_age=draw(AGE),
            max_count=draw(st.none() | st.integers(1, 6)) if caps else None,
        )
        for name in ("p", "q")
    }


@st.composite
def cases(draw: st.DrawFn, caps: bool = True) -> tuple[list[Snapshot], dict[str, Policy]]:
    """A history and its rules: most have been pruned before, so that only one more releases any."""
    history, policies = draw(histories()), draw(rules(caps))
    if draw(st.sampled_from([True, True, False])):
        released = gone(plan(history, policies, Settings(), AT))
        history = [s for s in history if s.info.name not in released]
    return history, policies


def gone(decisions: Iterable[Decision]) -> set[str]:
    return {d.candidate.id for d in decisions if not d.keep}


def room(history: list[Snapshot], policies: dict[str, Policy], names: tuple[str, ...]) -> set[str]:
    decisions = plan_room(history, policies, Settings(), names, AT)
    assert sorted(d.candidate.id for d in decisions) == sorted(s.info.name for s in history)
    assert all(d.reasons for d in decisions)
    return gone(decisions)


@given(cases(), NAMES, st.data())
@ANY
def test_ten_failing_slots_release_no_more_than_one_success_would(
    case: tuple[list[Snapshot], dict[str, Policy]], names: tuple[str, ...], data: st.DataObject
) -> None:
    history, policies = case
    success = gone(plan([*history, snapshot("", AT, names)], policies, Settings(), AT))
    first = room(history, policies, names)
    assert first <= success
    lost: set[str] = set()
    for _slot in range(10):
        left = [s for s in history if s.info.name not in lost]
        found = room(left, policies, names)
        assert found == first - lost
        some = st.sets(st.sampled_from(sorted(found))) if found else st.just(set())
        lost |= data.draw(some)
    assert lost <= success


@given(cases(caps=False), NAMES, st.sampled_from([0, 1, 900, 3600, 7200, DAY, 40 * DAY]))
@ANY
def test_success_that_comes_late_would_have_released_it_too(
    case: tuple[list[Snapshot], dict[str, Policy]], names: tuple[str, ...], late: int
) -> None:
    history, policies = case
    made = snapshot("x", AT + late, names)
    success = gone(plan([*history, made], policies, Settings(), AT + late))
    assert room(history, policies, names) <= success


@given(cases(), NAMES)
@ANY
def test_newest_good_one_of_the_domain_and_of_each_label_stays(
    case: tuple[list[Snapshot], dict[str, Policy]], names: tuple[str, ...]
) -> None:
    history, policies = case
    good = [
        s
        for s in history
        if s.owned and not s.pinned and s.status is Status.OK and s.info.created <= AT + 300
    ]
    of_policies = [s for s in good if s.origin is Origin.POLICY]
    groups = [good, *([s for s in of_policies if label in s.policies] for label in ("p", "q"))]
    groups.append([s for s in good if s.origin is Origin.SAFETY])
    newest = {max(g, key=lambda s: (s.info.created, s.info.name)).info.name for g in groups if g}
    released = room(history, policies, names)
    assert not newest & released
    assert released <= {s.info.name for s in good}
