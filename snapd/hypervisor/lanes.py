"""Threads for questions to the host that may hang for ever, as those to a dead mount do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

from . import mounts
from .mounts import Mounts

log = logging.getLogger(__name__)
T = TypeVar("T")
PER_LANE = 4
MOST = 64
HANGS_SECONDS = 4.0
"""Without an answer for so long a question hangs."""


class Way:
    """How a question's thread gets to files. at: the file system that it is on, "" = none yet;
    since: when it last got on, monotonic."""

    def __init__(self, refuse: Callable[[str], None], table: Mounts) -> None:
        self.at, self.since = "", time.monotonic()
        self._refuse, self._table = refuse, table

    def real(self, path: str) -> str:
        """As mounts.real; TimeoutError, before it is touched, where a file system on the way has
        left an earlier question without an answer."""
        return mounts.real(path, self._enter)

    def _enter(self, name: str) -> None:
        place = self._table.of(name)
        self._refuse(place)
        self.at, self.since = place, time.monotonic()


class Lanes:
    """A file system's questions wait for those to it alone, as long as fewer than MOST threads
    hang in all. One that hangs is left behind and counted, and meanwhile its file system is asked
    nothing more.

    The threads don't keep the process from ending.
    """

    def __init__(self, table: Mounts | None = None) -> None:
        self._table = table or Mounts()
        self._lanes: dict[str, asyncio.Semaphore] = {}
        self._all = asyncio.Semaphore(MOST)
        self._hanging: Counter[str] = Counter()

    def hanging(self) -> Mapping[str, int]:
        """Mount point -> how much hangs there: threads, and programs of ours."""
        return dict(self._hanging)

    def hung(self, place: str) -> Callable[[], None]:
        """Count something that hangs on a file system; call what is returned when it has ended."""
        self._hanging[place] += 1
        if self._hanging[place] == 1:
            log.warning("the file system at %s does not answer; it is asked nothing more", place)

        def over() -> None:
            self._hanging[place] -= 1
            if not self._hanging[place]:
                del self._hanging[place]
                log.info("the file system at %s answers again", place)

        return over

    def _refuse(self, place: str) -> None:
        if place in self._hanging:
            raise _late()

    async def ask(self, path: str, call: Callable[[Way], T]) -> T:
        """What the call answers or raises, TimeoutError where it hangs; its turn is waited for, so
        have a deadline. path: what it is about; call: gets to files by way of its argument."""
        lane = self._table.of(path)
        self._refuse(lane)
        async with self._lanes.setdefault(lane, asyncio.Semaphore(PER_LANE)):
            await self._all.acquire()
            answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            try:
                self._start(lane, call, answer)
            except RuntimeError:  # no more threads to be had
                self._all.release()
                raise
            return await answer

    def _start(self, lane: str, call: Callable[[Way], T], answer: asyncio.Future[T]) -> None:
        loop = asyncio.get_running_loop()
        way = Way(self._refuse, self._table)

        def hangs() -> Callable[[], None]:
            if not answer.done():
                answer.set_exception(_late())
            return self.hung(way.at or lane)

        watch = _Watch(way, hangs)

        def ended(result: T | None, error: BaseException | None) -> None:
            self._all.release()
            watch.end()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]  # None is then a T

        def run() -> None:
            result, error = None, None
            try:
                result = call(way)
            except BaseException as e:  # noqa: BLE001  (it is the asker's)
                error = e
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving
                loop.call_soon_threadsafe(ended, result, error)

        try:
            threading.Thread(target=run, name=f"files {lane}", daemon=True).start()
        except RuntimeError:
            watch.end()
            raise


class _Watch:
    """Finds out whether a question hangs. hangs(): told so once; returns what ends that."""

    def __init__(self, way: Way, hangs: Callable[[], Callable[[], None]]) -> None:
        self._way, self._hangs = way, hangs
        self._loop = asyncio.get_running_loop()
        self._over: Callable[[], None] | None = None
        self._timer = self._loop.call_later(HANGS_SECONDS, self._look)

    def _look(self) -> None:
        left = self._way.since + HANGS_SECONDS - time.monotonic()
        if left > 0:  # it gets on, file by file
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._over = self._hangs()

    def end(self) -> None:
        self._timer.cancel()
        if self._over:
            self._over()


def _late() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
