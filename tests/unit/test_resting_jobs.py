"""Our own acts on a VM that is off do not count as a change of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from snapd.errors import LibvirtError
from snapd.hypervisor import DomainEvent, EventKind
from snapd.model import (
    JobState,
    State,
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
from tests.unit.vms import UUID


def test_changed_not_by_our_own_delete(tmp_path: Path) -> None:
    vm = Vm()

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        assert (await bench.delete("old")).row.state is JobState.DONE
        assert not await bench.changed()
        await bench.still()
        assert not await bench.changed()

    async def restarted(bench: Bench) -> None:
        assert not await bench.changed()

    on(tmp_path, body, vm)
    on(tmp_path, restarted, vm)


def test_changed_not_by_a_delete_right_after_a_restart(tmp_path: Path) -> None:
    vm = Vm()

    async def body(bench: Bench) -> None:
        await bench.delete("old")
        await bench.still()
        assert not await bench.changed()

    on(tmp_path, made, vm)
    on(tmp_path, body, vm)


def test_changed_not_while_our_own_delete_is_at_work(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        job = await bench.begin_delete("old")
        assert not await bench.changed()
        await bench.go_on(job)

    on(tmp_path, body)


def test_changed_not_by_acts_that_follow_one_another_at_once(tmp_path: Path) -> None:
    """The stamp of the first is still on its way when the next writes."""

    async def body(bench: Bench) -> None:
        await made(bench)
        bench.vm.gate.clear()
        await bench.create("third")
        await bench.until(lambda: bench.vm.stamping)
        for name in ("old", "new"):
            assert (await bench.delete(name)).row.state is JobState.DONE
        await asyncio.sleep(0.01)
        bench.vm.gate.set()
        await bench.still()
        assert not await bench.changed()

    on(tmp_path, body)


def test_changed_not_by_an_act_that_was_waiting_in_the_queue(tmp_path: Path) -> None:
    """It begins before the first one's stamp is even asked for."""

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.acting.clear()
        wish = Wish(name="third", memory="no")
        create = await bench.operations.create(bench.vm.info, wish, ASKER)
        delete = await bench.start_delete("old")
        await bench.until(lambda: create.phase == "taking")
        bench.vm.acting.set()
        await create.ended.wait()
        bench.vm.acting.clear()
        await bench.until(lambda: delete.phase == "deleting")
        await asyncio.sleep(0.1)
        assert not await bench.changed()
        await bench.go_on(delete)
        assert not await bench.changed()

    on(tmp_path, body)


def test_changed_not_by_a_prune_of_several(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        async def work(job: Job) -> Outcome:
            for name in ("old", "new"):
                await bench.operations.delete_within(job, bench.key(name), "retention")
            return Outcome()

        await made(bench)
        await bench.create("third")
        await bench.still()
        bench.vm.gate.clear()
        bench.vm.reading.clear()
        bench.vm.stamping = False
        prune = await bench.jobs.submit(Request(Verb.PRUNE, UUID, "web-1"), work)
        await bench.until(lambda: bench.vm.stamping and prune.parts > 0)
        bench.vm.gate.set()
        await asyncio.sleep(0.01)
        bench.vm.reading.set()
        await prune.ended.wait()
        assert prune.row.state is JobState.DONE
        assert list(bench.inventory.domains[UUID].snapshots) == ["third"]
        await bench.still()
        assert not await bench.changed()

    on(tmp_path, body)


def test_changed_not_by_a_create_that_failed(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.fail("create", LibvirtError("no"))
        assert (await bench.create("third")).row.state is JobState.FAILED
        await bench.still()
        assert not await bench.changed()

    on(tmp_path, body)


@pytest.mark.parametrize("has_images", [True, False])
def test_changed_by_a_revert_of_ours(tmp_path: Path, has_images: bool) -> None:
    """Be it one that failed: how far it came is not known."""

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.fail("revert", LibvirtError("no"))
        job = await bench.start_revert("old")
        await job.ended.wait()
        assert not bench.vm.broken["revert"]
        assert await bench.changed()

    on(tmp_path, body, has_images=has_images)


def test_changed_started_and_stopped_before_the_stamp(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.vm.gate.clear()
        await bench.create("new")
        await bench.until(lambda: bench.vm.stamping)
        bench.vm.start_and_stop()
        bench.vm.gate.set()
        await bench.still()
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_running_when_the_stamp_was_taken(tmp_path: Path) -> None:
    """No event of it was there yet."""

    async def body(bench: Bench) -> None:
        off = bench.vm.info
        bench.vm.gate.clear()
        await bench.create("new")
        await bench.until(lambda: bench.vm.stamping)
        bench.vm.info = replace(bench.vm.info, state=State.RUNNING, instance=3)
        bench.vm.gate.set()
        await bench.still()
        bench.vm.info = replace(off, current="new")
        await bench.inventory.refresh(UUID)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_started_and_stopped_while_ours_was_at_work(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        job = await bench.begin_delete("old")
        bench.vm.start_and_stop()
        await bench.go_on(job)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_job_that_waited_for_who_else_has_the_images(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.holder = "qemu-img"
        job = await bench.start_delete("old")
        await bench.until(lambda: job.phase == "waiting")
        bench.vm.written += 1
        bench.vm.holder = ""
        for call in bench.vm.on_events:
            call(DomainEvent(UUID, EventKind.DEFINED))
        await job.ended.wait()
        assert job.row.state is JobState.DONE
        await bench.still()
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_connection_lost_while_ours_was_at_work(tmp_path: Path) -> None:
    """What was started meanwhile, nobody has told."""

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        bench.vm.lose_connection()
        assert not await bench.changed()  # the images are as they were
        job = await bench.begin_delete("old")
        bench.vm.lose_connection()
        await bench.go_on(job)
        assert await bench.changed()

    on(tmp_path, body)
