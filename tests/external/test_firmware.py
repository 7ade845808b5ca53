"""External snapshots of guests whose firmware keeps variables in a file of its own: libvirt begins
no overlay for it. The firmware here is a SeaBIOS in flash, which boots a guest as others do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.client import Client, Row
from tests.external.standing import stands_alone
from tests.external.test_overlays import header
from tests.qemu import steps
from tests.qemu.conftest import know
from tests.qemu.steps import in_ram, note, on_disks

SEABIOS = Path("/usr/share/seabios/bios-256k.bin")
BLANK = bytes(256 << 10)
PLAIN = {"kind": "external", "memory": "no", "quiesce": "no"}
LEFT_OUT = "nvram-left-out"


class FlashGuest(Guest):
    """A guest with its firmware in flash, and an NVRAM of that format beside its disks."""

    nvram_format = "raw"

    @property
    def nvram(self) -> Path:
        return self.folder / f"VARS.{self.nvram_format}"

    @property
    def xml(self) -> str:
        firmware = f"""<loader readonly='yes' type='pflash'>{SEABIOS}</loader>
    <nvram format='{self.nvram_format}'>{self.nvram}</nvram>
    <kernel>"""
        return super().xml.replace("<kernel>", firmware)

    def variables(self) -> str:
        """The text at the beginning of its variables, by qemu-img."""
        copy = self.folder / "VARS.copy"
        form = ["-U", "-f", self.nvram_format, "-O", "raw"]
        steps.qemu_img("convert", *form, self.nvram, copy)
        text = copy.read_bytes()[:16].rstrip(b"\0").decode()
        copy.unlink()
        return text

    def set_variables(self, text: str) -> None:
        """Have them begin with a text of one letter; the guest is off."""
        write = f"write -P {ord(text)} 0 1"
        command = ["qemu-io", "-f", self.nvram_format, "-c", write, str(self.nvram)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=30)

    def remove(self) -> None:
        self.virsh("destroy", check=False)
        self.virsh("undefine", "--snapshots-metadata", "--nvram", check=False)
        super().remove()


class Qcow2FlashGuest(FlashGuest):
    nvram_format = "qcow2"


@pytest.fixture(params=[FlashGuest, Qcow2FlashGuest], ids=["raw", "qcow2"])
def flashed(
    bed: PrivateLibvirt, client: Client, request: pytest.FixtureRequest
) -> Iterator[FlashGuest]:
    kind: type[FlashGuest] = request.param
    hardware = Hardware(machine="q35", agent=False)
    guest = kind.make(f"flash-{kind.nvram_format}", bed.images, disks=["qcow2", "raw"],
                      hardware=hardware)  # fmt: skip
    raw = guest.folder / "VARS.raw"
    raw.write_bytes(BLANK)
    if kind is Qcow2FlashGuest:
        steps.qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, guest.nvram)
        raw.unlink()
    yield guest
    bed.mend_libvirtd()
    guest.remove()


def _told(client: Client, job: str) -> set[str]:
    return {warned["Reason"] for warned in client.job(job)["Warnings"]}


def _lost(looked: Row) -> set[str]:
    """What goes, of the variables, by a preview."""
    return {lost["Reason"] for lost in looked["Loses"] if "UEFI" in lost["Message"]}


def _back(client: Client, guest: Guest, name: str, **opts: object) -> set[str]:
    """What a revert warned of, after its preview had said the same."""
    looked = client.call("PreviewRevert", guest.name, name, safety_snapshot=False, **opts)
    assert looked["Verdict"] == "yes"
    job = client.call("RevertSnapshot", guest.name, name, safety_snapshot=False, **opts)
    client.wait(job)
    guest.wait()
    told = _told(client, job)
    assert _lost(looked) - {"disk-changes"} == told & {LEFT_OUT}
    return _lost(looked)


def _is_apart(guest: FlashGuest, before: str) -> None:
    """libvirt has its variables where they were, on no other file."""
    assert str(guest.nvram) in guest.virsh("dumpxml")
    if guest.nvram_format == "qcow2":
        assert "backing-filename" not in header(guest.nvram)
        assert guest.tags(guest.nvram) == []
    assert guest.variables() == before


@pytest.mark.long
def test_running_guest_goes_back_without_its_variables_and_with_its_ram_they_come_too(
    flashed: FlashGuest, client: Client
) -> None:
    guest, name = flashed, flashed.name
    guest.define()
    guest.set_variables("a")
    guest.start()
    guest.wait()
    know(client, guest)
    note(guest, "disks")
    looked = client.call("PreviewCreate", name, "disks", **PLAIN)
    assert (looked["Verdict"], looked["Kind"]) == ("yes", "external")
    assert _lost(looked) == {LEFT_OUT}
    client.create(name, "disks", **PLAIN)
    note(guest, "ram")
    assert _lost(client.call("PreviewCreate", name, "ram", **{**PLAIN, "memory": "yes"})) == set()
    client.create(name, "ram", kind="external", memory="yes")
    rows = client.snapshots(name)
    assert (rows["disks"]["Disks"], rows["disks"]["Notes"]) == (["vda", "vdb"], [LEFT_OUT])
    assert (rows["ram"]["Disks"], rows["ram"]["Notes"]) == (["vda", "vdb"], [])
    note(guest, "now")
    stands_alone(guest, ["disks", "ram"], beside=[guest.nvram])
    guest.virsh("destroy")
    guest.set_variables("b")
    know(client, guest)

    assert _back(client, guest, "disks", after="running") == {LEFT_OUT}
    assert (on_disks(guest), in_ram(guest)) == (["disks", "disks"], "nothing")
    _is_apart(guest, "b")
    assert _back(client, guest, "ram") == {"disk-changes"}
    assert (on_disks(guest), in_ram(guest)) == (["ram", "ram"], "ram")
    _is_apart(guest, "a")
    for each in ("disks", "ram"):
        client.delete(name, each)
    stands_alone(guest, [], beside=[guest.nvram])
    assert (on_disks(guest), in_ram(guest)) == (["ram", "ram"], "ram")
    _is_apart(guest, "a")


def test_guest_that_is_off_goes_back_without_its_variables_and_merges(
    flashed: FlashGuest, client: Client
) -> None:
    guest, name = flashed, flashed.name
    guest.define()
    know(client, guest)
    guest.set_variables("a")
    client.create(name, "off", **PLAIN)
    assert client.snapshots(name)["off"]["Notes"] == [LEFT_OUT]
    guest.start()
    guest.wait()
    note(guest, "now")
    guest.cmd("sh", "sync")
    guest.virsh("destroy")
    guest.set_variables("b")
    know(client, guest)
    assert _back(client, guest, "off", after="running") == {LEFT_OUT}
    assert guest.cmd("sh", "cat /disk/vda/note 2>/dev/null || echo nothing") == "nothing"
    _is_apart(guest, "b")
    guest.virsh("destroy")
    know(client, guest)
    client.delete(name, "off")
    stands_alone(guest, [], beside=[guest.nvram])
    _is_apart(guest, "b")
