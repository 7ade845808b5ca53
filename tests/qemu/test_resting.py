"""Whether a real VM that is off counts as changed: what QEMU, qemu-img and libvirt really write."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.inventory import Inventory
from snapd.model import JobState, SnapshotKey, Verb
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
from snapd.store import Store
from tests.bed.guest import Guest
from tests.bus import PrivateBus
from tests.client import Client, Daemon, Row
from tests.qemu.conftest import NewGuest
from tests.qemu.steps import listed, qemu_img

ASKER = Asker(0, 60)
POLICY = 'domains = ["idle"]\nschedule = "0 * * * *"\nonly_if = "changed"\n[keep]\nlast = 1\n'


class Desk:
    """The rooms as the daemon has them, without a daemon, for one guest."""

    def __init__(self, hypervisor: LibvirtHypervisor, store: Store, guest: Guest) -> None:
        self.guest, self.jobs = guest, Jobs(store)
        self.inventory = Inventory(hypervisor, self.jobs.holds)
        let_go = self.inventory.let_go
        self.jobs.listen(ended=lambda job: let_go(job.row.domain), freed=let_go)
        self.operations = Operations(hypervisor, self.inventory, store, self.jobs)
        catalog = Catalog(self.inventory, store, self.jobs)
        self.resting = Resting(store, self.inventory, catalog, self.jobs)

    async def changed(self) -> bool:
        picture = await self.inventory.refresh(self.guest.uuid)  # as the next poll does
        return await self.resting.changed(picture)

    async def _ended(self, job: Job) -> None:
        await self.jobs.wait(job, 120)
        assert job.row.state is JobState.DONE, job.row

    def key(self, name: str) -> SnapshotKey:
        created = self.inventory.domains[self.guest.uuid].snapshots[name].created
        return SnapshotKey(self.guest.uuid, name, created)

    async def create(self, name: str) -> None:
        info = self.inventory.domains[self.guest.uuid].info
        await self._ended(await self.operations.create(info, Wish(name=name), ASKER))

    async def delete(self, name: str) -> None:
        info = self.inventory.domains[self.guest.uuid].info
        await self._ended(await self.operations.delete(info, DeleteWish(self.key(name)), ASKER))

    async def revert(self, name: str) -> None:
        info = self.inventory.domains[self.guest.uuid].info
        await self._ended(await self.operations.revert(info, RevertWish(self.key(name)), ASKER))

    async def prune(self, *names: str) -> None:
        """As a policy's prune does."""

        async def work(job: Job) -> Outcome:
            for name in names:
                await self.operations.delete_within(job, self.key(name), "retention")
            return Outcome()

        request = Request(Verb.PRUNE, self.guest.uuid, self.guest.name)
        await self._ended(await self.jobs.submit(request, work))

    async def becomes_changed(self) -> None:
        """By an event, which needs a moment."""
        deadline = time.monotonic() + 20
        while not await self.changed():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def live(folder: Path, guest: Guest, body: Callable[[Desk], Awaitable[None]]) -> None:
    """One life of the daemon, on a store that outlives it."""

    async def run() -> None:
        hypervisor = LibvirtHypervisor("qemu:///system")
        store = await Store.open(folder)
        desk = Desk(hypervisor, store, guest)
        await desk.resting.load()
        tasks = [asyncio.create_task(w) for w in (hypervisor.keep(), desk.inventory.run())]
        try:
            await desk.inventory.ready("the test")
            await body(desk)
        finally:
            await desk.jobs.stop(5)
            await desk.resting.stop()
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)
            await hypervisor.close()
            await store.close()

    asyncio.run(run())


def times(guest: Guest) -> list[int]:
    return [disk.path.stat().st_mtime_ns for disk in guest.disks]


async def unchanged(desk: Desk) -> None:
    assert not await desk.changed()


async def changed(desk: Desk) -> None:
    assert await desk.changed()


async def one(desk: Desk) -> None:
    """A first snapshot of a VM that is off."""
    assert await desk.changed()
    await desk.create("one")
    assert not await desk.changed()


def test_our_own_acts_change_nothing_in_any_life_of_the_daemon(
    new_guest: NewGuest, tmp_path: Path
) -> None:
    guest = new_guest("rests", disks=2)
    guest.define()

    async def more(desk: Desk) -> None:
        for name in ("two", "three", "four"):
            await desk.create(name)
        assert not await desk.changed()
        before = times(guest)
        await desk.delete("one")
        assert all(now > then for now, then in zip(times(guest), before, strict=True))
        assert not await desk.changed()

    async def first_of_all(desk: Desk) -> None:
        await desk.prune("two", "three")

    live(tmp_path, guest, one)
    live(tmp_path, guest, unchanged)
    live(tmp_path, guest, more)
    live(tmp_path, guest, first_of_all)
    live(tmp_path, guest, unchanged)
    assert listed(guest) == ["four"]


def test_start_that_nobody_saw_is_told_by_what_the_guest_wrote(
    new_guest: NewGuest, tmp_path: Path
) -> None:
    guest = new_guest("unseen", agent=False)
    guest.define()
    live(tmp_path, guest, one)
    guest.virsh("start", "--paused")
    guest.virsh("destroy")
    live(tmp_path, guest, unchanged)  # it had a QEMU, which wrote nothing
    guest.start()
    guest.wait()
    guest.cmd("poweroff")
    deadline = time.monotonic() + 60
    while guest.state() != "shut off":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    live(tmp_path, guest, changed)


def test_start_that_was_seen_counts_whatever_the_guest_wrote(
    new_guest: NewGuest, tmp_path: Path
) -> None:
    guest = new_guest("seen", agent=False)
    guest.define()

    async def body(desk: Desk) -> None:
        await one(desk)
        before = times(guest)
        await asyncio.to_thread(guest.virsh, "start", "--paused")
        await asyncio.to_thread(guest.virsh, "destroy")
        await desk.becomes_changed()
        assert times(guest) == before

    live(tmp_path, guest, body)
    live(tmp_path, guest, changed)


def test_what_others_do_to_the_images_counts(new_guest: NewGuest, tmp_path: Path) -> None:
    guest = new_guest("foreign", disks=2)
    guest.define()
    data = guest.disks[1].path

    async def body(desk: Desk) -> None:
        await one(desk)
        acts: list[Callable[[], object]] = [
            lambda: guest.virsh("snapshot-create-as", "theirs"),
            lambda: guest.virsh("snapshot-revert", "theirs"),
            lambda: guest.virsh("snapshot-delete", "theirs"),
            lambda: qemu_img("snapshot", "-c", "by-hand", data),
            lambda: qemu_img("snapshot", "-d", "by-hand", data),
            lambda: qemu_img("resize", "-q", "-f", "qcow2", data, "80M"),
        ]
        for number, act in enumerate(acts):
            await asyncio.to_thread(act)
            assert await desk.changed(), number
            await desk.create(f"after-{number}")
            assert not await desk.changed(), number
        await desk.revert("one")
        assert await desk.changed()

    live(tmp_path, guest, body)
    live(tmp_path, guest, changed)


def test_policy_takes_nothing_of_a_vm_that_has_not_run(
    daemon: Daemon, bus: PrivateBus, new_guest: NewGuest
) -> None:
    """A slot comes due again and again; the daemon is stopped and killed in between. With last = 1
    each snapshot that is made has the one before pruned, in images of a VM that is off."""
    guest = new_guest("idle", agent=False)
    guest.define()
    file = daemon.config / "policies.d" / "changed.toml"
    file.write_text(POLICY)
    try:
        with Client(bus.address) as client:
            client.call("Reload")
            client.until("it is on", lambda: _slots(daemon))
        daemon.stop()
        made = _made(daemon, bus, guest)
        daemon.stop()
        _skipped(_due(daemon, bus), guest, made)
        guest.virsh("start", "--paused")
        guest.virsh("destroy")
        with Client(bus.address) as client:
            client.until("it is off", lambda: (client.domain("idle") or {})["State"] == "shutoff")
        daemon.stop()
        again = _made(daemon, bus, guest)
        assert again != made
        daemon.kill()
        _skipped(_due(daemon, bus), guest, again)
    finally:
        file.unlink()
        if daemon.running:
            with Client(bus.address) as client:
                client.call("Reload")


def _made(daemon: Daemon, bus: PrivateBus, guest: Guest) -> str:
    """The one snapshot that is there after the slot, the daemon knowing how it left the VM."""
    name = str(_due(daemon, bus)["SnapshotName"])
    deadline = time.monotonic() + 20
    while listed(guest) != [name] or not _knows(daemon, name, times(guest)):
        assert time.monotonic() < deadline, listed(guest)
        time.sleep(0.05)
    return name


def _knows(daemon: Daemon, snapshot: str, written: list[int]) -> bool:
    """Whether the store has the VM as that snapshot left it, its images last written to then."""
    with closing(sqlite3.connect(daemon.state / "store.sqlite")) as db:
        row = db.execute("SELECT name, stamp FROM rests").fetchone() or ("", "")
    return row[0] == snapshot and all(str(at) in row[1] for at in written)


def _skipped(run: Row, guest: Guest, made: str) -> None:
    assert (run["Outcome"], "only_if = changed" in run["Reason"]) == ("skipped", True), run
    assert listed(guest) == [made]


def _slots(daemon: Daemon, back: int = 0) -> int:
    """How many slots of the policy are settled; moved back so that one is due."""
    with closing(sqlite3.connect(daemon.state / "store.sqlite")) as db, db:
        change = "UPDATE slots SET last_slot = last_slot - ? WHERE policy = 'changed'"
        return db.execute(change, (back,)).rowcount


def _due(daemon: Daemon, bus: PrivateBus) -> Row:
    """Start the daemon with a slot that is due; the run that came of it."""
    with closing(sqlite3.connect(daemon.state / "store.sqlite")) as db:
        (before,) = db.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()
    assert _slots(daemon, 7200) == 1
    daemon.start()
    with Client(bus.address) as client:

        def runs() -> list[Row]:
            rows = client.rows("ListRuns", "idle", policy="changed")
            return [row for row in rows if row["Run"] > before]

        client.until("a run", runs, 60)
        client.until("all is quiet", lambda: all(j["Finished"] for j in client.rows("ListJobs")))
        return runs()[0]
