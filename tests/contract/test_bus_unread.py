"""Clients that don't read what they are sent. Of most bounds a 64th holds, here and on the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from snapd.bus.router import Call
from snapd.errors import LimitExceeded
from snapd.wire import marshal, replies
from snapd.wire.fault import WireError
from snapd.wire.transport import Transport
from snapd.wire.values import variant
from tests.bus import PrivateBus, private_bus
from tests.contract.toys import NAME, ROOT, connected, echo, shop
from tests.toy import BOX

MIB = 2**20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    for name in ("MANY", "EACH", "ALL"):
        monkeypatch.setattr(replies, name, getattr(replies, name) // 64)
    monkeypatch.setattr(replies, "PATIENCE", 1.5)
    with private_bus(system_limits=True, other={"max_incoming_bytes": 2 * MIB}) as made:
        yield made


def deafen(client: Transport) -> None:
    assert client._connection
    client._connection.loop.remove_reader(client._connection.fd)


def listen(client: Transport) -> None:
    assert client._connection
    client._connection.loop.add_reader(client._connection.fd, client._connection._message_reader)


def post(client: Transport, member: str, signature: str, *body: Any, path: str = ROOT) -> None:
    """Call and don't wait."""
    head: dict[str, Any] = {"path": path, "interface": BOX, "member": member}
    serial = client._next_serial()
    client._push(
        marshal.frame(marshal.METHOD_CALL, serial, signature, body, destination=NAME, **head)
    )


def large(client: Transport, kib: int = 128) -> None:
    """Ask for a list of so many KiB."""
    options = {"count": variant("u", kib), "size": variant("u", 900)}
    post(client, "ListToys", "a{sv}", options)


async def answered(client: Transport) -> None:
    assert (await asyncio.wait_for(echo(client, "there"), 3))[0] == "there"


def test_act_of_a_client_that_reads_nothing_is_not_done_before_it_is_refused(
    small: PrivateBus,
) -> None:
    async def main() -> None:
        async with shop(small) as (made, service), connected(small, 2) as (deaf, other):
            deafen(deaf)
            for _ in range(4):
                large(deaf)
            await asyncio.sleep(1)
            throw: Any = (service.unique_name, ROOT, BOX, "Throw", "sa{sv}", "bottle", {})
            act = asyncio.ensure_future(deaf.call(*throw))
            await answered(other)
            await asyncio.sleep(3)
            listen(deaf)
            with pytest.raises(LimitExceeded, match="answers to you are not read yet"):
                await act
            assert made.box.thrown == []
            await deaf.call(*throw)
            assert made.box.thrown == ["bottle"]

    asyncio.run(main())


def flood_of_errors(client: Transport) -> None:
    """Calls that are answered with an error that says their path."""
    for _ in range(100):  # the bus takes 128 that are not answered
        post(client, "Echo", "", path="/" + "a" * 1000)


def flood_of_refusals(client: Transport) -> None:
    """Calls that are too many at once, once as many are at work and wait."""
    for _ in range(100):  # the bus takes 128 that are not answered
        post(client, "Hang", "a{sv}", {})


@pytest.mark.parametrize("flood", [flood_of_errors, flood_of_refusals])
def test_client_that_reads_no_errors_leaves_the_bus_room_for_others(
    small: PrivateBus, flood: Any
) -> None:
    async def main() -> None:
        limits = {"at_once": 4, "waiting": 4}
        async with shop(small, **limits) as (_, service), connected(small, 2) as (deaf, other):
            deafen(deaf)
            for _ in range(250):
                flood(deaf)
                await asyncio.sleep(0.01)
            await answered(other)
            assert service.connected

    asyncio.run(main())


def test_many_clients_that_read_little_answers_late_leave_room(small: PrivateBus) -> None:
    """Each less than a client may leave unread, all of them more than the bus keeps."""

    async def main() -> None:
        async with shop(small), connected(small, 61) as (other, *deaf):
            for client in deaf:
                deafen(client)
            for count in (44, 12):  # the kernel takes 208 KiB for each first
                for client in deaf:
                    for _ in range(count):
                        post(client, "Echo", "sa{sv}", "x" * 5000, {})
                await asyncio.sleep(1)
                await answered(other)
            for client in deaf:
                listen(client)
            await answered(other)

    asyncio.run(main())


def test_list_that_had_to_wait_is_of_when_it_is_sent(
    small: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would come after the signals of what has changed meanwhile."""
    monkeypatch.setattr(replies, "PATIENCE", 10)

    async def main() -> None:
        async with shop(small) as (made, _), connected(small) as (late,):
            box, made_lists = made.box, 0
            plain = box.list_toys

            async def list_toys(call: Call, options: Mapping[str, Any]) -> Any:
                nonlocal made_lists
                if options["count"] != 100:
                    return await plain(call, options)
                made_lists += 1
                rows = [{"Name": "x" * 1000, "Age": box.size, "Path": "/"}] * 100
                await box.gate.wait()
                return rows, {"Next": "", "Total": 100, "Broken": []}

            monkeypatch.setattr(box, "list_toys", list_toys)
            options = {"count": variant("u", 100)}
            asked = asyncio.ensure_future(late.call(NAME, ROOT, BOX, "ListToys", "a{sv}", options))
            await answered(late)
            deafen(late)
            for _ in range(6):
                large(late)
            await asyncio.sleep(1)
            box.gate.set()
            await asyncio.sleep(0.5)
            box.size = 2
            listen(late)
            rows, _info = await asked
            assert {row["Age"].value for row in rows} == {2}
            assert made_lists == 2

    asyncio.run(main())


def test_bus_that_does_not_tell_what_it_keeps_is_asked_once(
    small: PrivateBus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")

    async def main() -> None:
        async with shop(small) as (_, service), connected(small) as (client,):
            monkeypatch.setattr(service._kept, "_ask", refused)
            for _ in range(5):
                options = {"count": variant("u", 512), "size": variant("u", 900)}
                rows, _info = await client.call(NAME, ROOT, BOX, "ListToys", "a{sv}", options)
                assert len(rows) == 512

    asked: list[Any] = []

    async def refused(*words: Any, timeout: float) -> Sequence[Any]:
        asked.append(words)
        raise WireError("org.freedesktop.DBus.Error.AccessDenied", "no")

    asyncio.run(main())
    assert len(asked) == 1
    assert caplog.text.count("the bus does not tell what clients leave unread") == 1
