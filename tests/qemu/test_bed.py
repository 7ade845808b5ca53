"""The bed itself, with guests that boot, go back and go: what other tests lean on."""

import time

import pytest

from tests.bed.guest import Guest, virsh
from tests.bed.private import PrivateLibvirt
from tests.bed.talk import GuestError
from tests.qemu.conftest import NewGuest


def test_guest_on_q35_with_raw_disk_counts_on_every_disk(new_guest: NewGuest) -> None:
    guest = new_guest("q35", disks=["qcow2", "raw"], machine="q35").up()
    before = {disk: int(guest.cmd("last", disk)) for disk in ("vda", "vdb")}
    time.sleep(1)
    assert all(int(guest.cmd("last", disk)) - before[disk] >= 5 for disk in before)


def test_revert_of_snapshot_with_memory_brings_disks_ram_and_boot_back(new_guest: NewGuest) -> None:
    guest = new_guest("reverts", disks=2).up()
    boot_id = guest.cmd("boot-id")
    _note(guest, "before")
    guest.virsh("snapshot-create-as", "s1")
    assert [guest.tags(image) for image in guest.images] == [["s1"], ["s1"]]
    _note(guest, "after")
    time.sleep(2)
    tick = int(guest.cmd("tick"))
    guest.virsh("snapshot-revert", "s1")
    guest.cmd("drop")
    assert guest.cmd("read", "note") == "before"
    assert guest.cmd("read", "/disk/vdb/note") == "before"
    assert guest.cmd("get", "key") == "before"
    assert guest.cmd("boot-id") == boot_id
    assert int(guest.cmd("tick")) < tick


def test_guest_restarted_has_its_disks_and_another_boot_id(new_guest: NewGuest) -> None:
    guest = new_guest("restarts").up()
    _note(guest, "kept")
    boot_id, tick = guest.cmd("boot-id"), int(guest.cmd("tick"))
    guest.virsh("shutdown", "--mode", "acpi")
    _await_state(guest, "shut off")
    guest.start()
    guest.wait()
    assert guest.cmd("boot-id") != boot_id
    assert guest.cmd("read", "note") == "kept"
    assert int(guest.cmd("tick")) > tick
    with pytest.raises(GuestError):
        guest.cmd("get", "key")


def test_guest_removed_leaves_nothing_for_the_next_of_its_name(
    bed: PrivateLibvirt, new_guest: NewGuest
) -> None:
    guest = new_guest("again").up()
    guest.virsh("snapshot-create-as", "s1")
    guest.remove()
    assert guest.name not in virsh("list", "--all", "--name").split()
    again = new_guest("again")
    again.define()
    assert again.virsh("domuuid") == again.uuid == guest.uuid
    assert again.virsh("snapshot-list") == ""
    assert again.tags(again.images[0]) == []
    guest.folder = bed.scratch / "gone"
    guest.folder.mkdir()


def _note(guest: Guest, text: str) -> None:
    """Leave a text on the first two disks and in memory."""
    for file in ("note", *(["/disk/vdb/note"] if len(guest.disks) > 1 else [])):
        guest.cmd("write", file, text)
    guest.cmd("set", "key", text)


def _await_state(guest: Guest, state: str) -> None:
    deadline = time.monotonic() + 20
    while guest.state() != state:
        assert time.monotonic() < deadline, f"{guest.name} never got {state}"
        time.sleep(0.05)
