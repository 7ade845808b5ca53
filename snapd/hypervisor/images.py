"""What an image says of itself: `qemu-img info`, read only, one layer, never probed.

The guest owns an image's content and can write a header that points anywhere, so the format comes
from the domain's XML, backing files are never opened, and time and memory are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..errors import PreflightFailed, TimedOut
from .lanes import Lanes, Way

T = TypeVar("T")
TIMEOUT = 20.0
SLOT_SECONDS = 30.0
LOOK_SECONDS = 5.0
KILLED_SECONDS = 2.0
MEMORY_BYTES = 2 << 30
OUTPUT_BYTES = 16 << 20
LENGTH = "length of the file"  # put beside qemu-img's own keys
DAMAGED = (0, 2, 3)  # qemu-img check: sound, corrupted, leaks only; each with a report


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """What `qemu-img check` found: errors and corruptions are damage, leaks only lost room."""

    errors: int = 0
    leaks: int = 0
    corruptions: int = 0


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image file. tags: (id, name) of its internal snapshots, in the image's order. backing:
    the file that it is backed by, as an absolute path, "" = none. actual_size: what it takes of
    its file system; length: where its file ends, holes and all. Sizes are bytes."""

    path: str
    tags: tuple[tuple[str, str], ...] = ()
    refcount_bits: int = 16
    encrypted: bool = False
    data_file: str = ""
    bitmaps: tuple[str, ...] = ()
    virtual_size: int = 0
    actual_size: int = 0
    backing: str = ""
    backing_format: str = ""
    length: int = 0

    @property
    def mapped(self) -> int:
        """The most of the disk, in bytes, that its clusters hold, written or not: the file's end
        moves on with each cluster that is allocated, and never back. What is beyond the disk's
        own size are the clusters of snapshots."""
        return min(max(self.actual_size, self.length), self.virtual_size)

    def count(self, name: str) -> int:
        """How many of its snapshots have that name."""
        return sum(tag == name for _id, tag in self.tags)


@dataclass
class Images:
    """Runs qemu-img, a few at a time, and only where the image's file system answers. One that
    can't be killed (its storage hangs) holds nobody up: nothing else is run there until it is
    gone."""

    program: str = "qemu-img"
    lanes: Lanes = field(default_factory=Lanes)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    _undead: dict[str, asyncio.Task[int]] = field(default_factory=dict)

    async def info(self, path: str, format: str) -> ImageInfo:
        """Read one image. Raises PreflightFailed where it can't be read, TimedOut."""
        return await self._ask("info", path, format, _parse_info)

    async def check(self, path: str, format: str) -> ImageCheck:
        """Check one image, changing nothing. Raises PreflightFailed where that can't be done (not
        every format can), TimedOut."""
        return await self._ask("check", path, format, _parse_check, DAMAGED)

    async def _ask(
        self,
        verb: str,
        path: str,
        format: str,
        parse: Callable[[str, dict[str, object]], T],
        answers: tuple[int, ...] = (0,),
    ) -> T:
        if path in self._undead:
            raise _late(path, "an earlier qemu-img hangs on it")
        place, length = await self._place(path)
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                await self._slots.acquire()
        except TimeoutError as e:
            raise _late(path, "too many other images are being read") from e
        try:
            out = await self._run(verb, path, format, answers, place)
        finally:
            self._slots.release()
        try:
            return parse(path, {**json.loads(out), LENGTH: length})
        except (ValueError, KeyError, TypeError) as e:
            raise PreflightFailed(
                f"qemu-img's answer about {Path(path).name} makes no sense: {e}",
                reason="image-unreadable",
                item=Path(path).name,
            ) from e

    async def _place(self, path: str) -> tuple[str, int]:
        """The file system that an image is on, which has just answered; and the file's length."""

        def touch(way: Way) -> tuple[str, int]:
            length = 0
            with contextlib.suppress(FileNotFoundError, PermissionError):  # qemu-img says it better
                length = os.stat(way.real(path)).st_size  # noqa: PTH116
            return way.at, length

        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self.lanes.ask(path, touch)
        except TimeoutError as e:
            raise _late(path, "its storage does not answer") from e
        except (OSError, ValueError):
            return "", 0

    async def _run(
        self, verb: str, path: str, format: str, answers: tuple[int, ...], place: str
    ) -> bytes:
        limits = ["prlimit", f"--as={MEMORY_BYTES}", "--core=0", "--"]
        command = [self.program, verb, "-U", "--output=json", "-f", format, "--", path]
        process = await asyncio.create_subprocess_exec(
            *limits,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=OUTPUT_BYTES,
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                out, err = await process.communicate()
        except TimeoutError as e:
            raise _late(path, f"qemu-img took longer than {TIMEOUT:g} s") from e
        finally:
            if process.returncode is None:
                await self._end(process, path, place)
        if process.returncode not in answers:
            said = " ".join(err.decode("utf-8", "replace").split()).replace(path, Path(path).name)
            raise PreflightFailed(
                f"{Path(path).name} cannot be read: {said[:300]}",
                reason="image-unreadable",
                item=Path(path).name,
            )
        return out

    async def _end(self, process: asyncio.subprocess.Process, path: str, place: str) -> None:
        """Kill it and wait a little: in a system call that hangs, it dies when that returns."""
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        reaper = self._undead[path] = asyncio.create_task(process.wait())
        reaper.add_done_callback(lambda _done: self._undead.pop(path, None))
        await asyncio.wait([reaper], timeout=KILLED_SECONDS)
        if not reaper.done():
            over = self.lanes.hung(place)
            reaper.add_done_callback(lambda _done: over())


def _late(path: str, why: str) -> TimedOut:
    name = Path(path).name
    return TimedOut(
        f"{name} could not be read in time: {why}", reason="image-unreadable", item=name
    )


def _parse_info(path: str, answer: dict[str, object]) -> ImageInfo:
    specific = answer.get("format-specific")
    data = specific.get("data", {}) if isinstance(specific, dict) else {}
    snapshots = answer.get("snapshots") or []
    if not isinstance(snapshots, list):
        raise TypeError("snapshots is no list")
    return ImageInfo(
        path=path,
        tags=tuple((str(s["id"]), str(s["name"])) for s in snapshots),
        refcount_bits=int(data.get("refcount-bits", 16)),
        encrypted=bool(answer.get("encrypted", False)) or "encrypt" in data,
        data_file=str(data.get("data-file", "")),
        bitmaps=tuple(str(b["name"]) for b in data.get("bitmaps", [])),
        virtual_size=int(str(answer.get("virtual-size", 0))),
        actual_size=int(str(answer.get("actual-size", 0))),
        backing=absolute(str(answer.get("backing-filename", "")), path),
        backing_format=str(answer.get("backing-filename-format", "")),
        length=int(str(answer[LENGTH])),
    )


def _parse_check(_path: str, answer: dict[str, object]) -> ImageCheck:
    def number(key: str) -> int:
        return int(str(answer.get(key, 0)))

    return ImageCheck(number("check-errors"), number("leaks"), number("corruptions"))


def absolute(backing: str, image: str) -> str:
    """A backing file's name as a path: relative ones are so to their image's folder. What is no
    plain file (`json:{...}`, `nbd://...`) stays as it is."""
    backing = backing.removeprefix("file:")
    if not backing or ":" in backing.partition("/")[0]:
        return backing
    return os.path.normpath(Path(image).parent / backing)
