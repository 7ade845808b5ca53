"""External snapshots that had to be quiesced, of guests that did not stay frozen: none is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snapd.errors import OutcomeUnknown, Unsupported
from snapd.model import Record, SnapshotKey
from snapd.operations import Asker, Job, Jobs, Operations, Wish
from snapd.operations import delete as delete_module
from snapd.operations import plan as plan_module
from snapd.operations.preflight import Blocker
from snapd.store import Store
from tests.unit.merge_standin import MergeStandIn
from tests.unit.overlay_standin import NOW
from tests.unit.standin import play
from tests.unit.vms import ON, UUID, VDA, VDB

VM = replace(ON, disks=(VDA, VDB), agent=True)
WISH = Wish(name="s1", kind="external", memory="no", quiesce="require")
BEFORE = {VDA.source: ("", ""), VDB.source: ("", "")}


@pytest.fixture(autouse=True)
def _nothing_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "external_create_blockers", lambda *_facts, **_how: [])


def _required(folder: Path, vm: MergeStandIn) -> tuple[Job, Record | None]:
    found: list[tuple[Job, Record | None]] = []

    async def body(operations: Operations, _jobs: Jobs, store: Store) -> None:
        job = await operations.create(vm.info, WISH, Asker(1000))
        await job.ended.wait()
        found.append((job, store.record(SnapshotKey(UUID, WISH.name, NOW))))

    play(folder, vm, body)
    return found[0]


def _sources(vm: MergeStandIn) -> list[str]:
    return [disk.source for disk in vm.info.disks]


class _Thaws(MergeStandIn):
    """Its guest lets go of what was frozen before the snapshot is made."""

    async def thaw(self, _uuid: str, _timeout: int) -> int:
        return 1


def test_quiescing_required_and_lost_is_merged_back(tmp_path: Path) -> None:
    vm = _Thaws(VM)
    job, record = _required(tmp_path, vm)
    assert (job.row.error_name.split(".")[-1], record) == ("AgentUnavailable", None)
    assert "2 file systems were frozen and only 1 thawed" in job.row.error_message
    assert "merged back" in job.row.error_message
    assert (vm.snapshots, _sources(vm)) == ([], [VDA.source, VDB.source])
    assert vm.files == BEFORE


def test_quiescing_required_and_broken_off_is_merged_back(tmp_path: Path) -> None:
    vm = MergeStandIn(VM)
    vm.fail("create", OutcomeUnknown("the connection broke off"), late=True)
    job, record = _required(tmp_path, vm)
    assert (job.row.error_name.split(".")[-1], record) == ("AgentUnavailable", None)
    assert (vm.snapshots, _sources(vm)) == ([], [VDA.source, VDB.source])


def test_quiescing_required_and_not_mergeable_says_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Blocker(Unsupported, "shared-base", "vda", "web-2 is backed by disk vda")
    monkeypatch.setattr(delete_module, "merge_blockers", lambda *_a, **_k: [shared])
    vm = _Thaws(VM)
    job, record = _required(tmp_path, vm)
    assert (job.row.detail["reason"], job.row.detail["ways"]) == ("half-made", ["delete"])
    assert record is None
    assert "only 1 thawed" in job.row.error_message
    assert "web-2 is backed by disk vda" in job.row.error_message
    assert _sources(vm) == ["/images/web-1-vda.s1.qcow2", "/images/web-1-vdb.s1.qcow2"]


def test_quiescing_required_and_other_faults_is_not_merged(tmp_path: Path) -> None:
    vm = _Thaws(VM)
    vm.wrong_backing = True
    job, _record = _required(tmp_path, vm)
    assert "is not backed by" in job.row.error_message
    assert not [call for call in vm.calls if call.startswith("merge")]
