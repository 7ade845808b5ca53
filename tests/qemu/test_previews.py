"""Previews: what they say is what the verbs then do, and nothing is changed by them."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bed.guest import Guest, virsh
from tests.client import Client, Row
from tests.qemu.conftest import know
from tests.qemu.steps import current, listed, tags, untouched
from tests.qemu.test_refusals import attached

NETWORK = "<network><name>lab2</name><bridge name='vlab2'/></network>"


def seen(guest: Guest) -> tuple[Any, ...]:
    xml = guest.virsh("dumpxml", "--inactive")
    return guest.state(), tags(guest), listed(guest), current(guest), xml


class Look:
    """Previews of a guest, each held against what the verb then answers."""

    def __init__(self, client: Client, guest: Guest) -> None:
        self.client, self.guest = client, guest

    def __call__(self, verb: str, name: str, **options: Any) -> Row:
        """The preview, which has changed nothing."""
        before = seen(self.guest)
        preview: Row = self.client.call(f"Preview{verb}", self.guest.name, name, **options)
        assert seen(self.guest) == before
        return preview

    def refused(self, verb: str, name: str, **options: Any) -> str:
        """The verdict, which is the verb's answer too."""
        preview = self(verb, name, **options)
        first = preview["Blockers"][0]
        assert first["Message"] and preview["Verdict"] == first["Reason"] != "yes"
        before = seen(self.guest)
        _error, word = self.client.refused(f"{verb}Snapshot", self.guest.name, name, **options)
        assert seen(self.guest) == before
        assert word == preview["Verdict"]
        return str(word)

    def allowed(self, verb: str, name: str, **options: Any) -> Row:
        preview = self(verb, name, **options)
        assert (preview["Verdict"], preview["Blockers"]) == ("yes", [])
        return preview


def lost(preview: Row) -> dict[str, set[str]]:
    """Reason -> items."""
    found: dict[str, set[str]] = {}
    for row in preview["Loses"]:
        found.setdefault(row["Reason"], set()).add(row["Item"])
    return found


def test_previews_of_a_running_guest_are_what_the_verbs_do(client: Client, guest: Guest) -> None:
    look = Look(client, guest)
    disks = (["vda", "vdb"], ["hda"])
    ram = look.allowed("Create", "ram")
    assert (ram["Kind"], ram["Consistency"], ram["FinalState"]) == ("internal", "memory", "running")
    assert (ram["Disks"], ram["DisksLeftOut"]) == disks
    room = os.statvfs(guest.folder)
    free = room.f_bavail * room.f_frsize
    memory = guest.hardware.memory << 20
    assert memory <= ram["SpaceNeed"] < 2 * memory
    assert abs(ram["SpaceHave"] - free) < free // 10
    assert client.create("vm", "ram")["Consistency"] == "memory"

    quiet = look.allowed("Create", "quiet", quiesce="require")
    assert (quiet["Consistency"], quiet["SpaceNeed"] < memory) == ("quiesced", True)
    assert client.create("vm", "quiet", quiesce="require")["Consistency"] == "quiesced"
    for then, state in (("stop", "shutoff"), ("restart", "running")):
        assert look.allowed("Create", "x", then=then)["FinalState"] == state

    assert look.refused("Create", "ram") == "name-taken"
    assert look.refused("Create", "x", disks=["vda"]) == "all-disks"
    with attached(guest, "raw"):
        assert look.refused("Create", "x") == "raw-disk"
        assert look.refused("Revert", "ram") == "pending-config"
        assert look.allowed("Delete", "ram")["Foreign"] is False
    aside = (guest.folder / "disc.iso").rename(guest.folder / "aside")
    assert look.refused("Revert", "quiet") == "missing-file"
    aside.rename(guest.folder / "disc.iso")
    guest.cmd("agent", "stop")
    assert look.refused("Create", "x", memory="no", quiesce="require") == "agent-unavailable"
    assert look.allowed("Create", "x", memory="no")["Consistency"] == "crash"
    guest.cmd("agent", "start")
    guest.wait()


def test_preview_of_revert_and_delete_names_what_is_lost(client: Client, guest: Guest) -> None:
    look = Look(client, guest)
    client.create("vm", "ours", memory="yes")
    guest.virsh("snapshot-create-as", "theirs")
    client.until("it is listed", lambda: "theirs" in client.snapshots("vm"))
    back = look.allowed("Revert", "ours")
    assert (back["Disks"], back["DisksLeftOut"]) == (["vda", "vdb"], ["hda"])
    assert (back["Consistency"], back["Foreign"], back["FinalState"]) == (
        "memory",
        False,
        "running",
    )
    taken = ET.fromstring(guest.virsh("snapshot-dumpxml", "ours")).findtext("creationTime")
    assert str(back["LosesSince"]) == taken
    assert lost(back).keys() == {"disk-changes", "running-state"}
    assert lost(back)["disk-changes"] == {"vda", "vdb"}
    assert back["SpaceNeed"] >= guest.hardware.memory << 20  # the safety snapshot's
    assert look.allowed("Revert", "ours", safety_snapshot=False)["SpaceNeed"] == 0
    assert look.allowed("Revert", "theirs")["Foreign"] is True
    for after, state in (("running",) * 2, ("paused",) * 2, ("stopped", "shutoff")):
        assert look.allowed("Revert", "ours", after=after)["FinalState"] == state
    assert lost(look.allowed("Revert", "ours", delete_after=True))["snapshot"] == {"ours"}
    below = look.allowed("Delete", "ours", children=True)
    assert (lost(below), below["Foreign"]) == ({"snapshot": {"ours", "theirs"}}, True)
    assert lost(look.allowed("Delete", "ours")) == {"snapshot": {"ours"}}

    before = guest.virsh("dumpxml", "--inactive", "--security-info")
    try:
        guest.virsh("desc", "--config", "changed since")
        guest.virsh("setmaxmem", f"{guest.hardware.memory + 32}M", "--config")
        guest.virsh("attach-interface", "network", "nowhere", "--config")
        changed = lost(look.allowed("Revert", "ours"))["configuration"]
        assert changed == {"description", "memory", "interfaces"}
        client.revert("vm", "ours", safety_snapshot=False)
        assert guest.virsh("dumpxml", "--inactive", "--security-info") == before
    finally:
        guest.define(before)


@contextmanager
def overlaid(guest: Guest) -> Iterator[None]:
    """An external snapshot by virsh of a guest that is off."""
    xml = guest.virsh("dumpxml", "--inactive", "--security-info")
    guest.virsh("snapshot-create-as", "ext", "--disk-only")
    try:
        yield
    finally:
        guest.virsh("snapshot-delete", "ext", "--metadata")
        guest.define(xml)
        for disk in guest.disks:
            disk.path.with_suffix(".ext").unlink()


def test_previews_of_a_guest_that_is_saved_off_or_on_an_overlay(
    client: Client, guest: Guest
) -> None:
    look = Look(client, guest)
    client.create("vm", "base", memory="no", quiesce="no")
    guest.virsh("managedsave")
    know(client, guest)
    assert look.refused("Create", "x") == "managed-save"
    assert look.refused("Revert", "base", force=True) == "managed-save"
    both = look.allowed("Revert", "base", force=True, discard_saved_state=True)
    assert "saved-state" in lost(both) and "running-state" not in lost(both)
    assert both["FinalState"] == "running"
    guest.virsh("managedsave-remove")

    off = look.allowed("Create", "off", then="restart")
    assert (off["Consistency"], off["FinalState"]) == ("offline", "shutoff")
    assert off["PauseMilliseconds"] == 0
    assert off["SpaceNeed"] < guest.hardware.memory << 20
    assert look.refused("Create", "x", memory="yes") == "no-memory"
    assert look.refused("Create", "x", quiesce="require") == "agent-unavailable"
    assert client.create("vm", "off", then="restart")["Consistency"] == "offline"
    assert guest.state() == "shut off"
    guest.virsh("snapshot-create-as", "theirs")
    for verb in ("Revert", "Delete"):
        assert look.allowed(verb, "theirs")["Consistency"] == "offline"
    with overlaid(guest):
        assert look.refused("Create", "x") == "mixed-tree"
        assert look.refused("Revert", "base") == "mixed-tree"
        assert look.refused("Revert", "ext") == "mixed-tree"
        assert look.refused("Delete", "ext") == "mixed-tree"


def test_network_that_is_gone_refuses_to_run_again_before_anything_is_stopped(
    client: Client, guest: Guest
) -> None:
    virsh("net-define", "/dev/stdin", text=NETWORK)
    virsh("net-start", "lab2")
    try:
        guest.virsh("attach-interface", "network", "lab2", "--config", "--live")
        client.create("vm", "net", memory="no", quiesce="no")
        virsh("net-destroy", "lab2")
        with untouched(guest):
            look = Look(client, guest)
            assert look.refused("Revert", "net") == "missing-network"
            (blocker,) = look("Revert", "net")["Blockers"]
            assert blocker["Item"] == "lab2"
        done = client.revert("vm", "net", after="stopped", safety_snapshot=False)
        assert (done["FinalState"], guest.state()) == ("shutoff", "shut off")
    finally:
        guest.virsh("detach-interface", "network", "--config", "--live", check=False)
        guest.virsh("detach-interface", "network", "--config", check=False)
        virsh("net-destroy", "lab2", check=False)
        virsh("net-undefine", "lab2")
