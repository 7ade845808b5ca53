"""The making of external snapshots, and every step at which it can break off."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd import names
from snapd.errors import (
    AlreadyExists,
    LibvirtError,
    OutcomeUnknown,
    SnapdError,
    Unavailable,
)
from snapd.hypervisor import Beside
from snapd.model import Consistency, JobState, Record, SnapshotKey, State
from snapd.operations import Asker, Job, Jobs, Operations, Wish
from snapd.operations import plan as plan_module
from snapd.store import Store
from tests.unit.overlay_standin import NOW, OverlayStandIn
from tests.unit.standin import play
from tests.unit.vms import OFF, ON, UUID, VDA, VDB

RAW = replace(VDB, source="/images/web-data.img", format="raw")
DISKS = (VDA, RAW)
RUNNING, SHUT = replace(ON, disks=DISKS), replace(OFF, disks=DISKS)
QUIET = replace(RUNNING, agent=True)
WISH = Wish(name="s1", kind="external", memory="no", quiesce="no")
BEFORE = {VDA.source: ("", ""), RAW.source: ("", "")}
OVER_A, OVER_B = "/images/web-1-vda.s1.qcow2", "/images/web-1-vdb.s1.qcow2"
AFTER = {**BEFORE, OVER_A: (VDA.source, "qcow2"), OVER_B: (RAW.source, "raw")}
BROKE = OutcomeUnknown("the connection broke off")


@pytest.fixture(autouse=True)
def _nothing_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is against an external snapshot is tested with the preflight."""
    monkeypatch.setattr(plan_module, "external_create_blockers", lambda *_facts, **_how: [])


def _create(folder: Path, vm: OverlayStandIn, wish: Wish = WISH) -> tuple[Job, Record | None]:
    found: list[Any] = []

    async def body(operations: Operations, _jobs: Jobs, store: Store) -> None:
        job = await operations.create(vm.info, wish, Asker(1000))
        await job.ended.wait()
        found.extend((job, store.record(SnapshotKey(UUID, wish.name, NOW))))

    play(folder, vm, body)
    return found[0], found[1]


def _sources(vm: OverlayStandIn) -> list[str]:
    return [d.source for d in vm.info.disks]


@pytest.mark.parametrize(
    ("info", "wish", "got"),
    [
        (RUNNING, WISH, Consistency.CRASH),
        (QUIET, replace(WISH, quiesce="require"), Consistency.QUIESCED),
        (SHUT, WISH, Consistency.OFFLINE),
        (RUNNING, replace(WISH, memory="yes"), Consistency.MEMORY),
    ],
)
def test_create_onto_new_files_of_each_disk(
    tmp_path: Path, info: Any, wish: Wish, got: Consistency
) -> None:
    vm = OverlayStandIn(info)
    job, record = _create(tmp_path, vm, wish)
    assert (job.row.state, job.row.error_message) == (JobState.DONE, "")
    assert record is not None
    assert (record.consistency, record.state) == (got, info.state)
    assert vm.files == AFTER
    assert _sources(vm) == [OVER_A, OVER_B]
    assert job.row.result == {"Name": "s1", "Consistency": got.value}
    assert vm.saved == ({"/images/web-1.s1.ram"} if got is Consistency.MEMORY else set())


def test_create_file_in_the_way_stays_and_another_name_is_taken(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.files[OVER_B] = ("", "")
    job, _record = _create(tmp_path, vm)
    assert job.row.state is JobState.DONE
    assert vm.files[OVER_B] == ("", "")
    first, second = _sources(vm)
    assert first not in BEFORE
    assert second not in {*BEFORE, OVER_B}
    assert first.startswith("/images/web-1-vda.s1-")
    assert second.endswith(".qcow2")


def test_create_file_that_no_look_shows_stays_and_another_name_is_taken(tmp_path: Path) -> None:
    """It is no image, so it is seen only when the new one is to be made."""
    vm = OverlayStandIn(RUNNING)
    vm.strange = {OVER_B}
    job, _record = _create(tmp_path, vm)
    assert job.row.state is JobState.DONE
    assert vm.calls == ["make", "make", "create"]
    assert OVER_B not in _sources(vm)


def test_create_whose_every_name_is_taken_removes_nobodys_file(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.fail("make", *[AlreadyExists("there is a file already")] * 2)
    job, _record = _create(tmp_path, vm)
    assert job.row.error_name.endswith("AlreadyExists")
    assert vm.calls == ["make", "make"]
    assert vm.files == BEFORE


def test_create_ram_file_in_the_way_is_neither_written_nor_removed(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.strange = {"/images/web-1.s1.ram"}
    job, record = _create(tmp_path, vm, replace(WISH, memory="yes"))
    assert (job.row.error_name.split(".")[-1], record) == ("AlreadyExists", None)
    assert (vm.files, vm.saved) == (BEFORE, set())


def test_create_ram_of_another_vm_in_the_way_another_name_is_taken(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.saved = {"/images/web-1.s1.ram"}
    job, _record = _create(tmp_path, vm, replace(WISH, memory="yes"))
    assert job.row.state is JobState.DONE
    assert len(vm.saved) == 2


@pytest.mark.parametrize("error", [BROKE, Unavailable("libvirt is gone"), LibvirtError("no")])
@pytest.mark.parametrize("late", [False, True])
def test_create_broken_off_at_the_files_leaves_none(
    tmp_path: Path, error: SnapdError, late: bool
) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.fail("make", error, late=late)
    job, record = _create(tmp_path, vm)
    assert (job.row.state, record) == (JobState.FAILED, None)
    assert error.message in job.row.error_message
    assert vm.files == BEFORE
    assert _sources(vm) == list(BEFORE)


@pytest.mark.parametrize("error", [BROKE, Unavailable("libvirt is gone"), LibvirtError("no")])
def test_create_that_libvirt_has_not_begun_is_undone(tmp_path: Path, error: SnapdError) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.fail("create", error)
    job, record = _create(tmp_path, vm)
    assert (job.row.state, record) == (JobState.FAILED, None)
    assert vm.files == BEFORE
    assert [s.name for s in vm.snapshots] == []


@pytest.mark.parametrize("error", [BROKE, LibvirtError("cannot tell")])
def test_create_that_libvirt_did_all_the_same_is_done(tmp_path: Path, error: SnapdError) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.fail("create", error, late=True)
    job, record = _create(tmp_path, vm)
    assert job.row.state is JobState.DONE
    assert record is not None
    assert vm.files == AFTER


def test_create_broken_off_is_looked_at_again_before_a_file_goes(tmp_path: Path) -> None:
    """libvirt may begin with a call that was on its way when its answer was lost."""

    class Slow(OverlayStandIn):
        looks = 0

        async def facts(self, uuid: str, snapshot: str = "") -> Any:
            self.looks += 1
            if self.looks == 3:  # the plan, the first look, the second
                await super().create(uuid, self.held)
            return await super().facts(uuid, snapshot)

        async def create(self, _uuid: str, wanted: Any) -> None:
            self.held = wanted
            raise BROKE

    vm = Slow(RUNNING)
    job, record = _create(tmp_path, vm)
    assert job.row.state is JobState.DONE
    assert record is not None
    assert vm.files == AFTER


def test_create_disks_on_files_that_no_snapshot_lists_keeps_every_file(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.unlisted = True
    vm.fail("create", BROKE, late=True)
    job, record = _create(tmp_path, vm)
    assert (job.row.state, record) == (JobState.FAILED, None)
    assert (job.row.error_name.split(".")[-1], job.row.detail["reason"]) == (
        "Inconsistent",
        "half-made",
    )
    assert "web-1-vda.s1.qcow2" in job.row.error_message
    assert "/images" not in job.row.error_message
    assert vm.files == AFTER
    assert "remove" not in vm.calls


def test_create_stored_configuration_refers_to_a_file_keeps_it(tmp_path: Path) -> None:
    class Half(OverlayStandIn):
        async def create(self, _uuid: str, _wanted: Any) -> None:
            self.inactive = (replace(VDA, source=OVER_A), RAW)
            raise LibvirtError("no")

    vm = Half(RUNNING)
    job, _record = _create(tmp_path, vm)
    assert job.row.detail["reason"] == "half-made"
    assert vm.files == AFTER


def test_create_file_that_another_image_is_backed_by_stays(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.files["/images/clone.qcow2"] = (OVER_A, "qcow2")
    vm.fail("create", LibvirtError("no"))
    job, _record = _create(tmp_path, vm)
    assert (OVER_A in vm.files, OVER_B in vm.files) == (True, False)
    assert [(w.reason, w.item) for w in job.row.warnings] == [("file-stays", "web-1-vda.s1.qcow2")]


def test_create_file_that_cannot_be_removed_is_said(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.stays = {OVER_B}
    vm.fail("create", LibvirtError("no"))
    job, _record = _create(tmp_path, vm)
    assert [(w.reason, w.item) for w in job.row.warnings] == [("file-stays", "web-1-vdb.s1.qcow2")]


def test_create_folder_that_cannot_be_looked_at_keeps_its_files(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.unread = {"/images": "over 5000 files lie there"}
    vm.fail("create", LibvirtError("no"))
    job, _record = _create(tmp_path, vm)
    assert {w.reason for w in job.row.warnings} == {"file-stays"}
    assert len(vm.files) == 4


def test_create_file_that_cannot_be_looked_at_itself_stays_and_is_said(tmp_path: Path) -> None:
    class Denied(OverlayStandIn):
        async def beside(self, folders: Collection[str], named: Collection[str]) -> Beside:
            seen = await super().beside(folders, named)
            if OVER_B not in self.files:
                return seen
            files = tuple(f for f in seen.files if f.path != OVER_B)
            return Beside(files, seen.real, {OVER_B: "Permission denied"})

    vm = Denied(RUNNING)
    vm.fail("create", LibvirtError("no"))
    job, _record = _create(tmp_path, vm)
    assert [(w.reason, w.item) for w in job.row.warnings] == [("file-stays", "web-1-vdb.s1.qcow2")]
    assert (OVER_A in vm.files, OVER_B in vm.files) == (False, True)


def test_create_overlay_backed_by_another_file_counts_as_not_made(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.wrong_backing = True
    job, record = _create(tmp_path, vm)
    assert (job.row.error_name.split(".")[-1], record) == ("Inconsistent", None)
    assert "is not backed by web-root.qcow2" in job.row.error_message
    assert len(vm.files) == 4


def test_create_next_start_on_the_old_file_counts_as_not_made(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    vm.inactive = DISKS
    job, record = _create(tmp_path, vm)
    assert (job.row.error_name.split(".")[-1], record) == ("Inconsistent", None)
    assert "disk vda is not on web-1-vda.s1.qcow2" in job.row.error_message


def test_create_plain_overlay_of_an_encrypted_disk_counts_as_not_made(tmp_path: Path) -> None:
    vm = OverlayStandIn(replace(RUNNING, disks=(replace(VDA, encrypted=True),)))
    job, record = _create(tmp_path, vm)
    assert (job.row.state, record) == (JobState.FAILED, None)
    assert "is not encrypted" in job.row.error_message


def test_create_ram_that_is_not_there_counts_as_not_made(tmp_path: Path) -> None:
    class Forgetful(OverlayStandIn):
        async def create(self, uuid: str, wanted: Any) -> None:
            await super().create(uuid, wanted)
            self.saved.clear()

    job, record = _create(tmp_path, Forgetful(RUNNING), replace(WISH, memory="yes"))
    assert (job.row.state, record) == (JobState.FAILED, None)
    assert "RAM is not there" in job.row.error_message


def test_create_guest_that_is_not_quiesced_is_said(tmp_path: Path) -> None:
    vm = OverlayStandIn(RUNNING)
    job, record = _create(tmp_path, vm, replace(WISH, quiesce="try"))
    assert record is not None
    assert record.consistency is Consistency.CRASH
    assert [w.reason for w in job.row.warnings] == ["not-quiesced"]


def test_create_left_paused_by_a_libvirt_that_died_is_said(tmp_path: Path) -> None:
    class Dies(OverlayStandIn):
        async def create(self, _uuid: str, _wanted: Any) -> None:
            self.info = replace(self.info, state=State.PAUSED)
            raise BROKE

    vm = Dies(RUNNING)
    job, _record = _create(tmp_path, vm, replace(WISH, memory="yes"))
    assert (job.row.error_name.split(".")[-1], job.row.detail["ways"]) == ("Partial", ["resume"])
    assert vm.files == BEFORE


def test_create_name_that_another_tool_takes_meanwhile_is_not_ours(tmp_path: Path) -> None:
    class Beaten(OverlayStandIn):
        async def create(self, uuid: str, wanted: Any) -> None:
            theirs = tuple((t, path.replace(".s1", ".theirs")) for t, path in wanted.overlays)
            self.files |= {path: (BEFORE_OF[t], "qcow2") for t, path in theirs}
            await super().create(uuid, replace(wanted, overlays=theirs))
            raise LibvirtError("domain snapshot s1 already exists")

    vm = Beaten(RUNNING)
    job, record = _create(tmp_path, vm)
    assert (job.row.error_name.split(".")[-1], record) == ("AlreadyExists", None)
    assert not {OVER_A, OVER_B} & vm.files.keys()
    assert [s.name for s in vm.snapshots] == ["s1"]


BEFORE_OF = {"vda": VDA.source, "vdb": RAW.source}


@pytest.mark.parametrize("taken", [False, True])
def test_daemon_that_ended_in_the_middle_settles_by_the_facts(tmp_path: Path, taken: bool) -> None:
    """Its files are there, and libvirt has gone over to them or hasn't."""

    class Hangs(OverlayStandIn):
        async def create(self, uuid: str, wanted: Any) -> None:
            if taken:
                await super().create(uuid, wanted)
            self.calls.append("hangs")
            await asyncio.Event().wait()

    vm = Hangs(RUNNING)
    found: list[Any] = []

    async def first(operations: Operations, _jobs: Jobs, _store: Store) -> None:
        await operations.create(vm.info, WISH, Asker(1000))
        while "hangs" not in vm.calls:
            await asyncio.sleep(0.01)

    async def second(_operations: Operations, jobs: Jobs, store: Store) -> None:
        await jobs.load()
        (job,) = jobs.all.values()
        await job.ended.wait()
        found.extend((job.row.state, store.record(SnapshotKey(UUID, "s1", NOW)) is not None))

    play(tmp_path, vm, first)
    assert vm.files == AFTER
    play(tmp_path, vm, second)
    assert found == [JobState.DONE if taken else JobState.FAILED, taken]
    assert vm.files == (AFTER if taken else BEFORE)


# --- names


@pytest.mark.parametrize(
    ("vm", "file"),
    [
        ("web-1", "web-1-vda.s1.qcow2"),
        ("../../etc/x", "etc-x-vda.s1.qcow2"),
        ("Büro 1", "B-ro-1-vda.s1.qcow2"),
        ("...", "vm-vda.s1.qcow2"),
        ("x" * 200, "x" * 60 + "-vda.s1.qcow2"),
    ],
)
def test_overlay_file_name_is_plain_whatever_the_vm_is_called(vm: str, file: str) -> None:
    assert names.overlay_file(vm, "vda", "s1") == file


def test_file_names_with_a_tail() -> None:
    assert names.overlay_file("a", "vda", "s1", "0f3c") == "a-vda.s1-0f3c.qcow2"
    assert names.memory_file("a", "s1") == "a.s1.ram"
    assert names.memory_file("a", "s1", "0f3c") == "a.s1-0f3c.ram"
