"""A full file system: refused before anything is written, or a clean end; the guest goes on."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import NoSpace, SnapdError
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.inventory import Inventory
from snapd.model import Floor, JobState, Keep, Origin, Policy, Verb
from snapd.operations import Asker, Catalog, Job, Jobs, Operations, Request, Wish
from snapd.policy import ClockGuard, Pruner
from snapd.settings import Settings
from snapd.store import Store
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Disk, Hardware
from tests.client import Client, Daemon
from tests.qemu.conftest import know
from tests.qemu.steps import await_state, clean, listed, tags, untouched
from tests.qemu.test_facts import ask

PLAIN = {"memory": "no", "quiesce": "no"}
KIB, MIB = 1 << 10, 1 << 20


class Tight(Guest):
    """A guest of one disk on a tmpfs of its own, that pauses when its disk can't be written."""

    @classmethod
    def on(cls, tmpfs: Path, made: Guest) -> Tight:
        moved = tmpfs / made.images[0].name
        moved.write_bytes(made.images[0].read_bytes())
        return cls("tight", made.folder, [Disk(moved)], Hardware())

    @property
    def xml(self) -> str:
        return super().xml.replace("type='qcow2'", "type='qcow2' error_policy='enospace'")

    @property
    def tmpfs(self) -> Path:
        return self.images[0].parent

    def room(self, free: int) -> None:
        """Have the file system end that many bytes from where it is full."""
        for _ in range(50):  # what is written meanwhile may make the size too small
            size = int(_df(self.tmpfs, "used")) + free
            remount = ["mount", "-o", f"remount,size={size}", str(self.tmpfs)]
            if subprocess.run(remount, timeout=10, capture_output=True).returncode == 0:
                return
        raise AssertionError("the file system cannot be made smaller")


def _df(folder: Path, what: str) -> str:
    command = ["df", "-B1", f"--output={what}", str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
    return said.split()[-1]


@pytest.fixture(scope="module")
def module_tight(session_bed: PrivateLibvirt) -> Iterator[Tight]:
    made = Guest.make("tight", session_bed.images)
    tmpfs = made.folder / "tmpfs"
    tmpfs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(tmpfs)]
    subprocess.run(mount, check=True, timeout=10)
    try:
        yield Tight.on(tmpfs, made).up()
    finally:
        made.virsh("destroy", check=False)
        subprocess.run(["umount", "--lazy", tmpfs], check=True, timeout=10)
        made.remove()


@pytest.fixture
def tight(bed: PrivateLibvirt, module_tight: Tight, client: Client) -> Iterator[Tight]:
    module_tight.room(300 * MIB)
    know(client, module_tight)
    yield module_tight
    module_tight.room(300 * MIB)
    clean(module_tight)


def error(client: Client, member: str, *words: str, **options: Any) -> dict[str, Any]:
    """The failed job."""
    job = client.call(member, *words, **options)
    with pytest.raises(SnapdError):
        client.wait(job)
    row = client.job(job)
    return {"Error": row["ErrorName"].rpartition(".")[2], **row["ErrorDetail"]}


@contextmanager
def quiet(guest: Guest) -> Iterator[None]:
    """The guest writes nothing by itself meanwhile: it would pause, or take the room."""
    guest.cmd("sh", "sync; kill -STOP $(cat /run/counter.pid)")
    try:
        yield
    finally:
        guest.cmd("sh", "kill -CONT $(cat /run/counter.pid)")


def test_no_room_refuses_create_before_anything_is_written(client: Client, tight: Tight) -> None:
    with untouched(tight):
        for free, memory in ((40 * MIB, "yes"), (2 * MIB, "no")):
            tight.room(free)
            used = int(_df(tight.tmpfs, "used"))
            found = error(client, "CreateSnapshot", "tight", "x", memory=memory, quiesce="no")
            assert (found["Error"], found["Reason"]) == ("NoSpace", "no-space")
            assert found["Need"] > found["Have"] > free - MIB
            assert found["Have"] <= free
            assert int(_df(tight.tmpfs, "used")) - used < MIB  # the guest's own writing


def test_no_room_for_ram_takes_disks_alone_where_memory_is_auto_and_says_so(
    client: Client, tight: Tight
) -> None:
    tight.room(40 * MIB)
    job = client.call("CreateSnapshot", "tight", "disks", quiesce="no")
    assert client.wait(job)["Consistency"] == "crash"
    (warning,) = client.job(job)["Warnings"]
    assert warning["Reason"] == "memory-left-out"
    assert (listed(tight), tags(tight)) == (["disks"], [["disks"]])
    tight.room(1 * MIB)  # a delete needs next to none, and is the way out
    assert client.delete("tight", "disks")["Deleted"] == ["disks"]
    assert (listed(tight), tags(tight)) == ([], [[]])


def test_no_room_at_all_refuses_delete_which_would_lose_clusters(
    client: Client, tight: Tight
) -> None:
    """QEMU needs a cluster for its new list of snapshots."""
    client.create("tight", "x", **PLAIN)
    with quiet(tight):
        tight.room(0)
        assert client.refused("DeleteSnapshot", "tight", "x") == ("NoSpace", "no-space")
        assert (listed(tight), tags(tight)) == (["x"], [["x"]])
        tight.room(256 * KIB)
        assert client.delete("tight", "x")["Deleted"] == ["x"]
        assert (listed(tight), tags(tight)) == ([], [[]])
        checked = ["qemu-img", "check", "-U", "-f", "qcow2", "--output=json", str(tight.images[0])]
        said = subprocess.run(checked, capture_output=True, text=True, timeout=60).stdout
        assert "leaks" not in json.loads(said)
        tight.room(300 * MIB)


def test_room_that_goes_while_ram_is_written_fails_cleanly_and_the_guest_goes_on(
    client: Client, tight: Tight
) -> None:
    found: SnapdError | None = None
    tight.cmd("fill", "60")
    with untouched(tight), quiet(tight):
        for _ in range(5):
            job = client.call("CreateSnapshot", "tight", "ram", memory="yes")
            thief = threading.Thread(target=take_the_room, args=(client, job, tight))
            thief.start()
            try:
                client.wait(job)
            except SnapdError as e:
                found = e
                break
            finally:
                thief.join()
                tight.room(300 * MIB)
            client.delete("tight", "ram")  # on a busy host the room went too late
        assert isinstance(found, NoSpace) and "VM tight" in found.message
        assert client.job(job)["ErrorDetail"]["Have"] <= 4 * MIB
        know(client, tight)
    tight.cmd("sh", "rm /run/fill")
    assert client.snapshots("tight") == {}


def take_the_room(client: Client, job: str, tight: Tight) -> None:
    """All but 4 MiB, once the RAM is being written."""
    phases = ("taking", "verifying", "")
    client.until("it goes", lambda: client.job(job)["Phase"] in phases, pause=0.005)
    tight.room(4 * MIB)


def test_guest_paused_by_a_full_disk_is_a_problem_and_refuses_create_and_prune(
    daemon: Daemon, client: Client, tight: Tight
) -> None:
    policy = daemon.config / "policies.d" / "small.toml"
    policy.write_text(
        'domains = ["tight"]\nschedule = "0 0 1 1 *"\nquiesce = "no"\n[keep]\nlast = 1\n'
    )
    client.call("Reload")
    made = client.wait(client.call("RunPolicy", "small"))["Domains"]
    before = listed(tight)
    assert [row["Outcome"] for row in made] == ["made"] and len(before) == 1
    tight.room(2 * MIB)
    tight.cmd("sh", "dd if=/dev/urandom of=/disk/vda/big bs=1M count=20 conv=fsync 2>/dev/null &")
    await_state(tight, "paused")

    def problems() -> set[str]:
        rows = client.rows("ListProblems")
        return {row["Problem"] for row in rows if row["DomainName"] == "tight"}

    client.until("it is a problem", lambda: "io-error" in problems())
    tight.room(30 * MIB)
    for memory in ("no", "auto"):
        found = client.refused("CreateSnapshot", "tight", "x", memory=memory, quiesce="no")
        assert found == ("Unsupported", "io-error")
    assert client.refused("ConfirmPrune", "tight", "small", "any") == ("Protected", "io-error")
    (run,) = client.wait(client.call("RunPolicy", "small"))["Domains"]
    assert run["Outcome"] == "failed"
    assert client.job(run["Job"])["ErrorDetail"]["Reason"] == "io-error"
    assert (listed(tight), tags(tight), tight.state()) == (before, [before], "paused")
    tight.virsh("resume")
    client.until("it is over", lambda: "io-error" not in problems())
    (run,) = client.wait(client.call("RunPolicy", "small"))["Domains"]
    assert run["Outcome"] == "made"
    client.until("the first is pruned", lambda: before[0] not in listed(tight))
    (left,) = listed(tight)
    assert tags(tight) == [[left]]
    policy.unlink()
    client.call("Reload")
    client.delete("tight", left)


# --- min_free, and the room that may be made

BIG = 16 * MIB


def rewrite(guest: Guest) -> None:
    """Have the guest write 16 MiB in the same place: the last snapshot keeps the old ones."""
    guest.cmd("sh", "dd if=/dev/urandom of=/disk/vda/big bs=1M count=16 conv=notrunc,fsync")


class Refused:
    """The rooms as the daemon has them, without a daemon, for a policy that keeps the last three;
    what its runs do where they are refused for space."""

    def __init__(self, hypervisor: LibvirtHypervisor, store: Store, guest: Guest) -> None:
        policy = Policy("p", "admin", "r", (guest.name,), Keep(last=3), "UTC", "0 * * * *")
        self._uuid = guest.uuid
        self.jobs = Jobs(store)
        self.inventory = Inventory(hypervisor, self.jobs.holds)
        self.operations = Operations(hypervisor, self.inventory, store, self.jobs)
        catalog = Catalog(self.inventory, store, self.jobs)
        self._pruner = Pruner(
            self.operations,
            self.inventory,
            catalog,
            lambda: {"p": policy},
            Settings(),
            ClockGuard(),
        )

    def _wish(self, slot: int, floor: int) -> Wish:
        return Wish(
            name=f"p-{slot}",
            memory="no",
            quiesce="no",
            origin=Origin.POLICY,
            policies=("p",),
            min_free=Floor(size=floor),
        )

    async def create(self, slot: int, floor: int = 0) -> Job:
        info = (await self.inventory.refresh(self._uuid)).info
        job = await self.operations.create(info, self._wish(slot, floor), Asker())
        return await self.jobs.wait(job, 60)

    async def make_room(self, at: int, floor: int) -> list[str]:
        request = Request(Verb.PRUNE, self._uuid, "tight", policy="p", options={"room": at})
        wish = self._wish(5, floor)
        job = await self.jobs.submit(
            request, lambda job: self._pruner.make_room(job, ("p",), at, wish)
        )
        await self.jobs.wait(job, 60)
        assert job.row.state is JobState.DONE
        return list(job.row.result["Deleted"])


def test_full_disk_ten_slots_lose_what_one_success_would_have_released(
    tight: Tight, tmp_path: Path
) -> None:
    """Of five snapshots under keep.last = 3, one more would release three; the first of them makes
    room for a small floor, and no room that they make does for a large one."""
    image = tight.images[0]
    disk_room = 20 * MIB

    async def body(hypervisor: LibvirtHypervisor) -> None:
        store = await Store.open(tmp_path)
        desk = Refused(hypervisor, store, tight)
        try:
            rewrite(tight)
            for slot in range(5):
                assert (await desk.create(slot)).row.state is JobState.DONE
                rewrite(tight)
            tight.room(disk_room)
            at, before = int(time.time()), image.stat()
            small, large = disk_room + BIG // 2, 300 * MIB
            refused = (await desk.create(5, small)).error()
            assert (refused.name.rpartition(".")[2], refused.reason) == ("NoSpace", "min-free")
            assert await desk.make_room(at, small) == ["p-0"]
            after = image.stat()
            assert (after.st_blocks - before.st_blocks) * 512 < -BIG + MIB
            assert after.st_size >= before.st_size
            lost = []
            for _slot in range(10):
                assert (await desk.create(5, large)).error().reason == "min-free"
                lost += await desk.make_room(at, large)
                tight.room(disk_room)
            assert lost == ["p-1", "p-2"]
            assert (image.stat().st_blocks - before.st_blocks) * 512 < 3 * (-BIG + MIB)
            assert sorted(listed(tight)) == sorted(tags(tight)[0]) == ["p-3", "p-4"]
            assert (await desk.create(5, disk_room // 2)).row.state is JobState.DONE
        finally:
            await desk.jobs.stop(5)
            await store.close()

    try:
        with quiet(tight):
            ask(body)
        assert sorted(tags(tight)[0]) == ["p-3", "p-4", "p-5"]
    finally:
        tight.room(300 * MIB)
        for name in listed(tight):
            tight.virsh("snapshot-delete", name)
    assert tight.state() == "running" and tags(tight) == [[]]


def test_full_disk_policy_makes_room_once_and_then_its_snapshot(
    daemon: Daemon, client: Client, tight: Tight
) -> None:
    """By its slot; a run by hand deletes nothing."""
    policy = daemon.config / "policies.d" / "small.toml"
    rules = 'domains = ["tight"]\nquiesce = "no"\n[keep]\nlast = 2\n[limits]\nmin_free = "24MiB"\n'
    policy.write_text('schedule = "0 0 1 1 *"\n' + rules)
    client.call("Reload")
    rewrite(tight)
    for _ in range(2):
        (run,) = client.wait(client.call("RunPolicy", "small"))["Domains"]
        assert run["Outcome"] == "made"
        rewrite(tight)
    oldest, newest = client.snapshots("tight")
    with quiet(tight):
        tight.room(20 * MIB)
        before = tight.images[0].stat()
        (run,) = client.wait(client.call("RunPolicy", "small"))["Domains"]
        assert client.job(run["Job"])["ErrorDetail"]["Reason"] == "min-free"
        assert set(listed(tight)) == {oldest, newest}
        policy.write_text('schedule = "* * * * *"\n' + rules)
        client.call("Reload")
        client.until("it is made", lambda: {*listed(tight)} - {oldest, newest}, timeout=90)
        policy.write_text('schedule = "0 0 1 1 *"\n' + rules)
        client.call("Reload")
        client.until("all is quiet", lambda: all(j["Finished"] for j in client.rows("ListJobs")))
        (made,) = {*client.snapshots("tight")} - {oldest, newest}
        assert tags(tight) == [[newest, made]]
        assert (tight.images[0].stat().st_blocks - before.st_blocks) * 512 < -BIG + MIB
    gone = client.rows("ListHistory", "tight", snapshot=oldest)[0]
    assert (gone["Verb"], gone["Policy"]) == ("delete", "small")
    assert gone["Reason"] == "room: small: no-rule-matches"
    policy.unlink()
    client.call("Reload")
    for name in (newest, made):
        client.delete("tight", name)
