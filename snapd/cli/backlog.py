"""What was heard and is not told yet: read from the bus at once, so that nobody else has to keep
it, and told as fast as somebody reads."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")
MOST = 100_000


class Backlog(Generic[T]):
    """A queue that holds `most` and says what it could not hold."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._waiting: deque[T | int] = deque()
        self._left_out = 0
        self._more = asyncio.Event()

    def put(self, item: T, *, always: bool = False) -> None:
        """Add it, also where it is full (always), else it is left out and counted."""
        self._more.set()
        if len(self._waiting) >= self._most and not always:
            self._left_out += 1
            return
        self._gap()
        self._waiting.append(item)

    async def get(self) -> T | int:
        """The next one; a number: so many stood here and were left out."""
        while not self._waiting:
            self._gap()
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
        return self._waiting.popleft()

    def _gap(self) -> None:
        if self._left_out:
            self._waiting.append(self._left_out)
            self._left_out = 0
