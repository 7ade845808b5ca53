"""Jobs that wait for somebody else in the middle: what can be cancelled, and how long they may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Busy
from snapd.hypervisor import DomainEvent, DomainFacts, EventKind
from snapd.hypervisor.protocol import Space
from snapd.model import Disk, JobState, SnapshotInfo, SnapshotKey, State, Verb
from snapd.operations import Asker, DeleteWish, Job, Jobs, Operations, RevertWish, Wish
from snapd.store import Store
from tests.unit.standin import StandIn, play
from tests.unit.vms import ON, UUID

A = SnapshotInfo("a", 1, State.SHUTOFF, disks=("vda", "vdb"))
B = replace(A, name="b", created=2, parent="a")
WITH_CHILDREN = DeleteWish(SnapshotKey(UUID, "a", 1), children=True)
DEVICE = 7


class Held(StandIn):
    """A running VM with snapshots a and b; holder: who has its lock, gate: what a delete waits for
    in QEMU."""

    def __init__(self) -> None:
        super().__init__(ON, [A, B], "a", "b")
        self.holder = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.deleting = asyncio.Event()
        self.listeners: list[Callable[[Any], None]] = []

    def on_event(self, call: Callable[[Any], None]) -> None:
        self.listeners.append(call)

    def let_go(self) -> None:
        """The holder is done, and libvirt says that something happened."""
        self.holder = ""
        for call in self.listeners:
            call(DomainEvent(UUID, EventKind.OTHER))

    async def facts(self, uuid: str, snapshot: str = "") -> DomainFacts:
        facts = await super().facts(uuid, snapshot)
        room = {t: Space(1 << 40, 1 << 41, 9, DEVICE) for t in ("vda", "vdb")}
        return replace(facts, holder=self.holder, space=room)

    async def remove_tags(
        self, uuid: str, disks: Sequence[Disk], name: str, *, created: int | None = None
    ) -> None:
        self.deleting.set()
        await self.gate.wait()
        await super().remove_tags(uuid, disks, name)

    async def create(self, _uuid: str, _name: str, _description: str) -> None:
        self._step("create", done=False)


async def phase(job: Job, wanted: str) -> None:
    async with asyncio.timeout(5):
        while job.phase != wanted:
            await asyncio.sleep(0.01)


async def part_of(jobs: Jobs, job: Job) -> Job:
    async with asyncio.timeout(5):
        while True:
            for each in jobs.all.values():
                if each.row.parent == job.id:
                    return each
            await asyncio.sleep(0.01)


def test_cancel_delete_with_children_that_has_waited_is_busy_once_a_child_is_deleted(
    tmp_path: Path,
) -> None:
    """Or the VM's turn would be free in the middle of libvirt's call, and the child's end never
    be told."""
    vm = Held()

    async def body(operations: Operations, jobs: Jobs, _store: Store) -> None:
        vm.holder = "backup"
        vm.gate.clear()
        job = await operations.delete(ON, WITH_CHILDREN, Asker(1000, 30))
        await phase(job, "waiting")
        assert job.cancellable
        vm.let_go()
        await vm.deleting.wait()
        part = await part_of(jobs, job)
        for each in (job, part):
            assert not each.cancellable
            with pytest.raises(Busy):
                jobs.cancel(each)
        assert jobs.holds(UUID)
        vm.gate.set()
        await job.ended.wait()
        assert (job.row.state, part.row.state) == (JobState.DONE, JobState.DONE)

    play(tmp_path, vm, body)


def test_part_of_a_job_waits_as_long_as_the_job_may_and_is_not_cancelled(tmp_path: Path) -> None:
    vm = Held()

    async def body(operations: Operations, jobs: Jobs, _store: Store) -> None:
        facts, looks = vm.facts, 0

        async def busy_later(uuid: str, snapshot: str = "") -> DomainFacts:
            nonlocal looks
            looks += 1
            if looks == 2:  # the job has looked, its part has not
                vm.holder = "backup"
            return await facts(uuid, snapshot)

        vm.facts = busy_later  # type: ignore[method-assign]
        job = await operations.delete(ON, WITH_CHILDREN, Asker(1000, 30))
        part = await part_of(jobs, job)
        await phase(part, "waiting")
        for each in (job, part):
            with pytest.raises(Busy):
                jobs.cancel(each)
        vm.let_go()
        await job.ended.wait()
        assert (job.row.state, job.row.error_message) == (JobState.DONE, "")

    play(tmp_path, vm, body)


def test_revert_waits_with_its_safety_snapshot_for_another_writer(tmp_path: Path) -> None:
    vm = Held()

    async def body(operations: Operations, jobs: Jobs, _store: Store) -> None:
        other = Job.__new__(Job)
        other.start_by = 0.0
        wish = RevertWish(SnapshotKey(UUID, "b", 2))
        async with operations.context.writers.turn(other, await vm.facts(UUID)):
            job = await operations.revert(ON, wish, Asker(1000, 3600))
            part = await part_of(jobs, job)
            await phase(part, "waiting")
            await asyncio.sleep(0.1)
            assert (part.row.verb, part.phase) == (Verb.CREATE, "waiting")
        await job.ended.wait()
        assert "enough" in job.row.error_message  # it came to the call

    vm.fail("create", Busy("enough"))
    play(tmp_path, vm, body)


def test_create_that_has_waited_cannot_be_cancelled_while_it_freezes(tmp_path: Path) -> None:
    vm = Held()
    vm.info = replace(ON, agent=True)

    async def body(operations: Operations, jobs: Jobs, _store: Store) -> None:
        freezing, gate = asyncio.Event(), asyncio.Event()

        async def freeze(_info: Any, _seconds: int) -> int:
            freezing.set()
            await gate.wait()
            return 2

        vm.freeze = freeze  # type: ignore[method-assign]
        vm.holder = "backup"
        wish = Wish(name="x", memory="no", quiesce="try")
        job = await operations.create(vm.info, wish, Asker(1000, 30))
        await phase(job, "waiting")
        vm.let_go()
        await freezing.wait()
        assert not job.cancellable
        with pytest.raises(Busy):
            jobs.cancel(job)
        gate.set()
        await job.ended.wait()
        assert job.row.state is JobState.DONE

    play(tmp_path, vm, body)


def test_stop_ends_at_once_what_waits_within_another_job(tmp_path: Path) -> None:
    vm = Held()

    async def body(operations: Operations, jobs: Jobs, store: Store) -> None:
        other = Job.__new__(Job)
        other.start_by = 0.0
        async with operations.context.writers.turn(other, await vm.facts(UUID)):
            wish = RevertWish(SnapshotKey(UUID, "b", 2))
            job = await operations.revert(ON, wish, Asker(1000, 3600))
            part = await part_of(jobs, job)
            await phase(part, "waiting")
            begun = time.monotonic()
            await jobs.stop(10)
            assert time.monotonic() - begun < 2
        assert part.row.state is JobState.CANCELLED
        assert part.row.error_message == "cancelled: the daemon is stopping"

    play(tmp_path, vm, body)
