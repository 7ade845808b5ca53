"""Whether a VM that is off counts as changed: each thing that may have written to its disks, and
our own acts, which don't count."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import LibvirtError, TimedOut
from snapd.hypervisor import DomainEvent, DomainFacts, EventKind
from snapd.inventory import Inventory
from snapd.model import (
    Consistency,
    DomainInfo,
    JobState,
    Origin,
    Record,
    SnapshotInfo,
    SnapshotKey,
    State,
    Verb,
)
from snapd.operations import (
    Asker,
    Catalog,
    DeleteWish,
    Job,
    Jobs,
    Operations,
    Outcome,
    Request,
    RevertWish,
    Wish,
)
from snapd.policy.resting import Resting
from snapd.store import RestRow, Store
from tests.unit.standin import StandIn, play
from tests.unit.vms import OFF, ON, UUID, VDA

ASKER = Asker(1000)
DAY = 86400


class Vm(StandIn):
    """Off. What libvirt does to its snapshots is written to its images. gate: what the answer
    about a stamp waits for; reading: what the facts wait for; acting: what an act waits for in the
    middle."""

    def __init__(self, *snapshots: SnapshotInfo) -> None:
        super().__init__(OFF, snapshots, *(s.name for s in snapshots))
        self.gate, self.reading, self.acting = (asyncio.Event() for _ in range(3))
        for event in (self.gate, self.reading, self.acting):
            event.set()
        self.stamping = False
        self.holder = ""
        self.unreadable = False

    def tell(self, *kinds: EventKind) -> None:
        for kind in kinds:
            for call in self.on_events:
                call(DomainEvent(UUID, kind))

    def start_and_stop(self) -> None:
        """As a guest that is up for so short a time that no listing meets it."""
        self.tell(EventKind.STARTED, EventKind.RESUMED, EventKind.OTHER, EventKind.STOPPED)

    def lose_connection(self) -> None:
        for up in (False, True):
            self.connected = up
            for call in self.on_connections:
                call(up)

    async def read(self, _uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
        self._step("read", done=False)
        return await super().read(_uuid)

    async def facts(self, _uuid: str, snapshot: str = "") -> DomainFacts:
        await asyncio.sleep(0.05)  # libvirt and qemu-img take their time
        await self.reading.wait()
        return replace(await super().facts(_uuid, snapshot), holder=self.holder)

    async def stamp(self, _info: Any) -> str:
        self.stamping = True
        told = "" if self.unreadable else await super().stamp(_info)
        await self.gate.wait()
        return told

    async def create(self, _uuid: str, name: str, _description: str) -> None:
        self.written += 1
        await self.acting.wait()
        self._step("create", done=False)
        for tags in self.tags_in.values():
            tags.append(name)
        now, state = int(time.time()), State.SHUTOFF
        self.list(SnapshotInfo(name, now, state, current=True, disks=("vda", "vdb")))

    async def delete(self, _uuid: str, name: str, **_how: Any) -> None:
        self.written += 1
        await self.acting.wait()
        self._step("delete", done=False)
        await super().delete(_uuid, name, **_how)
        for tags in self.tags_in.values():
            tags.remove(name)

    async def revert(self, _uuid: str, name: str, **_how: Any) -> None:
        self.written += 1
        await self.acting.wait()
        self._step("revert", done=False)


class Bench:
    """The rooms around one VM, and what a test does with them."""

    def __init__(self, vm: Vm, operations: Operations, jobs: Jobs, store: Store) -> None:
        self.vm, self.jobs, self.store, self.operations = vm, jobs, store, operations
        self.inventory: Inventory = operations.context.inventory
        catalog = Catalog(self.inventory, store, jobs)
        self.resting = Resting(store, self.inventory, catalog, jobs)

    async def changed(self) -> bool:
        async with asyncio.timeout(10):
            return await self.resting.changed(self.inventory.domains[UUID])

    async def create(self, name: str) -> Job:
        job = await self.operations.create(self.vm.info, Wish(name=name, memory="no"), ASKER)
        await job.ended.wait()
        return job

    async def start_delete(self, name: str) -> Job:
        return await self.operations.delete(self.vm.info, DeleteWish(self.key(name)), ASKER)

    async def delete(self, name: str) -> Job:
        job = await self.start_delete(name)
        await job.ended.wait()
        return job

    def key(self, name: str) -> SnapshotKey:
        listed = self.inventory.domains[UUID].snapshots[name]
        return SnapshotKey(UUID, name, listed.created)

    async def own(self, info: SnapshotInfo, state: State = State.SHUTOFF) -> None:
        """Have the store say that we made it of a VM in that state."""
        key = SnapshotKey(UUID, info.name, info.created)
        made = Record(key, Origin.POLICY, ("nightly",), state, Consistency.CRASH)
        await self.store.change_records([made])

    async def begin_delete(self, name: str) -> Job:
        """Until it writes; vm.acting is its to go on by."""
        self.vm.acting.clear()
        written = self.vm.written
        job = await self.start_delete(name)
        await self.until(lambda: self.vm.written > written)
        return job

    async def go_on(self, job: Job) -> None:
        self.vm.acting.set()
        await job.ended.wait()
        await self.still()

    async def start_revert(self, name: str) -> Job:
        wish = RevertWish(self.key(name), safety=False)
        return await self.operations.revert(self.vm.info, wish, ASKER)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not reached():
                await asyncio.sleep(0.005)

    async def still(self) -> None:
        """Until all is stamped that is to be."""
        await self.resting.stop()


@pytest.fixture(autouse=True)
def _sound(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing has failed behind anybody's back."""
    yield
    told = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert [r.getMessage() for r in told if r.name == "snapd.policy.resting"] == []


Body = Callable[[Bench], Awaitable[None]]


def on(folder: Path, body: Body, vm: Vm | None = None, has_images: bool = True) -> None:
    """Run the body, with a daemon of its own on the folder's store."""

    vm = vm or Vm()

    async def main(operations: Operations, jobs: Jobs, store: Store) -> None:
        bench = Bench(vm, operations, jobs, store)
        await bench.resting.load()
        await body(bench)
        await bench.still()

    vm.has_images = has_images
    vm.on_events, vm.on_connections = [], []
    play(folder, vm, main)


async def _made(bench: Bench) -> None:
    """Two snapshots of ours, and nothing else since."""
    await bench.create("old")
    await bench.create("new")
    assert not await bench.changed()


def test_changed_nothing_but_what_we_made_ourselves(tmp_path: Path) -> None:
    vm = Vm()

    async def first(bench: Bench) -> None:
        assert await bench.changed()  # there is no snapshot yet
        await _made(bench)
        await bench.still()
        assert not await bench.changed()

    async def restarted(bench: Bench) -> None:
        assert not await bench.changed()

    on(tmp_path, first, vm)
    on(tmp_path, restarted, vm)


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.SUSPENDED, State.UNKNOWN])
def test_changed_vm_that_is_not_off(tmp_path: Path, state: State) -> None:
    async def body(bench: Bench) -> None:
        await _made(bench)
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
        await _made(bench)
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
        await _made(bench)
        bench.vm.tell(kind)
        assert not await bench.changed()

    on(tmp_path, body)


def test_changed_reverted_by_somebody_else(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await _made(bench)
        for call in bench.vm.on_events:
            call(DomainEvent(UUID, EventKind.DEFINED, from_snapshot=True))
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_seen_running_by_a_listing(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await _made(bench)
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
        await _made(bench)
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


def test_changed_not_by_our_own_delete(tmp_path: Path) -> None:
    vm = Vm()

    async def body(bench: Bench) -> None:
        await _made(bench)
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

    on(tmp_path, _made, vm)
    on(tmp_path, body, vm)


def test_changed_not_while_our_own_delete_is_at_work(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await _made(bench)
        await bench.still()
        job = await bench.begin_delete("old")
        assert not await bench.changed()
        await bench.go_on(job)

    on(tmp_path, body)


def test_changed_not_by_acts_that_follow_one_another_at_once(tmp_path: Path) -> None:
    """The stamp of the first is still on its way when the next writes."""

    async def body(bench: Bench) -> None:
        await _made(bench)
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
        await _made(bench)
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

        await _made(bench)
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
        await _made(bench)
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
        await _made(bench)
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
        await _made(bench)
        await bench.still()
        job = await bench.begin_delete("old")
        bench.vm.start_and_stop()
        await bench.go_on(job)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_job_that_waited_for_who_else_has_the_images(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await _made(bench)
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
        await _made(bench)
        await bench.still()
        bench.vm.lose_connection()
        assert not await bench.changed()  # the images are as they were
        job = await bench.begin_delete("old")
        bench.vm.lose_connection()
        await bench.go_on(job)
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
        await _made(bench)
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
        await _made(bench)
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
        await _made(bench)
        await bench.still()
        job = await bench.begin_delete("new")
        assert await bench.changed()
        await bench.go_on(job)
        assert await bench.changed()

    on(tmp_path, body)


def test_changed_while_a_revert_is_at_work(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await _made(bench)
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
        await _made(bench)
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
        await _made(bench)
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

        await _made(bench)
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
        await _made(bench)
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
        await _made(bench)
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
        await _made(bench)
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
