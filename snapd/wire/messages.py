"""What arrives over the bus, as plain data, and what says which of it we want."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dbus_next.constants import MessageFlag
from dbus_next.message import Message

from ..errors import by_name
from .fault import FREEDESKTOP, WireError
from .text import one_line

Unread = Callable[[], Sequence[Any]]
"""Reads the body of a large call, wherever that holds up nobody."""


class Incoming(NamedTuple):
    """A call that somebody made to us. interface: "" where the caller left it out; size: bytes
    of the message; interactive: a person may be asked for a password; unread: reads the body of a
    large call, which is empty until then; for a thread."""

    sender: str
    serial: int
    path: str
    interface: str
    member: str
    signature: str
    body: Sequence[Any]
    no_reply: bool = False
    interactive: bool = False
    size: int = 0
    unread: Unread | None = None

    def arguments(self) -> Sequence[Any]:
        """The body, read by now."""
        return self.unread() if self.unread else self.body


class Signal(NamedTuple):
    """A signal that a subscription asked for; sender is a unique name."""

    sender: str
    path: str
    interface: str
    member: str
    body: Sequence[Any]


class Subscription:
    """What subscribe() gave; close() ends it. arg0: the first argument, None = any."""

    def __init__(
        self,
        callback: Callable[[Signal], None],
        sender: str,
        path: str,
        interface: str,
        member: str,
        rule: str,
        end: Callable[[Subscription], Awaitable[None]],
        arg0: str | None = None,
    ) -> None:
        self.callback, self.rule, self.arg0 = callback, rule, arg0
        self.sender, self.path, self.interface, self.member = sender, path, interface, member
        self._end = end

    def wants(self, message: Message, owner: str) -> bool:
        """owner: the unique name behind `sender` now. The bus lets any peer send us a signal
        directly, whatever our match rules say."""
        return (
            message.sender == owner
            and (not self.path or message.path == self.path)
            and (not self.interface or message.interface == self.interface)
            and (not self.member or message.member == self.member)
            and (self.arg0 is None or message.body[:1] == [self.arg0])
        )

    async def close(self) -> None:
        await self._end(self)


def incoming(message: Message, size: int, unread: Unread | None) -> Incoming:
    """A method call as ours."""
    return Incoming(
        sender=message.sender or "",
        serial=message.serial,
        path=message.path or "",
        interface=message.interface or "",
        member=message.member or "",
        signature=message.signature,
        body=message.body,
        no_reply=bool(message.flags & MessageFlag.NO_REPLY_EXPECTED),
        interactive=bool(message.flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION),
        size=size,
        unread=unread,
    )


def incoming_signal(message: Message) -> Signal:
    """A signal as ours."""
    return Signal(
        message.sender or "",
        message.path or "",
        message.interface or "",
        message.member or "",
        message.body,
    )


def match_rule(parts: Mapping[str, str]) -> str:
    """A rule for AddMatch; empty parts are left out."""
    return "type='signal'," + ",".join(f"{key}='{text}'" for key, text in parts.items() if text)


def owner_rule(name: str) -> str:
    """The rule for a change of the owner of a name."""
    parts = {"sender": FREEDESKTOP, "interface": FREEDESKTOP, "member": "NameOwnerChanged"}
    return match_rule(parts | {"arg0": name})


def remote_error(reply: Message) -> Exception:
    """The exception of an error reply: ours by its name, else a WireError."""
    text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
    kind = by_name(reply.error_name)
    if kind is not None:
        return kind(text)
    return WireError(reply.error_name, one_line(text))
