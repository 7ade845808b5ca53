"""Long work on the loop, in pieces: of all that share a Pieces, one goes on in each turn.

A turn is what the loop does between two looks at its sockets. Ten lists that each gave way now and
then would still stand in the same turn, one piece of each.
"""

from __future__ import annotations

import asyncio
import time

SECONDS = 0.005
"""What a piece may take; loops look at the clock after each item."""
FEW = 64
"""Items that are no long work yet."""


class Pieces:
    """Who has long work to do awaits next() as soon as that shows, and whenever a piece is over:

    until = time.monotonic() + SECONDS
    for count, item in enumerate(items):
        if count == FEW or time.monotonic() > until:
            until = await pieces.next()

    What is short waits for nobody: thousands of small lists would come faster than they go.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def next(self) -> float:
        """Wait for a turn of one's own, in the order of asking; until when the piece may take."""
        async with self._turn:  # left right before the piece, so the next one comes a turn later
            await asyncio.sleep(0)
        return time.monotonic() + SECONDS
