"""What a person is told while an answer of the daemon's is waited for, and when they give up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

from .output.screen import Screen

T = TypeVar("T")
SILENT = 2.0
"""Seconds that an answer may take without a word."""


class Waiting:
    """Calls that are waited for, at the same time as well: one line on a terminal for all."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._calls = 0
        self._begun = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._drawn = False

    async def of(self, call: Awaitable[T]) -> T:
        """Wait for the answer of a call."""
        self._calls += 1
        if self._calls == 1 and sys.stderr.isatty():
            loop = asyncio.get_running_loop()
            self._begun = loop.time()
            self._next = loop.call_later(SILENT, self._tell)
        try:
            return await call
        finally:
            self._calls -= 1
            if not self._calls:
                self._end()

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        spent = f"{loop.time() - self._begun:.0f} s"
        line = f"virtsnapd has not answered yet ({spent}); Ctrl-C gives up"
        with suppress(OSError):  # a terminal that has gone
            if not self._screen.live:
                self._screen.aside(line)
                return
            self._screen.draw(line)
        self._drawn = True
        self._next = loop.call_later(1.0, self._tell)

    def _end(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._drawn:
            self._drawn = False
            with suppress(OSError):
                self._screen.draw()

    def left_act(self, *, job: bool) -> None:
        """Say what may become of an act that was given up before its answer. job: it makes one."""
        maybe = "virtsnapd had not answered; what was asked for may have been begun all the same"
        see = [f"  to see it: {self._screen.command('jobs')}"] if job else []
        self._say(maybe, see)

    def left_before(self) -> None:
        """Say that no act was given up, only what stands before it."""
        self._say("nothing was begun", [])

    def _say(self, message: str, ways: list[str]) -> None:
        document = {"error": "Interrupted", "message": message, "detail": {}}
        self._screen.failure([f"virtsnap: {message}", *ways], document)
