"""Answers on their way out: what clients leave unread must not fill the bus.

A dbus-daemon keeps what a client doesn't read, and counts it to whoever sent it. Once it keeps
max_incoming_bytes of ours (127 MiB where system.conf says nothing) it reads nothing more from us,
for nobody, until that client reads or goes. So a client that leaves much unread is served no more,
and all of them together get little once it is much together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from ..errors import LimitExceeded
from . import marshal
from .fault import BUS_PATH, FREEDESKTOP, WireError
from .messages import Incoming

MANY = 16 * 2**20
"""Bytes that may be sent before the bus is asked what it keeps."""
EACH = 8 * 2**20
"""Bytes that one client may leave unread where more than MANY are kept."""
ALL = 64 * 2**20
"""Bytes that are kept until no large answer is sent any more, nor any to who leaves LITTLE unread:
with one of 24 MiB that just passed, what we hold back ourselves, and LITTLE for each of the 256
connections that a user may have, less than 127 MiB."""
LITTLE = 2**14
PATIENCE = 20.0
"""Seconds that a call waits for its client to read others. D-Bus libraries wait for 25, so they
hear that nothing was done."""
INTERVAL = 1.0
"""Seconds between two looks at one client at most; the first come sooner."""
STATS = (FREEDESKTOP, BUS_PATH, f"{FREEDESKTOP}.Debug.Stats", "GetConnectionStats", "s")
UNTOLD = {
    f"{FREEDESKTOP}.Error.{word}"
    for word in ("AccessDenied", "NotSupported", "UnknownInterface", "UnknownMethod")
}

Body = Callable[[], Sequence[Any]]
"""Makes the values of an answer."""
Ask = Callable[..., Awaitable[list[Any]]]
"""Transport.call."""


class Kept:
    """What the bus keeps of ours, as it tells; where it doesn't, there is no bound but its own
    (dbus-broker has no such call, and bounds what each user may cause to be kept)."""

    def __init__(self, ask: Ask, own: Callable[[], str]) -> None:
        """own: our unique name."""
        self._ask, self._own = ask, own
        self._sent, self._kept, self._then = 0, 0, 0  # so much was kept when so much was sent
        self._blind = False
        self._waiting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def few(self) -> bool:
        """Whether it can't be much."""
        return self._most < MANY or self._blind

    @property
    def _most(self) -> int:
        """Bytes that are kept, if none was read since the bus has told."""
        return self._kept + self._sent - self._then

    def sent(self, size: int) -> None:
        """So many bytes were given to the bus."""
        self._sent += size

    async def why_not(self, client: str, large: bool) -> str:
        """Why a client is not to be sent an answer now, "" = it may be."""
        if self.few:
            return ""
        sent = self._sent
        self._kept, self._then = await self._bytes(self._own(), "IncomingBytes"), sent
        if self.few:
            return ""
        full = self._most >= ALL
        if await self._bytes(client, "OutgoingBytes") >= (LITTLE if full else EACH):
            return "too many answers to you are not read yet; read them first"
        return "others leave too many answers unread; call again later" if full and large else ""

    async def room(self, client: str, large: bool) -> None:
        """Wait until a client may be sent an answer. Of each one call at a time waits for the bus,
        the others for that one. Raises LimitExceeded."""
        if self.few:
            return
        until, pause = time.monotonic() + PATIENCE, INTERVAL / 64
        async with self._waiting.setdefault(client, asyncio.Lock()):
            while why := await self.why_not(client, large):
                if time.monotonic() >= until:
                    raise LimitExceeded(why)
                await asyncio.sleep(pause)
                pause = min(2 * pause, INTERVAL)

    async def _bytes(self, name: str, key: str) -> int:
        try:
            (found,) = await self._ask(*STATS, name, timeout=5.0)
            return int(found[key].value) if key in found else 0
        except WireError as error:
            if error.name in UNTOLD and not self._blind:
                self._blind = True
                import logging  # the CLI, which has this module too, does without

                told = "the bus does not tell what clients leave unread: %s"
                logging.getLogger(__name__).info(told, error)
            return 0  # most likely the client has left


def answer(call: Incoming, serial: int, signature: str, body: Body) -> bytes:
    """The message that answers a call. Raises MarshalError, TooLarge."""
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
