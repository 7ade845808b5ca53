"""Whether a VM that is off counts as changed: each thing that may have written to its disks."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from snapd.hypervisor import DomainEvent, EventKind
from snapd.model import (
    SnapshotInfo,
    State,
)
from snapd.store import RestRow
from tests.unit.resting_bench import (
    DAY,
    Bench,
    Vm,
    made,
    on,
    sound,  # noqa: F401
)
from tests.unit.vms import OFF, UUID, VDA


def test_changed_nothing_but_what_we_made_ourselves(tmp_path: Path) -> None:
    vm = Vm()

    async def first(bench: Bench) -> None:
        assert await bench.changed()  # there is no snapshot yet
        await made(bench)
        await bench.still()
        assert not await bench.changed()

    async def restarted(bench: Bench) -> None:
        assert not await bench.changed()

    on(tmp_path, first, vm)
    on(tmp_path, restarted, vm)


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.SUSPENDED, State.UNKNOWN])
def test_changed_vm_that_is_not_off(tmp_path: Path, state: State) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        picture = bench.inventory.domains[UUID]
        active = replace(picture, info=replace(picture.info, state=state))
        assert await bench.resting.changed(active)

    on(tmp_path, body)


def test_changed_without_a_good_snapshot_of_ours(tmp_path: Path) -> None:
    theirs = SnapshotInfo("theirs", 1700000000, State.SHUTOFF, disks=("vda", "vdb"))
    vm = Vm(theirs)

    async def body(bench: Bench) -> None:
        assert await bench.changed()
        await bench.own(theirs)
        assert not await bench.changed()

    async def wrote(bench: Bench) -> None:
        await bench.store.write_rest(RestRow(UUID, "theirs", 1700000000, await vm.stamp(OFF)))

    on(tmp_path, wrote, vm)
    on(tmp_path, body, vm)


def test_changed_newest_was_taken_of_a_running_vm(tmp_path: Path) -> None:
    """It has run on after that, if only to shut down."""
    taken = SnapshotInfo("taken", 1700000000, State.SHUTOFF, disks=("vda", "vdb"))
    vm = Vm(taken)

    async def wrote(bench: Bench) -> None:
        await bench.store.write_rest(RestRow(UUID, "taken", 1700000000, await vm.stamp(OFF)))

    async def body(bench: Bench) -> None:
        await bench.own(taken, State.RUNNING)
        assert await bench.changed()

    on(tmp_path, wrote, vm)
    on(tmp_path, body, vm)


def test_changed_stamp_that_is_of_another_snapshot(tmp_path: Path) -> None:
    older = SnapshotInfo("older", 1700000000, State.SHUTOFF, disks=("vda", "vdb"))
    newer = replace(older, name="newer", created=1700000060)
    vm = Vm(older, newer)

    async def wrote(bench: Bench) -> None:
        await bench.store.write_rest(RestRow(UUID, "newer", 1700000000, await vm.stamp(OFF)))

    async def body(bench: Bench) -> None:
        await bench.own(older)
        await bench.own(newer)
        assert await bench.changed()

    on(tmp_path, wrote, vm)
    on(tmp_path, body, vm)


def test_changed_snapshot_from_the_future_is_not_the_newest(tmp_path: Path) -> None:
    """Made while the clock was wrong: it would be the newest for years."""
    ahead = SnapshotInfo("ahead", int(time.time()) + DAY, State.SHUTOFF, disks=("vda", "vdb"))

    async def body(bench: Bench) -> None:
        await bench.own(ahead)
        await bench.create("new")
        assert not await bench.changed()

    on(tmp_path, body, Vm(ahead))


def test_changed_started_and_stopped_between_two_listings(tmp_path: Path) -> None:
    vm = Vm()

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        vm.start_and_stop()
        assert await bench.changed()

    async def restarted(bench: Bench) -> None:
        assert await bench.changed()  # what was seen is remembered, whatever the images say
        await bench.create("third")
        assert not await bench.changed()

    on(tmp_path, body, vm)
    on(tmp_path, restarted, vm)


@pytest.mark.parametrize(
    "kind", [EventKind.DEFINED, EventKind.UNDEFINED, EventKind.RENAMED, EventKind.RECORDED]
)
def test_changed_not_by_what_happens_to_a_vm_that_is_off(tmp_path: Path, kind: EventKind) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        bench.vm.tell(kind)
        assert not await bench.changed()

    on(tmp_path, body)


def test_changed_reverted_by_somebody_else(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        for call in bench.vm.on_events:
            call(DomainEvent(UUID, EventKind.DEFINED, from_snapshot=True))
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_seen_running_by_a_listing(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await made(bench)
        off = bench.vm.info
        for info in (replace(off, state=State.RUNNING, instance=3), off):
            bench.vm.info = info
            await bench.inventory.refresh(UUID)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_written_to_by_hand(tmp_path: Path) -> None:
    """virt-customize, qemu-img, a snapshot by virsh; and a start while the daemon was down."""
    vm = Vm()

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.still()
        vm.written += 1
        assert await bench.changed()
        await bench.delete("old")
        assert await bench.changed()

    async def restarted(bench: Bench) -> None:
        assert await bench.changed()

    on(tmp_path, body, vm)
    on(tmp_path, restarted, vm)


def test_changed_images_that_cannot_be_looked_at(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.vm.unreadable = True
        await bench.create("new")
        await bench.still()
        assert await bench.changed()
        assert [row.stamp for row in await bench.store.rests()] == [""]
        bench.vm.unreadable = False
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_disk_that_was_added(tmp_path: Path) -> None:
    """By the stamp, whose words are of each disk; one of another list is no good."""

    async def body(bench: Bench) -> None:
        bench.vm.gate.clear()
        await bench.create("new")
        await bench.until(lambda: bench.vm.stamping)
        bench.vm.info = replace(bench.vm.info, disks=(VDA,))
        bench.vm.gate.set()
        await bench.still()
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_without_images_by_what_was_seen_alone(tmp_path: Path) -> None:
    vm = Vm()

    async def body(bench: Bench) -> None:
        await made(bench)
        await bench.delete("old")
        await bench.still()
        assert not await bench.changed()
        vm.start_and_stop()
        assert await bench.changed()
        await bench.create("third")
        await bench.still()
        assert not await bench.changed()
        vm.lose_connection()
        assert await bench.changed()
        await bench.create("fourth")
        await bench.still()
        assert not await bench.changed()

    async def restarted(bench: Bench) -> None:
        assert await bench.changed()

    on(tmp_path, body, vm, has_images=False)
    on(tmp_path, restarted, vm, has_images=False)
