"""What libvirt's answer about a domain lacks for a preflight: what its files and images say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import libvirt

from ..errors import SnapdError
from ..model import Disk, DomainInfo
from . import host
from .files import Files
from .images import ImageInfo, Images
from .layers import Layers
from .needs import Want
from .protocol import DomainFacts, Need
from .unseen import OURS_ALONE
from .users import Users

LOCAL = ("file", "block")
"""Kinds of disk whose source is a path of this host."""


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Adds to facts in place. What can't be read or told is a fact too, never an error."""

    images: Images
    files: Files
    users: Users

    async def image(self, disk: Disk) -> ImageInfo:
        return await self.images.info(disk.source, disk.format)

    async def add(self, facts: DomainFacts, wants: Collection[Want] | None = None) -> None:
        """images, unreadable, misdeclared, space, missing, unknown and chains; with wants, what the
        domain in a snapshot wants of the host, also needs and users."""
        wanted = [d for d in facts.info.disks if d.writable and d.kind == "file"]
        nvram = [facts.info.nvram] if facts.info.nvram else []
        await asyncio.gather(
            *(self._read(facts, d) for d in (*wanted, *nvram) if d.format),
            *(self._measure(facts, d) for d in wanted if d.source),
            self._look_for_files(facts),
            *(
                [self._look_for(facts, wants), self._look_around(facts)]
                if wants is not None
                else []
            ),
        )
        await asyncio.gather(self._look_below(facts), Layers(self.images, self.files).add(facts))

    async def doubt(
        self,
        facts: DomainFacts,
        look: Callable[[Callable[[libvirt.virDomain], set[str]]], Awaitable[set[str]]],
    ) -> None:
        """Have libvirt look for what isn't there: the service may not see all that it does."""
        if not facts.missing:
            return
        with contextlib.suppress(SnapdError):
            ask = partial(host.sees, info=facts.info, files=frozenset(facts.missing))
            for path in await look(ask):
                facts.missing.discard(path)
                facts.unknown.add(path)
                facts.whys[path] = OURS_ALONE
        for disk in (*facts.info.disks, *([facts.info.nvram] if facts.info.nvram else [])):
            if facts.whys.get(disk.source) is OURS_ALONE and disk.target in facts.unreadable:
                facts.unreadable[disk.target] += f"; {OURS_ALONE.why}"

    async def writer(self, info: DomainInfo) -> str:
        """Who works on the images of a VM that is off, as a holder: libvirt's own qemu-img, which
        it finishes though our connection or daemon is gone, or somebody else; "" = nobody."""
        files = [d.source for d in info.disks if d.writable and d.kind == "file"]
        written = await asyncio.gather(*(self.files.is_written(path) for path in files))
        busy = next((path for path, is_so in zip(files, written, strict=True) if is_so), "")
        return f"a program that writes to {Path(busy).name}" if busy else ""

    async def _look_below(self, facts: DomainFacts) -> None:
        """One layer: what is missing further down, libvirt says before it touches anything."""
        backing = {i.backing for i in facts.images.values() if i.backing.startswith("/")}
        await self._look_at(facts, backing)

    async def _look_at(self, facts: DomainFacts, files: Collection[str]) -> None:
        missing, untold = await self.files.missing(files)
        facts.missing.update(missing)
        facts.unknown.update(untold)
        facts.whys.update(untold)

    async def _read(self, facts: DomainFacts, disk: Disk) -> None:
        try:
            facts.images[disk.target] = await self.image(disk)
        except SnapdError as e:
            facts.unreadable[disk.target] = e.message
            if why := await self.files.unread(disk.source):
                if why.why not in e.message:
                    facts.unreadable[disk.target] += f"; {why.why}"
                facts.whys[disk.source] = why
            elif disk.format == "qcow2" and await self.files.is_qcow2(disk.source) is False:
                facts.misdeclared.add(disk.target)

    async def _measure(self, facts: DomainFacts, disk: Disk) -> None:
        if space := await self.files.space(str(Path(disk.source).parent)):
            facts.space[disk.target] = space
        else:
            facts.unknown.add(disk.source)

    async def _look_for_files(self, facts: DomainFacts) -> None:
        disks = (*facts.info.disks, *facts.saved)
        named = {path for s in facts.snapshots for path in s.files}
        await self._look_at(facts, named | {d.source for d in disks if d.kind in LOCAL} - {""})

    async def _look_for(self, facts: DomainFacts, wants: Collection[Want]) -> None:
        every = {p for w in wants for p in (w.path, w.unless) if p}
        gone, untold = await self.files.missing(every)
        facts.whys.update(untold)
        for want in wants:
            told = not untold.keys() & {want.path, want.unless}
            gone_or_unknown = {want.path, want.unless} <= gone | untold.keys() | {""}
            if want.path and gone_or_unknown:
                facts.needs.append(Need(want.kind, want.name, told))

    async def _look_around(self, facts: DomainFacts) -> None:
        info = facts.info
        disks = {d.target: d.source for d in info.disks if d.writable and d.kind in LOCAL}
        own = {d.source for d in (*info.disks, *facts.inactive, *facts.saved) if d.kind in LOCAL}
        for snap in facts.snapshots:
            own |= snap.files
        wanted = {target: path for target, path in disks.items() if path}
        external = [s for s in facts.snapshots if s.overlays]
        named = [file for s in external for file in (*s.overlays, *s.bases, *s.reverted)]
        facts.users.extend(await self.users.find(info.uuid, wanted, own - {""}, named))
