"""What libvirt's answer about a domain lacks for a preflight: what its files and images say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from ..errors import SnapdError
from ..model import Disk
from .files import Files
from .images import ImageInfo, Images
from .protocol import DomainFacts


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Adds to facts in place. What can't be read or told is a fact too, never an error."""

    images: Images
    files: Files

    async def image(self, disk: Disk) -> ImageInfo:
        return await self.images.info(disk.source, disk.format)

    async def add(self, facts: DomainFacts) -> None:
        """images, unreadable, misdeclared, space and missing."""
        wanted = [d for d in facts.info.disks if d.writable and d.kind == "file"]
        await asyncio.gather(
            *(self._read(facts, d) for d in wanted if d.format),
            *(self._measure(facts, d) for d in wanted if d.source),
            self._look_for_files(facts),
        )

    async def _read(self, facts: DomainFacts, disk: Disk) -> None:
        try:
            facts.images[disk.target] = await self.image(disk)
        except SnapdError as e:
            facts.unreadable[disk.target] = e.message
            if disk.format == "qcow2" and await self.files.is_qcow2(disk.source) is False:
                facts.misdeclared.add(disk.target)

    async def _measure(self, facts: DomainFacts, disk: Disk) -> None:
        if space := await self.files.space(str(Path(disk.source).parent)):
            facts.space[disk.target] = space

    async def _look_for_files(self, facts: DomainFacts) -> None:
        files = {d.source for d in (*facts.info.disks, *facts.saved) if d.kind == "file"}
        facts.missing.update(await self.files.missing(files - {""}))
