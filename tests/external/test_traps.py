"""Trees of external snapshots that libvirt 11.3 destroys when it is asked to, with real guests:
nothing is asked of it there, and the way out is right."""

from __future__ import annotations

import pytest

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.talk import GuestError
from tests.client import Client
from tests.external.test_revert import VM, back, guest, shows, snap, sound
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import current, listed, note

__all__ = ["guest"]


def _branched(client: Client, guest: Guest) -> None:
    """The branches one-two and one-branch, with the VM on the second."""
    for name in ("one", "two", "three"):
        snap(client, guest, name)
    back(client, "one", safety_snapshot=False)
    shows(guest, "one")
    snap(client, guest, "branch")


@pytest.mark.timeout(600)
def test_last_one_of_a_second_branch_stays_while_the_vm_is_on_it(
    client: Client, guest: Guest
) -> None:
    """libvirt deletes it, forgets which files the VM is on, and its next revert unlinks the file
    that the other branch stands on."""
    _branched(client, guest)
    assert client.snapshots(VM)["branch"]["DeleteBlocker"] == "branching"
    assert client.refused("DeleteSnapshot", VM, "branch") == ("Unsupported", "branching")
    assert set(listed(guest)) == {"one", "two", "three", "branch"}

    guest.virsh("snapshot-delete", "branch")  # somebody does it all the same
    know(client, guest)
    assert current(guest) == "one"
    note(guest, "now")
    before = {p.name for p in guest.folder.iterdir()}
    for safety in (False, True):
        refused = client.refused("RevertSnapshot", VM, "three", safety_snapshot=safety)
        assert refused == ("Inconsistent", "not-in-chain")
    assert client.call("PreviewRevert", VM, "three")["Verdict"] == "not-in-chain"
    assert {p.name for p in guest.folder.iterdir()} == before
    assert guest.state() == "running"

    snap(client, guest, "healed")  # the way out: libvirt's record is right again
    back(client, "three", safety_snapshot=False)
    shows(guest, "three")
    back(client, "healed", safety_snapshot=False)
    shows(guest, "healed")
    guest.virsh("destroy")
    sound(guest)


@pytest.mark.long
def test_mark_moved_without_a_revert_refuses_every_verb(client: Client, guest: Guest) -> None:
    """`virsh snapshot-current VM one`: libvirt takes what the VM is on for a branch of nobody, and
    would unlink what it stands on."""
    for name in ("one", "two", "three"):
        snap(client, guest, name)
    note(guest, "now")
    guest.virsh("snapshot-current", "one")
    know(client, guest)
    before = {p.name for p in guest.folder.iterdir()}
    astray = ("Inconsistent", "not-in-chain")
    for name in ("one", "two", "three"):
        assert client.refused("RevertSnapshot", VM, name, safety_snapshot=False) == astray
        assert client.refused("DeleteSnapshot", VM, name) == astray
    assert client.refused("CreateSnapshot", VM, "four", kind="external", memory="no") == astray
    assert {p.name for p in guest.folder.iterdir()} == before

    guest.virsh("snapshot-current", "three")
    know(client, guest)
    back(client, "two", safety_snapshot=False)
    shows(guest, "two")


def test_mark_left_behind_by_a_revert_is_mended_as_is_said(
    client: Client, new_guest: NewGuest
) -> None:
    """QEMU ended as a revert to one with children began: the mark is on the former current one. No
    guest runs here."""
    guest = new_guest(VM)
    guest.define()
    know(client, guest)
    for name in ("one", "two"):
        snap(client, guest, name)
    guest.virsh("snapshot-revert", "one")
    guest.virsh("snapshot-current", "two")
    know(client, guest)
    astray = ("Inconsistent", "not-in-chain")
    plain = {"kind": "external", "memory": "no"}
    assert client.refused("CreateSnapshot", VM, "three", **plain) == astray

    guest.virsh("snapshot-current", "one")
    know(client, guest)
    before = {p.name for p in guest.folder.iterdir()}
    assert client.refused("RevertSnapshot", VM, "two", safety_snapshot=False) == astray
    snap(client, guest, "three")
    for name in ("two", "three", "one"):
        back(client, name, safety_snapshot=False)
        assert current(guest) == name
        assert before <= {p.name for p in guest.folder.iterdir()}
        sound(guest)


@pytest.mark.long
def test_branch_goes_from_its_end_and_what_it_branched_off_after_it(
    client: Client, guest: Guest
) -> None:
    _branched(client, guest)
    assert client.refused("DeleteSnapshot", VM, "one") == ("Unsupported", "branching")
    assert client.refused("DeleteSnapshot", VM, "two") == ("Unsupported", "not-in-chain")
    for name in ("three", "two", "one"):
        client.delete(VM, name)
    assert listed(guest) == ["branch"]
    note(guest, "later")
    back(client, "branch", safety_snapshot=False)
    shows(guest, "branch")
    client.delete(VM, "branch")
    guest.wait()
    guest.cmd("sh", "sync")
    guest.virsh("destroy")
    sound(guest)
    left = sorted(p.name for p in guest.folder.iterdir() if p.suffix not in (".ram", ".xml"))
    assert left == sorted(d.path.name for d in guest.disks)


@pytest.mark.long
def test_bare_record_on_a_left_branch_keeps_what_both_stand_on(
    client: Client, bed: PrivateLibvirt, guest: Guest
) -> None:
    """libvirtd crashes there: it looks for what a merge on the other branch has taken out of its
    record. Without that record it merges."""
    for name in ("zero", "one", "two", "three"):
        snap(client, guest, name)
    back(client, "two", safety_snapshot=False)
    shows(guest, "two")
    for name in ("x", "y"):
        snap(client, guest, name)
    client.delete(VM, "x")  # y's record is bare now
    back(client, "three", safety_snapshot=False)
    shows(guest, "three")
    snap(client, guest, "four")
    assert client.snapshots(VM)["one"]["DeleteBlocker"] == "branching"
    assert client.refused("DeleteSnapshot", VM, "one") == ("Unsupported", "branching")

    with pytest.raises(GuestError, match=r"[Ee]nd of file"):
        guest.virsh("snapshot-delete", "one")  # somebody does it all the same
    client.until("libvirtd is dead", lambda: not bed.libvirtd_running())
    bed.start_libvirtd()
    client.until("libvirt is back", lambda: bool(client.properties()["Connected"]))
    shows(guest, "four", "four")  # the guest has run on, and nothing was lost

    client.delete(VM, "y")  # the way out: the branch goes first
    client.delete(VM, "one")
    back(client, "four", safety_snapshot=False)
    shows(guest, "four")
    guest.virsh("destroy")
    sound(guest)
