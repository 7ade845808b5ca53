"""Which files the disks of a domain, or a storage volume, stand on, as far as XML tells. Pure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass

LAYERED = "qcow2"
"""The one format whose backing files we follow."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One disk's files from the top: layers: (path, format), at least one.

    whole: there is none below the last; else its header has to be read for more.
    """

    layers: tuple[tuple[str, str], ...]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Chains:
    """A domain's: of the disks that it runs on, and of those that it would start on."""

    live: tuple[Chain, ...] = ()
    stored: tuple[Chain, ...] = ()

    def to_follow(self) -> list[Chain]:
        """All, without those that tell less than another of the same top does."""
        known = {chain.layers[0][0] for chain in self.live if chain.whole}
        rest = (c for c in self.stored if len(c.layers) > 1 or c.layers[0][0] not in known)
        return [*self.live, *rest]


@dataclass(frozen=True, slots=True)
class Volume:
    """A storage volume that is backed by something: who: `pool/volume`; backing: libvirt's word."""

    who: str
    path: str
    format: str
    backing: str


def chains(domain: ET.Element) -> tuple[Chain, ...]:
    """Those of a `<domain>`'s disks that are files or devices of this host."""
    found = (_chain(el) for el in domain.findall("./devices/disk"))
    return tuple(chain for chain in found if chain.layers)


def _chain(el: ET.Element) -> Chain:
    driver = el.find("driver")
    form = driver.get("type", "") if driver is not None else ""
    layers: list[tuple[str, str]] = []
    while True:
        source = el.find("source")
        path = source.get("file") or source.get("dev") if source is not None else ""
        if not path:  # `<backingStore/>` ends a chain; the network's files are none of ours
            return Chain(tuple(layers), whole=True)
        layers.append((path, form))
        below = el.find("backingStore")
        if below is None:
            return Chain(tuple(layers), whole=form != LAYERED)
        named = below.find("format")
        el, form = below, named.get("type", "") if named is not None else ""


def volume(pool: str, text: str) -> Volume | None:
    """A `<volume>`; None where it is backed by nothing."""
    root = ET.fromstring(text)
    backing = root.findtext("./backingStore/path") or ""
    form = root.find("./target/format")
    if not backing:
        return None
    return Volume(
        who=f"{pool}/{root.findtext('name') or ''}",
        path=root.findtext("./target/path") or "",
        format=form.get("type", "") if form is not None else "",
        backing=backing,
    )


def plain_path(backing: str) -> str:
    """The host's file that a backing name means, "" = none: a header may also say it in JSON."""
    if not backing.startswith("json:"):
        return backing if backing.startswith("/") else ""
    try:
        said = json.loads(backing.removeprefix("json:"))
    except ValueError:
        return ""
    if not isinstance(said, dict):
        return ""
    file = said.get("file")
    inner = file if isinstance(file, dict) else {}
    name = inner.get("filename") or said.get("file.filename") or said.get("filename") or ""
    return name if isinstance(name, str) and name.startswith("/") else ""
