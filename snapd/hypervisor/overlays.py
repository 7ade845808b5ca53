"""External snapshots by libvirt: files by its pools, then calls that have VMs go over to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import libvirt

from ..errors import AlreadyExists, Busy, SnapdError
from . import external_xml, pools, reading, unfinished
from .external import ExternalSnapshot, NewOverlay
from .files import Files

log = logging.getLogger(__name__)
Act = Callable[[str, str, Callable[[libvirt.virDomain], Any]], Awaitable[Any]]
"""Call something that may change a VM: its UUID, `make X of`, what to do; it has no time-out."""
Look = Callable[[str, str, Callable[[libvirt.virDomain], Any], float], Awaitable[Any]]
"""The same for reading, with a time-out in seconds."""
LOOK_SECONDS = 5.0
STATE_SECONDS = 40.0
"""An earlier look at the VM, which this one is behind, may wait for 30 s in libvirt."""
_STARTING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
WATCH_SECONDS = 0.5
"""So often a merge is asked how far it is."""


class LibvirtOverlays:
    """Implements Overlays. A folder's callers wait for each other: libvirt has one pool of each."""

    def __init__(self, act: Act, look: Look, files: Files) -> None:
        self._act, self._look, self._files = act, look, files
        self._folders: dict[str, asyncio.Lock] = {}

    async def make(self, uuid: str, files: Sequence[NewOverlay]) -> None:
        def call(dom: libvirt.virDomain) -> None:
            pools.make(dom.connect(), files, _encryptions(dom))

        async with self._alone_in(file.path for file in files):
            await self._act(uuid, "make files for a snapshot of", call)

    async def remove(self, uuid: str, paths: Sequence[str]) -> tuple[str, ...]:
        def call(dom: libvirt.virDomain) -> pools.Removed:
            return pools.remove(dom.connect(), paths)

        async with self._alone_in(paths):
            told: pools.Removed = await self._act(uuid, "remove files beside the disks of", call)
        gone, unknown = await self._files.missing(paths)
        removed = gone | (unknown.keys() - set(told.unlisted))
        return tuple(p for p in paths if p in told.stay or p not in removed)

    @contextlib.asynccontextmanager
    async def _alone_in(self, paths: Iterable[str]) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as held:
            for folder in sorted({str(PurePath(path).parent) for path in paths}):
                await held.enter_async_context(self._folders.setdefault(folder, asyncio.Lock()))
            yield

    async def create(self, uuid: str, wanted: ExternalSnapshot) -> None:
        ram, what = wanted.memory_file, f"make snapshot {wanted.name} of"

        def look(dom: libvirt.virDomain) -> None:
            if pools.there(dom.connect(), ram):  # libvirt would write over it
                name = PurePath(ram).name
                raise AlreadyExists(
                    f"there is a file {name} already, and nothing is written over it", item=name
                )

        def call(dom: libvirt.virDomain) -> None:
            secrets = {**_encryptions(dom), **wanted.encrypted}
            text = external_xml.snapshot(replace(wanted, encrypted=secrets))
            dom.snapshotCreateXML(text, _flags(wanted))

        if ram:
            async with self._alone_in([ram]):  # not while RAM is written: others would wait for it
                await self._act(uuid, what, look)
        await self._act(uuid, what, call)

    async def merge(
        self,
        uuid: str,
        name: str,
        *,
        created: int,
        active: bool,
        progress: Callable[[float], None],
    ) -> None:
        def call(dom: libvirt.virDomain) -> None:
            snapshot = reading.same_snapshot(dom, name, created)
            if bool(dom.isActive()) != active:
                raise Busy(f"VM {dom.name()} was {'stopped' if active else 'started'} meanwhile")
            snapshot.delete(0)

        watching = asyncio.create_task(self._watch(uuid, name, progress))
        try:
            await self._act(uuid, f"delete snapshot {name} of", call)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            if not watching.cancelled() and (error := watching.exception()):
                log.error("progress of snapshot %s could not be told", name, exc_info=error)

    async def put_back(self, uuid: str, xml: str) -> None:
        def call(dom: libvirt.virDomain) -> None:
            if dom.isActive():
                raise Busy(f"VM {dom.name()} was started meanwhile")
            dom.connect().defineXML(xml)

        await self._act(uuid, "put back the disks of", call)

    async def mark(self, uuid: str, name: str, *, created: int) -> None:
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT

        def call(dom: libvirt.virDomain) -> None:
            snapshot = reading.same_snapshot(dom, name, created)
            if dom.isActive() or snapshot.numChildren():
                raise Busy(f"VM {dom.name()} was started meanwhile, or its snapshots were changed")
            text = snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)
            dom.snapshotCreateXML(text, flags)

        await self._act(uuid, f"move the mark to snapshot {name} of", call)

    async def starting(self, uuid: str) -> bool:
        def ask(dom: libvirt.virDomain) -> bool:
            return tuple(dom.state()) == _STARTING  # waits for no job, as all else does then

        return bool(await self._look(uuid, "cannot ask for the state of", ask, STATE_SECONDS))

    async def abandon(self, uuid: str, targets: Sequence[str]) -> None:
        def call(dom: libvirt.virDomain) -> None:
            unfinished.abandon(dom, targets)

        await self._act(uuid, "end the merges that nobody finishes of", call)

    async def commit(self, uuid: str, target: str, top: str, base: str) -> None:
        def call(dom: libvirt.virDomain) -> None:
            unfinished.commit(dom, target, top, base)

        await self._act(uuid, f"merge the overlay of disk {target} of", call)

    async def _watch(self, uuid: str, name: str, progress: Callable[[float], None]) -> None:
        """Tell how far it is, as long as libvirt says so: what it doesn't say isn't made up."""
        merged = Merged()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with contextlib.suppress(SnapdError):
                jobs = await self._look(uuid, "ask for jobs of", _jobs(name), LOOK_SECONDS)
                if merged.add(jobs):
                    progress(merged.part)


class Merged:
    """How far a merge of several disks is, by their jobs. part: 0..1, never less than before."""

    def __init__(self) -> None:
        self.part = 0.0
        self._disks: dict[str, float] = {}

    def add(self, jobs: Mapping[str, tuple[int, int] | None]) -> bool:
        """jobs: target -> (bytes done, bytes in all), None = it has no job now: not yet, or not any
        more. Whether part is more than before."""
        for target, job in jobs.items():
            if job and job[1] > 0:
                self._disks[target] = min(1.0, job[0] / job[1])
            elif job is None and target in self._disks:
                self._disks[target] = 1.0
        before = self.part
        if jobs:
            self.part = max(before, sum(self._disks.values()) / len(jobs))
        return self.part > before


def _jobs(name: str) -> Callable[[libvirt.virDomain], dict[str, tuple[int, int] | None]]:
    def ask(dom: libvirt.virDomain) -> dict[str, tuple[int, int] | None]:
        text = dom.snapshotLookupByName(name, 0).getXMLDesc(0)
        found: dict[str, tuple[int, int] | None] = {}
        for target in external_xml.external_targets(text):
            job = dom.blockJobInfo(target, 0)
            found[target] = (int(job["cur"]), int(job["end"])) if job else None
        return found

    return ask


def _encryptions(dom: libvirt.virDomain) -> dict[str, str]:
    return external_xml.encryptions(ET.fromstring(dom.XMLDesc(0)))


def _flags(wanted: ExternalSnapshot) -> int:
    flags: int = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
    if not wanted.memory_file:
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    elif wanted.live:
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_LIVE
    return flags
