"""Merges that broke off at every step libvirt 11.3 was seen to stop at: what is said is so, and the
next try works."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Busy, LibvirtError, OutcomeUnknown, TimedOut
from snapd.hypervisor import DomainFacts, FileUse
from snapd.model import JobState, State, Status, Verb
from snapd.operations import (
    Job,
    Jobs,
    Operations,
)
from snapd.operations.merge_plan import half_merged, plan_merge
from snapd.store import JobRow, Store
from tests.unit.merge_standin import at_once, chain_of, deleted
from tests.unit.standin import play
from tests.unit.vms import OFF, ON, UUID, VDA, VDB

BROKEN = OutcomeUnknown("the connection to libvirt broke off")
S = {name: f"/images/web-1-vda.{name}.qcow2" for name in ("s1", "s2", "s3")}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch)


def test_merge_that_libvirt_refused_before_it_wrote_is_nothing_done(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1", "s2")
    vm.steps, vm.raises = [], LibvirtError("Permission denied")
    ((job, status),) = deleted(tmp_path, vm, "s1")
    assert (job.row.state, status) == (JobState.FAILED, Status.OK)
    assert job.row.error_message == "Permission denied"


def test_merge_that_broke_off_half_way_is_no_way_back_and_is_finished_by_the_next(
    tmp_path: Path,
) -> None:
    vm = chain_of(ON, "s1", "s2")
    vm.steps, vm.raises = ["write vda"], BROKEN
    (first, status), (second, _after) = deleted(tmp_path, vm, "s1", "s1")
    assert first.row.error_name.endswith(".Partial")
    assert first.row.detail["reason"] == "half-made"
    assert "may be overwritten" in first.row.error_message
    assert status is Status.BROKEN
    assert second.row.state is JobState.DONE
    assert vm.chain("vda") == (S["s2"], VDA.source)
    assert [c for c in vm.calls if c.startswith("merge")] == ["merge s1", "merge s1"]


def test_merge_that_broke_off_when_all_was_merged_is_taken_off_the_list(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.steps, vm.raises = ["write vda", "pivot vda", "unlink vda"], BROKEN
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE
    assert "delete s1 ['metadata_only']" in vm.calls
    assert vm.snapshots == []


def test_merge_that_broke_off_when_all_was_merged_below_another_is_a_persons(
    tmp_path: Path,
) -> None:
    """The other's record names the file that is gone: a revert to it would fail."""
    vm = chain_of(ON, "s1", "s2")
    vm.steps, vm.raises = ["write vda", "pivot vda", "unlink vda"], BROKEN
    ((job, status),) = deleted(tmp_path, vm, "s1")
    assert (job.row.error_name[-7:], status) == ("Partial", Status.BROKEN)
    assert "name a file that is gone" in job.row.error_message


def test_merge_that_broke_off_between_two_disks_is_finished(tmp_path: Path) -> None:
    """libvirt itself can't: it looks for the overlay that is gone (11.3: code 9, for ever)."""
    vm = chain_of(ON, "s1", targets=("vda", "vdb"))
    vm.steps = ["write vda", "write vdb", "pivot vda", "unlink vda"]
    vm.raises = BROKEN
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE, job.row.error_message
    assert f"commit vdb /images/web-1-vdb.s1.qcow2 {VDB.source}" in vm.calls
    assert set(vm.files) == {VDA.source, VDB.source}


def test_merge_that_broke_off_between_two_disks_of_a_vm_that_is_off_waits_for_its_start(
    tmp_path: Path,
) -> None:
    vm = chain_of(OFF, "s1", targets=("vda", "vdb"))
    vm.steps, vm.raises = ["write vda", "write vdb", "pivot vda", "unlink vda"], BROKEN
    ((job, status),) = deleted(tmp_path, vm, "s1")
    assert (job.row.detail["ways"], status) == (["start", "delete"], Status.BROKEN)
    assert job.row.detail["disk"] == "vdb"
    vm.info = replace(vm.info, state=State.RUNNING, instance=4)
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE, job.row.error_message
    assert "merge s1" not in vm.calls[vm.calls.index(f"commit vdb {_vdb()} {VDB.source}") :]


def test_libvirt_whose_external_snapshots_we_leave_alone_has_no_merge_to_finish() -> None:
    """Somebody merged them by hand there, as 9.0 has it: no delete of ours goes on with that."""
    vm = chain_of(ON, "s1", targets=("vda", "vdb"))
    for step in ("write vda", "pivot vda", "unlink vda"):
        vm._merge_step(vm.snapshots[0], *step.split())
    facts = asyncio.run(vm.facts(UUID))
    assert half_merged(facts, vm.snapshots[0])
    old = replace(facts, chains=replace(facts.chains, capable=False))
    assert half_merged(old, vm.snapshots[0]) is None


def test_rest_of_a_merge_is_not_written_to_what_others_stand_on(tmp_path: Path) -> None:
    """A clone was made of it since, or somebody else merged the first disk."""
    vm = chain_of(ON, "s1", targets=("vda", "vdb"))
    for step in ("write vda", "pivot vda", "unlink vda"):
        vm._merge_step(vm.snapshots[0], *step.split())
    real = vm.facts

    async def with_clone(uuid: str, snapshot: str = "") -> DomainFacts:
        users = [FileUse("vdb", "web-2", "backing", VDB.source)] if snapshot else []
        return replace(await real(uuid, snapshot), users=users)

    vm.facts = with_clone  # type: ignore[method-assign]
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert job.row.error_name.endswith(".Protected")
    assert not [c for c in vm.calls if c.startswith("commit")]


def _vdb() -> str:
    return "/images/web-1-vdb.s1.qcow2"


def test_qemu_that_libvirt_started_for_a_merge_and_left_is_ended(tmp_path: Path) -> None:
    """libvirtd was killed: the VM that was off is paused for ever, with a block job (11.3)."""
    vm = chain_of(OFF, "s1")

    async def dies(*_about: Any, **_how: Any) -> None:
        vm.times[VDA.source] = 1
        vm.left_job = "block job on vda"
        vm.info = replace(vm.info, state=State.PAUSED, instance=7)
        raise BROKEN

    vm.merge = dies  # type: ignore[method-assign]
    ((job, status),) = deleted(tmp_path, vm, "s1")
    assert "stop" in vm.calls
    assert (job.row.error_name[-7:], status) == ("Partial", Status.BROKEN)


def test_vm_that_a_person_started_paused_meanwhile_is_not_ended(tmp_path: Path) -> None:
    """libvirt answered, so that what is paused there is nobody's left merge: maybe a VM whose RAM
    was just restored, and which goes with its QEMU."""
    vm = chain_of(OFF, "s1")

    async def refuses(*_about: Any, **_how: Any) -> None:
        vm.info = replace(vm.info, state=State.PAUSED, instance=7)
        raise Busy("VM web-1 was started meanwhile")

    vm.merge = refuses  # type: ignore[method-assign]
    ((job, status),) = deleted(tmp_path, vm, "s1")
    assert "stop" not in vm.calls
    assert (job.row.error_name[-4:], status) == ("Busy", Status.OK)


def test_merge_that_libvirt_is_at_work_on_is_waited_for(tmp_path: Path) -> None:
    """Our connection broke off, libvirt goes on: nobody's QEMU is ended."""
    vm = chain_of(OFF, "s1")
    real = vm.facts
    looks = 0

    async def dies(*_about: Any, **_how: Any) -> None:
        vm.holder = "another job"
        vm.info = replace(vm.info, state=State.PAUSED, instance=7)
        raise BROKEN

    async def later(uuid: str, snapshot: str = "") -> Any:
        nonlocal looks
        looks += vm.holder != ""
        if looks == 3:
            vm.holder = ""
            vm.info = replace(vm.info, state=State.SHUTOFF, instance=-1)
            found = vm.snapshots[0]
            for step in ("write vda", "pivot vda", "unlink vda", "list"):
                vm._merge_step(found, *step.split())
            looks += 1
        return await real(uuid, snapshot)

    vm.merge, vm.facts = dies, later  # type: ignore[method-assign]
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE
    assert "stop" not in vm.calls


@pytest.mark.parametrize("starts", [True, False], ids=["for ever", "at last"])
def test_merge_whose_qemu_libvirt_has_for_starting_for_ever_is_a_persons(
    tmp_path: Path, starts: bool
) -> None:
    """libvirtd was killed as it began: the next one has a QEMU for starting that there never was,
    and answers nothing about the VM until that is removed (11.3, measured)."""
    vm = chain_of(OFF, "s1")
    real, looks = vm.facts, 0

    async def dies(*_about: Any, **_how: Any) -> None:
        vm.is_starting = True
        raise BROKEN

    async def hangs(uuid: str, snapshot: str = "") -> DomainFacts:
        nonlocal looks
        looks += vm.is_starting
        if vm.is_starting and (starts or looks < 5):
            raise TimedOut("cannot look at VM web-1: libvirt has not answered in time")
        vm.is_starting = False
        return await real(uuid, snapshot)

    vm.merge, vm.facts = dies, hangs  # type: ignore[method-assign]
    ((job, status),) = deleted(tmp_path, vm, "s1")
    assert job.row.state is JobState.FAILED
    if not starts:
        assert (job.row.error_name[-14:], status) == ("OutcomeUnknown", Status.OK)
        return
    assert (job.row.error_name[-12:], status) == ("Inconsistent", Status.NEEDS_ATTENTION)
    assert looks > 10
    for word in ("stop libvirtd", "/run/libvirt/qemu/web-1.xml", "delete the snapshot again"):
        assert word in job.row.error_message
    assert job.row.detail["ways"] == ["delete"]


def test_block_job_that_nobody_ends_is_ended_on_a_running_vm(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    real = vm.merge

    async def dies(*about: Any, **how: Any) -> None:
        vm.times[VDA.source] = 1
        vm.left_job = "block job on vda"
        vm.merge = real  # type: ignore[method-assign]
        raise BROKEN

    vm.merge = dies  # type: ignore[method-assign]
    (first, status), (second, _after) = deleted(tmp_path, vm, "s1", "s1")
    assert "abandon vda" in vm.calls
    assert (first.row.error_name[-7:], status) == ("Partial", Status.BROKEN)
    assert second.row.state is JobState.DONE


def test_merge_open_when_the_daemon_ended_is_settled(tmp_path: Path) -> None:
    """libvirt came to its end meanwhile."""
    vm = chain_of(ON, "s1", "s2")
    gone = vm.snapshots[0]
    plan = plan_merge(asyncio.run(vm.facts(UUID)), gone)
    for step in ("write vda", "pivot vda", "unlink vda", "list"):
        vm._merge_step(gone, *step.split())
    intent = {
        "kind": "external",
        "name": "s1",
        "created": gone.created,
        "parent": "",
        "children": ["s2"],
        "active": True,
        "stamp": "",
        "boot": "",
        "reason": "",
        **plan.intent(),
    }
    ended: list[Job] = []

    async def body(_operations: Operations, jobs: Jobs, store: Store) -> None:
        row = JobRow(0, Verb.DELETE, UUID, "web-1", "s1", "", 1000, JobState.RUNNING, 1)
        row = replace(row, created=gone.created, started=int(time.time()), intent=intent)
        await store.add_job(row)
        await jobs.load()
        ended.append(next(iter(jobs.all.values())))
        await ended[0].ended.wait()

    play(tmp_path, vm, body)
    assert ended[0].row.state is JobState.DONE, ended[0].row.error_message
    assert ended[0].row.result == {"Deleted": ["s1"], "Stays": []}
