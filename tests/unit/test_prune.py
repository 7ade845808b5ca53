"""Carrying retention out: the plan of a domain, the breaker, one victim at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from snapd.errors import Busy, Changed, NoSuchSnapshot, Protected, SnapdError
from snapd.inventory import DomainPicture, Inventory
from snapd.model import (
    DomainInfo,
    JobState,
    Keep,
    Kind,
    Origin,
    Policy,
    Record,
    Snapshot,
    SnapshotInfo,
    SnapshotKey,
    State,
    Status,
    Verb,
)
from snapd.operations import Catalog, HalfMade, Job, Operations, Outcome
from snapd.policy import ClockGuard, Pruner, plan, plan_id
from snapd.settings import Settings
from snapd.store import JobRow

VM = "22222222-2222-4222-8222-222222222201"
NOW = 1795600800
DAY = 86400
KEEP_1 = Policy("p", "admin", "r", ("*",), Keep(last=1), "UTC", "0 * * * *")
INFO = DomainInfo(VM, "web-1", State.RUNNING)


def snapshot(
    name: str,
    age: int,
    origin: Origin | None = Origin.POLICY,
    policies: tuple[str, ...] = ("p",),
    pin: str | None = None,
    status: Status = Status.OK,
) -> Snapshot:
    """One of an age in seconds; origin None = foreign."""
    info = SnapshotInfo(name, NOW - age, State.RUNNING, Kind.INTERNAL)
    record = Record(SnapshotKey(VM, name, info.created), origin, policies) if origin else None
    if record and pin:
        record = replace(record, pin_reason=pin)
    return Snapshot(VM, "web-1", info, record, status)


def going(
    snapshots: Iterable[Snapshot],
    policies: Iterable[Policy] = (KEEP_1,),
    settings: Settings = Settings(),  # noqa: B008
) -> list[str]:
    """Those that go by the plan, newest first."""
    decisions = plan(list(snapshots), {p.name: p for p in policies}, settings, NOW)
    assert all(decision.reasons for decision in decisions)
    return [d.candidate.id for d in decisions if not d.keep]


# ---- the plan


def test_plan_lets_go_what_the_policy_made_and_does_not_keep() -> None:
    found = [snapshot(f"s{n}", n * 60) for n in range(3)]
    assert going(found) == ["s1", "s2"]


@pytest.mark.parametrize(
    "kept",
    [
        snapshot("x", 600, origin=None),
        snapshot("x", 600, origin=Origin.MANUAL),
        snapshot("x", 600, origin=Origin.MANUAL, policies=()),
        snapshot("x", 600, origin=Origin.TRIAL),
        snapshot("x", 600, origin=Origin.FOREIGN, policies=(), pin="audit"),
        snapshot("x", 600, policies=("removed",)),
        snapshot("x", 600, policies=("p", "removed")),
        snapshot("x", 600, pin="audit"),
        snapshot("x", 600, status=Status.CREATING),
        snapshot("x", -600),
    ],
    ids=lambda kept: f"{kept.origin}-{'+'.join(kept.policies)}-{kept.pinned}-{kept.status}",
)
def test_plan_keeps_what_is_not_for_it_to_judge_and_does_not_count_it(kept: Snapshot) -> None:
    assert going([kept, snapshot("new", 60), snapshot("old", 1200)]) == ["old"]


def test_plan_newest_good_one_stays_whatever_is_asked() -> None:
    capped = replace(KEEP_1, max_age=60)
    assert (
        going([snapshot("half", 10, status=Status.CREATING), snapshot("good", DAY)], [capped]) == []
    )


def test_plan_snapshot_of_two_policies_goes_when_both_let_it_go() -> None:
    other = replace(KEEP_1, name="q", keep=Keep(last=2))
    both = [snapshot(f"s{n}", n * 60, policies=("p", "q")) for n in range(3)]
    assert going(both, [KEEP_1, other]) == ["s2"]


def test_plan_safety_snapshots_have_rules_of_their_own() -> None:
    ages = {"a": 60, "b": DAY, "c": 13 * DAY, "d": 13 * DAY + 1}
    safety = [snapshot(n, age, Origin.SAFETY, ()) for n, age in ages.items()]
    assert going(safety) == ["d"]
    stale = [snapshot(f"x{n}", 15 * DAY + n, Origin.SAFETY, ()) for n in range(2)]
    assert going(stale) == ["x1"]
    assert going(safety, [], Settings(safety_last=1)) == ["b", "c", "d"]
    pinned = snapshot("pin", 0, Origin.SAFETY, (), pin="audit")
    assert going([pinned, *safety], [], Settings(safety_last=1)) == ["b", "c", "d"]
    old = snapshot("pin", 90 * DAY, Origin.SAFETY, (), pin="audit")
    assert going([old, *safety], [], Settings(safety_last=1)) == ["b", "c", "d"]


def test_plan_held_policy_lets_go_of_nothing_and_others_of_theirs() -> None:
    other = replace(KEEP_1, name="q")
    found = [snapshot(f"{p}{n}", n * 60, policies=(p,)) for p in "pq" for n in range(2)]
    found.append(snapshot("both", 600, policies=("p", "q")))
    found += [snapshot(f"s{n}", n * 60, Origin.SAFETY, ()) for n in range(5)]
    policies = {"p": KEEP_1, "q": other}

    def left(held: set[str]) -> dict[str, tuple[str, ...]]:
        decisions = plan(found, policies, Settings(), NOW, held)
        return {d.candidate.id: d.reasons for d in decisions if not d.keep}

    assert set(left(set())) == {"p1", "q1", "both", "s3", "s4"}
    assert set(left({"q"})) == {"p1", "s3", "s4"}
    assert left({""}) == {}
    told = {d.candidate.id: d.reasons for d in plan(found, policies, Settings(), NOW, {"q"})}
    assert told["both"] == told["q1"] == ("q: held",)
    everything = {d.candidate.id: d.reasons for d in plan(found, policies, Settings(), NOW, {""})}
    assert (everything["p1"], everything["s4"]) == (("p: held",), ("held",))


def test_plan_id_is_about_what_goes_only() -> None:
    found = [snapshot(f"s{n}", n * 60) for n in range(3)]

    def identity(snapshots: list[Snapshot], policy: Policy = KEEP_1) -> str:
        return plan_id(plan(snapshots, {"p": policy}, Settings(), NOW))

    assert identity(found) == identity([*found, snapshot("x", 5, origin=None)])
    assert identity(found) != identity(found[:2])
    renewed = replace(found[2].info, created=NOW - 121)
    record = replace(cast(Record, found[2].record), key=SnapshotKey(VM, "s2", NOW - 121))
    assert identity(found) != identity([*found[:2], replace(found[2], info=renewed, record=record)])
    assert identity(found, replace(KEEP_1, keep=Keep(last=3))) == ""


# ---- carrying it out


@dataclass
class Host:
    """A domain's snapshots, and what to do to them; fails: name -> error of its deletion."""

    snapshots: list[Snapshot]
    fails: dict[str, SnapdError] = field(default_factory=dict)
    deleted: list[tuple[str, str]] = field(default_factory=list)
    half_made: HalfMade = field(default_factory=HalfMade)

    @property
    def domains(self) -> dict[str, DomainPicture]:
        return {VM: DomainPicture(INFO)}

    async def refresh(self, uuid: str) -> DomainPicture:
        return self.domains[uuid]

    def of(self, _picture: DomainPicture) -> list[Snapshot]:
        return list(self.snapshots)

    jobs = property(lambda self: self)

    def let_go(self, _picture: DomainPicture) -> set[str]:
        return set()

    async def delete_within(self, _job: Job, key: SnapshotKey, reason: str) -> None:
        if error := self.fails.get(key.name):
            raise error
        self.deleted.append((key.name, reason))
        self.snapshots = [s for s in self.snapshots if s.key != key]


class Jobs:
    stopping = False

    def changed(self, *_: Any) -> None: ...


def pruner(host: Host, guard: ClockGuard | None = None) -> Pruner:
    return Pruner(
        cast(Operations, host),
        cast(Inventory, host),
        cast(Catalog, host),
        lambda: {"p": KEEP_1},
        Settings(),
        guard or ClockGuard(wall=lambda: NOW, boot=lambda: 0),
        lambda: NOW,
    )


def prune(made: Pruner, confirmed: str = "", only: set[str] | None = None) -> Outcome:
    row = JobRow(1, Verb.PRUNE, VM, "web-1", "", "p", -1, JobState.RUNNING, NOW)

    async def main() -> Outcome:
        return await made.prune(Job(row, cast(Any, Jobs())), confirmed, only)

    return asyncio.run(main())


def test_prune_deletes_oldest_first_with_the_reason() -> None:
    host = Host([snapshot(f"s{n}", n * 60) for n in range(4)])
    assert prune(pruner(host)).result == {"Deleted": ["s3", "s2", "s1"], "Stays": []}
    assert [name for name, _ in host.deleted] == ["s3", "s2", "s1"]
    assert {reason for _, reason in host.deleted} == {"retention: p: no-rule-matches"}


def test_prune_that_fails_at_one_takes_no_other_for_it() -> None:
    host = Host([snapshot(f"s{n}", n * 60) for n in range(4)], {"s2": Busy("no", reason="backup")})
    result = prune(pruner(host)).result
    assert result == {"Deleted": ["s3", "s1"], "Stays": [{"Name": "s2", "Reason": "backup"}]}
    assert [s.info.name for s in host.snapshots] == ["s0", "s2"]


def test_prune_one_that_went_by_itself_is_passed_over() -> None:
    host = Host([snapshot(f"s{n}", n * 60) for n in range(3)], {"s2": NoSuchSnapshot("gone")})
    assert prune(pruner(host)).result == {"Deleted": ["s1"], "Stays": []}


@pytest.mark.parametrize(
    ("owned", "held"),
    [(6, False), (7, True), (12, True)],  # 5 of 6, 6 of 7, 11 of 12 go
)
def test_prune_of_over_5_and_over_half_waits_for_a_person(owned: int, held: bool) -> None:
    host = Host([snapshot(f"s{n}", n * 60) for n in range(owned)])
    made = pruner(host)
    if not held:
        assert len(prune(made).result["Deleted"]) == owned - 1
        return
    with pytest.raises(Protected) as refused:
        prune(made)
    assert f"{owned - 1} of {owned}" in refused.value.message
    assert host.deleted == []
    with pytest.raises(Changed):
        prune(made, "another")
    assert len(prune(made, made.held[VM]).result["Deleted"]) == owned - 1
    assert made.held == {}


def test_prune_over_5_that_are_not_half_is_done() -> None:
    manual = [snapshot(f"m{n}", n, Origin.MANUAL, ()) for n in range(6)]
    host = Host([*(snapshot(f"s{n}", n * 60) for n in range(7)), *manual])
    assert len(prune(pruner(host)).result["Deleted"]) == 6


def test_prune_blocked_deletes_nothing_and_says_why() -> None:
    host = Host([snapshot(f"s{n}", n * 60) for n in range(3)])
    made = pruner(host)
    made.blocked = "virtsnapd.toml is broken"
    with pytest.raises(Protected) as refused:
        prune(made, plan_id(plan(host.snapshots, {"p": KEEP_1}, Settings(), NOW)))
    assert "virtsnapd.toml is broken" in refused.value.message
    assert host.deleted == []


def test_prune_of_a_torn_vm_deletes_nothing_until_a_revert_has_mended_it() -> None:
    """Its good snapshots are the way back (FIELD_REPORTS 6)."""
    host = Host([snapshot(f"s{n}", n * 60) for n in range(3)])
    made = pruner(host)
    row = JobRow(3, Verb.REVERT, VM, "web-1", "s2", "", 0, JobState.FAILED, NOW, finished=NOW)
    failed: dict[str, Any] = {
        "error_name": "org.virtsnap.Error.Partial",
        "detail": {"reason": "half-made"},
    }
    host.half_made.note(replace(row, **failed))
    with pytest.raises(Protected) as refused:
        prune(made)
    assert (refused.value.reason, host.deleted) == ("half-made", [])
    assert "'s2' (job 3)" in refused.value.message
    host.half_made.note(replace(row, state=JobState.DONE, snapshot="s1"))
    assert prune(made).result["Deleted"] == ["s2", "s1"]


# ---- the clock


@pytest.mark.parametrize("jump", [-7200, 7200])
def test_clock_jump_prunes_nothing_for_an_hour(jump: int) -> None:
    wall, boot = [float(NOW)], [1000.0]
    guard = ClockGuard(wall=lambda: wall[0], boot=lambda: boot[0])
    host = Host([snapshot(f"s{n}", n * 60) for n in range(3)])
    made = pruner(host, guard)
    wall[0] += jump
    with pytest.raises(Protected) as refused:
        prune(made)
    assert f"{jump:+d} s" in refused.value.message
    wall[0], boot[0] = wall[0] + 3500, boot[0] + 3500
    with pytest.raises(Protected):
        prune(made)
    wall[0], boot[0] = wall[0] + 200, boot[0] + 200
    assert prune(made).result["Deleted"] == ["s2", "s1"]


def test_clock_that_runs_on_while_the_host_sleeps_is_no_jump() -> None:
    wall, boot = [float(NOW)], [1000.0]
    guard = ClockGuard(wall=lambda: wall[0], boot=lambda: boot[0])
    wall[0], boot[0] = wall[0] + 50_000, boot[0] + 50_000
    assert guard.distrust() == ""


@pytest.mark.parametrize(("back", "trusted"), [(DAY - 1, True), (DAY + 1, False)])
def test_clock_before_a_time_that_it_had_is_trusted_for_a_day(back: int, trusted: bool) -> None:
    guard = ClockGuard(last=NOW + back, wall=lambda: NOW, boot=lambda: 0)
    assert (guard.distrust() == "") is trusted


def test_prune_of_what_was_put_off_waits_with_a_plan_that_waits_for_a_person() -> None:
    """A changed policy lets most of them go: then none goes by itself, be it let go before, too."""
    host = Host([snapshot(f"s{n}", n * 60) for n in range(12)])
    made = pruner(host)
    with pytest.raises(Protected) as caught:
        prune(made, only={"s10", "s11"})
    assert caught.value.ways == ("confirm-prune",)
    assert host.deleted == []
    assert VM in made.held
    host.snapshots = host.snapshots[:6]  # few enough to be let go
    prune(made, only={"s4"})
    assert [name for name, _ in host.deleted] == ["s4"]
