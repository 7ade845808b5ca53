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
from .beside import Beside, look
from .lanes import Lanes
from .protocol import Space
from .unseen import Unseen, unseen

T = TypeVar("T")
SECONDS = 5.0
UNCOUNTED = 1 << 62
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux
_F_OFD_GETLK = 36
DEVICES = "/dev/"
SYS_BLOCK = "/sys/class/block"
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
    """Asks in threads, which wait only for others about the same file system."""

    def __init__(self, lanes: Lanes | None = None) -> None:
        self._lanes = lanes or Lanes()

    async def _in_time(self, call: Callable[[str], T], path: str) -> T:
        """What the call says of the file, by its path without links. Raises OSError, ValueError
        (a NUL in the path)."""
        async with asyncio.timeout(SECONDS):
            return await self._lanes.ask(path, lambda way: call(way.real(path)))

    async def _ask(self, call: Callable[[str], T], path: str) -> T | None:
        try:
            return await self._in_time(call, path)
        except (OSError, ValueError):
            return None

    async def missing(self, paths: Iterable[str]) -> tuple[set[str], dict[str, Unseen]]:
        """Those of the files that aren't there, and those of which it could not be told."""
        wanted = list(paths)
        told = await asyncio.gather(*(self._seen(_gone, path) for path in wanted))
        answers = list(zip(wanted, told, strict=True))
        return {p for p, is_so in answers if is_so is True}, {
            p: why for p, why in answers if isinstance(why, Unseen)
        }

    async def unread(self, path: str) -> Unseen | None:
        """Why it can't be read; None = it can, or isn't there."""
        told = await self._seen(_opens, path)
        return told if isinstance(told, Unseen) else None

    async def _seen(self, call: Callable[[str], bool], path: str) -> bool | Unseen:
        try:
            return await self._in_time(call, path)
        except (OSError, ValueError) as e:
            device = path.startswith(DEVICES) or str(getattr(e, "filename", "")).startswith(DEVICES)
            return unseen(e, device=device)

    async def space(self, path: str) -> Space | None:
        """Room on the file system that a file or folder is on."""
        return await self._ask(_space, path)

    async def room_for(self, folder: str) -> Space | None:
        """Room where a folder is or, if it isn't there yet, would be made."""
        return await self._ask(lambda path: _space(_nearest(path)), folder)

    async def beside(self, folders: Iterable[str], named: Iterable[str], seconds: float) -> Beside:
        """As beside.look, each folder by itself, within that time."""
        wanted, names = sorted(folders), sorted(named)
        found, paths = await asyncio.gather(
            asyncio.gather(*(self._look(folder, seconds) for folder in wanted)),
            asyncio.gather(*(self._ask(str, name) for name in names)),
        )
        real = {name: path or name for name, path in zip(names, paths, strict=True)}
        return Beside(
            tuple({f.path: f for part in found for f in part.files}.values()),
            real,
            {path: why for part in found for path, why in part.unread.items()},
        )

    async def _look(self, folder: str, seconds: float) -> Beside:
        try:
            async with asyncio.timeout(seconds):
                return await self._lanes.ask(folder, lambda way: look([folder], (), way.real))
        except TimeoutError:
            return Beside(unread={folder: f"not read within {seconds:g} s"})

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
    """A device that is not there may only be hidden from a service: /sys has all of them."""
    try:
        os.stat(path)  # noqa: PTH116  (Path.exists hides why it says no)
    except (FileNotFoundError, NotADirectoryError):
        if not path.startswith(DEVICES):
            return True
        if not Path(SYS_BLOCK, path.removeprefix(DEVICES)).exists():
            raise
    return False


def _opens(path: str) -> bool:
    """Whether the file is there; an error where it can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        if path.startswith(DEVICES):
            raise
        return False
    try:
        os.read(descriptor, 1)
    finally:
        os.close(descriptor)
    return True


def _space(path: str) -> Space:
    found = os.statvfs(path)
    return Space(
        free=found.f_bavail * found.f_frsize,
        total=found.f_blocks * found.f_frsize,
        inodes=found.f_favail if found.f_files else UNCOUNTED,  # btrfs makes them as it goes
        device=os.stat(path).st_dev,  # noqa: PTH116
    )


def _nearest(path: str) -> str:
    while not Path(path).exists() and path != "/":
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


def _identity(real: str) -> Identity:
    found = os.stat(real)  # noqa: PTH116
    return Identity(real, (found.st_dev, found.st_ino), (found.st_mtime_ns, found.st_size))
