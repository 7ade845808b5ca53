"""Objects of the toy contract, as the router wants objects to be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from snapd.bus.contract import Contract, load
from snapd.bus.router import Authorize, Call, Router
from snapd.bus.signals import Bus, Signals
from snapd.bus.tree import Tree
from snapd.errors import Busy, NotAuthorized
from snapd.wire import paths

DATA = Path(__file__).parent / "data" / "toy"
BOX = "org.virtsnap.Toy.Box"
TOY = "org.virtsnap.Toy.Toy"
UUID = "11111111-1111-4111-8111-1111111111{:02d}"


class Toy:
    """An object that holds properties only."""

    interfaces: ClassVar[tuple[str, ...]] = (TOY,)
    box = paths.ROOT
    name: str
    age: int

    def __init__(self, number: int) -> None:
        self.path = paths.domain(UUID.format(number))
        self.name = f"toy {number}"
        self.age = number


class Box:
    """One method for each thing that can happen to a call; gate lets Hang and Wait end."""

    interfaces: ClassVar[tuple[str, ...]] = (BOX,)
    path = paths.ROOT
    maker = "nobody"
    owner_uid = 1000
    dust = 2**64 - 1
    size: int
    plan: dict[str, Any]

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun: list[str] = []
        self.thrown: list[str] = []
        self.size = 1
        self.wind = 0
        self.plan = {"keep": {"last": 3}, "domains": ["a", "b"], "memory": False}

    @property
    def weight(self) -> float:
        return self.size * 0.5

    async def echo(self, call: Call, text: str, options: Mapping[str, Any]) -> tuple[str, int]:
        return text * options["times"], await call.uid()

    async def list_toys(
        self, call: Call, options: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        rows = [
            {"Name": "x" * options["size"], "Age": -number, "Path": "/"}
            for number in range(options["count"])
        ]
        broken = [{"Name": "b", "Age": None}]
        return rows, {"Next": "", "Total": len(rows), "Broken": broken}

    async def fail(self, call: Call, how: str, options: Mapping[str, Any]) -> Any:
        if how == "ours":
            raise Busy("VM 'x' is busy\nTraceback: \x1b[31mred")
        if how == "type":
            return 7
        raise RuntimeError("secret /etc/shadow")

    async def hang(self, call: Call, options: Mapping[str, Any]) -> None:
        self.begun.append(call.sender)
        await self.gate.wait()

    async def wait(self, call: Call, options: Mapping[str, Any]) -> None:
        await self.gate.wait()

    async def throw(self, call: Call, name: str, options: Mapping[str, Any]) -> None:
        self.thrown.append(name)

    async def keep(self, call: Call, options: Mapping[str, Any]) -> None:
        self.thrown.append("kept")

    def details(self, method: str, arguments: Mapping[str, Any]) -> dict[str, str]:
        return {"verb": method, "toy": arguments.get("name", ""), "wind": str(self.wind)}


class Source:
    """What the tree asks."""

    def __init__(self, count: int = 3) -> None:
        self.manager = Box()
        self.toys = {UUID.format(number): Toy(number) for number in range(count)}

    async def settled(self) -> None: ...

    def domain_uuids(self) -> Iterable[str]:
        return list(self.toys)

    def domain(self, uuid: str) -> Toy | None:
        return self.toys.get(uuid)

    def snapshot_names(self, uuid: str) -> Iterable[str]:
        return []

    def snapshot(self, uuid: str, name: str) -> None:
        return None

    def policy_names(self) -> Iterable[str]:
        return []

    def policy(self, name: str) -> None:
        return None

    def job_numbers(self) -> Iterable[int]:
        return []

    def job(self, number: int) -> None:
        return None


class Shop:
    """A router over toys. asked: what authorize was asked; answer: what it then does."""

    def __init__(self, bus: Bus, *, at_once: int = 64, waiting: int = 4096, toys: int = 3) -> None:
        self.contract: Contract = load(DATA)
        self.contract.verify([Box, Toy])
        self.source = Source(toys)
        self.signals = Signals(bus, self.contract)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Authorize = yes
        self.router = Router(
            bus,
            self.contract,
            self.signals,
            Tree(self.source),
            self.authorize,
            at_once=at_once,
            waiting=waiting,
        )

    @property
    def box(self) -> Box:
        return self.source.manager

    async def authorize(self, call: Call, action: str, details: Mapping[str, str]) -> None:
        self.asked.append((action, dict(details)))
        await self.answer(call, action, details)


async def yes(call: Call, action: str, details: Mapping[str, str]) -> None:
    """Everything is allowed."""


async def no(call: Call, action: str, details: Mapping[str, str]) -> None:
    """Nothing is."""
    raise NotAuthorized(f"{action} is not for you")
