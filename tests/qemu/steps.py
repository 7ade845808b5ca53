"""Steps and looks that the tests of the daemon share. What they say comes from the guest itself,
from libvirt's own tool or from qemu-img, never from the daemon."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bed.guest import Guest, virsh


def note(guest: Guest, text: str) -> None:
    """Leave a text on every disk and in the guest's RAM."""
    guest.cmd("set", "note", text)
    for disk in guest.disks:
        guest.cmd("write", f"/disk/{disk.path.stem}/note", text)


def on_disks(guest: Guest) -> list[str]:
    """The text that is on each disk, read past the guest's cache."""
    guest.cmd("drop")
    return [guest.cmd("read", f"/disk/{disk.path.stem}/note") for disk in guest.disks]


def in_ram(guest: Guest) -> str:
    return guest.cmd("sh", "cat /run/memory/note 2>/dev/null || echo nothing")


def tags(guest: Guest) -> list[list[str]]:
    """The internal snapshots in each image, by qemu-img."""
    return [guest.tags(disk.path) for disk in guest.disks if disk.format == "qcow2"]


def listed(guest: Guest) -> list[str]:
    """The snapshots that libvirt lists."""
    return virsh("snapshot-list", guest.name, "--name").split()


def current(guest: Guest) -> str:
    return virsh("snapshot-current", guest.name, "--name", check=False)


def libvirt_version() -> tuple[int, ...]:
    """(9, 0): what it can do and what it refuses differs."""
    (found,) = re.findall(r"Using library: libvirt (\d+)\.(\d+)", virsh("version"))
    return tuple(map(int, found))


def frozen(guest: Guest) -> str:
    """The agent's word: frozen or thawed."""
    return str(guest.agent("guest-fsfreeze-status"))


def monitor(guest: Guest, execute: str, **arguments: Any) -> Any:
    """Have QEMU do what libvirt doesn't know of."""
    command = json.dumps({"execute": execute, "arguments": arguments})
    return json.loads(guest.virsh("qemu-monitor-command", command))["return"]


def node(guest: Guest, disk: int) -> str:
    """The node of a disk of a running guest, by its file."""
    return file_node(guest, guest.disks[disk].path)


def file_node(guest: Guest, path: Path) -> str:
    nodes = monitor(guest, "query-named-block-nodes", flat=True)
    return next(
        str(n["node-name"])
        for n in nodes
        if n["drv"] == "qcow2" and str(path) in n["image"]["filename"]
    )


def tag(guest: Guest, name: str, *disks: int) -> None:
    """Put a tag into the images of some disks of a running guest, behind libvirt's back."""
    for disk in disks:
        tag_file(guest, guest.disks[disk].path, name)


def tag_file(guest: Guest, path: Path, name: str) -> None:
    device = file_node(guest, path)
    monitor(guest, "blockdev-snapshot-internal-sync", device=device, name=name)


def untag(guest: Guest, name: str, *disks: int) -> None:
    for disk in disks:
        device = node(guest, disk)
        monitor(guest, "blockdev-snapshot-delete-internal-sync", device=device, name=name)


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, timeout=60, capture_output=True)


def await_state(guest: Guest, state: str, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while guest.state() != state:
        assert time.monotonic() < deadline, f"{guest.name} is {guest.state()}, never got {state}"
        time.sleep(0.05)


@contextmanager
def untouched(guest: Guest) -> Iterator[None]:
    """What happens inside leaves a running guest running, its RAM, disks and snapshots as is."""
    text = uuid.uuid4().hex
    note(guest, text)
    before = guest.cmd("boot-id"), tags(guest), listed(guest), current(guest)
    yield
    assert guest.state() == "running"
    assert (guest.cmd("boot-id"), tags(guest), listed(guest), current(guest)) == before
    assert in_ram(guest) == text
    assert on_disks(guest) == [text] * len(guest.disks)
    assert frozen(guest) == "thawed"


def clean(guest: Guest) -> None:
    """Have the guest running without any snapshot, however it was left."""
    for name in listed(guest):
        guest.virsh("snapshot-delete", name, "--metadata", check=False)
    if guest.state() == "paused":
        guest.virsh("resume", check=False)
    if guest.state() == "running" and not listed(guest):
        for index, held in enumerate(tags(guest)):
            for name in held:
                untag(guest, name, index)
        if not any(tags(guest)):
            guest.wait()
            return
    guest.virsh("destroy", check=False)
    xml = guest.virsh("dumpxml", "--inactive", "--security-info")
    guest.virsh("undefine", "--managed-save", "--snapshots-metadata", "--checkpoints-metadata")
    for disk in guest.disks:
        for name in guest.tags(disk.path):
            qemu_img("snapshot", "-d", name, disk.path)
    guest.define(xml)
    guest.start()
    guest.wait()
