"""Whose snapshots others make, change or delete: told by libvirt's folder of snapshot records.

libvirt has no event for it, but writes or removes a file in <folder>/<VM's name> each time, when
the work is done. What the files hold is libvirt's own business; that one has changed is a hint to
list that VM again. Where the folder can't be watched the slow poll is all there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from ..errors import SnapdError, Unavailable
from . import inotify
from .files import metadata_folder
from .inotify import Event, Inotify
from .protocol import DomainEvent, EventKind

log = logging.getLogger(__name__)
GATHER_SECONDS = 0.2
"""From a first change until the VMs are told: libvirt writes several files in a row."""
TAKES = 20
"""So often what comes meanwhile is taken at once, each with its time; then together at the end."""
REST_SECONDS = 0.3
"""From then until the next look; the kernel keeps what comes meanwhile."""
RETRY_SECONDS = 600.0
BUSY_SECONDS = 5.0
"""Until libvirt is asked again which VMs there are, where it did not answer in time."""
START_SECONDS = 5.0
_FOLDER = (
    inotify.CREATE
    | inotify.DELETE
    | inotify.MOVED_FROM
    | inotify.MOVED_TO
    | inotify.DELETE_SELF
    | inotify.MOVE_SELF
)
_RECORDS = inotify.CLOSE_WRITE | inotify.DELETE | inotify.MOVED_FROM | inotify.MOVED_TO
_ABOVE = inotify.CREATE | inotify.MOVED_TO | inotify.ATTRIB | inotify.DELETE_SELF
_LIMITS = {
    errno.ENOSPC: "fs.inotify.max_user_watches is reached",
    errno.EMFILE: "too many files are open, or fs.inotify.max_user_instances is reached",
}
_GONE = (FileNotFoundError, NotADirectoryError)


@contextlib.asynccontextmanager
async def watching(
    uri: str,
    names: Callable[[], Awaitable[dict[str, str]]],
    tell: Callable[[DomainEvent], None],
) -> AsyncIterator[None]:
    """Have changes told, as RECORDED, while inside; of a local qemu URI, of others nothing.

    names: UUID -> name of every domain, now. Inside, what comes is told, unless the first look at
    the folder takes longer than START_SECONDS.
    """
    folder = metadata_folder(uri)
    if not folder:
        yield
        return
    watch = Watch(os.fsencode(folder), names, tell)
    task = asyncio.create_task(watch.run(), name="snapshot records")
    task.add_done_callback(_ended)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await watch.begun.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("snapshot records are no longer watched, polling is all", exc_info=error)


class Watch:
    """Watches one folder and those in it, by VM. Whatever is odd (the folder went or was moved,
    the kernel lost events) has it begin anew, and all VMs told."""

    def __init__(
        self,
        folder: bytes,
        names: Callable[[], Awaitable[dict[str, str]]],
        tell: Callable[[DomainEvent], None],
    ) -> None:
        self.begun = asyncio.Event()
        self._folder = folder
        self._names, self._tell = names, tell
        self._said: str | None = None
        self._was_watched = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                with Inotify() as kernel:
                    await self._follow(_Tree(kernel, self._folder))
            except OSError as e:
                self._say(_why(e))
                self.begun.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self, tree: _Tree) -> None:
        """Until the tree has to be looked at anew."""
        await asyncio.to_thread(tree.begin)
        self._say(tree.problem)
        if self.begun.is_set() and (self._was_watched or tree.watched):
            await self._tell_of(None)
        self.begun.set()
        self._was_watched = tree.watched
        while await tree.news(RETRY_SECONDS if tree.problem else None):
            if not await _gather(tree):
                break
            if tree.came:
                await asyncio.to_thread(tree.add_new)
                self._say(tree.problem)
            if tree.changed:
                await self._tell_of(tree.changed)
                tree.changed = {}
            await asyncio.sleep(REST_SECONDS)

    async def _tell_of(self, changed: Mapping[bytes, float] | None) -> None:
        """changed: names of VMs, and when, None = all. A name may be new, or another VM's than
        before."""
        while True:
            try:
                names = await self._names()
                break
            except Unavailable as e:  # when it is connected again, all is read
                log.info("snapshot records have changed, and %s", e.message)
                return
            except SnapdError as e:  # it is busy; the kernel keeps what comes meanwhile
                log.info("snapshot records have changed, and %s; it is asked again", e.message)
                await asyncio.sleep(BUSY_SECONDS)
        for uuid, name in names.items():
            at = 0.0 if changed is None else changed.get(name.encode("utf-8", "surrogateescape"))
            if at is not None:
                over = 0 if at == math.inf else at
                self._tell(DomainEvent(uuid, EventKind.RECORDED, at=over))

    def _say(self, problem: str) -> None:
        if problem == self._said:
            return
        self._said = problem
        folder = os.fsdecode(self._folder)
        if problem:
            log.info("others' snapshots are seen by polling: %s: %s", folder, problem)
        else:
            log.info("others' snapshots are seen at once: %s is watched", folder)


async def _gather(tree: _Tree) -> bool:
    """Take in what comes in a while; False = begin anew."""
    loop = asyncio.get_running_loop()
    until = loop.time() + GATHER_SECONDS
    for _ in range(TAKES):
        if not await tree.take():
            return False
        if not await tree.news(until - loop.time()):
            return True
    await asyncio.sleep(until - loop.time())
    return await tree.take()


class _Tree:
    """The folder and those in it, while one inotify instance lasts. begin() and add_new() wait for
    the disk; nothing else may be called meanwhile.

    problem: why not all of it is watched; changed: VMs whose records did, and when they had, by the
    monotonic clock, infinity = it can't be told, as a new folder is watched later; came: those.
    """

    def __init__(self, kernel: Inotify, folder: bytes) -> None:
        self._kernel, self._folder = kernel, folder
        self._root, self._above, self._next = 0, 0, b""  # 0 = none
        self._vms: dict[int, bytes] = {}
        self.problem = ""
        self.changed: dict[bytes, float] = {}
        self.came: list[bytes] = []

    @property
    def watched(self) -> bool:
        return self._root > 0

    def begin(self) -> None:
        """Watch what is there; else the nearest folder above, where it will come."""
        for _each_above in range(self._folder.count(b"/") + 1):
            try:
                self._root = self._kernel.add(self._folder, _FOLDER)
                self.came = os.listdir(self._folder)  # noqa: PTH208  (bytes)
                self.problem = ""
                self.add_new()
                return
            except OSError as e:
                self.problem = _why(e)
            if not self._watch_above():
                return

    def _watch_above(self) -> bool:
        """Whether what is missing has come meanwhile."""
        path = self._folder
        while path not in (b"/", b""):
            path, self._next = os.path.split(path)
            with contextlib.suppress(OSError):
                self._above = self._kernel.add(path or b".", _ABOVE)
                return os.path.lexists(os.path.join(path, self._next))  # noqa: PTH118
        return False

    def add_new(self) -> None:
        """Watch the folders that came."""
        came, self.came = self.came, []
        for name in came:
            try:
                watch = self._kernel.add(os.path.join(self._folder, name), _RECORDS)  # noqa: PTH118
            except _GONE:
                continue
            except OSError as e:
                self.problem = _why(e)
                continue
            self._vms[watch] = name

    async def news(self, seconds: float | None) -> bool:
        """Wait for events; False = none came for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._kernel.wait()
        except TimeoutError:
            return False
        return True

    async def take(self) -> bool:
        """Take in what has happened; False = begin anew."""
        while events := self._kernel.read():
            if not all(self._is_usual(event) for event in events):
                return False
            await asyncio.sleep(0)
        return True

    def _is_usual(self, event: Event) -> bool:
        if event.watch == self._root:
            return self._in_folder(event)
        if event.watch == self._above:
            return event.name not in (self._next, b"")
        name = self._vms.get(event.watch)
        if name is None:
            return not event.mask & inotify.OVERFLOW
        when = time.monotonic()
        if event.mask & inotify.IGNORED:
            del self._vms[event.watch]
            when = math.inf
        self.changed[name] = max(self.changed.get(name, 0), when)
        return True

    def _in_folder(self, event: Event) -> bool:
        if event.mask & (inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.IGNORED):
            return False
        self.changed[event.name] = math.inf
        if event.mask & (inotify.CREATE | inotify.MOVED_TO):
            self.came.append(event.name)
        elif event.mask & inotify.MOVED_FROM:
            for watch in [w for w, name in self._vms.items() if name == event.name]:
                self._kernel.remove(watch)
        return True


def _why(error: OSError) -> str:
    return _LIMITS.get(error.errno or 0, error.strerror or str(error))
