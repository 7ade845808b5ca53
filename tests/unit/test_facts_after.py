"""What a look after an act asks for: of files and images only where they tell something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from snapd.hypervisor import DomainFacts, ImageCheck
from snapd.model import Disk, DomainInfo, JobState, SnapshotKey, State
from snapd.operations import Asker, DeleteWish, Jobs, Operations, Wish
from snapd.store import Store
from tests.unit.standin import StandIn, play
from tests.unit.vms import ON, UUID


class Watched(StandIn):
    """Notes each look: deep, or bare of files. dies: its QEMU ends when it has taken the tags."""

    def __init__(self, info: DomainInfo, *, dies: bool = False) -> None:
        super().__init__(info)
        self.looks: list[str] = []
        self.dies = dies

    async def facts(self, _uuid: str, snapshot: str = "") -> DomainFacts:
        self.looks.append("deep")
        return await super().facts(_uuid, snapshot)

    async def bare_facts(self, uuid: str) -> DomainFacts:
        self.looks.append("bare")
        return replace(await super().facts(uuid), images={})

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
    assert _made_and_deleted(tmp_path, Watched(ON)) == (["deep", "bare"], ["deep", "bare"])


def test_create_looks_at_the_images_of_a_vm_that_ended_meanwhile(tmp_path: Path) -> None:
    looks, _none = _made_and_deleted(tmp_path, Watched(ON, dies=True))
    assert looks == ["deep", "bare", "deep", "check vda", "check vdb"]
