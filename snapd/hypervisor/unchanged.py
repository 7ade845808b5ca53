"""Which VMs that are off are proven to be as they were when they were last read.

libvirt keeps a VM's definition, each of its snapshots and a managed save in a file, and writes, or
removes, it while it holds the VM's lock: whoever asks after that is answered by what the file has.
It writes another file and gives that the name, so of the snapshots, which are the files of one
folder, the folder tells: to look at each would have the disk read for every VM. So where none of a
VM's files has changed since before it was read, and libvirt lists it as off as before, what was
read still holds, and the poll needn't ask for it, call by call. What the files hold is libvirt's
own business. Where they can't be looked at, or may be another libvirt's (this one may be in a
container, and its files with it), nothing is proven.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ..journal import about
from ..model import DomainInfo, SnapshotInfo, State
from .files import metadata_folder

log = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_SECONDS = 86400.0
"""So often it is read all the same."""
SETTLED_SECONDS = 2.0
"""A file that was written so lately may be written again within one tick of the kernel's clock,
and look the same."""
LOOK_SECONDS = 5.0
CLOCK_SECONDS = 86400.0
"""By so much the clock may have been wrong when the host was booted."""
SYSTEM = "/etc/libvirt/qemu"

_Stamp = tuple[int, int, int, int, int]
NOTHING: _Stamp = (0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a VM was when it was read. files: its fingerprint then; told: the hash of what was read;
    at: when, by the monotonic clock."""

    name: str
    files: bytes
    told: int
    at: float


class Unchanged:
    """Remembers, for one connection, what the files of each VM were like. metadata: the folder of
    libvirt's records of snapshots, beside which is that of managed saves; definitions: that of its
    VMs; "" = none is known. since: a folder of records that has not been touched since then is not
    that of this libvirt."""

    def __init__(self, metadata: str, definitions: str, since: float = 0.0) -> None:
        self._metadata, self._definitions = os.fsencode(metadata), os.fsencode(definitions)
        self._saves = os.path.dirname(self._metadata) + b"/save"  # noqa: PTH120  (bytes)
        self._since = since
        self._marks: dict[str, _Mark] = {}
        self._off: Mapping[str, str] = {}
        self._look: asyncio.Task[set[str]] | None = None

    @classmethod
    def at(cls, uri: str) -> Unchanged:
        folder = "" if "?" in uri else metadata_folder(uri)  # ?socket= may be any libvirt's
        if not folder.startswith("/var/lib/"):
            return cls(folder, folder.rpartition("/")[0])
        # each time that it starts, that of the system sets the folder's owner
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return cls(folder, SYSTEM, booted - CLOCK_SECONDS)

    def around(self, name: str, read: Callable[[], T]) -> tuple[bytes, T]:
        """What read() says of a VM, and the fingerprint of before; b"" = nothing can be proven of
        it, or its files were written to meanwhile. Waits for the disk."""
        files = self.fingerprint(name)
        found = read()
        return (files if files == self.fingerprint(name) else b""), found

    def note(self, info: DomainInfo, snapshots: Sequence[SnapshotInfo], files: bytes) -> None:
        """What a VM was read as. files: as around() has it."""
        before = self._marks.pop(info.uuid, None)
        if not files or info.state.active or info.busy or not info.persistent:
            return
        told = hash((replace(info, state=State.SHUTOFF), *snapshots))  # how it went off is in none
        if before and (before.name, before.files) == (info.name, files) and before.told != told:
            self._distrust(info)
            return
        self._marks[info.uuid] = _Mark(info.name, files, told, time.monotonic())

    def _distrust(self, info: DomainInfo) -> None:
        """It has changed, and its files have not: they are not those of this libvirt."""
        log.info(
            "VM %s has changed, but %s has not: all VMs are read at each poll",
            info.name,
            os.fsdecode(self._metadata),
            extra=about(uuid=info.uuid),
        )
        self._metadata = b""
        self._marks.clear()

    def listed(self, off: Mapping[str, str]) -> None:
        """UUID -> name of each VM that libvirt has just listed as off. Once, of() goes by it."""
        self._off = off
        for ran in self._marks.keys() - off.keys():
            del self._marks[ran]

    async def of(self, uuids: Collection[str]) -> set[str]:
        """Those of these VMs that are proven to be as they were read last, by a listing that is as
        new as can be."""
        off, self._off = self._off, {}
        wanted = self._marks.keys() & off.keys() & set(uuids)
        return await self._proven_in_time({u: off[u] for u in wanted}) if wanted else set()

    async def _proven_in_time(self, off: Mapping[str, str]) -> set[str]:
        """Nothing, where the disk doesn't answer; then at most one thread waits for it."""
        if self._look and not self._look.done():
            return set()
        self._look = asyncio.create_task(asyncio.to_thread(self.proven, off))
        done, _ = await asyncio.wait([self._look], timeout=LOOK_SECONDS)
        return self._look.result() if done else set()

    def proven(self, off: Mapping[str, str]) -> set[str]:
        """Those of which what was read last still holds; waits for the disk. off: UUID -> name of
        those that libvirt has just listed as off."""
        since = time.monotonic() - LONGEST_SECONDS
        marks = self._marks
        return {
            uuid
            for uuid, name in off.items()
            if (mark := marks.get(uuid))
            and mark.name == name
            and mark.at > since
            and self.fingerprint(name) == mark.files
        }

    def fingerprint(self, name: str) -> bytes:
        """Another one after every write to a file that libvirt has about a VM; b"" = it can't be
        told, or not yet."""
        if not self._metadata:
            return b""
        try:
            found = self._stamps(name.encode("utf-8", "surrogateescape"))
        except (OSError, ValueError):  # a NUL in the name
            return b""
        newest = max(max(stamp[:2]) for stamp in found)
        if newest / 1e9 > time.time() - SETTLED_SECONDS:
            return b""
        return hashlib.blake2b(repr(found).encode(), digest_size=16).digest()

    def _stamps(self, name: bytes) -> list[_Stamp]:
        if os.stat(self._metadata).st_ctime < self._since:  # noqa: PTH116  (bytes)
            raise FileNotFoundError
        found = [_stamp(os.stat(b"%b/%b.xml" % (self._definitions, name)))]  # noqa: PTH116
        for may_be in (b"%b/%b.save" % (self._saves, name), b"%b/%b" % (self._metadata, name)):
            try:
                found.append(_stamp(os.stat(may_be)))  # noqa: PTH116
            except FileNotFoundError:
                found.append(NOTHING)
        return found


def _stamp(found: os.stat_result) -> _Stamp:
    times = found.st_mtime_ns, found.st_ctime_ns
    return *times, found.st_ino, found.st_dev, found.st_size
