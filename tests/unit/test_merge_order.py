"""Which external snapshots can go, and in which order, against a libvirt that is played by hand as
11.3 was measured: what it refuses, what it unlinks by its record alone."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapd.errors import LibvirtError
from snapd.hypervisor import DomainFacts
from snapd.model import SnapshotInfo
from snapd.operations.preflight import (
    Blocker,
    RevertTerms,
    external_create_blockers,
    merge_blockers,
    merge_order,
    revert_external_blockers,
)
from tests.unit.chain_model import ChainModel
from tests.unit.histories import ANY

NOW = 1795600800


class Libvirt(ChainModel):
    """As its record has it, whether or not that is where the disk is."""

    clock = NOW

    def facts(self) -> DomainFacts:
        found = super().facts()
        named = {file for s in self.snapshots.values() for file in s.files}
        return replace(found, missing=named - self.files.keys(), saved=found.info.disks)

    def revert(self, name: str, now: int) -> None:
        on, record = self.on, dict(self.snapshots[self.current].active)["vda"]
        self.on = record
        if record not in self.files:  # libvirt only warns
            self.files[record] = self.files[on].__class__("")
        super().revert(name, now)

    def delete(self, name: str) -> None:
        before, parent = self.read(self.on), self.snapshots[name].parent
        try:
            super().delete(name)
        except (ValueError, KeyError) as e:
            raise LibvirtError("not in the chain") from e
        assert self.read(self.on) == before, "the guest sees other data"
        if parent in self.snapshots and (new := self.snapshots[parent].reverted):
            self.snapshots[parent] = replace(self.snapshots[parent], overlays=new, reverted=())

    def tick(self) -> int:
        self.clock += 60
        return self.clock

    def lost(self) -> list[str]:
        """Snapshots whose content is not what it was."""
        return [name for name in self.wrong() if name in self.snapshots]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "create", "write", "revert", "delete"]), st.integers(0, 9)
    ),
    max_size=14,
)


def grown(steps: list[tuple[str, int]]) -> Libvirt:
    """A tree that only libvirt's create, revert and delete have made, and that is whole."""
    model = Libvirt()
    for what, number in steps:
        names = sorted(model.snapshots)
        name = names[number % len(names)] if names else ""
        if what == "write":
            model.files[model.on].written.add(model.tick())
        elif what == "create":
            now = model.tick()
            model.create(f"s{now}", now)
        elif name and what == "revert" and not destroys(model, name):
            model.revert(name, model.tick())
        elif name and what == "delete" and (deleted := without(model, name)):
            model = deleted
    return model


def without(model: Libvirt, name: str) -> Libvirt | None:
    """The model when it is deleted; None = libvirt refuses that."""
    tried = deepcopy(model)
    try:
        tried.delete(name)
    except LibvirtError:
        return None
    return tried


def destroys(model: Libvirt, name: str) -> bool:
    """Whether libvirt's revert to it loses a snapshot, or shows the guest anything else."""
    tried = deepcopy(model)
    try:
        tried.revert(name, tried.tick())
        return bool(tried.lost()) or tried.read(tried.on) != tried.content[name]
    except (AssertionError, KeyError):
        return True


def is_trap(model: Libvirt) -> bool:
    """Whether a revert would destroy anything."""
    return any(destroys(model, name) for name in model.snapshots)


def may_delete(model: Libvirt, name: str) -> bool:
    listed = next(s for s in model.facts().snapshots if s.name == name)
    return not merge_blockers(model.facts(), listed)


def may_revert(model: Libvirt, name: str) -> bool:
    listed = next(s for s in model.facts().snapshots if s.name == name)
    return not revert_external_blockers(model.facts(), listed, RevertTerms())


@settings(ANY, max_examples=200)
@given(STEPS)
def test_merge_blockers_are_what_libvirt_refuses_and_what_leads_into_a_trap(
    steps: list[tuple[str, int]],
) -> None:
    model = grown(steps)
    for name in model.snapshots:
        tried = without(model, name)
        fine = tried is not None and tried.lost() == [] and (is_trap(model) or not is_trap(tried))
        if tried is None or not is_trap(model):
            assert may_delete(model, name) == fine, name
        elif may_delete(model, name):
            assert fine


@settings(ANY, max_examples=200)
@given(STEPS)
def test_revert_blockers_only_where_libvirt_would_destroy(steps: list[tuple[str, int]]) -> None:
    model = grown(steps)
    for name in model.snapshots:
        assert may_revert(model, name) != destroys(model, name), name


def test_trap_that_libvirts_own_calls_lead_into() -> None:
    """s1 s2 s3, revert to s1, sA, sA deleted, revert to s3: libvirt 11.3 unlinks the file that s2
    and s3 stand on, and the VM doesn't start again."""
    model = Libvirt()
    for n, name in enumerate(("s1", "s2", "s3")):
        model.create(name, NOW + n)
    model.revert("s1", NOW + 10)
    model.create("sA", NOW + 20)
    assert not may_delete(model, "sA")
    assert merge_order(model.facts(), {"sA"}).deferred["sA"].reason == "branching"
    model.delete("sA")
    assert destroys(model, "s3")
    assert not may_revert(model, "s3")
    assert external_create_blockers(model.facts(), "sB", memory=False) == []
    model.create("sB", NOW + 30)
    assert may_revert(model, "s3")
    assert not destroys(model, "s3")


def test_second_branch_goes_where_the_file_that_the_record_names_is_gone() -> None:
    """Then libvirt's next revert unlinks nothing of anybody's."""
    model = Libvirt()
    for n, name in enumerate(("s1", "s2")):
        model.create(name, NOW + n)
    model.revert("s1", NOW + 10)
    model.create("sA", NOW + 11)
    model.revert("s1", NOW + 20)
    model.delete("sA")  # s1's record names the file of the second revert from here on
    model.revert("s1", NOW + 30)
    model.create("sB", NOW + 31)
    assert may_delete(model, "sB")
    model.delete("sB")
    assert not is_trap(model)
    assert may_revert(model, "s2")


@settings(ANY, max_examples=200)
@given(STEPS, st.sets(st.integers(0, 9)))
def test_merge_order_is_taken_by_libvirt_and_leaves_only_what_is_refused(
    steps: list[tuple[str, int]], which: set[int]
) -> None:
    model = grown(steps)
    names = sorted(model.snapshots)
    wanted = {names[n] for n in which if n < len(names)}
    order = merge_order(model.facts(), wanted)
    assert sorted([*order.now, *order.deferred]) == sorted(wanted)
    for name in order.now:
        assert may_delete(model, name)
        model.delete(name)
        assert model.lost() == []
    for name in order.deferred:
        assert not may_delete(model, name)


@settings(ANY, max_examples=200)
@given(STEPS, st.sampled_from(["mark", "define", "no mark", "drop"]), st.integers(0, 9))
def test_what_is_allowed_after_other_tools_loses_nothing(
    steps: list[tuple[str, int]], what: str, number: int
) -> None:
    """The mark moved without a revert, the VM defined onto another file, no mark at all, and
    revertDisks dropped (LIBVIRT.md 9.7, 9.8): libvirt goes by its record, and destroys."""
    model = grown(steps)
    names = sorted(model.snapshots)
    if not names:
        return
    if what == "define":
        files = sorted(model.files)
        model.on = files[number % len(files)]
    else:
        if model.current:
            model.snapshots[model.current] = replace(model.snapshots[model.current], reverted=())
        model.current = {"mark": names[number % len(names)], "no mark": ""}.get(what, model.current)
    for name in names:
        if may_delete(model, name):
            tried = without(model, name)
            assert tried is None or tried.lost() == []
        if may_revert(model, name):
            assert not destroys(model, name)


def test_merge_order_oldest_first_so_that_nothing_is_moved_twice() -> None:
    model = Libvirt()
    for n in range(4):
        model.create(f"s{n}", NOW + n)
    order = merge_order(model.facts(), {"s0", "s1", "s2"})
    assert (order.now, order.deferred) == (("s0", "s1", "s2"), {})


def test_merge_order_branch_from_its_end_before_what_it_branches_off() -> None:
    """s0 has the branches s1-s2 and s3; libvirt takes neither s1 nor s0 before s2 (code 67)."""
    model = Libvirt()
    for n in range(3):
        model.create(f"s{n}", NOW + n)
    model.revert("s0", NOW + 10)
    model.create("s3", NOW + 20)
    order = merge_order(model.facts(), {"s0", "s1", "s2"})
    assert order.now == ("s2", "s1", "s0")
    alone = merge_order(model.facts(), {"s0", "s1"})
    assert alone.now == ()
    assert {name: b.reason for name, b in alone.deferred.items()} == {
        "s0": "branching",
        "s1": "not-in-chain",
    }


def test_merge_order_current_with_another_branch_waits_for_it() -> None:
    model = Libvirt()
    model.create("s0", NOW)
    model.create("s1", NOW + 1)
    model.revert("s0", NOW + 10)
    order = merge_order(model.facts(), {"s0"})
    assert {name: b.reason for name, b in order.deferred.items()} == {"s0": "active-non-leaf"}
    assert merge_order(model.facts(), {"s0", "s1"}).now == ("s1", "s0")


def test_merge_order_of_a_long_chain_takes_no_time_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked for before each merge, while other guests may be frozen: 60 of 60 took 7 s."""
    libvirt = Libvirt()
    names = [f"s{number}" for number in range(40)]
    for name in names:
        libvirt.create(name, libvirt.tick())
    asked: list[str] = []

    def counted(facts: DomainFacts, snapshot: SnapshotInfo, **how: bool) -> list[Blocker]:
        asked.append(snapshot.name)
        return merge_blockers(facts, snapshot, **how)

    room = import_module("snapd.operations.preflight.merge_order")
    monkeypatch.setattr(room, "merge_blockers", counted)
    assert len(merge_order(libvirt.facts(), names).now) == len(asked) == 40
