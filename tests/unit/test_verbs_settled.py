"""What verbs say and leave behind when something else goes wrong than what was looked for."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import (
    Busy,
    LibvirtError,
    OutcomeUnknown,
    PreflightFailed,
    SnapdError,
    Unsupported,
)
from snapd.model import JobState, Origin, Record, SnapshotInfo, SnapshotKey, State, Verb
from snapd.operations import Asker, DeleteWish, Job, Jobs, Operations, RevertWish, Wish
from snapd.store import JobRow, Store
from tests.unit.standin import StandIn, play
from tests.unit.vms import CD, OFF, ON, UUID, VDA, VDB

DISKS_ONLY = Wish(name="x", memory="no", quiesce="no")
BEFORE = SnapshotInfo(
    "before",
    1700000000,
    State.SHUTOFF,
    disks=("vda", "vdb"),
    sources=(("vda", VDA.source), ("vdb", VDB.source)),
)


def _create(folder: Path, vm: StandIn, wish: Wish = DISKS_ONLY) -> tuple[Job, Record | None]:
    """The job, and our record of the snapshot that libvirt lists afterwards."""
    found: list[Any] = []

    async def body(operations: Operations, _jobs: Jobs, store: Store) -> None:
        job = await operations.create(vm.info, wish, Asker(1000))
        await job.ended.wait()
        listed = next((s for s in vm.snapshots if s.name == "x"), None)
        key = SnapshotKey(UUID, "x", listed.created if listed else 0)
        found.extend((job, store.record(key)))

    play(folder, vm, body)
    return found[0], found[1]


def test_create_record_refused_by_libvirt_takes_its_tags_back(tmp_path: Path) -> None:
    """Its folder is full: the images would hold one more snapshot that nobody lists each night."""
    vm = StandIn(ON)
    vm.fail("register", LibvirtError("cannot write: No space left on device"))
    job, record = _create(tmp_path, vm)
    assert (job.row.state, record) == (JobState.FAILED, None)
    assert "No space left" in job.row.error_message
    assert vm.tags_in == {"vda": [], "vdb": []}


def test_create_record_refused_for_a_lock_is_tried_again(tmp_path: Path) -> None:
    vm = StandIn(ON)
    vm.fail("register", *[Busy("another job has the VM's lock")] * 3)
    job, record = _create(tmp_path, vm)
    assert job.row.state is JobState.DONE
    assert record is not None
    assert vm.tags_in == {"vda": ["x"], "vdb": ["x"]}


def test_create_quiescing_required_and_broken_off_is_not_made(tmp_path: Path) -> None:
    """Nobody knows whether the guest stood frozen: what was asked for is not what is there."""
    vm = StandIn(replace(ON, agent=True))
    vm.fail("take", OutcomeUnknown("the connection broke off"), late=True)
    job, record = _create(tmp_path, vm, replace(DISKS_ONLY, quiesce="require"))
    assert (job.row.state, record) == (JobState.FAILED, None)
    assert vm.tags_in == {"vda": [], "vdb": []}
    assert vm.snapshots == []


def test_create_broken_off_after_the_transaction_is_finished(tmp_path: Path) -> None:
    """The same without such a demand: in all disks, so it is registered."""
    vm = StandIn(ON)
    vm.fail("take", OutcomeUnknown("the connection broke off"), late=True)
    job, record = _create(tmp_path, vm)
    assert job.row.state is JobState.DONE
    assert record is not None
    assert record.origin is Origin.MANUAL


def test_create_name_that_another_tool_took_meanwhile_is_not_ours(tmp_path: Path) -> None:
    vm = StandIn(ON)

    async def theirs(*_about: Any) -> int:
        for names in vm.tags_in.values():
            names.append("x")
        vm.list(SnapshotInfo("x", 77, State.RUNNING, disks=("vda", "vdb")))
        raise Unsupported("QEMU refused transaction: snapshot 'x' exists; nothing was made")

    vm.take = theirs  # type: ignore[assignment, method-assign]
    job, record = _create(tmp_path, vm)
    assert (job.row.state, record) == (JobState.FAILED, None)
    assert [s.created for s in vm.snapshots] == [77]
    assert vm.tags_in == {"vda": ["x"], "vdb": ["x"]}


def test_create_image_that_cannot_be_read_for_a_while_is_settled_when_it_can(
    tmp_path: Path,
) -> None:
    """A mount that comes late, after the host was started."""
    vm = StandIn(ON)
    vm.fail("take", OutcomeUnknown("the connection broke off"), late=True)
    vm.fail("tags", *[PreflightFailed("no such file", reason="image-unreadable")] * 4)
    job, record = _create(tmp_path, vm)
    assert job.row.state is JobState.DONE
    assert record is not None


def test_delete_disk_swapped_for_another_vms_is_left_alone(tmp_path: Path) -> None:
    """Policies name the snapshots of all VMs alike: its tag is the other VM's."""
    swapped = replace(ON, disks=(VDA, replace(VDB, source="/images/other-vm.qcow2"), CD))
    vm = StandIn(swapped, [BEFORE], "before")
    jobs_seen: list[Job] = []

    async def body(operations: Operations, _jobs: Jobs, _store: Store) -> None:
        wish = DeleteWish(SnapshotKey(UUID, "before", BEFORE.created))
        jobs_seen.append(await operations.delete(vm.info, wish, Asker(1000)))
        await jobs_seen[0].ended.wait()

    play(tmp_path, vm, body)
    assert jobs_seen[0].row.state is JobState.DONE
    assert vm.removed == [(VDA.source, "before")]
    assert vm.tags_in == {"vda": [], "vdb": ["before"]}
    assert [(w.reason, w.item) for w in jobs_seen[0].row.warnings] == [("tag-stays", "vdb")]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Busy("cannot acquire the lock"), "cannot acquire the lock"),
        (LibvirtError("qemu-img failed"), "two moments"),
    ],
)
def test_revert_of_vm_that_is_off_refused_is_no_torn_one(
    tmp_path: Path, error: SnapdError, said: str
) -> None:
    vm = StandIn(OFF, [BEFORE], "before")
    vm.fail("revert", error)
    jobs_seen: list[Job] = []

    async def body(operations: Operations, _jobs: Jobs, _store: Store) -> None:
        wish = RevertWish(SnapshotKey(UUID, "before", BEFORE.created), safety=False)
        jobs_seen.append(await operations.revert(vm.info, wish, Asker(1000)))
        await jobs_seen[0].ended.wait()

    play(tmp_path, vm, body)
    assert jobs_seen[0].row.state is JobState.FAILED
    assert said in jobs_seen[0].row.error_message


@pytest.mark.parametrize(
    ("boot", "current", "state"),
    [
        ("of another start", "", JobState.FAILED),  # VM started anew under the same number
        ("of another start", "before", JobState.DONE),  # libvirt marks it when all is done
    ],
)
def test_revert_open_over_a_restart_of_the_host_is_never_nothing_done(
    tmp_path: Path, boot: str, current: str, state: JobState
) -> None:
    vm = StandIn(replace(ON, instance=1, current=current), [BEFORE], "before")
    intent = {
        "name": "before",
        "created": BEFORE.created,
        "instance": 1,
        "state": "running",
        "current": "",
        "disks": {"vda": VDA.source, "vdb": VDB.source},
        "memory": False,
        "agent": False,
        "wanted": "running",
        "safety": "safety-1",
        "delete_after": False,
        "claimed": False,
        "boot": boot,
    }
    ended: list[Job] = []

    async def body(_operations: Operations, jobs: Jobs, store: Store) -> None:
        row = JobRow(0, Verb.REVERT, UUID, "web-1", "before", "", 1000, JobState.RUNNING, 1)
        row = replace(row, created=BEFORE.created, started=int(time.time()), intent=intent)
        await store.add_job(row)
        await jobs.load()
        ended.append(next(iter(jobs.all.values())))
        await ended[0].ended.wait()

    play(tmp_path, vm, body)
    assert ended[0].row.state is state
    if state is JobState.FAILED:
        assert "two moments" in ended[0].row.error_message
