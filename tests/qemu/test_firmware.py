"""VMs with UEFI firmware, whose variables are in a file of their own. What libvirt does with it
depends on its version. The firmware is 4 MiB of zeros: QEMU runs it, and no guest comes up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.client import Client
from tests.qemu import steps
from tests.qemu.conftest import know

ZEROS = bytes(4 << 20)


class FirmwareGuest(Guest):
    """A guest with pflash firmware and an NVRAM of that format."""

    nvram_format = "raw"

    @property
    def nvram(self) -> Path:
        return self.folder / f"VARS.{self.nvram_format}"

    @property
    def xml(self) -> str:
        firmware = f"""<loader readonly='yes' type='pflash'>{self.folder}/CODE.fd</loader>
    <nvram format='{self.nvram_format}'>{self.nvram}</nvram>"""
        return re.sub("<kernel>.*</cmdline>", firmware, super().xml, flags=re.DOTALL)

    def remove(self) -> None:
        self.virsh("destroy", check=False)
        self.virsh("undefine", "--snapshots-metadata", "--nvram", check=False)
        super().remove()


class Qcow2FirmwareGuest(FirmwareGuest):
    nvram_format = "qcow2"


@pytest.fixture
def firmware_guest(bed: PrivateLibvirt, request: pytest.FixtureRequest) -> Iterator[FirmwareGuest]:
    kind: type[FirmwareGuest] = request.param
    hardware = Hardware(machine="q35", agent=False)
    guest = kind.make(f"uefi-{kind.nvram_format}", bed.images, hardware=hardware)
    (guest.folder / "CODE.fd").write_bytes(ZEROS)
    raw = guest.folder / "VARS.raw"
    raw.write_bytes(ZEROS)
    if kind is Qcow2FirmwareGuest:
        steps.qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, guest.nvram)
    guest.define()
    yield guest
    guest.remove()


@pytest.mark.parametrize("firmware_guest", [FirmwareGuest], indirect=True)
def test_raw_nvram_off_is_left_out_or_refused_as_libvirt_can(
    firmware_guest: FirmwareGuest, client: Client
) -> None:
    guest = firmware_guest
    know(client, guest)
    if steps.libvirt_version() < (9, 3):
        assert client.refused("CreateSnapshot", guest.name, "off") == (
            "Unsupported",
            "uefi-raw-nvram",
        )
        assert steps.tags(guest) == [[]]
        return
    client.create(guest.name, "off")
    assert steps.tags(guest) == [["off"]]
    client.revert(guest.name, "off", safety_snapshot=False)
    client.delete(guest.name, "off")
    assert steps.tags(guest) == [[]]


@pytest.mark.parametrize("firmware_guest", [Qcow2FirmwareGuest], indirect=True)
def test_qcow2_nvram_has_the_tag_of_every_snapshot(
    firmware_guest: FirmwareGuest, client: Client
) -> None:
    guest = firmware_guest
    know(client, guest)
    if steps.libvirt_version() < (10, 9):
        assert client.refused("CreateSnapshot", guest.name, "off") == (
            "Unsupported",
            "uefi-raw-nvram",
        )
        return
    guest.start()
    know(client, guest)
    for name, memory in [("disks", "no"), ("ram", "yes")]:
        client.create(guest.name, name, memory=memory)
    assert guest.tags(guest.nvram) == ["disks", "ram"] == guest.tags(guest.images[0])
    client.revert(guest.name, "disks", after="running", safety_snapshot=False)
    assert guest.state() == "running"
    client.delete(guest.name, "ram")
    assert guest.tags(guest.nvram) == ["disks"] == guest.tags(guest.images[0])

    flash = {"device": "libvirt-pflash1-format", "name": "disks"}
    steps.monitor(guest, "blockdev-snapshot-delete-internal-sync", **flash)
    refused = client.refused("RevertSnapshot", guest.name, "disks", safety_snapshot=False)
    assert refused == ("Inconsistent", "half-made")
    assert guest.state() == "running"
    client.delete(guest.name, "disks")
    assert guest.tags(guest.images[0]) == []
