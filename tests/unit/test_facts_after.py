"""What a look after an act asks for: of files and images only where they tell something, and of
each snapshot once, when all is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import OutcomeUnknown
from snapd.hypervisor import BareFacts, DomainFacts, ImageCheck
from snapd.model import Disk, DomainInfo, JobState, SnapshotInfo, SnapshotKey, State
from snapd.operations import Asker, DeleteWish, Job, Jobs, Operations, RevertWish, Wish
from snapd.store import Store
from tests.unit.standin import StandIn, bare, play
from tests.unit.vms import BEFORE, ON, UUID


class Watched(StandIn):
    """Notes each look: deep, bare of files and snapshots, at the VM alone (domain), or all that a
    list shows. dies: its QEMU ends when it has taken the tags."""

    def __init__(
        self, info: DomainInfo, snapshots: Sequence[SnapshotInfo] = (), *, dies: bool = False
    ) -> None:
        super().__init__(info, snapshots, *(s.name for s in snapshots))
        self.looks: list[str] = []
        self.dies = dies

    async def facts(self, _uuid: str, snapshot: str = "") -> DomainFacts:
        self.looks.append("deep")
        return await super().facts(_uuid, snapshot)

    async def bare_facts(self, uuid: str) -> BareFacts:
        self.looks.append("bare")
        return bare(await super().facts(uuid))

    async def domain(self, _uuid: str) -> DomainInfo:
        self.looks.append("domain")
        return self.info

    async def read(self, uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
        self.looks.append("all")
        return await super().read(uuid)

    async def check_image(self, disk: Disk) -> ImageCheck:
        self.looks.append(f"check {disk.target}")
        return ImageCheck()

    async def take(self, _uuid: str, disks: Sequence[Disk], name: str) -> int:
        took = await super().take(_uuid, disks, name)
        if self.dies:
            self.info = replace(self.info, state=State.SHUTOFF)
        return took


def _made_and_deleted(folder: Path, vm: Watched) -> tuple[list[str], list[str]]:
    """The looks of a create and of its delete."""
    of_create: list[str] = []

    async def body(operations: Operations, _jobs: Jobs, store: Store) -> None:
        vm.looks.clear()
        wish = Wish(name="x", memory="no", quiesce="no")
        job = await operations.create(vm.info, wish, Asker(1000))
        await job.ended.wait()
        of_create.extend(vm.looks)
        vm.looks.clear()
        if job.row.state is JobState.DONE and not vm.dies:
            key = SnapshotKey(UUID, "x", job.row.created)
            job = await operations.delete(vm.info, DeleteWish(key), Asker(1000))
            await job.ended.wait()
        assert job.row.state is JobState.DONE, job.row

    play(folder, vm, body)
    return of_create, vm.looks


def test_create_and_delete_look_at_files_only_before(tmp_path: Path) -> None:
    looks = ["deep", "bare", "all"]
    assert _made_and_deleted(tmp_path, Watched(ON)) == (looks, looks)


def test_create_looks_at_the_images_of_a_vm_that_ended_meanwhile(tmp_path: Path) -> None:
    looks, _none = _made_and_deleted(tmp_path, Watched(ON, dies=True))
    assert looks == ["deep", "bare", "deep", "check vda", "check vdb", "all"]


class Reverting(Watched):
    """Its revert works, and then leaves it in this state. breaks_off: nobody is told that it did;
    busy: whom it finds at work at each of the looks that come next."""

    def __init__(self, left: State, *, breaks_off: bool = False, busy: Sequence[str] = ()) -> None:
        super().__init__(ON, [replace(BEFORE, state=State.RUNNING)])
        self.left, self.breaks_off, self.busy = left, breaks_off, list(busy)

    async def revert(self, _uuid: str, name: str, **_how: Any) -> None:
        self.looks.clear()
        instance = ON.instance + 1 if self.left.active else -1
        self.info = replace(self.info, current=name, state=self.left, instance=instance)
        if self.breaks_off:
            raise OutcomeUnknown("the connection broke off")

    async def start(self, _uuid: str) -> None:
        self.info = replace(self.info, state=State.RUNNING, instance=ON.instance + 1)

    async def bare_facts(self, uuid: str) -> BareFacts:
        found = await super().bare_facts(uuid)
        return replace(found, holder=self.busy.pop(0)) if self.busy else found


def _reverted(folder: Path, vm: Reverting) -> Job:
    found: list[Job] = []

    async def body(operations: Operations, _jobs: Jobs, _store: Store) -> None:
        key = SnapshotKey(UUID, BEFORE.name, BEFORE.created)
        job = await operations.revert(vm.info, RevertWish(key, safety=False), Asker(1000))
        await job.ended.wait()
        found.append(job)

    play(folder, vm, body)
    return found[0]


@pytest.mark.parametrize("left", [State.RUNNING, State.SHUTOFF])
def test_revert_that_is_said_to_be_done_is_looked_at_once(tmp_path: Path, left: State) -> None:
    """Where the VM isn't in the state that is wanted, it is brought there before the look."""
    vm = Reverting(left)
    assert _reverted(tmp_path, vm).row.state is JobState.DONE
    assert vm.looks == ["domain", "bare", "all"]


def test_revert_is_looked_at_again_while_somebody_is_at_work_on_the_vm(tmp_path: Path) -> None:
    vm = Reverting(State.RUNNING, busy=["another job", "another job"])
    assert _reverted(tmp_path, vm).row.state is JobState.DONE
    assert vm.looks == ["domain", "bare", "bare", "bare", "all"]  # the list comes after its end


def test_revert_that_broke_off_is_judged_by_images_too(tmp_path: Path) -> None:
    vm = Reverting(State.RUNNING, breaks_off=True)
    assert _reverted(tmp_path, vm).row.state is JobState.DONE
    assert vm.looks == ["deep", "all"]


def test_revert_that_leaves_a_vm_in_another_state_has_its_images_looked_at(tmp_path: Path) -> None:
    vm = Reverting(State.SHUTOFF)
    vm.start = vm.domain  # type: ignore[method-assign,assignment]
    job = _reverted(tmp_path, vm)
    assert (job.row.state, job.row.error_name) == (JobState.FAILED, "org.virtsnap.Error.Partial")
    assert "check vda" in vm.looks
