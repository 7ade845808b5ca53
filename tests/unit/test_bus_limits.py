"""What one caller may have waiting, in bytes; by number it is test_bus_calls's."""

from __future__ import annotations

import asyncio

from dbus_next.constants import MessageType

from tests.toy import BOX, Shop
from tests.unit.test_bus_router import OURS, ROOT, failure, fake


def test_calls_of_more_bytes_than_are_kept_are_limit_exceeded() -> None:
    """A mebibyte each, 4,000 that wait for their turn would fill the memory."""

    async def main() -> None:
        shop = Shop(bus := fake(), at_once=1)
        mib = 2**20
        hanging = [bus.post(ROOT, BOX, "Hang", "a{sv}", {}, size=mib) for _ in range(8)]
        assert (
            await failure(bus, ROOT, BOX, "Hang", "a{sv}", {}, size=mib) == OURS + "LimitExceeded"
        )
        await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", {}, sender=":1.6")
        shop.box.gate.set()
        replies = await asyncio.wait_for(asyncio.gather(*hanging), 5)
        assert all(each.message_type is MessageType.METHOD_RETURN for each in replies)
        await bus.call(ROOT, BOX, "Hang", "a{sv}", {}, size=mib)

    asyncio.run(main())
