"""A stand-in for systemd on a bus of the tests': its units are what the test says."""
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

UNITS = "/org/freedesktop/systemd1/unit/"
NAME = "org.freedesktop.systemd1"


@dataclass
class FakeSystemd:
    """active, result: ActiveState and Result by the unit's label in its path; a unit that isn't
    there is inactive, as a real one says. mute: it answers nothing."""

    bus: MessageBus
    active: dict[str, str] = field(default_factory=dict)
    result: dict[str, str] = field(default_factory=dict)
    mute: bool = False

    @classmethod
    async def at(cls, address: str) -> FakeSystemd:
        """A running one, of a host whose libvirtd runs and can be started by its socket."""
        bus = await MessageBus(address).connect()
        units = {"libvirtd_2eservice": "active", "libvirtd_2esocket": "active"}
        made = cls(bus, units)
        bus.add_message_handler(made._answer)
        await bus.request_name(NAME)
        return made

    async def close(self) -> None:
        self.bus.disconnect()
        with contextlib.suppress(EOFError):  # the bus may be gone already
            await self.bus.wait_for_disconnect()
        self.bus._stream.close()
        self.bus._sock.close()

    def _answer(self, message: Message) -> Message | bool:
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        if self.mute:
            return True
        assert message.member == "Get"
        label, asked = message.path.removeprefix(UNITS), message.body
        if asked == [f"{NAME}.Unit", "ActiveState"]:
            said = self.active.get(label, "inactive")
        else:
            assert asked == [f"{NAME}.Service", "Result"]
            said = self.result.get(label, "success")
        return Message.new_method_return(message, "v", [Variant("s", said)])
