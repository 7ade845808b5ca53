"""What libvirt takes and says of external snapshots: XML of snapshots, volumes, pools. Pure."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from .external import ChainFacts, ExternalSnapshot, NewOverlay

MODE = "0600"
FIRST_VERSION = (9, 9, 0)
"""libvirt that creates, reverts and deletes external snapshots."""
FOLDERS = ("dir", "fs", "netfs")
"""Types of pool whose volumes are the files in a folder."""


def host(capabilities: str, version: tuple[int, int, int]) -> ChainFacts:
    """What a `<capabilities>` says for every domain. version: libvirt's."""
    root = ET.fromstring(capabilities)
    external = root.find("./guest/features/externalSnapshot") is not None
    models = {el.findtext("model") or "" for el in root.findall("./host/secmodel")}
    return ChainFacts(
        external and version >= FIRST_VERSION, frozenset(models - {"", "none", "dac"})
    )


def snapshot(wanted: ExternalSnapshot) -> str:
    """The `<domainsnapshot>` to make: every disk is named, so that none is taken by default."""
    root = ET.Element("domainsnapshot")
    ET.SubElement(root, "name").text = wanted.name
    if wanted.description:
        ET.SubElement(root, "description").text = wanted.description
    if wanted.memory_file:
        ET.SubElement(root, "memory", snapshot="external", file=wanted.memory_file)
    else:
        ET.SubElement(root, "memory", snapshot="no")
    held = ET.SubElement(root, "disks")
    for target, path in wanted.overlays:
        disk = ET.SubElement(held, "disk", name=target, snapshot="external", type="file")
        ET.SubElement(disk, "driver", type="qcow2")
        source = ET.SubElement(disk, "source", file=path)
        if secret := wanted.encrypted.get(target):
            source.append(ET.fromstring(secret))
    for target in wanted.left_out:
        ET.SubElement(held, "disk", name=target, snapshot="no")
    return ET.tostring(root, "unicode")


def encryptions(domain: ET.Element) -> dict[str, str]:
    """target -> the `<encryption>` of its disk, which names a secret and does not hold it."""
    found = {}
    for disk in domain.findall("./devices/disk"):
        target = disk.find("target")
        secret = disk.find("source/encryption")
        if secret is None:
            secret = disk.find("encryption")
        if target is not None and secret is not None:
            plain = copy.deepcopy(secret)
            plain.tail = None
            found[target.get("dev", "")] = ET.tostring(plain, "unicode").strip()
    return found


def volume(wanted: NewOverlay, owner: Mapping[str, str], encryption: str = "") -> str:
    """The `<volume>` of an overlay. owner: `owner` and `group` of what it is to stand on, where
    they are known: a QEMU whose files libvirt doesn't hand over has to be able to open it."""
    root = ET.Element("volume", type="file")
    ET.SubElement(root, "name").text = wanted.path.rpartition("/")[2]
    ET.SubElement(root, "capacity", unit="bytes").text = str(wanted.size)
    target = ET.SubElement(root, "target")
    ET.SubElement(target, "format", type="qcow2")
    if encryption:
        target.append(ET.fromstring(encryption))
    rights = ET.SubElement(target, "permissions")
    ET.SubElement(rights, "mode").text = MODE
    for key in ("owner", "group"):
        if owner.get(key):
            ET.SubElement(rights, key).text = owner[key]
    below = ET.SubElement(root, "backingStore")
    ET.SubElement(below, "path").text = wanted.base
    ET.SubElement(below, "format", type=wanted.base_format)
    return ET.tostring(root, "unicode")


def owner(volume: str) -> dict[str, str]:
    """`owner` and `group` of a `<volume>`'s file, as far as it says."""
    root = ET.fromstring(volume)
    said = {key: root.findtext(f"./target/permissions/{key}") or "" for key in ("owner", "group")}
    return {key: number for key, number in said.items() if number}


def pool(name: str, folder: str) -> str:
    """The `<pool>` of the files in a folder."""
    root = ET.Element("pool", type="dir")
    ET.SubElement(root, "name").text = name
    ET.SubElement(ET.SubElement(root, "target"), "path").text = folder
    return ET.tostring(root, "unicode")


def folder(pool: str) -> str:
    """The folder whose files are the volumes of a `<pool>`; "" = they aren't the files of one."""
    root = ET.fromstring(pool)
    if root.get("type") not in FOLDERS:
        return ""
    return (root.findtext("./target/path") or "").rstrip("/") or "/"


def external_targets(snapshot: str) -> tuple[str, ...]:
    """Disks that a `<domainsnapshot>` holds by overlays."""
    root = ET.fromstring(snapshot)
    return tuple(el.get("name", "") for el in root.findall("./disks/disk[@snapshot='external']"))


def chain(domain: ET.Element) -> dict[str, tuple[str, ...]]:
    """target -> the files that a disk stands on by a `<domain>`, its own first; () = it doesn't
    say. Not the host's files, as those of the network, end it."""
    return {target: layers for target, (layers, _ends) in _chains(domain).items()}


def ended(domain: ET.Element) -> frozenset[str]:
    """The disks of whose chains it says that nothing lies below: by an empty `<backingStore/>`,
    where without one libvirt goes by the header."""
    return frozenset(target for target, (_layers, ends) in _chains(domain).items() if ends)


def _chains(domain: ET.Element) -> dict[str, tuple[tuple[str, ...], bool]]:
    found = {}
    for disk in domain.findall("./devices/disk"):
        target = disk.find("target")
        if target is None:
            continue
        layers: list[str] = []
        el: ET.Element | None = disk
        while el is not None:
            source = el.find("source")
            path = source.get("file") or source.get("dev") if source is not None else ""
            if not path:
                break
            layers.append(path)
            el = el.find("backingStore")
        ends = el is not None and el is not disk and el.find("source") is None
        found[target.get("dev", "")] = tuple(layers), ends
    return found
