"""Deleting external snapshots of real guests: libvirt merges, in any order, running and off. What
the guest has stays, what the other snapshots hold stays, no file is left, the images are sound."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.client import Client, Daemon
from tests.qemu.conftest import know
from tests.qemu.steps import await_state, listed, note, on_disks, qemu_img

NAMES = ("s1", "s2", "s3")
BIG_MIB = 400
SLOW = 100 << 20
"""Bytes a second that a merge is held to, so that something can happen in the middle of it."""
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
LONG = pytest.mark.long
SHORT = (("s1", "s2", "s3"), ("s2", "s3", "s1"), ("s3", "s2", "s1"))
ORDERS = [
    pytest.param(order, id="-".join(order), marks=() if order in SHORT else LONG)
    for order in permutations(NAMES)
]
EXTERNAL = {"kind": "external", "memory": "no", "quiesce": "no"}


def _chain(guest: Guest, target: str) -> list[Path]:
    """The files that a disk stands on, by libvirt's XML and then by qemu-img."""
    root = ET.fromstring(guest.virsh("dumpxml"))
    (top,) = (
        disk.find("source").get("file", "")  # type: ignore[union-attr]
        for disk in root.iterfind("devices/disk")
        if disk.find("target").get("dev") == target  # type: ignore[union-attr]
    )
    command = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", "-f", "qcow2", top]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    return [Path(layer["filename"]) for layer in json.loads(done.stdout)]


def _targets(guest: Guest) -> list[str]:
    return [disk.path.stem for disk in guest.disks]


def _bases(guest: Guest, name: str) -> dict[str, str]:
    """target -> the file that holds what the snapshot goes back to, by libvirt's record."""
    root = ET.fromstring(guest.virsh("snapshot-dumpxml", name))
    return {
        disk.find("target").get("dev", ""): disk.find("source").get("file", "")  # type: ignore[union-attr]
        for disk in root.iterfind("domain/devices/disk")
    }


class Copies:
    """What each snapshot held when it was made, to be compared with what it holds now."""

    def __init__(self, guest: Guest, folder: Path) -> None:
        self._guest, self._folder = guest, folder

    def take(self, name: str) -> None:
        for target, file in _bases(self._guest, name).items():
            copy = self._folder / f"{name}-{target}"
            qemu_img("convert", "-U", "-f", "qcow2", "-O", "qcow2", file, copy)

    def agree(self, name: str) -> None:
        for target, file in _bases(self._guest, name).items():
            copy = self._folder / f"{name}-{target}"
            qemu_img("compare", "-U", "-f", "qcow2", "-F", "qcow2", file, copy)


def _stands_alone(guest: Guest, names: list[str]) -> None:
    """libvirt lists these, each disk stands on as many overlays, and no other file is there."""
    assert sorted(listed(guest)) == sorted(names)
    there = set()
    for target in _targets(guest):
        chain = _chain(guest, target)
        assert len(chain) == len(names) + 1, chain
        there |= set(chain)
    assert {f for f in guest.folder.iterdir() if f.suffix == ".qcow2"} == there
    if guest.state() == "shut off":
        for file in there:
            qemu_img("check", "-f", "qcow2", file)


@pytest.fixture(scope="module")
def module_three(session_bed: PrivateLibvirt) -> Iterator[Guest]:
    hardware = Hardware(agent=False)
    guest = Guest.make("three", session_bed.images, disks=2, disk_mib=32, hardware=hardware)
    yield guest.up()
    session_bed.mend_libvirtd()
    guest.remove()


@pytest.fixture
def three(module_three: Guest, client: Client, tmp_path: Path) -> Guest:
    """A running guest without a snapshot on its first files."""
    guest = module_three
    if guest.state() != "running":
        guest.start()
    guest.wait()
    assert listed(guest) == []
    know(client, guest)
    return guest


def _make_three(client: Client, guest: Guest, copies: Copies) -> None:
    for name in NAMES:
        note(guest, f"before {name}")
        guest.cmd("sh", "sync")
        client.create(guest.name, name, **EXTERNAL)
        copies.take(name)
    note(guest, "now")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("state", ["running", "off"])
def test_three_go_in_any_order(
    client: Client, three: Guest, tmp_path: Path, order: tuple[str, ...], state: str
) -> None:
    copies = Copies(three, tmp_path)
    _make_three(client, three, copies)
    _stands_alone(three, list(NAMES))
    if state == "off":
        three.cmd("sh", "sync")
        three.virsh("destroy")
        know(client, three)
    left = list(NAMES)
    for name in order:
        result = client.delete(three.name, name)
        assert result["Deleted"] == [name]
        left.remove(name)
        _stands_alone(three, left)
        rows = client.snapshots(three.name)
        assert [(r["Name"], r["Status"]) for r in rows.values()] == [(n, "ok") for n in left]
        parents = [r["Parent"].rpartition("/")[2] for r in rows.values()]
        assert parents == ["", *left[:-1]][: len(left)]
        for other in left:
            copies.agree(other)
    assert [_chain(three, t) for t in _targets(three)] == [[d.path] for d in three.disks]
    if state == "off":
        assert three.state() == "shut off"
        three.start()
        three.wait()
    assert on_disks(three) == ["now", "now"]


def test_children_go_with_it_and_all_of_ours_at_once(
    client: Client, three: Guest, tmp_path: Path
) -> None:
    copies = Copies(three, tmp_path)
    _make_three(client, three, copies)
    looked = client.call("PreviewDelete", three.name, "s2", children=True)
    assert (looked["Verdict"], looked["Kind"]) == ("yes", "external")
    assert looked["SpaceNeed"] > 0
    assert client.delete(three.name, "s2", children=True)["Deleted"] == ["s3", "s2"]
    _stands_alone(three, ["s1"])
    copies.agree("s1")
    client.create(three.name, "s4", **EXTERNAL)
    job = client.call("DeleteOwnSnapshots", three.name, manual=True)
    assert sorted(client.wait(job)["Deleted"]) == ["s1", "s4"]
    _stands_alone(three, [])
    assert on_disks(three) == ["now", "now"]


def test_branches_are_refused_until_their_leaves_are_gone(client: Client, three: Guest) -> None:
    note(three, "first")
    three.cmd("sh", "sync")
    client.create(three.name, "s1", **EXTERNAL)
    client.create(three.name, "s2", **EXTERNAL)
    three.virsh("snapshot-revert", "s1", "--running")
    three.wait()
    know(client, three)
    files = set(three.folder.iterdir())
    assert client.refused("DeleteSnapshot", three.name, "s1") == ("Unsupported", "active-non-leaf")
    client.create(three.name, "s3", **EXTERNAL)
    assert client.refused("DeleteSnapshot", three.name, "s1") == ("Unsupported", "branching")
    assert files < set(three.folder.iterdir())
    client.delete(three.name, "s2")
    assert sorted(listed(three)) == ["s1", "s3"]
    assert not any("s1" in f.name for f in three.folder.iterdir() if f.suffix == ".qcow2")
    client.delete(three.name, "s3")
    client.delete(three.name, "s1")
    _stands_alone(three, [])
    assert on_disks(three) == ["first", "first"]


def test_ram_goes_with_it(client: Client, three: Guest) -> None:
    client.create(three.name, "s1", kind="external", memory="yes")
    (ram,) = (f for f in three.folder.iterdir() if f.suffix == ".ram")
    client.delete(three.name, "s1")
    assert not ram.exists()
    _stands_alone(three, [])


def test_image_that_needs_the_base_of_another_is_no_merge(client: Client, three: Guest) -> None:
    """Somebody's clone stands on the first disk: it would read what the guest wrote since."""
    client.create(three.name, "s1", **EXTERNAL)
    clone = three.folder / "clone.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", three.disks[0].path, clone)
    clone_xml = three.xml.replace("<name>three</name>", "<name>clone</name>")
    clone_xml = clone_xml.replace(three.uuid, "11111111-2222-4333-8444-555555555555")
    clone_xml = clone_xml.replace(str(three.disks[0].path), str(clone))
    clone_xml = clone_xml.replace(str(three.disks[1].path), str(clone.with_suffix(".none")))
    three.define(clone_xml)
    try:
        refused = client.refused("DeleteSnapshot", three.name, "s1")
        assert refused == ("Protected", "shared-base")
    finally:
        subprocess.run(["virsh", "-c", "qemu:///system", "undefine", "clone"], check=True)
        clone.unlink()
    client.delete(three.name, "s1")
    _stands_alone(three, [])


def test_merge_that_libvirt_left_between_two_disks_is_finished(
    client: Client, three: Guest
) -> None:
    """As a libvirtd that was killed between the disks leaves it; its own delete fails for ever."""
    note(three, "before")
    client.create(three.name, "s1", **EXTERNAL)
    note(three, "now")
    three.cmd("sh", "sync")
    three.virsh("blockcommit", "vda", "--active", "--pivot", "--delete")
    said = three.virsh("snapshot-delete", "s1", check=False)
    assert "failed to find" in said
    three.virsh("destroy")
    know(client, three)
    files = set(three.folder.iterdir())
    assert client.refused("DeleteSnapshot", three.name, "s1") == ("Partial", "half-made")
    assert set(three.folder.iterdir()) == files
    three.start()
    three.wait()
    know(client, three)
    assert client.delete(three.name, "s1")["Deleted"] == ["s1"]
    _stands_alone(three, [])
    assert on_disks(three) == ["now", "now"]


# --- in the middle


class SlowGuest(Guest):
    """A guest whose QEMU can be told to merge slowly, by a monitor beside libvirt's."""

    @property
    def xml(self) -> str:
        beside = f"unix:{self.folder}/monitor,server=on,wait=off"
        words = "".join(f"<qemu:arg value='{word}'/>" for word in ("-qmp", beside))
        text = super().xml.replace("<domain ", f"<domain xmlns:qemu='{QEMU}' ")
        return text.replace("</domain>", f"<qemu:commandline>{words}</qemu:commandline></domain>")

    def slow_down(self) -> None:
        """Wait for a merge of much, and hold it to SLOW."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(f"{self.folder}/monitor")
                    if self._slow(line.makefile("rw")):
                        return
            except OSError:  # no QEMU yet
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def _slow(self, monitor: TextIO) -> bool:
        def ask(execute: str, **arguments: Any) -> Any:
            monitor.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
            monitor.flush()
            while "return" not in (answer := json.loads(monitor.readline())):
                assert "error" not in answer, answer
            return answer["return"]

        monitor.readline()
        ask("qmp_capabilities")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for job in ask("query-block-jobs"):
                if job["len"] > 64 << 20:
                    ask("block-job-set-speed", device=job["device"], speed=SLOW)
                    return True
        return False


class Big:
    """A guest whose second disk has much to merge, beyond what the guest uses of it."""

    def __init__(self, client: Client, guest: SlowGuest) -> None:
        self.client, self.guest = client, guest

    def make(self, *names: str, running: bool, fill: str) -> None:
        """Snapshots of the guest that is off; `fill`: the one whose overlay gets it all."""
        for name in names:
            self.client.create(self.guest.name, name, **EXTERNAL)
            if name == fill:
                top = _chain(self.guest, "vdb")[0]
                write = f"write -P 7 100M {BIG_MIB}M"
                subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, top], check=True)
        if running:
            self.guest.start()
            self.guest.wait()
            know(self.client, self.guest)

    def begin(self, name: str) -> str:
        """Have it deleted; returns when some of it is merged."""
        job: str = self.client.call("DeleteSnapshot", self.guest.name, name)
        self.guest.slow_down()
        self.client.until(
            "it is merging", lambda: 0 < self.client.job(job)["Progress"] < 1, 30, 0.02
        )
        return job

    def whole(self) -> None:
        """All is where it was, and the guest has what it had."""
        _stands_alone(self.guest, [])
        if self.guest.state() == "shut off":
            write = f"read -P 7 100M {BIG_MIB}M"
            command = ["qemu-io", "-r", "-f", "qcow2", "-c", write, str(self.guest.disks[1].path)]
            said = subprocess.run(command, check=True, capture_output=True, text=True)
            assert "verification failed" not in said.stdout
            self.guest.start()
            self.guest.wait()
        assert on_disks(self.guest) == ["now", "now"]


@pytest.fixture
def big(bed: PrivateLibvirt, client: Client) -> Iterator[Big]:
    hardware = Hardware(agent=False)
    guest = SlowGuest.make("big", bed.images, disks=2, disk_mib=32, hardware=hardware)
    qemu_img("resize", "-f", "qcow2", guest.disks[1].path, "1G")
    guest.up()
    note(guest, "now")
    guest.cmd("sh", "sync")
    guest.virsh("destroy")
    know(client, guest)
    yield Big(client, guest)
    bed.mend_libvirtd()
    guest.remove()


@pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
def test_progress_is_told_and_no_start_is_seen(client: Client, big: Big, running: bool) -> None:
    big.make("s1", "s2", running=running, fill="s1")
    client.listen()
    job = big.begin("s1")
    assert client.job(job)["Phase"] == "merging"
    assert client.snapshots("big")["s1"]["Status"] == "deleting"
    client.wait(job)
    changed = [body for body in client.signals("PropertiesChanged") if "Progress" in body[1]]
    shares = [body[1]["Progress"] for body in changed]
    assert len(shares) > 1
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    told = [b[1] for b in client.signals("PropertiesChanged") if b[0].endswith(".Domain")]
    states = {each["State"] for each in told if "State" in each}
    assert states <= {"running" if running else "shutoff"}
    client.delete("big", "s2")
    big.whole()


def _finish(client: Client, big: Big, job: str, name: str) -> None:
    """However the job ended: what it says is so, and it can be deleted in the end."""
    client.until("it is settled", lambda: client.job(job)["State"] in ("done", "failed"), 90)
    row = client.job(job)
    print(row["State"], row["ErrorName"], row["ErrorMessage"])
    if row["State"] == "failed":
        assert row["ErrorDetail"]["Reason"] == "half-made"
        shown = client.snapshots("big")[name]
        assert shown["Status"] == "broken"
        assert client.delete("big", name)["Deleted"] == [name]
    assert name not in listed(big.guest)


CASES = [
    pytest.param(
        running,
        fill,
        id=f"{'running' if running else 'off'}-{what}",
        marks=LONG if running is (fill == "s2") else (),
    )
    for running in (True, False)
    for fill, what in (("s1", "middle"), ("s2", "current"))
]


@pytest.mark.parametrize(("running", "fill"), CASES)
def test_libvirtd_killed_in_the_middle_and_the_next_try_works(
    client: Client, bed: PrivateLibvirt, big: Big, running: bool, fill: str
) -> None:
    big.make("s1", "s2", running=running, fill=fill)
    job = big.begin(fill)
    bed.kill_libvirtd()
    time.sleep(1)
    bed.start_libvirtd()
    _finish(client, big, job, fill)
    if not running:
        await_state(big.guest, "shut off")
    other = "s2" if fill == "s1" else "s1"
    client.delete("big", other)
    big.whole()


@pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
def test_daemon_killed_in_the_middle_says_what_came_of_it(
    client: Client, daemon: Daemon, big: Big, running: bool
) -> None:
    big.make("s1", "s2", running=running, fill="s2")
    job = big.begin("s2")
    daemon.kill()
    daemon.start()
    client.until("it is settled", lambda: client.job(job)["State"] == "done", 60)
    assert client.job(job)["Result"]["Deleted"] == ["s2"]
    assert listed(big.guest) == ["s1"]
    client.delete("big", "s1")
    big.whole()
