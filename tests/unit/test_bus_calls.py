"""Whose calls are served when, and what has to be allowed first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from dbus_next.constants import MessageType

from snapd.bus.router import Call
from snapd.wire.fault import standard
from snapd.wire.messages import Incoming
from tests.fakebus import FakeBus
from tests.toy import BOX, Shop, no
from tests.unit.test_bus_router import FREEDESKTOP, OURS, ROOT, failure, fake

# ---- limits


def test_calls_of_one_sender_at_most_so_many_at_once_in_order() -> None:
    async def main() -> None:
        shop = Shop(bus := fake(), at_once=2)
        hanging = [bus.post(ROOT, BOX, "Hang", "a{sv}", {}) for _ in range(2)]
        waiting = [bus.post(ROOT, BOX, "Echo", "sa{sv}", str(n), {}) for n in range(5)]
        await bus.call(ROOT, BOX, "Echo", "sa{sv}", "other", {}, sender=":1.6")
        assert not any(each.done() for each in waiting)
        shop.box.gate.set()
        await asyncio.wait_for(asyncio.gather(*hanging, *waiting), 5)
        echoes = [each.body[0] for each in bus.sent if each.signature == "su"]
        assert echoes == ["other", "0", "1", "2", "3", "4"]

    asyncio.run(main())


def test_wait_does_not_count_and_is_not_held_up() -> None:
    async def main() -> None:
        shop = Shop(bus := fake(), at_once=1)
        waits = [bus.post(ROOT, BOX, "Wait", "a{sv}", {}) for _ in range(10)]
        assert await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", {}) == ["a", 1000]
        shop.box.gate.set()
        await asyncio.wait_for(asyncio.gather(*waits), 5)

    asyncio.run(main())


def test_waits_of_one_serial_open_no_way_around_the_limit() -> None:
    """A caller that wants no replies may number its calls as it likes."""

    async def main() -> None:
        shop = Shop(bus := fake(), at_once=1)
        assert bus.handler is not None
        for _ in range(5):
            bus.handler(Incoming(":1.5", 7, ROOT, BOX, "Wait", "a{sv}", [{}], no_reply=True))
        await asyncio.sleep(0)
        shop.box.gate.set()
        for _ in range(10):
            await asyncio.sleep(0)
        shop.box.gate.clear()
        hanging = [bus.post(ROOT, BOX, "Hang", "a{sv}", {}) for _ in range(3)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert shop.box.begun == [":1.5"]
        shop.box.gate.set()
        await asyncio.wait_for(asyncio.gather(*hanging), 5)

    asyncio.run(main())


def test_calls_over_the_limit_are_limit_exceeded_and_the_rest_is_served() -> None:
    async def main() -> None:
        shop = Shop(bus := fake(), at_once=2, waiting=5)
        hanging = [bus.post(ROOT, BOX, "Hang", "a{sv}", {}) for _ in range(7)]
        assert await failure(bus, ROOT, BOX, "Echo", "sa{sv}", "a", {}) == OURS + "LimitExceeded"
        await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", {}, sender=":1.6")
        shop.box.gate.set()
        replies = await asyncio.wait_for(asyncio.gather(*hanging), 5)
        assert all(each.message_type is MessageType.METHOD_RETURN for each in replies)
        await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", {})

    asyncio.run(main())


def test_close_answers_what_works_and_what_waits_and_begins_nothing() -> None:
    async def main() -> None:
        shop = Shop(bus := fake(), at_once=1)
        calls = [bus.post(ROOT, BOX, "Hang", "a{sv}", {}) for _ in range(3)]
        await asyncio.sleep(0)
        late = bus.post(ROOT, BOX, "Throw", "sa{sv}", "ball", {}, sender=":1.6")  # no step yet
        await shop.router.close()
        after = bus.post(ROOT, BOX, "Throw", "sa{sv}", "ball", {})
        replies = await asyncio.wait_for(asyncio.gather(*calls, late, after), 5)
        assert {each.error_name for each in replies} == {OURS + "Unavailable"}
        assert shop.box.begun == [":1.5"]
        assert shop.box.thrown == []

    asyncio.run(main())


# ---- authorization


def test_authorize_is_asked_with_action_and_details_but_not_for_reads() -> None:
    async def main() -> None:
        shop = Shop(bus := fake())
        await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", {})
        assert shop.asked == []
        await bus.call(ROOT, BOX, "Throw", "sa{sv}", "ball", {})
        details = {"verb": "Throw", "toy": "ball", "wind": "0"}
        assert shop.asked == [("org.virtsnap.toy.throw", details)]
        assert shop.box.thrown == ["ball"]

    asyncio.run(main())


def test_authorize_denies_error_and_nothing_done() -> None:
    async def main() -> None:
        shop = Shop(bus := fake())
        shop.answer = no
        error = await failure(bus, ROOT, BOX, "Throw", "sa{sv}", "ball", {})
        assert error == OURS + "NotAuthorized"

        async def challenge(call: Call, action: str, details: Mapping[str, str]) -> None:
            if not call.interactive:
                raise standard("InteractiveAuthorizationRequired", "retry with the flag")

        shop.answer = challenge
        error = await failure(bus, ROOT, BOX, "Throw", "sa{sv}", "ball", {})
        assert error == FREEDESKTOP + "InteractiveAuthorizationRequired"
        assert shop.box.thrown == []
        await bus.call(ROOT, BOX, "Throw", "sa{sv}", "ball", {}, interactive=True)
        assert shop.box.thrown == ["ball"]

    asyncio.run(main())


def test_authorize_while_the_thing_changes_is_changed_and_nothing_done() -> None:
    async def main() -> None:
        shop = Shop(bus := fake())

        async def slow(call: Call, action: str, details: Mapping[str, str]) -> None:
            shop.box.wind += 1

        shop.answer = slow
        error = await failure(bus, ROOT, BOX, "Throw", "sa{sv}", "ball", {})
        assert error == OURS + "Changed"
        assert shop.box.thrown == []

    asyncio.run(main())


def test_owner_needs_no_action_others_do() -> None:
    async def main() -> None:
        async def uid(name: str) -> list[Any]:
            return [{":1.5": 1000, ":1.6": 1001}[name]]

        shop = Shop(bus := FakeBus(remote={"GetConnectionUnixUser": uid}))
        shop.answer = no
        await bus.call(ROOT, BOX, "Keep", "a{sv}", {})
        error = await failure(bus, ROOT, BOX, "Keep", "a{sv}", {}, sender=":1.6")
        assert error == OURS + "NotAuthorized"
        assert shop.box.thrown == ["kept"]

    asyncio.run(main())


def test_authorize_that_waits_for_a_person_holds_up_no_other_call() -> None:
    async def main() -> None:
        shop = Shop(bus := fake(), at_once=1)
        gate = asyncio.Event()

        async def person(call: Call, action: str, details: Mapping[str, str]) -> None:
            await gate.wait()

        shop.answer = person
        asking = bus.post(ROOT, BOX, "Throw", "sa{sv}", "ball", {})
        assert await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", {}) == ["a", 1000]
        gate.set()
        await asyncio.wait_for(asking, 5)
        assert shop.box.thrown == ["ball"]

    asyncio.run(main())


def test_caller_that_left_is_not_authorized() -> None:
    async def main() -> None:
        async def gone(name: str) -> list[Any]:
            raise standard("NameHasNoOwner", "gone")

        Shop(bus := FakeBus(remote={"GetConnectionUnixUser": gone}))
        error = await failure(bus, ROOT, BOX, "Echo", "sa{sv}", "a", {})
        assert error == OURS + "NotAuthorized"

    asyncio.run(main())


def test_uid_of_a_caller_is_asked_once() -> None:
    async def main() -> None:
        asked = []

        async def uid(name: str) -> list[Any]:
            asked.append(name)
            return [7]

        Shop(bus := FakeBus(remote={"GetConnectionUnixUser": uid}))
        for _ in range(3):
            assert await bus.call(ROOT, BOX, "Echo", "sa{sv}", "a", {}) == ["a", 7]
        assert asked == [":1.5"]

    asyncio.run(main())
