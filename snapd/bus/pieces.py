"""Long work on the loop, in pieces: of all that share a Pieces, one goes on in each turn.

A turn is what the loop does between two looks at its sockets. Ten lists that each gave way now and
then would still stand in the same turn, one piece of each.
"""

from __future__ import annotations

import asyncio
import time

SECONDS = 0.005
"""What a piece may take; loops look at the clock after each item."""


class Pieces:
    """Who has long work to do awaits next() before it begins, and whenever a piece is over:

    until = 0.0
    for item in items:
        if time.monotonic() > until:
            until = await pieces.next()
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def next(self) -> float:
        """Wait for a turn of one's own, in the order of asking; until when the piece may take."""
        async with self._turn:  # left right before the piece, so the next one comes a turn later
            await asyncio.sleep(0)
        return time.monotonic() + SECONDS
