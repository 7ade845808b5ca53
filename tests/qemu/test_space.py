"""A full file system: refused before anything is written, or a clean end; the guest goes on."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import NoSpace, SnapdError
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Disk, Hardware
from tests.client import Client, Daemon
from tests.qemu.conftest import know
from tests.qemu.steps import await_state, listed, tags, untouched

PLAIN = {"memory": "no", "quiesce": "no"}
MIB = 1 << 20


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


def error(client: Client, member: str, *words: str, **options: Any) -> dict[str, Any]:
    """The failed job."""
    job = client.call(member, *words, **options)
    with pytest.raises(SnapdError):
        client.wait(job)
    row = client.job(job)
    return {"Error": row["ErrorName"].rpartition(".")[2], **row["ErrorDetail"]}


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
    tight.room(1 * MIB)  # a delete needs none, and is the way out
    assert client.delete("tight", "disks")["Deleted"] == ["disks"]
    assert (listed(tight), tags(tight)) == ([], [[]])


def test_room_that_goes_while_ram_is_written_fails_cleanly_and_the_guest_goes_on(
    client: Client, tight: Tight
) -> None:
    tight.cmd("fill", "60")
    counter = "$(cat /run/counter.pid)"
    with untouched(tight):
        tight.cmd("sh", f"sync; kill -STOP {counter}")  # else it is paused by its own writing
        job = client.call("CreateSnapshot", "tight", "ram", memory="yes")
        gone: list[float] = []

        def take_the_room() -> None:
            client.until("it goes", lambda: client.job(job)["Phase"] == "taking", pause=0.005)
            tight.room(4 * MIB)
            gone.append(time.monotonic())

        thief = threading.Thread(target=take_the_room)
        thief.start()
        with pytest.raises(SnapdError) as caught:
            client.wait(job)
        thief.join()
        tight.room(300 * MIB)
        tight.cmd("sh", f"kill -CONT {counter}")
        assert gone, "the room went too late: nothing is shown"
        found = caught.value
        assert isinstance(found, NoSpace) and "VM tight" in found.message
        assert client.job(job)["ErrorDetail"]["Have"] <= 4 * MIB
        know(client, tight)
    tight.cmd("sh", "rm /run/fill")
    assert client.snapshots("tight") == {}


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
