"""Overlays on a real libvirt: files by its pools, snapshots onto them, merges that tell how far
they are. What is expected is libvirt's, qemu-img's or the guest's own word."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import pytest

from snapd.errors import AlreadyExists, Busy, Changed, LibvirtError
from snapd.hypervisor import ExternalSnapshot, NewOverlay
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.hypervisor.overlays import LibvirtOverlays
from snapd.hypervisor.pools import covering, own_name
from tests.bed.guest import Guest, virsh
from tests.qemu.conftest import NewGuest
from tests.qemu.steps import current, in_ram, listed, note, on_disks
from tests.qemu.test_facts import ask, facts

MIB = 1 << 20


def header(path: Path | str) -> dict[str, Any]:
    """What qemu-img says of one layer."""
    command = ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=30)
    return dict(json.loads(done.stdout))


def sources(guest: Guest) -> list[str]:
    """The file that each disk is on, by libvirt's own tool."""
    rows = guest.virsh("domblklist", "--details").splitlines()
    return [row.split()[-1] for row in rows]


def pools() -> set[str]:
    return set(virsh("pool-list", "--all", "--name").split())


def new(guest: Guest, name: str, *, target: str = "vda", mib: int = 64) -> NewOverlay:
    """An overlay on what the disk is on now."""
    index = ord(target[-1]) - ord("a")
    base = sources(guest)[index]
    form = "raw" if base.endswith(".raw") else "qcow2"
    path = guest.folder / f"{guest.name}-{target}.{name}.qcow2"
    return NewOverlay(target, str(path), base, form, mib * MIB)


def make(guest: Guest, *files: NewOverlay) -> None:
    ask(lambda h: h.overlays.make(guest.uuid, files))


def remove(guest: Guest, *paths: Path | str) -> tuple[str, ...]:
    return ask(lambda h: h.overlays.remove(guest.uuid, [str(p) for p in paths]))


def take(
    guest: Guest, name: str, *, memory: bool = False, live: bool = True, mib: int = 64
) -> None:
    """Make the files of all disks, and the snapshot."""
    targets = [disk.path.stem for disk in guest.disks]
    files = [new(guest, name, target=target, mib=mib) for target in targets]
    ram = str(guest.folder / f"{guest.name}.{name}.ram") if memory else ""
    overlays = tuple((file.target, file.path) for file in files)

    async def both(hypervisor: LibvirtHypervisor) -> None:
        await hypervisor.overlays.make(guest.uuid, files)
        wanted = ExternalSnapshot(name, f"made as {name}", overlays, (), ram, live)
        await hypervisor.overlays.create(guest.uuid, wanted)

    ask(both)


def merge(guest: Guest, name: str, *, created: int | None = None) -> list[float]:
    """Delete it; what was told of how far that was."""
    told: list[float] = []
    when = ET.fromstring(guest.virsh("snapshot-dumpxml", name)).findtext("creationTime") or ""
    active = guest.state() != "shut off"

    async def delete(hypervisor: LibvirtHypervisor) -> None:
        await hypervisor.overlays.merge(
            guest.uuid,
            name,
            created=int(when) if created is None else created,
            active=active,
            progress=told.append,
        )

    ask(delete)
    return told


@contextmanager
def pool(folder: Path, *, active: bool = True) -> Iterator[None]:
    """An admin's own pool of the folder, that no one else may do away with."""
    text = f"<pool type='dir'><name>admins</name><target><path>{folder}</path></target></pool>"
    virsh("pool-define", "/dev/stdin", text=text)
    try:
        if active:
            virsh("pool-start", "admins")
        yield
    finally:
        virsh("pool-destroy", "admins", check=False)
        virsh("pool-undefine", "admins")


@pytest.fixture
def resting(new_guest: NewGuest) -> Guest:
    """A guest that is off, of a qcow2 and a raw disk."""
    guest = new_guest("resting", disks=["qcow2", "raw"])
    guest.define()
    return guest


def test_made_files_are_empty_overlays_for_qemu_alone(resting: Guest) -> None:
    before = pools()
    files = new(resting, "s1"), new(resting, "s1", target="vdb")
    make(resting, *files)
    for file, disk in zip(files, resting.disks, strict=True):
        said = header(file.path)
        assert said["backing-filename"] == str(disk.path)
        assert said["backing-filename-format"] == disk.format
        assert said["virtual-size"] == 64 * MIB
        assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o600
    assert pools() == before


def test_overlay_belongs_to_whom_its_base_belongs(resting: Guest) -> None:
    shutil.chown(resting.images[0], 64055, 109)
    file = new(resting, "s1")
    make(resting, file)
    found = Path(file.path).stat()
    assert (found.st_uid, found.st_gid) == (64055, 109)


@pytest.mark.parametrize("kind", ["none", "active", "stale", "resting"])
def test_nothing_is_written_over_whatever_pool_there_is(resting: Guest, kind: str) -> None:
    first, second = new(resting, "s1"), new(resting, "s1", target="vdb")
    with pool(resting.folder, active=kind != "resting") if kind != "none" else nothing():
        if kind != "stale":
            make(resting, NewOverlay("vda", f"{resting.folder}/other", first.base, "qcow2", MIB))
        Path(second.path).write_bytes(b"somebody's own")
        before = virsh("pool-list", "--all")
        with pytest.raises(AlreadyExists, match=r"resting-vdb\.s1\.qcow2"):
            make(resting, first, second)
        assert virsh("pool-list", "--all") == before
    assert Path(second.path).read_bytes() == b"somebody's own"
    assert not Path(first.path).exists()


@contextmanager
def nothing() -> Iterator[None]:
    yield


@pytest.mark.parametrize("kind", ["none", "active", "resting"])
def test_removed_are_files_that_a_pool_has_not_seen_yet_and_those_that_are_gone(
    resting: Guest, kind: str
) -> None:
    there, gone = resting.folder / "begun.qcow2", resting.folder / "gone.qcow2"
    with pool(resting.folder, active=kind == "active") if kind != "none" else nothing():
        before = virsh("pool-list", "--all")
        there.write_bytes(b"x")
        assert remove(resting, there, gone) == ()
        assert virsh("pool-list", "--all") == before
    assert not there.exists()
    assert all(image.exists() for image in resting.images)


def test_what_cannot_be_removed_is_named(resting: Guest) -> None:
    folder = resting.folder / "not-a-file"
    (folder / "inside").mkdir(parents=True)
    missing = resting.folder / "no-folder" / "x.qcow2"
    assert remove(resting, missing) == (str(missing),)
    assert folder.exists()


def test_admins_pool_that_rests_is_left_alone(resting: Guest) -> None:
    conn = libvirt.open("qemu:///system")
    try:
        with pool(resting.folder, active=False):
            before = virsh("pool-list", "--all")
            with covering(conn, str(resting.folder)) as mine:
                assert virsh("pool-list", "--inactive", "--name").split() == ["admins"]
                assert sorted(mine.listVolumes()) == sorted(f.name for f in resting.images)
            assert virsh("pool-list", "--all") == before
    finally:
        conn.close()


def test_what_no_pool_shows_is_named_and_not_taken_for_removed(resting: Guest) -> None:
    pipe, file = resting.folder / "pipe.qcow2", resting.folder / "begun.qcow2"
    os.mkfifo(pipe)  # libvirt's pools pass over it
    file.write_bytes(b"x")
    assert remove(resting, pipe, file) == (str(pipe),)
    assert (pipe.exists(), file.exists()) == (True, False)


def test_pool_that_was_left_behind_is_used_and_let_go(resting: Guest) -> None:
    name = own_name(str(resting.folder))
    text = f"""<pool type='dir'><name>{name}</name>
      <target><path>{resting.folder}</path></target></pool>"""
    virsh("pool-create", "/dev/stdin", text=text)
    make(resting, new(resting, "s1"))
    assert name not in pools()


def test_snapshot_of_a_guest_that_is_off(resting: Guest) -> None:
    files = new(resting, "s1"), new(resting, "s1", target="vdb")
    take(resting, "s1")
    assert sources(resting) == [file.path for file in files]
    assert (listed(resting), current(resting)) == (["s1"], "s1")
    said = ET.fromstring(resting.virsh("snapshot-dumpxml", "s1"))
    assert said.findtext("state") == "shutoff"
    assert said.findtext("description") == "made as s1"
    assert merge(resting, "s1") is not None
    assert sources(resting) == [str(image) for image in resting.images]
    assert not any(Path(file.path).exists() for file in files)


def test_disk_that_is_left_out_stays_where_it_is(resting: Guest) -> None:
    file = new(resting, "s1")
    make(resting, file)
    wanted = ExternalSnapshot("s1", "", (("vda", file.path),), ("vdb",))
    ask(lambda h: h.overlays.create(resting.uuid, wanted))
    assert sources(resting) == [file.path, str(resting.images[1])]


def test_snapshot_onto_a_file_that_is_not_there_makes_nothing(resting: Guest) -> None:
    wanted = ExternalSnapshot("s1", "", (("vda", f"{resting.folder}/none.qcow2"),), ("vdb",))
    with pytest.raises(LibvirtError):
        ask(lambda h: h.overlays.create(resting.uuid, wanted))
    assert listed(resting) == []
    assert sources(resting) == [str(image) for image in resting.images]


def test_running_guest_goes_on_onto_overlays_and_back_to_then(new_guest: NewGuest) -> None:
    guest = new_guest("goes-on", disks=["qcow2", "raw"]).up()
    note(guest, "before")
    take(guest, "s1")
    note(guest, "after")
    facts_then = facts(guest)
    assert facts_then.chains.capable
    tops = [guest.folder / f"goes-on-{target}.s1.qcow2" for target in ("vda", "vdb")]
    wanted = {
        "vda": ((str(tops[0]), "qcow2"), (str(guest.images[0]), "qcow2")),
        "vdb": ((str(tops[1]), "qcow2"), (str(guest.images[1]), "raw")),
    }
    assert facts_then.chains.layers == wanted
    paths = {target: tuple(path for path, _form in each) for target, each in wanted.items()}
    assert facts_then.chains.live == facts_then.chains.stored == paths
    assert facts_then.chains.images.keys() == {path for each in paths.values() for path in each}
    ask(lambda h: h.revert(guest.uuid, "s1", running=True, paused=False))
    guest.wait()
    assert on_disks(guest) == ["before", "before"]
    reverted = facts(guest)
    assert [s.active["vda"] for s in reverted.snapshots] == [sources(guest)[0]]
    assert reverted.chains.layers["vda"][0][0] == sources(guest)[0]
    assert not any(top.exists() for top in tops)


@pytest.mark.parametrize("live", [True, False])
def test_ram_goes_to_its_file_and_comes_back_with_the_disks(
    new_guest: NewGuest, live: bool
) -> None:
    guest = new_guest(f"ram-{live}".lower()).up()
    note(guest, "then")
    take(guest, "s1", memory=True, live=live)
    ram = guest.folder / f"{guest.name}.s1.ram"
    assert stat.S_IMODE(ram.stat().st_mode) == 0o600
    assert guest.state() == "running"
    note(guest, "later")
    ask(lambda h: h.revert(guest.uuid, "s1", running=False, paused=False))
    guest.wait()
    assert (in_ram(guest), on_disks(guest)) == ("then", ["then"])
    merge(guest, "s1")
    assert on_disks(guest) == ["then"]
    assert not ram.exists()
    assert sources(guest) == [str(guest.images[0])]


def test_ram_of_another_snapshot_is_not_written_over(new_guest: NewGuest) -> None:
    guest = new_guest("ram-kept").up()
    ram = guest.folder / "mine.ram"
    ram.write_bytes(b"RAM of before")
    file = new(guest, "s1")
    make(guest, file)
    wanted = ExternalSnapshot("s1", "", (("vda", file.path),), (), str(ram))
    with pytest.raises(AlreadyExists, match=r"mine\.ram"):
        ask(lambda h: h.overlays.create(guest.uuid, wanted))
    assert ram.read_bytes() == b"RAM of before"
    assert (listed(guest), sources(guest)) == ([], [str(guest.images[0])])


def test_big_merge_tells_how_far_it_is(new_guest: NewGuest, monkeypatch: Any) -> None:
    monkeypatch.setattr("snapd.hypervisor.overlays.WATCH_SECONDS", 0.02)
    guest = new_guest("big", disks=2, disk_mib=1024)
    guest.define()
    take(guest, "s1", mib=1024)
    for path in sources(guest):
        command = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 512M 300M", path]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    guest.start()
    guest.wait()
    told = merge(guest, "s1")
    assert told
    assert told == sorted(set(told))
    assert all(0 < part <= 1 for part in told)
    assert any(part < 1 for part in told)
    assert sources(guest) == [str(image) for image in guest.images]


def test_merge_is_of_the_very_snapshot_that_was_looked_at(resting: Guest) -> None:
    take(resting, "s1")
    with pytest.raises(Changed):
        merge(resting, "s1", created=1)
    assert listed(resting) == ["s1"]


def test_overlays_are_what_the_protocol_says(resting: Guest) -> None:
    async def kind(hypervisor: LibvirtHypervisor) -> type:
        return type(hypervisor.overlays)

    assert ask(kind) is LibvirtOverlays


def test_merge_in_the_middle_rests_on_what_qemu_img_says(new_guest: NewGuest) -> None:
    guest = new_guest("middle").up()
    for name in ("s1", "s2", "s3"):
        note(guest, f"before {name}")
        take(guest, name)
    note(guest, "at the end")
    guest.virsh("destroy")
    merge(guest, "s2")
    assert listed(guest) == ["s1", "s3"]
    top, middle, base = (layer[0] for layer in facts(guest).chains.layers["vda"])
    assert [Path(path).name for path in (top, middle, base)] == [
        "middle-vda.s3.qcow2",
        "middle-vda.s1.qcow2",
        "vda.qcow2",
    ]
    assert header(top)["backing-filename"] == middle
    assert header(middle)["backing-filename"] == base
    assert sorted(guest.folder.iterdir()) == sorted(Path(path) for path in (top, middle, base))
    guest.start()
    guest.wait()
    assert on_disks(guest) == ["at the end"]


def test_vm_is_put_back_onto_what_it_had_only_while_it_is_off(resting: Guest) -> None:
    before = resting.virsh("dumpxml", "--inactive", "--security-info")
    take(resting, "s1")
    ask(lambda h: h.overlays.put_back(resting.uuid, before))
    assert sources(resting) == [str(image) for image in resting.images]
    resting.start()
    with pytest.raises(Busy):
        ask(lambda h: h.overlays.put_back(resting.uuid, before))
