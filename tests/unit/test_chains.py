"""Retention on chains of overlays: in libvirt's order, with nothing piling up without end."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from snapd.errors import LibvirtError
from snapd.inventory import DomainPicture, Inventory
from snapd.model import JobState, Keep, Origin, Policy, Record, Snapshot, SnapshotKey, Verb
from snapd.operations import Catalog, HalfMade, Job, Operations, Outcome
from snapd.operations.preflight import external_create_blockers
from snapd.planning.retention import Candidate, Decision
from snapd.policy import ClockGuard, Pruner
from snapd.policy.chains import (
    PILE,
    Heap,
    Pile,
    Stuck,
    active_chain,
    in_the_way,
    noted,
    pile,
    reasons,
    refusal,
    words,
)
from snapd.policy.problems import TREE_SECONDS, cannot_prune
from snapd.settings import Settings
from snapd.settings.lint import CHAIN
from snapd.store import JobRow
from tests.unit.chain_model import VM, ChainModel

NOW = 1795600800
HOUR, DAY = 3600, 86400


# ---- what piles up


def line(*names: str) -> DomainPicture:
    """A VM on snapshots one upon the other."""
    model = ChainModel()
    for n, name in enumerate(names):
        model.create(name, NOW + n)
    return model.picture


def goes(name: str, *why: str) -> Decision:
    return Decision(Candidate(name, 1), keep=False, reasons=why or ("p: no-rule-matches",))


def stays(name: str) -> Decision:
    return Decision(Candidate(name, 1), keep=True, reasons=("p: last 1/1",))


def test_what_the_disks_stand_on_is_the_current_one_and_what_it_was_made_upon() -> None:
    model = ChainModel()
    for n, name in enumerate(("s1", "s2", "s3")):
        model.create(name, NOW + n)
    model.revert("s1", NOW + 9)
    assert active_chain(model.picture) == {"s1"}
    model.create("s4", NOW + 10)
    assert active_chain(model.picture) == {"s1", "s4"}


def test_pile_holds_what_goes_below_the_disks_and_nothing_beside_them() -> None:
    model = ChainModel()
    for n, name in enumerate(("s1", "s2", "s3")):
        model.create(name, NOW + n)
    model.revert("s1", NOW + 9)
    model.create("s4", NOW + 10)
    found = pile([stays("s4"), goes("s3"), goes("s2"), goes("s1", "p: max-age")], model.picture)
    assert found == Pile(("s1",), PILE, released=())
    assert pile([goes("s1")], model.picture).released == ("s1",)


@pytest.mark.parametrize(("kept", "going", "full"), [(2, 9, False), (2, 10, True), (12, 11, False)])
def test_pile_is_full_at_ten_or_as_many_as_are_kept(kept: int, going: int, full: bool) -> None:
    names = [f"s{n}" for n in range(kept + going)]
    decisions = [*(goes(n) for n in names[:going]), *(stays(n) for n in names[going:])]
    found = pile(decisions, line(*names))
    assert found.full is full
    told = refusal(found, {"s0": Stuck("branching", 1, in_chain=True)}, line(*names))
    assert (told is not None) is full
    if told:
        assert told.reason == "chain-limit"
        assert "10 snapshots" in told.message
        assert "1 branching, 9 not tried yet" in told.message


def test_noted_is_what_no_wait_changes_each_since_it_first_was() -> None:
    before = {"s1": Stuck("branching", 5, in_chain=True)}
    left = {"s1": "not-in-chain", "s2": "branching", "s3": "backup", "s9": "branching"}
    assert noted(before, left, line("s1", "s2", "s3"), 9) == {
        "s1": Stuck("not-in-chain", 5, in_chain=True),
        "s2": Stuck("branching", 9, in_chain=True),
    }


def test_reasons_say_what_waits_and_only_of_what_should_go() -> None:
    waits = {"s1": Stuck("branching", 5, in_chain=True)}
    assert reasons(goes("s1"), waits) == ["p: no-rule-matches", "deferred: branching"]
    assert reasons(stays("s1"), waits) == ["p: last 1/1"]
    assert reasons(goes("s2"), waits) == ["p: no-rule-matches"]
    assert words(waits, ["s1", "s2", "s3"]) == "1 branching, 2 not tried yet"


def test_as_many_as_a_policy_may_keep_leave_room_for_one_more_on_the_chain() -> None:
    model = ChainModel()
    for n in range(CHAIN + 1):
        model.create(f"s{n}", NOW + n)
        facts = model.facts()
        against = external_create_blockers(facts, "", memory=False, by_policy=True)
        full = any(b.reason == "chain-limit" for b in against)
        assert full is (n + 1 > CHAIN), n


# ---- who is told


def heap(word: str, since: int, count: int, limit: int = 10) -> Heap:
    names = [f"s{n}" for n in range(count)]
    return Heap({n: Stuck(word, since, in_chain=True) for n in names}, Pile(tuple(names), limit))


@pytest.mark.parametrize(
    ("found", "severity"),
    [
        (heap("branching", NOW, 4), None),  # a branch goes by itself, as a rule
        (heap("branching", NOW - TREE_SECONDS - 1, 1), "warning"),
        (heap("branching", NOW, 5), "warning"),
        (heap("branching", NOW, 10), "critical"),
        (heap("apparmor-commit", NOW, 1), "warning"),
    ],
)
def test_vm_that_cannot_be_pruned_is_told_before_it_is_snapshotted_no_more(
    found: Heap, severity: str | None
) -> None:
    told = cannot_prune(line(), found, NOW)
    assert (told.severity if told else None) == severity
    if told and severity == "critical":
        assert told.message.endswith("no other is made")
    elif told:
        assert "from 10 on no other snapshot is made" in told.message


def branched() -> DomainPicture:
    """s1 with the VM's branch s4, and s2 <- s3 on one that a revert left."""
    model = ChainModel()
    for n, name in enumerate(("s1", "s2", "s3")):
        model.create(name, NOW + n)
    model.revert("s1", NOW + 9)
    model.create("s4", NOW + 10)
    return model.picture


def test_problem_names_what_is_kept_on_another_branch_its_end_first() -> None:
    waits = {"s1": Stuck("branching", NOW - TREE_SECONDS - 1, in_chain=True)}
    told = cannot_prune(branched(), Heap(waits, Pile(("s1",), 10)), NOW)
    assert told
    assert told.message == (
        "VM web-1 cannot be pruned: 1 snapshots that retention lets go stay (1 branching), since "
        "s3 and s2, which are kept, stand on another branch; its disks stand on 1 of them, and "
        "from 10 on no other snapshot is made"
    )
    assert told.ways == ("delete-branch",)
    assert in_the_way(branched(), {"s1", "s2"}) == ["s3"]


def test_run_that_is_refused_for_a_pile_names_what_is_kept_on_another_branch() -> None:
    full = refusal(Pile(("s1",), 1), {"s1": Stuck("branching", 1, in_chain=True)}, branched())
    assert full
    assert "since s3 and s2, which are kept, stand on another branch" in full.message


@pytest.mark.parametrize(
    ("word", "way"),
    [("apparmor-commit", "upgrade-libvirt"), ("managed-save", "start"), ("other-file", "audit")],
)
def test_problem_of_what_no_branch_is_to_blame_for_has_the_way_out_of_its_word(
    word: str, way: str
) -> None:
    told = cannot_prune(branched(), heap(word, NOW, 1), NOW)
    assert told
    assert told.ways == (way,)
    assert "another branch" not in told.message


# ---- carried out, on a model of libvirt's chains


@dataclass
class House:
    """A VM on overlays, and all that a pruner asks of other rooms."""

    model: ChainModel = field(default_factory=ChainModel)
    now: int = NOW
    records: dict[str, Record] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    half_made: HalfMade = field(default_factory=HalfMade)
    keep: Keep = field(default_factory=lambda: Keep(last=3, hourly=6))

    jobs = property(lambda self: self)
    hypervisor = property(lambda self: self)
    stopping = False

    def changed(self, *_: Any) -> None: ...

    @property
    def domains(self) -> dict[str, DomainPicture]:
        return {VM: self.model.picture}

    async def refresh(self, uuid: str) -> DomainPicture:
        return self.domains[uuid]

    async def facts(self, _uuid: str) -> Any:
        return self.model.facts()

    def of(self, picture: DomainPicture) -> list[Snapshot]:
        return [
            Snapshot(VM, "web-1", s, self.records[name]) for name, s in picture.snapshots.items()
        ]

    def let_go(self, _picture: DomainPicture) -> set[str]:
        return set()

    async def delete_within(self, _job: Job, key: SnapshotKey, _reason: str) -> None:
        try:
            self.model.delete(key.name)
        except LibvirtError as e:
            self.refused.append(f"{key.name}: {e.message}")
            raise

    def make(self, name: str, origin: Origin = Origin.POLICY) -> None:
        self.model.create(name, self.now)
        labels = ("p",) if origin is Origin.POLICY else ()
        self.records[name] = Record(SnapshotKey(VM, name, self.now), origin, labels)

    def pruner(self) -> Pruner:
        policy = Policy("p", "admin", "r", ("*",), self.keep, "UTC", "0 * * * *")
        return Pruner(
            cast(Operations, self),
            cast(Inventory, self),
            cast(Catalog, self),
            lambda: {"p": policy},
            Settings(),
            ClockGuard(wall=lambda: self.now, boot=lambda: self.now),
            lambda: self.now,
        )

    def prune(self, *, safety: bool = False) -> Outcome:
        row = JobRow(1, Verb.PRUNE, VM, "web-1", "", "p", -1, JobState.RUNNING, self.now)
        pruner = self.pruner()

        async def main() -> Outcome:
            job = Job(row, cast(Any, self))
            if safety:
                return await pruner.prune_safety(job)
            return await pruner.prune(job, waits=self.left)

        outcome = asyncio.run(main())
        if not safety:
            self.left = {s["Name"]: s["Reason"] for s in outcome.result["Stays"]}
        return outcome

    def revert(self, name: str) -> None:
        """As the daemon does it: a safety snapshot first."""
        self.now += 1
        self.make(f"safety-{self.now}", Origin.SAFETY)
        self.now += 1
        self.model.revert(name, self.now)
        self.prune(safety=True)


def test_prune_of_a_chain_merges_what_goes_and_keeps_the_data_of_the_rest() -> None:
    house = House(keep=Keep(last=3))
    for n in range(6):
        house.now += HOUR
        house.model.files[house.model.on].written.add(n)
        house.make(f"s{n}")
    assert sorted(house.prune().result["Deleted"]) == ["s0", "s1", "s2"]
    assert (house.left, house.refused, house.model.wrong()) == ({}, [], [])
    assert list(house.model.snapshots) == ["s3", "s4", "s5"]
    assert len(house.model.chain(house.model.on)) == 4


def test_branch_that_is_kept_defers_what_is_below_it_and_frees_it_when_it_goes() -> None:
    house = House(keep=Keep(last=2))
    for n in range(4):
        house.now += HOUR
        house.make(f"s{n}")
    house.model.revert("s1", house.now)
    house.now += HOUR
    house.make("new")
    assert house.prune().result["Deleted"] == ["s0"]
    assert house.left == {"s1": "branching", "s2": "not-in-chain"}
    house.now += HOUR
    house.make("newer")
    assert set(house.prune().result["Deleted"]) == {"s1", "s2", "s3"}
    assert (house.left, house.refused, house.model.wrong()) == ({}, [], [])


def slot(house: House, number: int) -> None:
    """An hour goes by: the guest writes, the policy makes its snapshot and prunes."""
    house.now = NOW + number * HOUR
    house.model.files[house.model.on].written.add(number)
    house.make(f"p-{number}")
    house.prune()
    assert f"p-{number}" in house.model.snapshots
    assert (house.refused, house.model.wrong()) == ([], [])
    found = pile(house.pruner().plan(house.model.picture), house.model.picture)
    assert not found.full, f"no snapshot after slot {number}"


def below(house: House, name: str) -> set[str]:
    """What a snapshot was made upon."""
    found: set[str] = set()
    while name := house.model.snapshots[name].parent:
        found.add(name)
    return found


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))]
)
def test_500_slots_with_20_reverts_leave_a_bounded_chain_and_nothing_deferred_for_ever(
    seed: int,
) -> None:
    rng, house = random.Random(seed), House()
    reverts = set(rng.sample(range(20, 480), 20))
    deepest = most = 0
    for number in range(500):
        if number in reverts:
            house.revert(rng.choice(sorted(house.model.snapshots)))
        slot(house, number)
        deepest = max(deepest, len(house.model.chain(house.model.on)))
        most = max(most, len(house.model.snapshots))
    assert house.model.merges > 400
    assert deepest <= 9 + 3 + 2  # kept ones, branch points of three safety snapshots, both ends
    assert most < 60
    house.now += 15 * DAY  # safety snapshots go but for the newest, by which the rest waits
    house.prune(safety=True)
    for number in range(900, 912):
        slot(house, number)
    (safety,) = [n for n in house.model.snapshots if n.startswith("safety")]
    assert set(house.left) <= below(house, safety)
    house.model.delete(safety)
    slot(house, 912)
    assert house.left == {}
    assert len(house.model.chain(house.model.on)) <= 10


def test_pinned_branch_holds_up_no_more_than_what_was_below_it() -> None:
    house = House()
    for n in range(8):
        house.now += HOUR
        house.make(f"s{n}")
    pinned = house.records["s7"]
    house.records["s7"] = Record(pinned.key, Origin.POLICY, ("p",), pin_reason="audit")
    house.model.revert("s3", house.now)
    for n in range(60):
        house.now += HOUR
        house.make(f"n{n}")
        house.prune()
    assert house.refused == []
    assert house.left == {
        "s3": "branching",
        "s4": "not-in-chain",
        "s5": "not-in-chain",
        "s6": "not-in-chain",
    }
    assert len(house.model.chain(house.model.on)) < 10
