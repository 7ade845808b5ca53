"""A stand-in for logind on a bus of the tests': no host can be stopped for a test."""
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from dataclasses import dataclass, field

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from snapd import logind


@dataclass
class FakeLogind:
    """preparing: what it says when it is asked; denied: modes of inhibitors that it refuses, as
    systemd before 257 does with one that it doesn't know; mute: it answers nothing."""

    bus: MessageBus
    preparing: bool = False
    denied: tuple[str, ...] = ("block-weak",)
    mute: bool = False
    given: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    async def at(cls, address: str, *, named: bool = True, preparing: bool = False) -> FakeLogind:
        """A running one; not named: one that only poses as logind."""
        bus = await MessageBus(address, negotiate_unix_fd=True).connect()
        made = cls(bus, preparing)
        bus.add_message_handler(made._answer)
        if named:
            await bus.request_name(logind.LOGIND)
        return made

    async def close(self) -> None:
        for _, end in self.given:
            os.close(end)
        self.given.clear()
        self.bus.disconnect()
        with contextlib.suppress(EOFError):  # the bus may be gone already
            await self.bus.wait_for_disconnect()
        self.bus._stream.close()
        self.bus._sock.close()

    async def prepare(self, on: bool, to: str = "") -> None:
        """Say that the host is about to stop, or that it isn't after all."""
        self.preparing = on
        parts = (logind.PATH, logind.MANAGER, "PrepareForShutdown", "b", [on])
        signal = Message.new_signal(*parts)
        if to:
            signal.destination = to
        await self.bus.send(signal)

    def held(self) -> list[str]:
        """The inhibitors that are still held: "what mode who: why" of each."""
        poll = select.poll()
        for _, end in self.given:
            poll.register(end, select.POLLHUP)
        gone = {end for end, _ in poll.poll(0)}
        return [told for told, end in self.given if end not in gone]

    def _answer(self, message: Message) -> Message | bool:
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        if self.mute:
            return True
        if message.member == "Get":
            assert message.body == [logind.MANAGER, "PreparingForShutdown"]
            return Message.new_method_return(message, "v", [Variant("b", self.preparing)])
        assert message.member == "Inhibit"
        what, who, why, mode = message.body
        if mode in self.denied:
            name = "org.freedesktop.DBus.Error.AccessDenied"
            return Message.new_error(message, name, "Permission denied")
        ours, theirs = os.pipe()
        self.given.append((f"{what} {mode} {who}: {why}", ours))
        asyncio.get_running_loop().call_later(0.2, os.close, theirs)  # sent by then
        return Message.new_method_return(message, "h", [0], unix_fds=[theirs])
