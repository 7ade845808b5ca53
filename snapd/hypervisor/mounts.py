"""On which file system a path lies, told without touching it, and the way there, link by link."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

FRESH_SECONDS = 1.0
MOST_LINKS = 40
"""As the kernel has it."""


class Mounts:
    """The mount points that this process sees, by the kernel's list, which waits for no storage."""

    def __init__(self, table: Path = Path("/proc/self/mountinfo")) -> None:
        self._table = table
        self._read = -FRESH_SECONDS
        self._points: Mapping[str, str] = {}

    def of(self, path: str) -> str:
        """The mount point above an absolute path, links in it not followed; of one file system
        that is mounted in several places always the same."""
        if time.monotonic() - self._read >= FRESH_SECONDS:
            self._points = points(self._table.read_text("utf-8", "surrogateescape"))
            self._read = time.monotonic()
        at = path
        while at not in self._points:
            above = os.path.dirname(at)  # noqa: PTH120
            if above == at:
                return "/"
            at = above
        return self._points[at]


def points(table: str) -> dict[str, str]:
    """Mount point -> where its file system is mounted first: what binds to one hangs with it."""
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for line in table.splitlines():
        _id, _above, device, _root, place, *_rest = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place)
        found[point] = first.setdefault(device, point)  # the last one covers those below it
    return found


def real(path: str, enter: Callable[[str], None]) -> str:
    """The path without symbolic links, as far as it is there. enter: told each name on the way
    before it is touched. Raises OSError for a circle."""
    at, rest, links = "", path.split("/")[::-1], 0
    while rest:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = at.rpartition("/")[0]
            continue
        name = f"{at}/{part}"
        enter(name)
        try:
            target = os.readlink(name)  # noqa: PTH115
        except OSError:
            at = name  # no link, or nothing
            continue
        if (links := links + 1) > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        at = "" if target.startswith("/") else at
        rest.extend(target.split("/")[::-1])
    return at or "/"
