"""Answers on their way out: a crowd of big ones fills neither our memory nor the bus.

A dbus-daemon keeps what a client doesn't read, and counts it to whoever sent it. Once it keeps
max_incoming_bytes of ours (127 MiB where system.conf says nothing) it reads nothing more from us,
for nobody, until that client reads or goes. So a client that leaves much unread gets no more, and
all of them together never fill what is ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any
from weakref import WeakValueDictionary

from ..errors import LimitExceeded
from . import marshal
from .fault import FREEDESKTOP, WireError
from .messages import Incoming

MANY = 16 * 2**20
"""Bytes that may be sent before the bus is asked what it keeps."""
EACH = 8 * 2**20
"""Bytes that one client may leave unread where more than MANY are kept."""
ALL = 64 * 2**20
"""Bytes that are kept until no large answer is sent any more, so that small ones and signals get
through: with one of 24 MiB that just passed, and what we hold back ourselves, less than 127 MiB."""
PATIENCE = 25.0
"""Seconds that an answer waits for its client to read others: D-Bus libraries wait as long."""
INTERVAL = 1.0
"""Seconds between two looks at one client at most; the first come sooner."""
UNTOLD = {
    f"{FREEDESKTOP}.Error.{word}"
    for word in ("AccessDenied", "NotSupported", "UnknownInterface", "UnknownMethod")
}

Stats = Callable[[str], Awaitable[Mapping[str, Any]]]
"""What the bus says of a connection, by its unique name, "" = ours: GetConnectionStats."""


class Kept:
    """What the bus keeps of ours, as it tells; where it doesn't, there is no bound but its own
    (dbus-broker has no such call, and bounds what each user may cause to be kept)."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._sent = 0
        self._blind = False

    @property
    def few(self) -> bool:
        """Whether it can't be much."""
        return self._sent < MANY or self._blind

    def sent(self, size: int) -> None:
        """So many bytes were given to the bus."""
        self._sent += size

    async def room(self, client: str, large: bool) -> bool:
        """Whether a client may be sent an answer now."""
        if self.few:
            return True
        self._sent = await self._bytes("", "IncomingBytes")
        if self.few:
            return True
        if large and self._sent >= ALL:
            return False
        return await self._bytes(client, "OutgoingBytes") < EACH

    async def _bytes(self, name: str, key: str) -> int:
        try:
            return int((await self._stats(name)).get(key, 0))
        except WireError as error:
            self._blind = self._blind or error.name in UNTOLD
            return 0  # most likely the client has left


class Turns:
    """Whose answer is next: large ones one at a time, or a crowd of them would fill the memory; of
    a client that doesn't read one waits for the bus, the rest for that one."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._turn = asyncio.Lock()
        self._clients: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, client: str, large: bool) -> AsyncIterator[None]:
        """The turn to send a client an answer. Raises LimitExceeded: it doesn't read them."""
        until, pause = time.monotonic() + PATIENCE, INTERVAL / 64
        async with self._clients.setdefault(client, asyncio.Lock()):
            while True:
                async with self._turn if large else nullcontext():
                    if await self._kept.room(client, large):
                        yield
                        return
                if time.monotonic() >= until:
                    raise LimitExceeded("too many answers are not read yet; read them first")
                await asyncio.sleep(pause)
                pause = min(2 * pause, INTERVAL)


def answer(call: Incoming, serial: int, signature: str, body: Callable[[], Sequence[Any]]) -> bytes:
    """The message that answers a call. body: makes its values. Raises MarshalError, TooLarge."""
    return marshal.frame(
        marshal.METHOD_RETURN,
        serial,
        signature,
        body(),
        reply_to=call.serial,
        destination=call.sender,
        flags=marshal.NO_REPLY_EXPECTED,
        limit=marshal.MAX_REPLY,
        repair=True,
    )
