"""What only a real libvirt, real guests and real images show of the facts that verbs lean on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from snapd.errors import NeedsForce
from snapd.hypervisor import (
    DomainEvent,
    DomainFacts,
    EventKind,
    FileUse,
    ImageCheck,
    Need,
)
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.model import State
from tests.bed import recipe
from tests.bed.guest import Guest, virsh
from tests.bed.private import PrivateLibvirt
from tests.qemu.conftest import NewGuest, have_clock_set
from tests.qemu.steps import await_state, current, qemu_img

T = TypeVar("T")


def ask(question: Callable[[LibvirtHypervisor], Awaitable[T]]) -> T:
    """Connect, ask, close."""

    async def run() -> T:
        connected = asyncio.Event()
        hypervisor = LibvirtHypervisor("qemu:///system")
        hypervisor.on_connection(lambda up: connected.set() if up else None)
        keeping = asyncio.create_task(hypervisor.keep())
        try:
            async with asyncio.timeout(30):
                await connected.wait()
            return await question(hypervisor)
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            await hypervisor.close()

    return asyncio.run(run())


def facts(guest: Guest, snapshot: str = "") -> DomainFacts:
    return ask(lambda h: h.facts(recipe.domain_uuid(guest.name), snapshot))


@contextmanager
def tmpfs(folder: Path, size: str, inodes: int = 1000) -> Iterator[Path]:
    folder.mkdir()
    words = ["-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes}", "tmpfs", str(folder)]
    subprocess.run(["mount", *words], check=True, timeout=10)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=10)
        folder.rmdir()


@contextmanager
def pool(folder: Path) -> Iterator[None]:
    text = f"<pool type='dir'><name>facts</name><target><path>{folder}</path></target></pool>"
    virsh("pool-create", "/dev/stdin", text=text)
    try:
        yield
    finally:
        virsh("pool-destroy", "facts")


def test_linked_clones_are_found_by_their_vm_and_by_their_pool(
    bed: PrivateLibvirt, new_guest: NewGuest
) -> None:
    guest, clone = new_guest("template"), new_guest("clone")
    base = guest.disks[0].path
    guest.define()
    guest.virsh("snapshot-create-as", "s1")
    for path in (clone.disks[0].path, clone.folder / "loose.qcow2"):
        path.unlink(missing_ok=True)
        qemu_img("create", "-f", "qcow2", "-b", base, "-F", "qcow2", path)
    clone.define()
    assert facts(guest).users == []  # nobody asked about a snapshot
    assert facts(guest, "s1").users == [FileUse("vda", "clone", "backing")]
    with pool(clone.folder):
        assert facts(guest, "s1").users == [
            FileUse("vda", "clone", "backing"),
            FileUse("vda", "facts/loose.qcow2", "backing"),
        ]
        clone.start()
        running = facts(guest, "s1").users
    assert running == [
        FileUse("vda", "clone", "backing"),
        FileUse("vda", "facts/loose.qcow2", "backing"),
    ]
    clone.virsh("destroy")
    clone.define(clone.xml.replace(str(clone.disks[0].path), str(base)))
    assert facts(guest, "s1").users == []
    clone.start()
    assert facts(guest, "s1").users == [FileUse("vda", "clone", "active")]


def test_what_a_saved_domain_lacks_is_named(new_guest: NewGuest) -> None:
    guest = new_guest("lacks")
    kernel, share = guest.folder / "own-kernel", guest.folder / "share"
    kernel.symlink_to(recipe.build() / "vmlinuz")
    share.mkdir()
    devices = f"""<interface type='network'><source network='lab'/></interface>
      <interface type='bridge'><source bridge='br-none'/></interface>
      <interface type='bridge'><source bridge='lo'/></interface>
      <hostdev mode='subsystem' type='pci'><source>
        <address domain='0' bus='0xee' slot='0x1f' function='0x7'/></source></hostdev>
      <filesystem type='mount'><source dir='{share}'/><target dir='share'/></filesystem>"""
    text = guest.xml.replace("<devices>", f"<devices>{devices}")
    guest.define(text.replace(str(recipe.build() / "vmlinuz"), str(kernel)))
    guest.virsh("snapshot-create-as", "s1")
    always = [Need("device", "0000:ee:1f.7"), Need("bridge", "br-none")]
    network = "<network><name>lab</name><bridge name='vlab0'/></network>"

    def needs() -> set[Need]:
        found = facts(guest, "s1").needs
        assert len(found) == len(set(found))
        return set(found)

    assert needs() == {*always, Need("network", "lab")}
    virsh("net-define", "/dev/stdin", text=network)
    try:
        assert needs() == {*always, Need("network", "lab")}  # defined, but not active
        virsh("net-start", "lab")
        assert needs() == set(always)
    finally:
        virsh("net-destroy", "lab", check=False)
        virsh("net-undefine", "lab")
    kernel.unlink()
    share.rmdir()
    assert needs() >= {Need("file", "own-kernel"), Need("folder", "share")}


def test_image_of_another_format_than_declared_is_told_from_a_broken_one(
    new_guest: NewGuest,
) -> None:
    guest = new_guest("declared", disks=["qcow2", "raw", "qcow2"])
    xml = guest.xml.replace("type='raw'", "type='qcow2'")
    with guest.disks[2].path.open("r+b") as file:
        file.seek(4)  # a version that no QEMU knows; the magic stays
        file.write(b"\xff\xff\xff\xff")
    guest.define(xml)
    found = facts(guest)
    assert found.misdeclared == {"vdb"}
    assert set(found.unreadable) == {"vdb", "vdc"}
    assert set(found.images) == {"vda"}


def test_space_is_that_of_each_images_own_file_system(new_guest: NewGuest) -> None:
    guest = new_guest("space", disks=2)
    with tmpfs(guest.folder / "small", "8m", 50) as folder:
        moved = folder / "vdb.qcow2"
        qemu_img("create", "-f", "qcow2", moved, "64M")
        guest.define(guest.xml.replace(str(guest.disks[1].path), str(moved)))
        found = facts(guest)
        told = subprocess.run(
            ["df", "--output=avail,size,iavail", "-B1", folder],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[-3:]
        small = found.space["vdb"]
        assert [small.free, small.total, small.inodes] == [int(word) for word in told]
        assert small.inodes < 50
        assert found.space["vda"].total > 8 << 20
        assert found.metadata is not None
        assert found.metadata.total == found.space["vda"].total  # the bed has both on one
        words = virsh("version", "--daemon").splitlines()[-1].split()
        assert ".".join(map(str, found.version)) == words[-1]


def test_guest_paused_by_a_full_file_system_is_told_at_once(new_guest: NewGuest) -> None:
    guest = new_guest("full")
    with tmpfs(guest.folder / "tiny", "12m") as folder:
        moved = folder / "vda.qcow2"
        moved.write_bytes(guest.disks[0].path.read_bytes())
        text = guest.xml.replace(str(guest.disks[0].path), str(moved))
        guest.define(text.replace("type='qcow2'", "type='qcow2' error_policy='enospace'"))
        guest.start()
        guest.wait()
        uuid = recipe.domain_uuid(guest.name)

        async def fill(hypervisor: LibvirtHypervisor) -> tuple[bool, list[DomainEvent], bool]:
            before, _ = await hypervisor.read(uuid)
            heard: list[DomainEvent] = []
            hypervisor.on_event(heard.append)
            command = (
                "dd if=/dev/urandom of=/disk/vda/big bs=1M count=30 conv=fsync >/dev/null 2>&1 &"
            )
            await asyncio.to_thread(guest.cmd, "sh", command)
            await asyncio.to_thread(await_state, guest, "paused")
            after, _ = await hypervisor.read(uuid)
            assert after.state is State.PAUSED
            return before.io_error, heard, after.io_error

        before, heard, after = ask(fill)
        assert (before, after) == (False, True)
        assert DomainEvent(uuid, EventKind.OTHER) in heard
        guest.virsh("destroy")


def test_pause_by_a_person_is_no_io_error_and_a_job_is_told(guest: Guest) -> None:
    uuid = recipe.domain_uuid(guest.name)
    guest.virsh("suspend")
    info, _ = ask(lambda h: h.read(uuid))
    assert (info.state, info.io_error, info.busy) == (State.PAUSED, False, False)
    guest.virsh("resume")
    pid = int(Path(f"/run/libvirt/qemu/{guest.name}.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    waiting = subprocess.Popen(
        ["virsh", "-c", "qemu:///system", "snapshot-create-as", guest.name, "s1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while "ok" in guest.virsh("domcontrol"):
            assert time.monotonic() < deadline, "the create never began"
            time.sleep(0.05)
        begun = time.monotonic()
        info, _ = ask(lambda h: h.read(uuid))
        assert info.busy
        assert time.monotonic() - begun < 3
    finally:
        os.kill(pid, signal.SIGCONT)
        waiting.wait(timeout=60)
    info, _ = ask(lambda h: h.read(uuid))
    assert not info.busy


def test_check_image_of_a_damaged_disk_counts_as_qemu_img_does(new_guest: NewGuest) -> None:
    guest = new_guest("damaged")
    guest.define()
    (disk,) = facts(guest).info.disks
    assert ask(lambda h: h.check_image(disk)) == ImageCheck()
    with guest.disks[0].path.open("r+b") as file:
        file.seek(2 * 65536)  # the counts of the first clusters, which hold the header and tables
        file.write(bytes(6))
    before = guest.disks[0].path.read_bytes()
    assert ask(lambda h: h.check_image(disk)).corruptions >= 3
    assert guest.disks[0].path.read_bytes() == before


def test_description_changed_keeps_the_password_and_the_current_snapshot(
    new_guest: NewGuest,
) -> None:
    guest = new_guest("secret")
    vnc = "<graphics type='vnc' port='-1' passwd='hunter2'/>"
    guest.define(guest.xml.replace("<devices>", f"<devices>{vnc}"))
    guest.virsh("snapshot-create-as", "s1", "first")
    guest.virsh("snapshot-create-as", "s2", "second")
    uuid = recipe.domain_uuid(guest.name)

    async def describe_both(hypervisor: LibvirtHypervisor) -> list[str]:
        for name in ("s1", "s2"):
            await hypervisor.describe(uuid, name, "<b> & more")
        return [await hypervisor.snapshot_xml(uuid, name) for name in ("s1", "s2")]

    for text in ask(describe_both):
        assert ET.fromstring(text).findtext("description") == "<b> & more"
        assert "hunter2" not in text
    for name in ("s1", "s2"):
        assert "hunter2" in guest.virsh("snapshot-dumpxml", name, "--security-info")
    assert current(guest) == "s2"
    assert ET.fromstring(guest.virsh("snapshot-dumpxml", "s2")).findtext("parent/name") == "s1"


def test_clock_is_set_by_the_agent(guest: Guest) -> None:
    have_clock_set(guest)
    now = int(guest.cmd("sh", "date +%s"))
    uuid = recipe.domain_uuid(guest.name)
    ask(lambda h: h.set_time(uuid, 1_500_000_000))
    assert 0 <= int(guest.cmd("sh", "date +%s")) - 1_500_000_000 < 60
    ask(lambda h: h.set_time(uuid, now))


def test_revert_over_a_saved_state_goes_by_force_alone_and_keeps_it(guest: Guest) -> None:
    guest.virsh("managedsave")
    guest.virsh("snapshot-create-as", "off")
    uuid = recipe.domain_uuid(guest.name)

    def revert(*, force: bool) -> None:
        ask(lambda h: h.revert(uuid, "off", running=False, paused=False, force=force))

    with pytest.raises(NeedsForce):
        revert(force=False)
    revert(force=True)
    assert facts(guest).info.managed_save
    ask(lambda h: h.discard_saved_state(uuid))
    assert not facts(guest).info.managed_save
    assert "running" not in guest.virsh("domstate")
