"""What the disks of a domain with external snapshots stand on, layer by layer, by the headers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import libvirt

from ..errors import SnapdError
from ..model import Kind
from . import external_xml
from .chains import LAYERED, plain_path
from .external import ChainFacts
from .files import Files
from .images import Images
from .protocol import DomainFacts
from .unseen import Unseen

DEPTH = 200
"""libvirt starts no VM on more."""


def said(dom: libvirt.virDomain, inactive: str, host: ChainFacts) -> ChainFacts:
    """What libvirt itself says; layers and images are still to be read. inactive: the XML of the
    next start; host: what is so of every domain. For a thread."""
    none = ET.Element("domain")
    live = ET.fromstring(dom.XMLDesc(0)) if dom.isActive() else none
    stored = ET.fromstring(inactive) if dom.isPersistent() else none
    return ChainFacts(
        host.capable,
        host.security,
        live=external_xml.chain(live),
        stored=external_xml.chain(stored),
        live_ends=external_xml.ended(live),
        stored_ends=external_xml.ended(stored),
    )


@dataclass(frozen=True, slots=True)
class Layers:
    """Reads headers: each in the format that the domain or the layer above declares, never probed,
    as a guest can write any header into a raw disk."""

    images: Images
    files: Files

    async def add(self, facts: DomainFacts) -> None:
        """layers and images of facts.chains, in place; what can't be read ends a chain there."""
        if not any(s.kind is Kind.EXTERNAL for s in facts.snapshots):
            return
        for disk in facts.info.disks:
            if disk.writable and disk.kind == "file" and disk.source and disk.format:
                found = await self._follow(facts, disk.source, disk.format)
                facts.chains.layers[disk.target] = found
        for snapshot in facts.snapshots:  # libvirt and we begin files of this format only
            for _target, path in (*snapshot.overlays, *snapshot.reverted):
                await self._follow(facts, path, LAYERED)

    async def _follow(
        self, facts: DomainFacts, path: str, form: str
    ) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        while path and len(found) < DEPTH and path not in {known for known, _form in found}:
            found.append((path, form))
            if not await self._read(facts, path, form) or form != LAYERED:
                break
            image = facts.chains.images[path]
            path, form = plain_path(image.backing), image.backing_format
        return tuple(found)

    async def _read(self, facts: DomainFacts, path: str, form: str) -> bool:
        if path in facts.chains.images:
            return True
        if not form:
            why = "the image above it doesn't say of what format it is"
            facts.unknown.add(path)
            facts.whys[path] = Unseen(why, ("audit",))
            return False
        try:
            facts.chains.images[path] = await self.images.info(path, form)
        except SnapdError as e:
            missing, untold = await self.files.missing([path])
            facts.missing.update(missing)
            if not missing:
                facts.unknown.add(path)
                facts.whys[path] = untold.get(path) or Unseen(e.message)
            return False
        return True
