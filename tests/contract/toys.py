"""A service of toys on a real bus, and its clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from snapd.wire import paths
from snapd.wire.transport import Transport
from snapd.wire.values import Variant
from tests.bus import PrivateBus
from tests.toy import BOX, Shop

NAME = "org.virtsnap.Toy"
ROOT = paths.ROOT


@asynccontextmanager
async def connected(bus: PrivateBus, count: int = 1) -> AsyncIterator[list[Transport]]:
    made = [await Transport.connect(bus.address) for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            await each.close()


@asynccontextmanager
async def shop(bus: PrivateBus, **how: Any) -> AsyncIterator[tuple[Shop, Transport]]:
    """A service of toys that owns NAME."""
    transport = await Transport.connect(bus.address)
    try:
        made = Shop(transport, **how)
        await transport.request_name(NAME)
        yield made, transport
        await made.router.close()
    finally:
        await transport.close()


def echo(client: Transport, text: str, **options: Variant) -> Any:
    return client.call(NAME, ROOT, BOX, "Echo", "sa{sv}", text, options)
