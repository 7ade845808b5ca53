"""What the host's file systems say, each question with a deadline: a dead network mount must hold
up nobody but who asks about it. What can't be told in time is None, never guessed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import stat
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from ..model import DomainInfo
from .lanes import Lanes
from .protocol import Space

T = TypeVar("T")
SECONDS = 5.0
UNCOUNTED = 1 << 62
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux
_F_OFD_GETLK = 36
_WRITE_BYTE = 101  # QEMU's lock on it says: I may write (block/file-posix.c, since 2.10)


@dataclass(frozen=True, slots=True)
class Identity:
    """One file, whatever it is called: its path without links, device and inode; changed: others
    after every write. Of a file that can't be looked at there is the path alone."""

    real: str
    inode: tuple[int, int] | None = None
    changed: tuple[int, int] | None = None

    def is_same(self, other: Identity) -> bool:
        return self.real == other.real or (self.inode is not None and self.inode == other.inode)


class Files:
    """Asks in threads, which wait only for others about the same folder."""

    def __init__(self) -> None:
        self._lanes = Lanes()

    async def _ask(self, call: Callable[[str], T], path: str) -> T | None:
        folder = os.path.dirname(path)  # noqa: PTH120
        try:
            async with asyncio.timeout(SECONDS):
                return await self._lanes.ask(folder, path, lambda: call(path))
        except (TimeoutError, OSError, ValueError):  # ValueError: a NUL in the path
            return None

    async def within(self, seconds: float, call: Callable[[], T]) -> T | None:
        """What a longer look found; None where it took longer."""
        try:
            async with asyncio.timeout(seconds):
                return await self._lanes.ask("", "", call)
        except TimeoutError:
            return None

    async def missing(self, paths: Iterable[str]) -> tuple[set[str], set[str]]:
        """Those of the files that aren't there, and those of which it could not be told."""
        wanted = list(paths)
        told = await asyncio.gather(*(self._ask(_gone, path) for path in wanted))
        answers = list(zip(wanted, told, strict=True))
        return {p for p, gone in answers if gone}, {p for p, gone in answers if gone is None}

    async def space(self, path: str) -> Space | None:
        """Room on the file system that a file or folder is on."""
        return await self._ask(_space, path)

    async def room_for(self, folder: str) -> Space | None:
        """Room where a folder is or, if it isn't there yet, would be made."""
        return await self._ask(lambda path: _space(_nearest(path)), folder)

    async def is_qcow2(self, path: str) -> bool | None:
        """Whether its first bytes say so."""
        return await self._ask(lambda p: _first_bytes(p, 4) == b"QFI\xfb", path)

    async def is_written(self, path: str) -> bool | None:
        """Whether a QEMU or qemu-img has the image open for writing now, by QEMU's own locks."""
        return await self._ask(_is_written, path)

    async def identity(self, path: str) -> Identity | None:
        return await self._ask(_identity, path)

    async def stamp(self, info: DomainInfo) -> str:
        """As Hypervisor.stamp: by what its own disks and its NVRAM are, and when each file was
        last written to. A backing image is nobody's to write to."""
        disks = [d for d in (*info.disks, info.nvram) if d and d.writable]
        if any(d.kind != "file" or d.data_file for d in disks):
            return ""  # the time of a device's node says nothing of what is on it
        told = await asyncio.gather(*(self._ask(_written, d.source) for d in disks))
        if not told or None in told:
            return ""
        pairs = zip(disks, told, strict=True)
        return json.dumps([[d.target, d.source, *(t or ())] for d, t in pairs])


def metadata_folder(uri: str) -> str:
    """Where libvirt keeps its records of snapshots; "" = not known for this URI."""
    parts = urlsplit(uri)
    if parts.scheme != "qemu" or parts.netloc:
        return ""
    if parts.path == "/system":
        return "/var/lib/libvirt/qemu/snapshot"
    if parts.path == "/session":
        config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return f"{config}/libvirt/qemu/snapshot"
    return ""


def _gone(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  (Path.exists hides why it says no)
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def _space(path: str) -> Space:
    found = os.statvfs(path)
    return Space(
        free=found.f_bavail * found.f_frsize,
        total=found.f_blocks * found.f_frsize,
        inodes=found.f_favail if found.f_files else UNCOUNTED,  # btrfs makes them as it goes
        device=os.stat(path).st_dev,  # noqa: PTH116
    )


def _nearest(path: str) -> str:
    while _gone(path) and path != "/":
        path = os.path.dirname(path)  # noqa: PTH120
    return path


def _first_bytes(path: str, count: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO never opens
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{Path(path).name} is no plain file")
        return os.read(descriptor, count)
    finally:
        os.close(descriptor)


def _is_written(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _WRITE_BYTE, 1, 0)
        answer = fcntl.fcntl(descriptor, _F_OFD_GETLK, question)
    finally:
        os.close(descriptor)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def _written(path: str) -> tuple[int, int, int]:
    found = os.stat(path)  # noqa: PTH116
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{Path(path).name} is no plain file")
    return found.st_mtime_ns, found.st_size, found.st_ino


def _identity(path: str) -> Identity:
    real = os.path.realpath(path)
    found = os.stat(real)  # noqa: PTH116
    return Identity(real, (found.st_dev, found.st_ino), (found.st_mtime_ns, found.st_size))
