"""Standard output that may be slow, or gone: waited for without holding up the rest."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys


class Outlet:
    """Made on a running loop; close() ends it. closed: done when nobody reads any more."""

    def __init__(self) -> None:
        self._fd = sys.stdout.fileno()
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._is_pipe = stat.S_ISFIFO(os.fstat(self._fd).st_mode)
        if self._is_pipe:  # its end is told to whoever waits for something to read there
            self._loop.add_reader(self._fd, self._look)

    async def ready(self) -> None:
        """Wait until it takes a line without a wait, or is closed."""
        sys.stdout.flush()
        free = self._loop.create_future()

        def is_free() -> None:
            if not free.done():
                free.set_result(None)

        try:
            self._loop.add_writer(self._fd, is_free)
        except OSError:
            return  # a file, which always does
        try:
            await free
        finally:
            self._loop.remove_writer(self._fd)

    def close(self) -> None:
        if self._is_pipe:
            self._loop.remove_reader(self._fd)

    def _look(self) -> None:
        self._loop.remove_reader(self._fd)
        poll = select.poll()
        poll.register(self._fd, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)) and not self.closed.done():
            self.closed.set_result(None)
