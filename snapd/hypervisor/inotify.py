"""The kernel's word on what changes in a folder: inotify(7), on the loop, without a thread.

Of our own, as the standard library has none: every library in Debian calls libc by ctypes as this
does, and brings a thread or two that wake up by themselves (watchdog, pyinotify) or a read that
blocks (inotify).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
OVERFLOW = 0x4000
IGNORED = 0x8000
ONLYDIR = 0x1000000
_HEAD = struct.Struct("iIII")
_BUFFER = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """watch: as add() answered, -1 with OVERFLOW; name: in that folder, empty = the folder."""

    watch: int
    mask: int
    name: bytes


class Inotify:
    """One inotify instance and its watches. Raises OSError: EMFILE or ENOSPC where the limits of
    fs.inotify are reached."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def add(self, folder: bytes, mask: int) -> int:
        """Watch a folder; the same one again has the same number. May wait for the disk."""
        return _checked(_libc.inotify_add_watch(self._fd, folder, mask | ONLYDIR))

    def remove(self, watch: int) -> None:
        """Watch a folder no longer, where it still is: IGNORED comes as its last event."""
        _libc.inotify_rm_watch(self._fd, watch)

    async def wait(self) -> None:
        """Until there is something to read."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)

    def read(self) -> list[Event]:
        """What is there, up to 64 KiB of it (4 ms); empty = nothing more. Never waits."""
        try:
            data = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            watch, mask, _cookie, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            found.append(Event(watch, mask, data[at : at + length].rstrip(b"\0")))
            at += length
        return found


def _checked(number: int) -> int:
    if number < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return number
