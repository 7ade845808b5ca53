"""A bus in memory for the bus room's tests: every message is marshalled by our code and read
back by dbus_next's, so that a wrong type or signature shows."""
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.constants import MessageType
from dbus_next.message import Message

from snapd.wire import marshal
from snapd.wire.messages import Incoming
from snapd.wire.values import unwrap

T = TypeVar("T")
ME = ":1.0"


@dataclass
class RemoteError(Exception):
    """An error reply, as a client sees it."""

    name: str
    text: str


def read(data: bytes) -> Message:
    """The message as dbus_next's unmarshaller reads it."""
    unmarshaller = Unmarshaller(io.BytesIO(data))
    message: Message = unmarshaller.unmarshall()
    return message


@dataclass
class FakeBus:
    """Stands for wire.transport.Transport. sent: every message, in order; remote: answers of
    the bus itself by member."""

    sent: list[Message] = field(default_factory=list)
    remote: dict[str, Callable[..., Awaitable[list[Any]]]] = field(default_factory=dict)
    serial: int = 100
    waiting: dict[int, asyncio.Future[Message]] = field(default_factory=dict)
    handler: Callable[[Incoming], None] | None = None
    crowded: bool = False

    # ---- what the router calls

    def serve(self, handler: Callable[[Incoming], None]) -> None:
        self.handler = handler

    async def room(self, call: Incoming, large: bool) -> None:
        pass

    async def reply(
        self,
        call: Incoming,
        sig: str,
        body: Callable[[], Sequence[Any]],
        large: bool = False,
        again: bool = False,
    ) -> bool:
        head = {"reply_to": call.serial, "destination": call.sender, "limit": marshal.MAX_REPLY}
        self._send(marshal.METHOD_RETURN, sig, body(), **head)
        return True

    async def read_aside(self, work: Callable[[], T]) -> T:
        return work()

    def error(self, call: Incoming, name: str, text: str) -> None:
        head = {"error": name, "reply_to": call.serial, "destination": call.sender}
        self._send(marshal.ERROR, "s", [text], **head)

    def signal(self, path: str, iface: str, member: str, sig: str, body: Sequence[Any]) -> None:
        self._send(marshal.SIGNAL, sig, body, path=path, interface=iface, member=member)

    async def bus_call(
        self, member: str, sig: str = "", *body: Any, timeout: float = 25.0
    ) -> list[Any]:
        marshal.marshal_body(sig, body)
        return await self.remote[member](*body)

    def _send(self, kind: int, sig: str, body: Sequence[Any], **head: Any) -> None:
        self.serial += 1
        message = read(marshal.frame(kind, self.serial, sig, body, repair=True, **head))
        self.sent.append(message)
        waiter = self.waiting.pop(message.reply_serial, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(message)

    # ---- what a test calls

    def post(
        self,
        path: str,
        interface: str,
        member: str,
        sig: str = "",
        *body: Any,
        sender: str = ":1.5",
        no_reply: bool = False,
        interactive: bool = False,
        size: int = 0,
    ) -> asyncio.Future[Message]:
        """Send a call; the future is its reply."""
        self.serial += 1
        names: dict[str, Any] = {"path": path, "interface": interface, "member": member}
        data = marshal.frame(marshal.METHOD_CALL, self.serial, sig, body, **names)
        message = read(data)
        future = asyncio.get_running_loop().create_future()
        self.waiting[self.serial] = future
        assert self.handler is not None
        self.handler(
            Incoming(
                sender,
                self.serial,
                path,
                interface,
                member,
                sig,
                message.body,
                no_reply,
                interactive,
                size or len(data),
            )
        )
        return future

    async def call(self, path: str, interface: str, member: str, *args: Any, **how: Any) -> Any:
        """Call and return the out arguments without variants; an error reply is RemoteError."""
        reply = await asyncio.wait_for(self.post(path, interface, member, *args, **how), 5)
        if reply.message_type is MessageType.ERROR:
            raise RemoteError(reply.error_name, reply.body[0])
        return [unwrap(value) for value in reply.body]

    def signals(self) -> list[tuple[str, str, Any]]:
        """(path, member, arguments) of every signal sent so far."""
        return [
            (each.path, each.member, [unwrap(value) for value in each.body])
            for each in self.sent
            if each.message_type is MessageType.SIGNAL
        ]
