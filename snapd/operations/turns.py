"""Whose turn it is: one job at a time for each domain, a few domains at work at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE_SECONDS = 3.0  # a burst is spread by it; who writes RAM has a limit of its own


class Turns:
    """First come, first served, for each domain; `parallel` domains together."""

    def __init__(self, parallel: int) -> None:
        self._room = asyncio.Semaphore(parallel)
        self._locks: dict[str, asyncio.Lock] = {}

    def of(self, domain: str) -> asyncio.Lock:
        """The domain's own turn, whatever else is at work (a job that is settled)."""
        return self._locks.setdefault(domain, asyncio.Lock())

    def taken(self, domain: str) -> bool:
        lock = self._locks.get(domain)
        return lock is not None and lock.locked()

    async def take(self, domain: str, max_wait: float, held: contextlib.AsyncExitStack) -> None:
        """Wait for the domain, then for room; both are given back when `held` is left.

        max_wait: seconds, 0 = only at once. Raises TimeoutError.
        """
        lock = self.of(domain)
        if max_wait <= 0 and (lock.locked() or self._room.locked()):
            raise TimeoutError
        async with asyncio.timeout(max_wait if max_wait > 0 else 1):
            await held.enter_async_context(lock)
            await self._room.acquire()
        once = _Once(self._room.release)
        held.callback(once.call)
        # A stuck VM delays nobody else: past this it no longer counts among those at work.
        timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, once.call)
        held.callback(timer.cancel)


@dataclass
class _Once:
    """Calls back once, however often it is asked to."""

    action: Callable[[], None]
    done: bool = False

    def call(self) -> None:
        if not self.done:
            self.done = True
            self.action()
