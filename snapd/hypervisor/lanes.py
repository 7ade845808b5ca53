"""Threads for questions to the host that may hang for ever, as those to a dead mount do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PER_LANE = 4
MOST = 64


class Lanes:
    """A lane's calls wait for that lane's alone, as long as fewer than MOST threads hang in all.

    The threads don't keep the process from ending.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, asyncio.Semaphore] = {}
        self._all = asyncio.Semaphore(MOST)
        self._hanging: set[str] = set()

    async def ask(self, lane: str, subject: str, call: Callable[[], T]) -> T:
        """What the call answers or raises; wait for it with a deadline. Given up, it runs on and
        keeps its place; until it ends, more about the same subject is TimeoutError at once.

        subject: "" = none that is asked about again.
        """
        if subject in self._hanging:
            raise TimeoutError
        loop = asyncio.get_running_loop()
        places = self._lanes.setdefault(lane, asyncio.Semaphore(PER_LANE))
        answer: asyncio.Future[T] = loop.create_future()
        await places.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            places.release()
            raise

        def ended(result: T | None, error: BaseException | None) -> None:
            places.release()
            self._all.release()
            self._hanging.discard(subject)
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]  # None is then a T

        def run() -> None:
            result, error = None, None
            try:
                result = call()
            except BaseException as e:  # noqa: BLE001  (it is the asker's)
                error = e
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving
                loop.call_soon_threadsafe(ended, result, error)

        threading.Thread(target=run, name=f"files {lane}", daemon=True).start()
        try:
            return await answer
        except asyncio.CancelledError:
            if subject and answer.cancelled():
                self._hanging.add(subject)
            raise
