"""What a saved domain refers to and can't run without, beside its disks. Pure: XML to wants."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

INTERFACES = "/sys/class/net"

_FILES = ("./os/loader", "./os/kernel", "./os/initrd", "./os/dtb", "./os/acpi/table")


@dataclass(frozen=True, slots=True)
class Want:
    """Something wanted: kind and name as in `Need`.

    path: what has to be there, "" = libvirt is to be asked (of a volume, for its path); unless: a
    file that does as well.
    """

    kind: str
    name: str
    path: str = ""
    unless: str = ""

    @property
    def node_device(self) -> str:
        """libvirt's name of a host device that is known by its PCI address."""
        return "pci_" + self.name.replace(":", "_").replace(".", "_")


def wanted(domain: ET.Element) -> tuple[Want, ...]:
    """All that a `<domain>` wants of its host, each once."""
    parts = (_files, _folders, _volumes, _interfaces, _devices)
    every = [want for part in parts for want in part(domain)]
    return tuple(dict.fromkeys(every))


def _files(domain: ET.Element) -> Iterator[Want]:
    named = [el.text or "" for path in _FILES for el in domain.findall(path)]
    named += [el.get("file", "") for el in domain.findall("./devices/*/rom")]
    yield from (_path("file", path.strip()) for path in named if path.strip().startswith("/"))
    nvram = domain.find("./os/nvram")
    if nvram is not None and (template := nvram.get("template")):
        source = nvram.find("source")
        file = source.get("file", "") if source is not None else (nvram.text or "").strip()
        yield _path("file", template, unless=file)
    if emulator := (domain.findtext("./devices/emulator") or "").strip():
        yield _path("emulator", emulator)


def _folders(domain: ET.Element) -> Iterator[Want]:
    for source in domain.findall("./devices/filesystem/source[@dir]"):
        yield _path("folder", source.get("dir", ""))


def _volumes(domain: ET.Element) -> Iterator[Want]:
    for source in domain.findall("./devices/disk[@type='volume']/source"):
        yield Want("volume", f"{source.get('pool', '')}/{source.get('volume', '')}")


def _interfaces(domain: ET.Element) -> Iterator[Want]:
    for el in domain.findall("./devices/interface"):
        source = el.find("source")
        if source is None:
            continue
        # of a running domain, a network's interface also tells the bridge that it got
        if network := source.get("network"):
            yield Want("network", network)
        elif name := source.get({"bridge": "bridge", "direct": "dev"}.get(el.get("type", ""), "")):
            yield Want("bridge", name, f"{INTERFACES}/{name}")


def _devices(domain: ET.Element) -> Iterator[Want]:
    places = ("hostdev[@type='pci']", "interface[@type='hostdev']")
    for place in places:
        for address in domain.findall(f"./devices/{place}/source/address"):
            if address.get("type", "pci") == "pci":
                numbers = (_number(address, k) for k in ("domain", "bus", "slot", "function"))
                yield Want("device", "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers))


def _number(address: ET.Element, key: str) -> int:
    return int(address.get(key, "0"), 0)


def _path(kind: str, path: str, unless: str = "") -> Want:
    return Want(kind, PurePath(path).name or path, path, unless)
