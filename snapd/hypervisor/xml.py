"""libvirt's XML in and out, by a library, never by string building. No libvirt import."""

from __future__ import annotations

import contextlib
import io
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from ..model import NVRAM, Disk, Kind, SnapshotInfo, State

AGENT_CHANNEL = "org.qemu.guest_agent.0"

_SNAPSHOT_STATES = {
    "running": State.RUNNING,
    "blocked": State.RUNNING,
    "nostate": State.RUNNING,
    "paused": State.PAUSED,
    "shutdown": State.RUNNING,
    "shutoff": State.SHUTOFF,
    "crashed": State.CRASHED,
    "pmsuspended": State.SUSPENDED,
    "disk-snapshot": State.RUNNING,
}


def disks(domain: ET.Element) -> tuple[Disk, ...]:
    """The disks of a `<domain>`, in its order."""
    return tuple(_disk(el) for el in domain.findall("./devices/disk"))


def _disk(el: ET.Element) -> Disk:
    source = el.find("source")
    attributes = dict(source.attrib) if source is not None else {}
    place = next(
        (attributes[k] for k in ("file", "dev", "name", "volume", "dir") if k in attributes), ""
    )
    alias = el.find("alias")
    return Disk(
        target=_attribute(el, "target", "dev"),
        source=place,
        format=_attribute(el, "driver", "type"),
        kind=el.get("type", "file"),
        device=el.get("device", "disk"),
        alias=alias.get("name", "") if alias is not None else "",
        readonly=el.find("readonly") is not None,
        shareable=el.find("shareable") is not None,
        transient=el.find("transient") is not None,
        encrypted=el.find("encryption") is not None or el.find("source/encryption") is not None,
        data_file=el.find("source/dataStore") is not None,
    )


def _attribute(el: ET.Element, child: str, name: str) -> str:
    found = el.find(child)
    return found.get(name, "") if found is not None else ""


def memory(domain: ET.Element) -> int:
    """RAM in bytes (libvirt always writes KiB)."""
    text = domain.findtext("currentMemory") or domain.findtext("memory") or "0"
    return int(text) * 1024


def raw_nvram(domain: ET.Element) -> bool:
    """Whether firmware variables live in a raw file, which no internal snapshot holds."""
    nvram = domain.find("./os/nvram")
    return nvram is not None and nvram.get("format", "raw") == "raw"


def nvram_image(domain: ET.Element) -> Disk | None:
    """The image of firmware variables where it is qcow2: internal snapshots hold it.

    libvirt that can't do that (before 10.9) leaves the format out, or doesn't start such a VM.
    """
    nvram = domain.find("./os/nvram")
    if nvram is None or nvram.get("format") != "qcow2":
        return None
    source = nvram.find("source")
    path = source.get("file", "") if source is not None else (nvram.text or "").strip()
    return Disk(NVRAM, path, "qcow2") if path else None


def emulated_tpm(domain: ET.Element) -> bool:
    """Whether it has a TPM whose state is libvirt's (swtpm), and in no disk."""
    return domain.find("./devices/tpm/backend[@type='emulator']") is not None


def has_agent(domain: ET.Element) -> bool:
    """Whether a guest agent is connected to its channel now."""
    return any(
        target.get("name") == AGENT_CHANNEL and target.get("state") == "connected"
        for target in domain.findall("./devices/channel/target")
    )


def unmigratable(domain: ET.Element) -> str:
    """The first device that keeps libvirt from saving RAM, in a few words; "" = none known.

    What libvirt itself checks before every save (LIBVIRT.md 4, "VMs that can't save RAM").
    """
    for el in domain.findall("./devices/*"):
        if el.tag == "hostdev" and el.get("type") != "usb":  # those are unplugged, and saved
            return f"hostdev ({el.get('type', 'unknown')})"
        if el.tag == "interface" and el.get("type") == "hostdev":
            return f"interface {_attribute(el, 'target', 'dev')} (hostdev)".replace("  ", " ")
        if el.tag == "filesystem" and _attribute(el, "driver", "type") == "virtiofs":
            return f"filesystem {_attribute(el, 'target', 'dir')} (virtiofs)"
        if el.tag == "shmem" and not _is_master(el):
            return f"shmem {el.get('name', '')}"
    return ""


def _is_master(shmem: ET.Element) -> bool:
    """Only such shared memory is saved; without a role, or of the old model, it is not."""
    return shmem.get("role") == "master" and _attribute(shmem, "model", "type") != "ivshmem"


def snapshot(text: str, *, current: bool) -> SnapshotInfo:
    """One `<domainsnapshot>`, as libvirt prints it."""
    root = ET.fromstring(text)
    created = root.findtext("creationTime")
    word = root.findtext("state") or ""
    held = {d.get("name", ""): d.get("snapshot", "") for d in root.findall("./disks/disk")}
    memory_kind = _attribute(root, "memory", "snapshot")
    external = "external" in held.values() or memory_kind == "external"
    overlays = _overlays(root, "disks")
    return SnapshotInfo(
        name=root.findtext("name") or "",
        created=int(created) if created else 0,
        time_known=bool(created),
        state=_SNAPSHOT_STATES.get(word, State.UNKNOWN),
        kind=Kind.EXTERNAL if external or word == "disk-snapshot" else Kind.INTERNAL,
        description=root.findtext("description") or "",
        parent=root.findtext("./parent/name") or "",
        current=current,
        memory=memory_kind in ("internal", "external"),
        disks=tuple(t for t, how in held.items() if how not in ("no", "")),
        left_out=tuple(t for t, how in held.items() if how == "no"),
        overlays=overlays,
        bases=_sources(root, {target for target, _file in overlays}),
        bare=_bare(root, {target for target, _file in overlays}),
        sources=_sources(root, {t for t, how in held.items() if how not in ("no", "")}),
        memory_file=_attribute(root, "memory", "file"),
        reverted=_overlays(root, "revertDisks"),
    )


def _overlays(snapshot: ET.Element, which: str) -> tuple[tuple[str, str], ...]:
    found = []
    for el in snapshot.findall(f"./{which}/disk[@snapshot='external']"):
        if file := _attribute(el, "source", "file") or _attribute(el, "source", "dev"):
            found.append((el.get("name", ""), file))
    return tuple(found)


def _sources(snapshot: ET.Element, targets: set[str]) -> tuple[tuple[str, str], ...]:
    """What those disks were on when the snapshot was made: libvirt notes the domain of before."""
    domain = snapshot.find("domain")
    if domain is None:
        return ()
    return tuple((d.target, d.source) for d in disks(domain) if d.target in targets and d.source)


def _bare(snapshot: ET.Element, targets: set[str]) -> tuple[str, ...]:
    """Those of the disks whose record ends with their own file, whatever that stands on."""
    found = {
        _attribute(el, "target", "dev"): el for el in snapshot.findall("./domain/devices/disk")
    }
    return tuple(
        t for t in sorted(targets & set(found)) if found[t].find("backingStore/source") is None
    )


def new_snapshot(name: str, description: str) -> str:
    """What libvirt's own create of an internal snapshot takes."""
    root = ET.Element("domainsnapshot")
    _text(root, "name", name)
    if description:
        _text(root, "description", description)
    return ET.tostring(root, "unicode")


def described(snapshot: str, description: str) -> str:
    """A `<domainsnapshot>` with another description and everything else as it was."""
    for _event, (prefix, uri) in ET.iterparse(io.StringIO(snapshot), events=["start-ns"]):
        with contextlib.suppress(ValueError):  # `ns0` is ElementTree's own
            ET.register_namespace(prefix, uri)  # prefixes mean nothing, but people search for them
    root = ET.fromstring(snapshot)
    found = root.find("description")
    if found is None:
        found = ET.Element("description")
        root.insert(1, found)
    if description:
        found.text = description
    else:
        root.remove(found)
    return ET.tostring(root, "unicode")


def taken_snapshot(
    name: str,
    description: str,
    created: int,
    parent: str,
    targets: Iterable[str],
    left_out: Iterable[str],
    domain_xml: str,
) -> str:
    """What registers with libvirt an internal snapshot without RAM that QEMU has made.

    state is shutoff: there is no RAM, so libvirt reverts it as one of a VM that was off
    (LIBVIRT.md 9.1). domain_xml: the secure inactive XML, or a revert would lose secrets.
    """
    root = ET.Element("domainsnapshot")
    _text(root, "name", name)
    if description:
        _text(root, "description", description)
    _text(root, "state", State.SHUTOFF.value)
    _text(root, "creationTime", str(created))
    if parent:
        _text(ET.SubElement(root, "parent"), "name", parent)
    ET.SubElement(root, "memory", snapshot="no")
    held = ET.SubElement(root, "disks")
    for target in targets:
        ET.SubElement(held, "disk", name=target, snapshot="internal")
    for target in left_out:
        ET.SubElement(held, "disk", name=target, snapshot="no")
    root.append(ET.fromstring(domain_xml))
    return ET.tostring(root, "unicode")


def _text(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text
