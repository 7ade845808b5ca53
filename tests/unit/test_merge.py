"""External snapshots merged away, and merges that broke off at every step libvirt 11.3 was seen to
stop at: what is said is so, and the next try works."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Busy, Inconsistent, LibvirtError, OutcomeUnknown
from snapd.hypervisor import DomainFacts, FileUse, ImageCheck
from snapd.model import JobState, SnapshotKey, State, Status, Verb
from snapd.operations import (
    Asker,
    Catalog,
    DeleteWish,
    Job,
    Jobs,
    Operations,
    RevertWish,
    delete,
    merge,
)
from snapd.operations.merge_plan import half_merged, merged, plan_merge
from snapd.store import JobRow, Store
from tests.unit.merge_standin import MergeStandIn, chain_of
from tests.unit.standin import play
from tests.unit.vms import OFF, ON, UUID, VDA, VDB

BROKEN = OutcomeUnknown("the connection to libvirt broke off")
S = {name: f"/images/web-1-vda.{name}.qcow2" for name in ("s1", "s2", "s3")}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the verdicts say is tested elsewhere; and nothing is waited for."""
    monkeypatch.setattr(delete, "merge_blockers", lambda *_a, **_k: [])
    monkeypatch.setattr(merge, "LEFT_SECONDS", 0.01)
    return iter([None])


def _delete(folder: Path, vm: MergeStandIn, *names: str, **wish: Any) -> list[tuple[Job, Status]]:
    """The jobs, and how each snapshot is shown after its own, one after the other."""
    found = []

    async def body(operations: Operations, jobs: Jobs, store: Store) -> None:
        catalog = Catalog(operations.context.inventory, store, jobs)
        for name in names:
            created = next(s.created for s in vm.snapshots if s.name == name)
            key = SnapshotKey(UUID, name, created)
            job = await operations.delete(vm.info, DeleteWish(key, **wish), Asker(1000))
            await job.ended.wait()
            picture = operations.context.inventory.domains[UUID]
            shown = {s.info.name: s.status for s in catalog.of(picture)}
            found.append((job, shown.get(name, Status.OK)))

    play(folder, vm, body)
    return found


# --- what a merge is to do


def test_plan_of_the_middle_one_takes_its_overlay_into_its_base() -> None:
    vm = chain_of(ON, "s1", "s2", "s3")
    facts = asyncio.run(vm.facts(UUID))
    (disk,) = plan_merge(facts, vm.snapshots[1]).disks
    assert (disk.goes, disk.into) == (S["s2"], S["s1"])
    assert disk.left == (S["s3"], S["s1"], VDA.source)


def test_plan_of_the_current_one_has_the_disk_on_its_base() -> None:
    vm = chain_of(ON, "s1", "s2")
    facts = asyncio.run(vm.facts(UUID))
    (disk,) = plan_merge(facts, vm.snapshots[1]).disks
    assert (disk.goes, disk.into, disk.left) == (S["s2"], S["s1"], (S["s1"], VDA.source))


def test_chain_that_was_not_read_to_what_took_it_in_is_no_proof_of_a_merge() -> None:
    vm = chain_of(ON, "s1", "s2", "s3")
    facts = asyncio.run(vm.facts(UUID))
    (disk,) = plan_merge(facts, vm.snapshots[1]).disks
    facts.chains.layers["vda"] = ((S["s3"], "qcow2"),)
    assert not merged(facts, disk)
    facts.chains.layers["vda"] = ((S["s3"], "qcow2"), (S["s1"], "qcow2"))
    assert merged(facts, disk)


def test_plan_of_a_branchs_leaf_merges_nothing() -> None:
    """As after a revert to s1: the disk is on a new file, and s2 has none of its own (11.3)."""
    vm = chain_of(ON, "s1", "s2")
    new = "/images/web-1-vda.1795994506"
    vm.files[new] = (VDA.source, "qcow2")
    del vm.files[S["s2"]]
    vm.info = replace(vm.info, current="s1", disks=vm._on({"vda": new}))
    first, second = vm.snapshots
    vm.snapshots = [
        replace(first, current=True, reverted=(("vda", new),)),
        replace(second, current=False),
    ]
    plan = plan_merge(asyncio.run(vm.facts(UUID)), vm.snapshots[1])
    (disk,) = plan.disks
    assert (disk.goes, disk.into, plan.merges) == (S["s1"], "", False)
    (disk,) = plan_merge(asyncio.run(vm.facts(UUID)), vm.snapshots[0]).disks
    assert (disk.goes, disk.into, disk.left) == (new, VDA.source, (VDA.source,))


def test_plan_of_what_a_revert_began_where_no_record_tells_of_it_any_more() -> None:
    """As after s1, a revert to it, s2 upon that, and s2's deletion (11.3)."""
    vm = chain_of(ON, "s1")
    new = "/images/web-1-vda.1795994506"
    vm.files[new] = (VDA.source, "qcow2")
    del vm.files[S["s1"]]
    vm.info = replace(vm.info, disks=vm._on({"vda": new}))
    (disk,) = plan_merge(asyncio.run(vm.facts(UUID)), vm.snapshots[0]).disks
    assert (disk.goes, disk.into, disk.left) == (new, VDA.source, (VDA.source,))


def test_plan_of_an_overlay_that_no_record_names_is_refused() -> None:
    vm = chain_of(ON, "s1")
    other = "/images/made-by-hand.qcow2"
    vm.files[other] = (VDA.source, "qcow2")
    vm.info = replace(vm.info, disks=vm._on({"vda": other}))
    with pytest.raises(Inconsistent, match="made-by-hand") as error:
        plan_merge(asyncio.run(vm.facts(UUID)), vm.snapshots[0])
    assert (error.value.reason, error.value.disk) == ("not-in-chain", "vda")


# --- what went well


@pytest.mark.parametrize("info", [ON, OFF], ids=["running", "off"])
@pytest.mark.parametrize("order", ["s1 s2 s3", "s2 s1 s3", "s3 s2 s1", "s3 s1 s2"])
def test_three_are_merged_in_any_order(tmp_path: Path, info: Any, order: str) -> None:
    vm = chain_of(info, "s1", "s2", "s3", targets=("vda", "vdb"))
    ended = _delete(tmp_path, vm, *order.split())
    assert [job.row.state for job, _status in ended] == [JobState.DONE] * 3
    assert set(vm.files) == {VDA.source, VDB.source}
    checked = {c.removeprefix("check ") for c in vm.calls if c.startswith("check")}
    assert (VDA.source in checked) is (info is OFF)


def test_progress_is_told_and_goes_to_the_end(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.shares = (0.1, 0.5, 0.4, 1.0)
    told: list[float] = []

    async def body(operations: Operations, jobs: Jobs, _store: Store) -> None:
        def note(job: Job, names: tuple[str, ...]) -> None:
            if "Progress" in names:
                told.append(job.progress)

        jobs.listen(changed=note)
        key = SnapshotKey(UUID, "s1", vm.snapshots[0].created)
        job = await operations.delete(vm.info, DeleteWish(key), Asker(1000))
        await job.ended.wait()

    play(tmp_path, vm, body)
    assert told == [0.1, 1.0]  # those between came within half a second


def test_snapshot_is_shown_as_deleting_while_it_is_merged(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1", "s2")
    seen: list[tuple[Status, str]] = []

    async def body(operations: Operations, jobs: Jobs, store: Store) -> None:
        catalog = Catalog(operations.context.inventory, store, jobs)
        key = SnapshotKey(UUID, "s1", vm.snapshots[0].created)

        def look(job: Job, names: tuple[str, ...]) -> None:
            if "Progress" in names:
                picture = operations.context.inventory.domains[UUID]
                seen.append((catalog.one(picture, picture.snapshots["s1"]).status, job.phase))

        jobs.listen(changed=look)
        job = await operations.delete(vm.info, DeleteWish(key), Asker(1000))
        await job.ended.wait()

    play(tmp_path, vm, body)
    assert seen[0] == (Status.DELETING, "merging")


# --- what broke off


def test_merge_that_libvirt_refused_before_it_wrote_is_nothing_done(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1", "s2")
    vm.steps, vm.raises = [], LibvirtError("Permission denied")
    ((job, status),) = _delete(tmp_path, vm, "s1")
    assert (job.row.state, status) == (JobState.FAILED, Status.OK)
    assert job.row.error_message == "Permission denied"


def test_merge_that_broke_off_half_way_is_no_way_back_and_is_finished_by_the_next(
    tmp_path: Path,
) -> None:
    vm = chain_of(ON, "s1", "s2")
    vm.steps, vm.raises = ["write vda"], BROKEN
    (first, status), (second, _after) = _delete(tmp_path, vm, "s1", "s1")
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
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE
    assert "delete s1 ['metadata_only']" in vm.calls
    assert vm.snapshots == []


def test_merge_that_broke_off_when_all_was_merged_below_another_is_a_persons(
    tmp_path: Path,
) -> None:
    """The other's record names the file that is gone: a revert to it would fail."""
    vm = chain_of(ON, "s1", "s2")
    vm.steps, vm.raises = ["write vda", "pivot vda", "unlink vda"], BROKEN
    ((job, status),) = _delete(tmp_path, vm, "s1")
    assert (job.row.error_name[-7:], status) == ("Partial", Status.BROKEN)
    assert "name a file that is gone" in job.row.error_message


def test_merge_that_broke_off_between_two_disks_is_finished(tmp_path: Path) -> None:
    """libvirt itself can't: it looks for the overlay that is gone (11.3: code 9, for ever)."""
    vm = chain_of(ON, "s1", targets=("vda", "vdb"))
    vm.steps = ["write vda", "write vdb", "pivot vda", "unlink vda"]
    vm.raises = BROKEN
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE, job.row.error_message
    assert f"commit vdb /images/web-1-vdb.s1.qcow2 {VDB.source}" in vm.calls
    assert set(vm.files) == {VDA.source, VDB.source}


def test_merge_that_broke_off_between_two_disks_of_a_vm_that_is_off_waits_for_its_start(
    tmp_path: Path,
) -> None:
    vm = chain_of(OFF, "s1", targets=("vda", "vdb"))
    vm.steps, vm.raises = ["write vda", "write vdb", "pivot vda", "unlink vda"], BROKEN
    ((job, status),) = _delete(tmp_path, vm, "s1")
    assert (job.row.detail["ways"], status) == (["start", "delete"], Status.BROKEN)
    assert job.row.detail["disk"] == "vdb"
    vm.info = replace(vm.info, state=State.RUNNING, instance=4)
    ((job, _status),) = _delete(tmp_path, vm, "s1")
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
    ((job, _status),) = _delete(tmp_path, vm, "s1")
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
    ((job, status),) = _delete(tmp_path, vm, "s1")
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
    ((job, status),) = _delete(tmp_path, vm, "s1")
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
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE
    assert "stop" not in vm.calls


def test_block_job_that_nobody_ends_is_ended_on_a_running_vm(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    real = vm.merge

    async def dies(*about: Any, **how: Any) -> None:
        vm.times[VDA.source] = 1
        vm.left_job = "block job on vda"
        vm.merge = real  # type: ignore[method-assign]
        raise BROKEN

    vm.merge = dies  # type: ignore[method-assign]
    (first, status), (second, _after) = _delete(tmp_path, vm, "s1", "s1")
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


# --- where libvirt said that it was done


def test_next_start_on_a_file_that_is_gone_is_not_called_done(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.stored = {"vda": (S["s1"],)}
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert job.row.error_name.endswith(".Partial")
    assert "its next start would be on web-1-vda.s1.qcow2" in job.row.error_message
    assert "define-overlay" in job.row.detail["ways"]


def test_other_chain_than_was_to_be_left_is_not_called_done(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1", "s2", "s3")
    vm.steps = ["write vda", "pivot vda", "unlink vda", "list"]
    real = vm._take_off

    def other(found: Any) -> None:
        real(found)
        vm.files[S["s3"]] = (VDA.source, "qcow2")

    vm._take_off = other  # type: ignore[method-assign]
    ((job, _status),) = _delete(tmp_path, vm, "s2")
    assert "its images stand on web-1-vda.s3.qcow2, web-root.qcow2" in job.row.error_message


def test_file_that_libvirt_forgot_is_removed(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.steps = ["write vda", "pivot vda", "list"]
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE
    assert set(vm.files) == {VDA.source, VDB.source}


def test_file_that_cannot_be_removed_is_said(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.steps, vm.stays = ["write vda", "pivot vda", "list"], {S["s1"]}
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert "web-1-vda.s1.qcow2 stays" in job.row.error_message
    assert job.row.detail["ways"] == ["audit"]


def test_file_that_another_image_is_backed_by_is_never_removed(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.files["/images/clone.qcow2"] = (S["s1"], "qcow2")
    vm.steps = ["write vda", "pivot vda", "list"]
    real = vm._merge_step

    def keep(found: Any, what: str, target: str = "") -> None:
        real(found, what, target)
        vm.files["/images/clone.qcow2"] = (S["s1"], "qcow2")

    vm._merge_step = keep  # type: ignore[method-assign]
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert S["s1"] in vm.files
    assert "remove" not in vm.calls
    assert job.row.error_name.endswith(".Partial")


def test_image_that_is_damaged_is_not_called_done(tmp_path: Path) -> None:
    vm = chain_of(OFF, "s1")
    vm.checks = {VDA.source: ImageCheck(errors=2)}
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert job.row.error_name.endswith(".Inconsistent")
    assert "2 errors" in job.row.error_message


def test_leaks_are_a_warning(tmp_path: Path) -> None:
    vm = chain_of(OFF, "s1")
    vm.checks = {VDA.source: ImageCheck(leaks=5)}
    ((job, _status),) = _delete(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE
    assert [(w.reason, w.item) for w in job.row.warnings] == [("image-check", "vda")]


def test_revert_to_one_whose_merge_broke_off_is_refused(tmp_path: Path) -> None:
    """Some of what it went back to is what came later: no error of libvirt's tells that."""
    vm = chain_of(ON, "s1", "s2", targets=("vda", "vdb"))
    vm.steps, vm.raises = ["write vda"], BROKEN
    ended: list[Job] = []

    async def body(operations: Operations, _jobs: Jobs, _store: Store) -> None:
        key = SnapshotKey(UUID, "s1", vm.snapshots[0].created)
        job = await operations.delete(vm.info, DeleteWish(key), Asker(1000))
        await job.ended.wait()
        wish = RevertWish(key, safety=False)
        ended.append(await operations.revert(vm.info, wish, Asker(1000)))
        await ended[0].ended.wait()
        assert (await operations.preview_revert(wish)).verdict == "half-made"

    play(tmp_path, vm, body)
    assert ended[0].row.error_name.endswith(".Inconsistent")
    assert "may be overwritten" in ended[0].row.error_message
    assert ended[0].row.detail["ways"] == ["delete"]


def test_revert_to_one_whose_merge_nobody_could_judge_is_refused(tmp_path: Path) -> None:
    """What came of it is not known: in doubt it had begun."""
    vm = chain_of(ON, "s1", "s2", targets=("vda", "vdb"))
    vm.steps, vm.raises = ["write vda"], BROKEN
    ended: list[Job] = []

    async def unsettled(*_about: Any) -> None:
        raise RuntimeError("no answer")

    async def body(operations: Operations, jobs: Jobs, _store: Store) -> None:
        key = SnapshotKey(UUID, "s1", vm.snapshots[0].created)
        judges, jobs.judge = jobs.judge, unsettled  # type: ignore[assignment]
        job = await operations.delete(vm.info, DeleteWish(key), Asker(1000))
        await job.ended.wait()
        jobs.judge = judges
        ended.append(await operations.revert(vm.info, RevertWish(key, safety=False), Asker(1000)))
        await ended[0].ended.wait()

    play(tmp_path, vm, body)
    assert ended[0].row.error_name.endswith(".Inconsistent")
    assert "may be overwritten" in ended[0].row.error_message


def test_device_below_tells_nothing_of_whether_a_merge_had_begun(tmp_path: Path) -> None:
    """Its node has a time, which no write changes: in doubt it had begun."""
    vm = chain_of(replace(ON, disks=(replace(VDA, source="/dev/vg/root"), VDB)), "s1")
    kinds: list[str] = []

    async def stamp(info: Any) -> str:
        kinds.extend(d.kind for d in info.disks)
        return "" if "block" in kinds else "the same"

    vm.stamp = stamp  # type: ignore[method-assign]
    vm.steps, vm.raises = [], LibvirtError("cannot be told")
    ((job, status),) = _delete(tmp_path, vm, "s1")
    assert (job.row.error_name[-7:], status) == ("Partial", Status.BROKEN)
    assert set(kinds) == {"block"}
