"""A bus with polkit on it, in memory, and who asks there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from snapd.bus.polkit import Polkit
from snapd.bus.router import Call
from snapd.errors import NotAuthorized
from snapd.wire.fault import standard
from snapd.wire.marshal import marshal_body
from snapd.wire.messages import Signal, Subscription
from snapd.wire.values import unwrap

BUS = "org.freedesktop.DBus"
ACTION = "org.virtsnap.snapd1.delete"
YES: list[Any] = [[True, False, {}]]
NO: list[Any] = [[False, False, {}]]
CHALLENGE: list[Any] = [[False, True, {}]]
DISMISSED: list[Any] = [[False, True, {"polkit.dismissed": "true"}]]
Answer = Callable[[], Awaitable[list[Any]]]


@dataclass
class Caller:
    """Stands for router.Call."""

    sender: str = ":1.5"
    interactive: bool = False
    number: int = 1000

    async def uid(self) -> int:
        return self.number


@dataclass
class FakeBus:
    """A system bus with polkit on it. answer: what CheckAuthorization does; asked: its arguments;
    taken_back: cancellation ids; here: unique names that are connected."""

    answer: Answer
    asked: list[list[Any]] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)
    here: set[str] = field(default_factory=lambda: {":1.5"})
    heard: list[Callable[[Signal], None]] = field(default_factory=list)
    deaf: bool = False
    on_taking_back: Callable[[], None] = lambda: None
    timeouts: list[float] = field(default_factory=list)

    async def call(
        self,
        dest: str,
        path: str,
        iface: str,
        member: str,
        sig: str = "",
        *body: Any,
        timeout: float = 25.0,
    ) -> list[Any]:
        marshal_body(sig, body)  # raises for what no bus takes
        assert dest == "org.freedesktop.PolicyKit1"
        assert path == "/org/freedesktop/PolicyKit1/Authority"
        assert iface == "org.freedesktop.PolicyKit1.Authority"
        if member == "CancelCheckAuthorization":
            self.taken_back.append(body[0])
            self.on_taking_back()
            if self.deaf:
                raise standard("NoReply", "no answer")
            return []
        assert member == "CheckAuthorization"
        self.timeouts.append(timeout)
        self.asked.append([unwrap(part) for part in body])
        return await self.answer()

    async def bus_call(
        self, member: str, sig: str = "", *body: Any, timeout: float = 25.0
    ) -> list[Any]:
        assert member == "NameHasOwner"
        return [body[0] in self.here]

    async def subscribe(
        self, callback: Callable[[Signal], None], *, sender: str, interface: str, member: str
    ) -> Subscription:
        assert (sender, interface, member) == (BUS, BUS, "NameOwnerChanged")
        self.heard.append(callback)

        async def end(_: Subscription) -> None:
            self.heard.remove(callback)

        return Subscription(callback, sender, "", interface, member, "", end)

    def leaves(self, name: str) -> None:
        self.here.discard(name)
        for each in list(self.heard):
            each(Signal(BUS, "/", BUS, "NameOwnerChanged", [name, name, ""]))

    def comes(self, name: str) -> None:
        for each in list(self.heard):
            each(Signal(BUS, "/", BUS, "NameOwnerChanged", [name, "", name]))


def says(answer: list[Any]) -> FakeBus:
    async def say() -> list[Any]:
        return answer

    return FakeBus(say)


def raises(error: Exception) -> FakeBus:
    async def fail() -> list[Any]:
        raise error

    return FakeBus(fail)


def hangs() -> FakeBus:
    async def hang() -> list[Any]:
        await asyncio.sleep(3600)
        raise AssertionError

    return FakeBus(hang)


async def authorize(
    bus: FakeBus, caller: Caller, details: dict[str, str] | None = None, of: Polkit | None = None
) -> None:
    await (of or Polkit(bus)).authorize(cast(Call, caller), ACTION, details or {})


async def refused(bus: FakeBus, caller: Caller) -> str:
    with pytest.raises(NotAuthorized) as caught:
        await asyncio.wait_for(authorize(bus, caller), 10)
    return caught.value.message


async def begun(bus: FakeBus, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(bus.asked) < count:
            await asyncio.sleep(0)
