"""What the disks of a real guest stand on, by libvirt and by qemu-img."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path

from tests.bed.guest import Guest
from tests.qemu.steps import listed, qemu_img

Layers = dict[Path, str]
"""File -> its format, the youngest first."""


def layers_of(file: str | Path, form: str) -> Layers:
    """What a file stands on, itself first, by qemu-img."""
    command = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", "-f", form, str(file)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    return {Path(layer["filename"]): layer["format"] for layer in json.loads(done.stdout)}


def _tops(root: ET.Element) -> dict[str, tuple[str, str]]:
    """target -> file and format of each disk in a domain's XML, but for CDs."""
    found = {}
    for disk in root.iterfind("devices/disk[@device='disk']"):
        target, source, driver = (disk.find(tag) for tag in ("target", "source", "driver"))
        assert target is not None and source is not None and driver is not None
        found[target.get("dev", "")] = source.get("file", ""), driver.get("type", "")
    return found


def chain_of(guest: Guest, target: str) -> list[Path]:
    """The files that a disk stands on, by libvirt's XML and then by qemu-img."""
    return [*layers_of(*_tops(ET.fromstring(guest.virsh("dumpxml")))[target])]


def bases_of(guest: Guest, name: str) -> dict[str, tuple[str, str]]:
    """target -> file and format of what a snapshot goes back to, by libvirt's record."""
    domain = ET.fromstring(guest.virsh("snapshot-dumpxml", name)).find("domain")
    assert domain is not None
    return _tops(domain)


def targets(guest: Guest) -> list[str]:
    return [disk.path.stem for disk in guest.disks]


def needed(guest: Guest) -> Layers:
    """Every image that the disks and the snapshots stand on, with all below it."""
    found: Layers = {}
    for tops in (
        _tops(ET.fromstring(guest.virsh("dumpxml"))),
        *(bases_of(guest, name) for name in listed(guest)),
    ):
        for file, form in tops.values():
            found |= layers_of(file, form)
    return found


def nothing_else_is_there(guest: Guest, *, beside: Collection[Path] = ()) -> None:
    """No image is there that nothing stands on, but for those beside them, and all of them are
    sound. (Those of a running guest can't be checked: it writes to them.)"""
    there = needed(guest)
    rams = {
        Path(memory.get("file", ""))
        for name in listed(guest)
        for memory in ET.fromstring(guest.virsh("snapshot-dumpxml", name)).iterfind("memory")
        if memory.get("file")
    }
    files = {f for f in guest.folder.iterdir() if f.is_file()}  # a guest may have a socket there
    assert files - {*beside} == {*there, *rams}
    for file in (f for f, form in there.items() if form == "qcow2"):
        if guest.state() == "shut off":
            qemu_img("check", "-f", "qcow2", file)


def stands_alone(guest: Guest, names: list[str], *, beside: Collection[Path] = ()) -> None:
    """libvirt lists these, each disk stands on as many overlays, and no other file is there, but
    for those beside them."""
    assert sorted(listed(guest)) == sorted(names)
    there = set()
    for target in targets(guest):
        chain = chain_of(guest, target)
        assert len(chain) == len(names) + 1, chain
        there |= set(chain)
    assert needed(guest).keys() == there
    nothing_else_is_there(guest, beside=beside)
