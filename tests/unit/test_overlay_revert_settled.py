"""What a revert to an external snapshot that broke off leaves, says and mends: by a VM in memory,
set to the states that libvirt 11.3 was seen to leave."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.hypervisor import DomainFacts
from snapd.model import JobState, SnapshotInfo, State, Verb
from snapd.operations import Job, Jobs, Operations
from snapd.operations.overlay_revert import files
from snapd.store import JobRow, Store
from tests.unit.standin import StandIn, play
from tests.unit.test_overlay_revert import AFTER, BEFORE, DATA, ROOT, S1, S2, SAFETY, on, reverted
from tests.unit.vms import UUID

INTENT: dict[str, Any] = {
    "name": "s1",
    "created": S1.created,
    "instance": 3,
    "state": "running",
    "current": "safety",
    "disks": {d.target: d.source for d in BEFORE.info.disks},
    "memory": False,
    "agent": False,
    "wanted": "running",
    "safety": "safety",
    "delete_after": False,
    "claimed": False,
    "boot": "",
    "external": files(BEFORE, S1) | {"inactive_xml": "<domain>as it was</domain>"},
}


class _Left(StandIn):
    """A VM as a revert left it; put_back has it as it was, shut off."""

    def __init__(self, facts: DomainFacts) -> None:
        super().__init__(facts.info, facts.snapshots)
        self.told = facts
        self.put: list[str] = []
        self.marked: list[str] = []

    @property
    def overlays(self) -> _Left:
        return self

    async def facts(self, _uuid: str, _snapshot: str = "") -> DomainFacts:
        return self.told

    async def put_back(self, _uuid: str, xml: str) -> None:
        self.put.append(xml)
        disks = BEFORE.info.disks
        self.told = replace(self.told, info=replace(self.told.info, disks=disks))
        self.info = self.told.info

    async def mark(self, _uuid: str, name: str, *, created: int) -> None:
        assert created == S1.created
        self.marked.append(name)
        snapshots = tuple(replace(s, current=s.name == name) for s in self.told.snapshots)
        info = replace(self.told.info, current=name)
        self.told = replace(self.told, info=info, snapshots=snapshots)
        self.info = info


def _settled(folder: Path, vm: _Left, **changes: Any) -> Job:
    ended: list[Job] = []

    async def body(_operations: Operations, jobs: Jobs, store: Store) -> None:
        row = JobRow(0, Verb.REVERT, UUID, "web-1", "s1", "", 1000, JobState.RUNNING, 1)
        row = replace(row, created=S1.created, started=int(time.time()), intent=INTENT | changes)
        await store.add_job(row)
        await jobs.load()
        ended.append(next(iter(jobs.all.values())))
        await ended[0].ended.wait()

    play(folder, vm, body)
    return ended[0]


def _off(facts: DomainFacts) -> DomainFacts:
    return replace(facts, info=replace(facts.info, state=State.SHUTOFF, instance=-1))


def _again(facts: DomainFacts) -> DomainFacts:
    """In another QEMU."""
    return replace(facts, info=replace(facts.info, instance=4))


def test_settled_vm_that_never_noticed_is_nothing_done(tmp_path: Path) -> None:
    job = _settled(tmp_path, _Left(BEFORE))
    assert job.row.state is JobState.FAILED
    assert job.row.detail.get("reason") != "half-made"


def test_settled_vm_that_was_off_and_is_as_it_was_is_nothing_done(tmp_path: Path) -> None:
    job = _settled(tmp_path, _Left(_off(BEFORE)), state="shutoff", instance=-1)
    assert job.row.state is JobState.FAILED
    assert job.row.detail.get("reason") != "half-made"


def test_settled_vm_that_was_ended_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    """libvirtd was killed: off, on the old disks, with the old mark."""
    job = _settled(tmp_path, _Left(_off(BEFORE)))
    assert job.row.state is JobState.FAILED
    assert "as they were" in job.row.error_message
    assert job.row.detail["ways"] == ["start", "revert"]
    assert job.row.detail.get("reason") != "half-made"  # policies may go on


def test_settled_revert_that_came_to_its_end_is_done(tmp_path: Path) -> None:
    job = _settled(tmp_path, _Left(_again(reverted())))
    assert (job.row.state, job.row.error_message) == (JobState.DONE, "")


def test_settled_vm_defined_on_what_its_snapshots_stand_on_is_put_back(tmp_path: Path) -> None:
    """Its RAM could not be loaded: the next start would have written to all snapshots' base."""
    vm = _Left(_off(on(".qcow2")))
    job = _settled(tmp_path, vm)
    assert vm.put == ["<domain>as it was</domain>"]
    assert vm.info.disks == BEFORE.info.disks
    assert job.row.state is JobState.FAILED
    assert "as they were" in job.row.error_message


@pytest.mark.parametrize(
    "facts",
    [
        _again(on(".qcow2")),  # somebody has started it
        replace(_off(on(".qcow2")), missing={f"{DATA}.safety.qcow2"}),  # nothing to go back to
        replace(_off(on(".qcow2")), unknown={f"{DATA}.safety.qcow2"}),
        replace(_off(on(".qcow2")), info=replace(_off(on(".qcow2")).info, current="s2")),
    ],
    ids=["running", "gone", "unknown", "marked"],
)
def test_settled_vm_on_what_others_stand_on_is_not_put_back_blindly(
    tmp_path: Path, facts: DomainFacts
) -> None:
    vm = _Left(facts)
    job = _settled(tmp_path, vm)
    assert vm.put == []
    assert job.row.state is JobState.FAILED
    assert job.row.detail["reason"] == "half-made"
    assert "'safety'" in job.row.error_message


def test_settled_vm_off_on_new_files_that_no_record_names_is_a_persons(tmp_path: Path) -> None:
    """libvirt was seen to leave none: it may be somebody's who went on by hand, or a VM that has
    run since. Put back, what was written there would be away."""
    vm = _Left(_off(AFTER))
    job = _settled(tmp_path, vm)
    assert (vm.put, vm.marked) == ([], [])
    assert vm.info.disks == AFTER.info.disks
    assert job.row.state is JobState.FAILED
    assert job.row.detail["reason"] == "half-made"
    assert "vda on web-root.1795994501" in job.row.error_message
    assert job.row.detail["ways"] == ["define-overlay", "audit"]


def _old_mark(*snapshots: SnapshotInfo) -> DomainFacts:
    """QEMU was killed as it began on the new files: libvirt's record names them, its mark is old,
    and the files of before are gone (11.3, measured)."""
    facts = reverted()
    listed = (replace(facts.snapshots[0], current=False), *snapshots)
    info = replace(_off(facts).info, current="safety")
    return replace(facts, info=info, snapshots=listed)


LEAF = {"external": INTENT["external"] | {"snapshots": ["s1", "safety"]}}


def test_settled_vm_off_whose_mark_alone_was_left_behind_has_it_moved(tmp_path: Path) -> None:
    """Else the next revert by hand unlinks what s1 stands on, and ours are all refused."""
    vm = _Left(_old_mark(replace(SAFETY, parent="")))
    job = _settled(tmp_path, vm, **LEAF)
    assert (vm.marked, vm.put) == (["s1"], [])
    assert job.row.state is JobState.FAILED
    assert "is reverted to 's1', but shutoff" in job.row.error_message
    assert job.row.detail["ways"] == ["start"]


def test_settled_mark_that_libvirt_does_not_move_is_told_after_two_tries(tmp_path: Path) -> None:
    class Stuck(_Left):
        async def mark(self, _uuid: str, name: str, *, created: int) -> None:
            self.marked.append(name)

    vm = Stuck(_old_mark(replace(SAFETY, parent="")))
    job = _settled(tmp_path, vm, **LEAF)
    assert vm.marked == ["s1", "s1"]
    assert (job.row.state, job.row.detail["reason"]) == (JobState.FAILED, "half-made")


def test_settled_mark_that_was_left_behind_is_moved_to_none_with_children(tmp_path: Path) -> None:
    """Its record would lose the files that the VM is on, until a snapshot is made: a person's."""
    vm = _Left(_old_mark(S2, SAFETY))
    job = _settled(tmp_path, vm)
    assert (vm.marked, vm.put) == ([], [])
    assert job.row.detail["reason"] == "half-made"
    assert "virsh snapshot-current web-1 s1, then make a snapshot" in job.row.error_message
    assert job.row.detail["ways"] == ["virsh", "audit"]


def test_settled_vm_that_is_started_meanwhile_is_not_put_back(tmp_path: Path) -> None:
    """libvirt was not done: between two QEMUs a VM is off for a moment."""

    class Slow(_Left):
        async def facts(self, uuid: str, snapshot: str = "") -> DomainFacts:
            told = await super().facts(uuid, snapshot)
            self.told = _again(reverted())
            self.info = self.told.info
            return told

    vm = Slow(_off(AFTER))
    job = _settled(tmp_path, vm)
    assert (vm.put, job.row.state) == ([], JobState.DONE)


def test_settled_vm_on_new_files_with_the_old_mark_is_torn(tmp_path: Path) -> None:
    """libvirt would not know what to unlink next: nothing more is done with it."""
    job = _settled(tmp_path, _Left(_again(AFTER)))
    assert job.row.state is JobState.FAILED
    assert job.row.detail["reason"] == "half-made"
    assert "vda on web-root.1795994501" in job.row.error_message


def test_settled_file_that_others_need_gone_is_loud_whatever_else_is_right(tmp_path: Path) -> None:
    facts = replace(_again(reverted()), missing={f"{ROOT}.s2.qcow2"})
    job = _settled(tmp_path, _Left(facts))
    assert job.row.state is JobState.FAILED
    assert job.row.error_name.endswith(".Inconsistent")
    assert "web-root.s2.qcow2" in job.row.error_message
