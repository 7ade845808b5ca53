"""What of a domain's configuration a person would miss when a revert rolls it back. Pure.

A saved configuration may be a live one (addresses, aliases, host names of taps), the present one is
the stored one; so only what both have in the same words is compared.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

_PARTS: dict[str, Callable[[ET.Element], object]] = {
    "title": lambda d: d.findtext("title") or "",
    "description": lambda d: d.findtext("description") or "",
    "memory": lambda d: d.findtext("memory") or "",
    "vcpu": lambda d: d.findtext("vcpu") or "",
    "cpu": lambda d: [*_attributes(d.find("cpu"), "mode"), d.findtext("cpu/model") or ""],
    "firmware": lambda d: [*_attributes(d.find("os"), "firmware"), d.findtext("os/loader") or ""],
    "machine": lambda d: _attributes(d.find("os/type"), "arch", "machine"),
    "emulator": lambda d: d.findtext("devices/emulator") or "",
    "metadata": lambda d: sorted(map(_whole, d.findall("metadata/*"))),
    "disks": lambda d: sorted(map(_disk, d.findall("devices/disk"))),
    "interfaces": lambda d: sorted(map(_interface, d.findall("devices/interface"))),
    "host devices": lambda d: len(d.findall("devices/hostdev")),
    "folders": lambda d: sorted(
        _attributes(f.find("source"), "dir") for f in d.findall("devices/filesystem")
    ),
    "displays": lambda d: sorted(_attributes(g, "type") for g in d.findall("devices/graphics")),
    "TPM": lambda d: len(d.findall("devices/tpm")),
}


def rolled_back(then: ET.Element, now: ET.Element) -> tuple[str, ...]:
    """Names of the parts of a `<domain>` that are not now as they were then."""
    return tuple(name for name, part in _PARTS.items() if part(then) != part(now))


def _attributes(el: ET.Element | None, *names: str) -> list[str]:
    return [el.get(name, "") if el is not None else "" for name in names]


def _disk(el: ET.Element) -> list[str]:
    source = el.find("source")
    place = source.attrib.items() if source is not None else ()
    where = sorted(value for key, value in place if key != "index")
    return [*_attributes(el.find("target"), "dev", "bus"), *where]


def _interface(el: ET.Element) -> list[str]:
    source = el.find("source")
    where = _attributes(source, "network", "bridge")
    return [el.get("type", ""), *_attributes(el.find("mac"), "address"), *where]


def _whole(el: ET.Element) -> str:
    return ET.canonicalize(ET.tostring(el, "unicode"), strip_text=True)
