"""A stand-in for a desktop that shows notifications, on a session bus of the tests'."""
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from snapd.wire.messages import Incoming
from snapd.wire.values import unwrap
from tests.client import Client

NAME, PATH = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"


@dataclass(frozen=True)
class Shown:
    """What Notify was called with, by the names that the desktop's specification has."""

    app_name: str
    replaces_id: int
    app_icon: str
    summary: str
    body: str
    actions: list[str]
    hints: dict[str, Any]
    expire_timeout: int


@dataclass
class FakeDesktop:
    """shown: by its number, all that ever were; closed: numbers, in order. begin: the first
    number. refuses: what makes it refuse a notification, "" = nothing."""

    address: str
    able: list[str] = field(default_factory=lambda: ["body", "body-markup"])
    begin: int = 1
    refuses: str = ""
    shown: dict[int, Shown] = field(default_factory=dict)
    closed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = Client(self.address)
        self._over = False
        self._tasks: set[asyncio.Future[bool]] = set()
        self.client.bus.serve(self._answer)
        self.client.run(self.client.bus.request_name(NAME))

    def close(self) -> None:
        if not self._over:
            self._over = True
            self.client.__exit__(None, None, None)

    def dismiss(self, number: int) -> None:
        """As its reader does."""

        async def signal() -> None:
            self.client.bus.signal(PATH, NAME, "NotificationClosed", "uu", [number, 2])

        self.client.run(signal())

    def _answer(self, call: Incoming) -> None:
        assert (call.path, call.interface) == (PATH, NAME)
        signature, value = "", list[Any]()
        if call.member == "GetCapabilities":
            signature, value = "as", [self.able]
        elif call.member == "Notify":
            assert call.signature == "susssasa{sv}i"
            asked = Shown(*unwrap(list(call.body)))
            if self.refuses and self.refuses in asked.body:
                self.client.bus.error(call, f"{NAME}.Error.Excess", "too many\nof them")
                return
            number = self.begin + len(self.shown)
            self.shown[number] = asked
            signature, value = "u", [number]
        else:
            assert (call.member, call.signature) == ("CloseNotification", "u")
            self.closed.append(call.body[0])
        task = asyncio.ensure_future(self.client.bus.reply(call, signature, lambda: value))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
