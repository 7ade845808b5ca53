"""What the disks of a real guest stand on, by libvirt and by qemu-img."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.bed.guest import Guest
from tests.qemu.steps import listed, qemu_img


def chain_of(guest: Guest, target: str) -> list[Path]:
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


def targets(guest: Guest) -> list[str]:
    return [disk.path.stem for disk in guest.disks]


def stands_alone(guest: Guest, names: list[str]) -> None:
    """libvirt lists these, each disk stands on as many overlays, and no other file is there."""
    assert sorted(listed(guest)) == sorted(names)
    there = set()
    for target in targets(guest):
        chain = chain_of(guest, target)
        assert len(chain) == len(names) + 1, chain
        there |= set(chain)
    assert {f for f in guest.folder.iterdir() if f.suffix == ".qcow2"} == there
    if guest.state() == "shut off":
        for file in there:
            qemu_img("check", "-f", "qcow2", file)
