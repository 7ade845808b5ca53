"""What happens while our own act is at work, or its stamp is on its way, counts as a change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from snapd.errors import TimedOut
from snapd.hypervisor import EventKind
from snapd.model import (
    JobState,
    Verb,
)
from snapd.operations import (
    Job,
    Outcome,
    Request,
    Wish,
)
from tests.unit.resting_bench import (
    ASKER,
    Bench,
    Vm,
    made,
    on,
    sound,  # noqa: F401
)
from tests.unit.vms import OFF, ON, UUID


def test_changed_job_of_a_vm_that_was_running_leaves_no_stamp(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.vm.info = ON
        await bench.inventory.refresh(UUID)
        assert (await bench.create("new")).row.state is JobState.DONE
        await bench.still()
        bench.vm.info = replace(OFF, current="new")
        await bench.inventory.refresh(UUID)
        assert await bench.changed()
        assert await bench.store.rests() == []

    on(tmp_path, body)


def test_changed_started_and_stopped_before_a_delete_of_ours(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        bench.vm.gate.clear()
        await bench.create("third")
        bench.vm.start_and_stop()
        bench.vm.gate.set()
        await bench.delete("old")
        await bench.still()
        assert await bench.changed()

    on(tmp_path, body)


@pytest.mark.parametrize("what", ["start_and_stop", "lose_connection"])
def test_changed_while_the_snapshot_was_made(tmp_path: Path, what: str) -> None:
    vm = Vm()

    async def body(bench: Bench) -> None:
        vm.acting.clear()
        job = await bench.operations.create(vm.info, Wish(name="new", memory="no"), ASKER)
        await bench.until(lambda: vm.written > 0)
        getattr(vm, what)()
        await bench.go_on(job)
        assert job.row.state is JobState.DONE
        assert await bench.changed()

    on(tmp_path, body, vm)


def test_changed_newest_is_being_deleted(tmp_path: Path) -> None:
    """What was known is of that one."""

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        job = await bench.begin_delete("new")
        assert await bench.changed()
        await bench.go_on(job)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_while_a_revert_is_at_work(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.acting.clear()
        written = bench.vm.written
        job = await bench.start_revert("old")
        await bench.until(lambda: bench.vm.written > written)
        assert await bench.changed()
        await bench.go_on(job)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_while_a_revert_is_at_work_right_after_a_create(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        bench.vm.gate.clear()
        await bench.create("third")
        bench.vm.acting.clear()
        written = bench.vm.written
        job = await bench.start_revert("old")
        await bench.until(lambda: bench.vm.written > written)
        bench.vm.gate.set()
        assert await bench.changed()
        await bench.go_on(job)

    on(tmp_path, body)


@pytest.mark.parametrize("late", ["acting", "ended"])
def test_changed_look_before_that_was_too_late(tmp_path: Path, late: str) -> None:
    """Whether it was from before the act cannot be told."""

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.gate.clear()
        job = await bench.begin_delete("old")
        if late == "ended":
            bench.vm.acting.set()
            await job.ended.wait()
        bench.vm.gate.set()
        await asyncio.sleep(0.01)
        await bench.go_on(job)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_look_before_a_prune_that_was_too_late(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        async def work(job: Job) -> Outcome:
            await bench.operations.delete_within(job, bench.key("old"), "retention")
            return Outcome()

        await made(bench)
        await bench.still()
        bench.vm.gate.clear()
        bench.vm.acting.clear()
        written = bench.vm.written
        prune = await bench.jobs.submit(Request(Verb.PRUNE, UUID, "web-1"), work)
        await bench.until(lambda: bench.vm.written > written)
        bench.vm.gate.set()
        await asyncio.sleep(0.01)
        await bench.go_on(prune)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_vm_that_cannot_be_read_after_ours(tmp_path: Path) -> None:
    """It may run by now."""

    async def body(bench: Bench) -> None:
        bench.vm.gate.clear()
        await bench.create("new")
        await bench.until(lambda: bench.vm.stamping)
        bench.vm.fail("read", TimedOut("no answer from libvirt within 5 s"))
        bench.vm.gate.set()
        await bench.still()
        assert not bench.vm.broken["read"]
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_look_before_and_then_others_at_work(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.gate.clear()
        bench.vm.holder = "qemu-img"
        job = await bench.start_delete("old")
        await bench.until(lambda: job.phase == "waiting")
        bench.vm.gate.set()
        await asyncio.sleep(0.01)
        bench.vm.written += 1
        bench.vm.holder = ""
        bench.vm.tell(EventKind.DEFINED)
        await job.ended.wait()
        await bench.still()
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_look_before_and_then_the_connection_lost(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.gate.clear()
        bench.vm.stamping = False
        job = await bench.start_delete("old")
        await bench.until(lambda: bench.vm.stamping)
        bench.vm.lose_connection()
        bench.vm.gate.set()
        await job.ended.wait()
        await bench.still()
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_never_stamped_and_not_to_be_looked_at(tmp_path: Path) -> None:
    """Two answers that are none are not the same answer."""

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.gate.clear()
        await bench.create("third")
        bench.vm.holder = "qemu-img"
        job = await bench.start_delete("old")
        await bench.until(lambda: job.phase == "waiting")
        bench.vm.unreadable = True
        bench.vm.gate.set()
        assert await bench.changed()
        bench.vm.holder = ""
        bench.vm.tell(EventKind.DEFINED)
        await job.ended.wait()

    on(tmp_path, body)
