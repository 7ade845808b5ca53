"""The transport and the router on a real dbus-daemon: bad input, names, the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Busy, InvalidArgument
from snapd.wire.fault import WireError
from snapd.wire.marshal import MarshalError
from snapd.wire.messages import Signal
from snapd.wire.transport import Transport
from snapd.wire.values import Variant, unwrap
from tests.bus import PrivateBus
from tests.contract.toys import NAME, ROOT, connected, echo, shop
from tests.toy import BOX

# ---- bad input


@pytest.mark.parametrize("text", ["a\0b", "a\udc80b"])
def test_reply_with_a_string_no_bus_takes_is_cleaned_and_we_stay(
    bus: PrivateBus, text: str
) -> None:
    async def main() -> None:
        async with shop(bus) as (made, service), connected(bus) as (client,):
            made.box.maker = text
            made.signals.signal(ROOT, BOX, "Shaken", text, {"Hard": True})
            got = await client.call(
                NAME, ROOT, "org.freedesktop.DBus.Properties", "Get", "ss", BOX, "Maker"
            )
            assert unwrap(got) == ["a\ufffdb"]
            with pytest.raises(MarshalError):
                await echo(client, text)
            assert await echo(client, "still here")
            assert service.connected
            assert client.connected

    asyncio.run(main())


def test_reply_too_large_is_an_error_and_we_stay(system_like: PrivateBus) -> None:
    async def main() -> None:
        async with shop(system_like) as (_, service), connected(system_like) as (client,):
            options = {"count": Variant("u", 100), "size": Variant("u", 400_000)}
            with pytest.raises(Exception, match="'limit'"):
                await client.call(NAME, ROOT, BOX, "ListToys", "a{sv}", options, timeout=60)
            assert service.connected
            assert await echo(client, "still here")

    asyncio.run(main())


def test_call_with_an_error_of_ours_raises_its_class(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus), connected(bus) as (client,):
            with pytest.raises(Busy) as caught:
                await client.call(NAME, ROOT, BOX, "Fail", "sa{sv}", "ours", {})
            assert str(caught.value) == "VM 'x' is busy Traceback: [31mred"
            with pytest.raises(InvalidArgument):
                await echo(client, "a", tines=Variant("u", 1))
            with pytest.raises(WireError) as other:
                await client.call(NAME, ROOT, BOX, "Nothing")
            assert other.value.name == "org.freedesktop.DBus.Error.UnknownMethod"

    asyncio.run(main())


# ---- names, the end, and who answers


def test_request_name_taken_is_address_in_use(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus), connected(bus) as (other,):
            with pytest.raises(WireError) as caught:
                await other.request_name(NAME)
            assert caught.value.name == "org.freedesktop.DBus.Error.AddressInUse"

    asyncio.run(main())


def test_call_of_nobody_is_service_unknown(bus: PrivateBus) -> None:
    async def main() -> None:
        async with connected(bus) as (client,):
            with pytest.raises(WireError) as caught:
                await client.call("org.virtsnap.Nobody", "/", "a.b", "C")
            assert caught.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"

    asyncio.run(main())


def test_call_that_nobody_answers_is_no_reply_in_time(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus), connected(bus) as (client,):
            with pytest.raises(WireError) as caught:
                await client.call(NAME, ROOT, BOX, "Hang", "a{sv}", {}, timeout=0.1)
            assert caught.value.name == "org.freedesktop.DBus.Error.NoReply"
            assert await echo(client, "a")

    asyncio.run(main())


def test_call_after_the_service_came_back_reaches_the_new_one(bus: PrivateBus) -> None:
    async def main() -> None:
        async with connected(bus) as (client,):
            async with shop(bus):
                await echo(client, "one")
            async with shop(bus):
                assert (await echo(client, "two"))[0] == "two"

    asyncio.run(main())


def test_reply_of_somebody_else_is_not_taken(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus) as (made, _), connected(bus, 2) as (client, thief):
            call = asyncio.ensure_future(
                client.call(NAME, ROOT, BOX, "Hang", "a{sv}", {}, timeout=20)
            )
            while not made.box.begun:
                await asyncio.sleep(0.01)
            for serial in range(1, 50):
                forged = {"reply_to": serial, "destination": client.unique_name}
                thief._tell(2, "s", ["forged"], forged)
            await thief.bus_call("GetId")
            await client.bus_call("GetId")
            assert not call.done()
            made.box.gate.set()
            assert await call == []

    asyncio.run(main())


def test_signal_of_somebody_else_is_not_taken(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus) as (made, _), connected(bus, 2) as (client, thief):
            got: list[Any] = []
            subscription = await client.subscribe(
                lambda signal: got.append(signal.body[0]), sender=NAME, member="Shaken"
            )
            head = {"path": ROOT, "interface": BOX, "member": "Shaken"}
            thief._tell(4, "s", ["forged"], head | {"destination": client.unique_name})
            await thief.bus_call("GetId")
            made.signals.signal(ROOT, BOX, "Shaken", "real", {})
            await echo(client, "after the signal")
            assert got == ["real"]
            await subscription.close()
            made.signals.signal(ROOT, BOX, "Shaken", "later", {})
            await echo(client, "after the signal")
            assert got == ["real"]

    asyncio.run(main())


def test_signal_is_picked_by_its_first_argument_also_an_empty_one(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus) as (made, _), connected(bus) as (client,):
            got: list[tuple[str, Any]] = []
            for wanted in ("one", ""):
                await client.subscribe(
                    lambda signal, wanted=wanted: got.append((wanted, signal.body[0])),  # type: ignore[misc]
                    sender=NAME,
                    member="Shaken",
                    arg0=wanted,
                )
            for text in ("one", "two", "", "one more"):
                made.signals.signal(ROOT, BOX, "Shaken", text, {})
            await echo(client, "after the signals")
            assert got == [("one", "one"), ("", "")]

    asyncio.run(main())


def test_bus_killed_ends_the_wait_and_every_call(bus: PrivateBus) -> None:
    async def main() -> None:
        async with shop(bus), connected(bus) as (client,):
            call = asyncio.ensure_future(client.call(NAME, ROOT, BOX, "Hang", "a{sv}", {}))
            end = asyncio.ensure_future(client.wait_disconnected())
            await client.bus_call("GetId")
            bus.process.kill()
            for each in (call, end):
                with pytest.raises(WireError) as caught:
                    await asyncio.wait_for(each, 5)
                assert caught.value.name == "org.freedesktop.DBus.Error.Disconnected"
            with pytest.raises(WireError):
                await client.bus_call("GetId")

    asyncio.run(main())


def test_close_sends_what_is_queued(bus: PrivateBus) -> None:
    async def main() -> None:
        async with connected(bus) as (client,):
            got: list[Any] = []
            done = asyncio.Event()

            def on_signal(signal: Signal) -> None:
                got.append(signal.body[0])
                if len(got) == 3000:
                    done.set()

            async with shop(bus) as (made, service):
                await client.subscribe(on_signal, sender=service.unique_name, member="Shaken")
                for _ in range(3000):
                    made.signals.signal(ROOT, BOX, "Shaken", "x" * 5000, {})
            await asyncio.wait_for(done.wait(), 20)

    asyncio.run(main())


def test_close_gives_descriptors_back(bus: PrivateBus) -> None:
    async def main() -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            async with connected(bus) as (client,):
                await client.bus_call("GetId")
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    asyncio.run(main())


def test_connect_nobody_there_is_no_server(tmp_path: Any) -> None:
    async def main() -> None:
        with pytest.raises(WireError) as caught:
            await Transport.connect(f"unix:path={tmp_path}/none")
        assert caught.value.name == "org.freedesktop.DBus.Error.NoServer"

    asyncio.run(main())


def test_connect_bus_that_hangs_up_is_no_server(tmp_path: Any) -> None:
    async def main() -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_unix_server(hang_up, f"{tmp_path}/bus")
        async with server:
            with pytest.raises(WireError) as caught:
                await asyncio.wait_for(Transport.connect(f"unix:path={tmp_path}/bus"), 5)
        assert caught.value.name == "org.freedesktop.DBus.Error.NoServer"

    asyncio.run(main())
