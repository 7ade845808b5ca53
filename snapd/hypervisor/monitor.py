"""The only place that talks to QEMU past libvirt, and only with the four commands of DESIGN.md.

One `transaction` of blockdev-snapshot-internal-sync takes all disks of a running VM at one
instant; libvirt offers no call for it. LIBVIRT.md section 10 has the rules.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import libvirt
import libvirt_qemu

from ..errors import Inconsistent, Unsupported
from ..model import NVRAM, Disk

COMMANDS = frozenset(
    {
        "transaction",
        "blockdev-snapshot-delete-internal-sync",
        "query-block",
        "query-named-block-nodes",
    }
)

_FLASH = re.compile(r"/machine/[\w-]+\.flash\d+")


class MonitorRefused(Exception):
    """QEMU answered with an error: the whole command was rolled back (LIBVIRT.md 10). It stays in
    this room: the text is one line for whoever is told."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a transaction did: how long QEMU worked on it, in milliseconds."""

    milliseconds: int


def _ask(dom: libvirt.virDomain, execute: str, arguments: Mapping[str, object]) -> Any:
    if execute not in COMMANDS:
        raise ValueError(f"{execute} is not one of the monitor commands that we use")
    command = json.dumps({"execute": execute, "arguments": arguments})
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(dom, command, 0))
    if "error" in answer:
        said = " ".join(str(answer["error"].get("desc", "no reason given")).split())
        raise MonitorRefused(f"QEMU refused {execute} for VM {dom.name()}: {said[:300]}")
    return answer["return"]


def nodes(dom: libvirt.virDomain, disks: Sequence[Disk]) -> dict[str, str]:
    """target -> the top node of each disk's image, found by its device, never by order.

    Raises Inconsistent where a disk has no such node.
    """
    by_device = {
        str(entry.get("qdev", "")): str(entry.get("inserted", {}).get("node-name", ""))
        for entry in _ask(dom, "query-block", {})
    }
    found = {}
    for disk in disks:
        inside = f"/machine/peripheral/{disk.alias}"
        node = next(
            (
                name
                for device, name in by_device.items()
                if device == disk.alias or device == inside or device.startswith(f"{inside}/")
            ),
            "",
        )
        if not node or not disk.alias:
            raise Inconsistent(
                f"VM {dom.name()}: QEMU knows no image for disk {disk.target}", disk=disk.target
            )
        found[disk.target] = node
    return found


def with_nvram(
    dom: libvirt.virDomain, disks: Sequence[Disk]
) -> tuple[tuple[Disk, ...], dict[str, str]]:
    """The disks, with the NVRAM where it is qcow2, and the node of each by its target.

    libvirt's own internal snapshots hold such an NVRAM; a revert to one without RAM that it isn't
    in fails after the VM was ended (11.3, measured).
    """
    found = nodes(dom, disks)
    for entry in _ask(dom, "query-block", {}):
        inserted = entry.get("inserted", {})
        flash = _FLASH.fullmatch(str(entry.get("qdev", "")))
        if flash and inserted.get("drv") == "qcow2" and not inserted.get("ro"):
            return (*disks, Disk(NVRAM, "", "qcow2")), {**found, NVRAM: inserted["node-name"]}
    return tuple(disks), found


def tags(
    dom: libvirt.virDomain, disks: Sequence[Disk], nodes: Mapping[str, str]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """target -> (id, name) of the internal snapshots of its image, as QEMU has them now.

    A disk's top node may be a filter (copy-on-read, throttling), which has none itself: then the
    qcow2 node of the disk's file is asked.
    """
    answer = _ask(dom, "query-named-block-nodes", {"flat": True})
    images = [e for e in answer if e["drv"] == "qcow2"]
    found = {}
    for disk in disks:
        image = next(
            (e for e in images if e.get("node-name") == nodes[disk.target]),
            next((e for e in images if e["image"].get("filename") == disk.source), None),
        )
        if image is None:
            raise Inconsistent(
                f"VM {dom.name()}: the image of disk {disk.target} has changed meanwhile",
                disk=disk.target,
            )
        listed = image["image"].get("snapshots") or []
        found[disk.target] = tuple((str(s["id"]), str(s["name"])) for s in listed)
    return found


def bitmaps(dom: libvirt.virDomain, disks: Sequence[Disk]) -> dict[str, tuple[str, ...]]:
    """target -> the bitmaps that QEMU will write to the image when it ends: a header read before
    that doesn't show those that somebody added since the VM was started."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in _ask(dom, "query-named-block-nodes", {"flat": True}):
        names = [str(b["name"]) for b in entry.get("dirty-bitmaps", ()) if b.get("persistent")]
        for disk in disks if names else ():
            if disk.source and entry["image"].get("filename") == disk.source:
                found[disk.target] = (*found.get(disk.target, ()), *names)
    return found


def take(dom: libvirt.virDomain, nodes: Mapping[str, str], name: str) -> Taken:
    """Take the internal snapshot on every node at one instant, or on none."""
    if not nodes:
        raise Unsupported(f"VM {dom.name()} has no disk to snapshot", reason="no-disk")
    actions = [
        {"type": "blockdev-snapshot-internal-sync", "data": {"device": node, "name": name}}
        for node in nodes.values()
    ]
    begun = time.monotonic()
    _ask(dom, "transaction", {"actions": actions})
    return Taken(round((time.monotonic() - begun) * 1000))


def remove(dom: libvirt.virDomain, node: str, name: str) -> None:
    """Delete the snapshot of that name from one node."""
    _ask(dom, "blockdev-snapshot-delete-internal-sync", {"device": node, "name": name})
