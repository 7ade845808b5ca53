"""External snapshots merged away: what a merge is to do, and what is proved before it is called
done."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Inconsistent, LibvirtError, OutcomeUnknown
from snapd.hypervisor import ChainFacts, DomainFacts, ImageCheck
from snapd.model import Disk, JobState, SnapshotKey, Status
from snapd.operations import (
    Asker,
    Catalog,
    DeleteWish,
    Job,
    Jobs,
    Operations,
    RevertWish,
)
from snapd.operations.merge_plan import DiskMerge, amiss, merged, plan_merge
from snapd.store import Store
from tests.unit.external_vms import BASE, O1, O2, RESTS, chained
from tests.unit.merge_standin import at_once, chain_of, deleted
from tests.unit.standin import play
from tests.unit.vms import OFF, ON, UUID, VDA, VDB

BROKEN = OutcomeUnknown("the connection to libvirt broke off")
S = {name: f"/images/web-1-vda.{name}.qcow2" for name in ("s1", "s2", "s3")}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch)


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
    ended = deleted(tmp_path, vm, *order.split())
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


# --- where libvirt said that it was done


def test_next_start_on_a_file_that_is_gone_is_not_called_done(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.stored = {"vda": (S["s1"],)}
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert job.row.error_name.endswith(".Partial")
    assert "its next start would be on web-1-vda.s1.qcow2" in job.row.error_message
    assert "define-overlay" in job.row.detail["ways"]


def test_next_start_that_ends_above_what_the_disk_stands_on_is_not_called_done() -> None:
    rests, disk = Disk("vda", O1, "qcow2"), DiskMerge("vda", O2, O1, (O1, BASE), "qcow2")
    layers: Any = {"vda": ((O1, "qcow2"), (BASE, "raw"))}
    chains = ChainFacts(layers=layers, stored={"vda": (O1,)})
    facts = chained(info=replace(RESTS, disks=(rests,)), chains=chains)
    assert list(amiss(facts, disk)) == []
    ends = replace(facts, chains=replace(chains, stored_ends=frozenset({"vda"})))
    assert list(amiss(ends, disk)) == [
        "disk vda: its next start would be on web-1-vda.s1.qcow2 alone"
    ]


def test_chain_that_could_not_be_read_to_its_end_is_said(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1", "s2", "s3")
    real = vm.facts

    async def unread_below(uuid: str, snapshot: str = "") -> DomainFacts:
        facts = await real(uuid, snapshot)
        if any(s.name == "s2" for s in facts.snapshots):
            return facts
        layers = {target: found[:1] for target, found in facts.chains.layers.items()}
        return replace(facts, chains=replace(facts.chains, layers=layers))

    vm.facts = unread_below  # type: ignore[method-assign]
    ((job, _status),) = deleted(tmp_path, vm, "s2")
    assert job.row.state is JobState.DONE, job.row.error_message
    assert [(w.reason, w.item) for w in job.row.warnings] == [("unchecked", "vda")]


def test_other_chain_than_was_to_be_left_is_not_called_done(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1", "s2", "s3")
    vm.steps = ["write vda", "pivot vda", "unlink vda", "list"]
    real = vm._take_off

    def other(found: Any) -> None:
        real(found)
        vm.files[S["s3"]] = (VDA.source, "qcow2")

    vm._take_off = other  # type: ignore[method-assign]
    ((job, _status),) = deleted(tmp_path, vm, "s2")
    assert "its images stand on web-1-vda.s3.qcow2, web-root.qcow2" in job.row.error_message


def test_file_that_libvirt_forgot_is_removed(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.steps = ["write vda", "pivot vda", "list"]
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert job.row.state is JobState.DONE
    assert set(vm.files) == {VDA.source, VDB.source}


def test_file_that_cannot_be_removed_is_said(tmp_path: Path) -> None:
    vm = chain_of(ON, "s1")
    vm.steps, vm.stays = ["write vda", "pivot vda", "list"], {S["s1"]}
    ((job, _status),) = deleted(tmp_path, vm, "s1")
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
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert S["s1"] in vm.files
    assert "remove" not in vm.calls
    assert job.row.error_name.endswith(".Partial")


def test_image_that_is_damaged_is_not_called_done(tmp_path: Path) -> None:
    vm = chain_of(OFF, "s1")
    vm.checks = {VDA.source: ImageCheck(errors=2)}
    ((job, _status),) = deleted(tmp_path, vm, "s1")
    assert job.row.error_name.endswith(".Inconsistent")
    assert "2 errors" in job.row.error_message


def test_leaks_are_a_warning(tmp_path: Path) -> None:
    vm = chain_of(OFF, "s1")
    vm.checks = {VDA.source: ImageCheck(leaks=5)}
    ((job, _status),) = deleted(tmp_path, vm, "s1")
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
    ((job, status),) = deleted(tmp_path, vm, "s1")
    assert (job.row.error_name[-7:], status) == ("Partial", Status.BROKEN)
    assert set(kinds) == {"block"}


def test_revert_to_one_that_an_audit_found_broken_says_so_and_no_more(tmp_path: Path) -> None:
    """Nothing was merged; and what a look at the files tells stands first."""
    vm = chain_of(ON, "s1")

    async def body(operations: Operations, jobs: Jobs, _store: Store) -> None:
        key = SnapshotKey(UUID, "s1", vm.snapshots[0].created)
        wish = RevertWish(key, safety=False)
        against = (await operations.preview_revert(wish)).blockers
        jobs.half_made.audited(UUID, [key])
        *first, last = (await operations.preview_revert(wish)).blockers
        assert tuple(first) == against
        assert (last.reason, last.ways, "merge" in last.message) == ("half-made", ("audit",), False)
        jobs.half_made.audited(UUID, [])
        assert (await operations.preview_revert(wish)).blockers == against

    play(tmp_path, vm, body)
