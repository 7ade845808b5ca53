"""Which VMs that are off are proven to be as they were when they were last read.

libvirt keeps a VM's definition, each of its snapshots and a managed save in a file, and writes, or
removes, it while it holds the VM's lock: whoever asks after that is answered by what the file has.
So where none of a VM's files has changed since before it was read, and libvirt lists it as off as
before, what was read still holds, and the poll needn't ask for it, call by call. What the files
hold is libvirt's own business. Where they can't be looked at nothing is proven.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import libvirt

from ..model import DomainInfo
from .connection import Connections
from .files import metadata_folder

_OFF = libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE

LONGEST_SECONDS = 86400.0
"""So often it is read all the same."""
SETTLED_SECONDS = 2.0
"""A file that was written so lately may be written again within one tick of the kernel's clock,
and look the same."""
SYSTEM = "/etc/libvirt/qemu"


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a VM was when it was read. files: its fingerprint, taken before; at: when, by the
    monotonic clock."""

    name: str
    files: bytes
    at: float


class Unchanged:
    """Remembers what the files of each VM were like. metadata: the folder of libvirt's records of
    snapshots, beside which is that of managed saves; definitions: that of its VMs; "" = none is
    known."""

    def __init__(self, metadata: str, definitions: str) -> None:
        self._metadata, self._definitions = os.fsencode(metadata), os.fsencode(definitions)
        self._saves = os.path.dirname(self._metadata) + b"/save"  # noqa: PTH120  (bytes)
        self._marks: dict[str, _Mark] = {}

    @classmethod
    def at(cls, uri: str) -> Unchanged:
        folder = metadata_folder(uri)
        system = folder.startswith("/var/lib/")
        return cls(folder, SYSTEM if system else folder.rpartition("/")[0])

    def note(self, info: DomainInfo, files: bytes) -> None:
        """What a VM was read as. files: the fingerprint from before, b"" = none could be taken."""
        if not files or info.state.active or info.busy or not info.persistent:
            self._marks.pop(info.uuid, None)
            return
        self._marks[info.uuid] = _Mark(info.name, files, time.monotonic())

    async def of(self, connections: Connections, uuids: Collection[str]) -> set[str]:
        """Those of these VMs that are proven to be as they were read last."""
        wanted = self._marks.keys() & set(uuids)
        if not wanted:
            return set()

        def ask(conn: libvirt.virConnect) -> dict[str, str]:
            return {dom.UUIDString(): dom.name() for dom in conn.listAllDomains(_OFF)}

        off = await connections.read("cannot list the VMs", ask)
        still = {uuid: name for uuid, name in off.items() if uuid in wanted}
        return await asyncio.to_thread(self.proven, still)

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
        part = name.encode("utf-8", "surrogateescape")
        try:
            found = {b"": _stamp(os.stat(b"%b/%b.xml" % (self._definitions, part)))}  # noqa: PTH116
            with contextlib.suppress(FileNotFoundError):
                found[b"/"] = _stamp(os.stat(b"%b/%b.save" % (self._saves, part)))  # noqa: PTH116
            with (
                contextlib.suppress(FileNotFoundError),
                os.scandir(b"%b/%b" % (self._metadata, part)) as records,
            ):
                found |= {record.name: _stamp(record.stat()) for record in records}
        except (OSError, ValueError):  # a NUL in the name
            return b""
        newest = max(max(stamp[:2]) for stamp in found.values())
        if newest / 1e9 > time.time() - SETTLED_SECONDS:
            return b""
        return hashlib.blake2b(repr(sorted(found.items())).encode(), digest_size=16).digest()


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
