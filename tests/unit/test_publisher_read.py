"""What a client has read is told anew once it is no longer so, however short it was so; what is as
it was is not told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapd.bus.known import Known
from snapd.bus.manager import Manager
from snapd.bus.objects import PolicyObject
from snapd.bus.publisher import Publisher
from snapd.model import Policy, Problem
from snapd.policy import Look, PolicyHealth, problem

LOST = problem("not-connected", "no connection to libvirt", "critical")
WELL = PolicyHealth(100, 0, 0, "", "", "ok")
ILL = PolicyHealth(100, 0, 0, "", "", "critical")
HOURLY = cast(Policy, SimpleNamespace(name="hourly", source="api", revision="1", definition={}))
PROPERTIES = {"Health": "health", "NextRun": "next_run"}


def _nothing(*_given: Any, **_named: Any) -> None: ...


class World:
    """All rooms that the publisher asks, how they fare, and what is told of it: values by object
    and property, and the Manager's signals."""

    def __init__(self) -> None:
        self.wrong: list[Problem] = []
        self.fares = WELL
        self.next_run = 100
        self.told: list[tuple[str, str, Any]] = []
        on = dict.fromkeys(("on_change", "on_status", "on_event", "on_load", "on_run"), _nothing)
        inventory = SimpleNamespace(**on, connected=True, loading=False, domains={})
        inventory.settled, inventory.incomplete = lambda: asyncio.sleep(0), dict
        inventory.checked = 0
        self.rooms = cast(
            Any,
            SimpleNamespace(
                inventory=inventory,
                hypervisor=SimpleNamespace(**on),
                operations=SimpleNamespace(frozen_guests=SimpleNamespace(**on)),
                policies=SimpleNamespace(**on, in_force={"hourly": HOURLY}),
                engine=SimpleNamespace(**on, next_run=lambda _policy: self.next_run),
                holds=SimpleNamespace(**on, in_force=list),
                ownership=SimpleNamespace(**on),
                jobs=SimpleNamespace(listen=_nothing),
                health=self,
                known=Known(),
            ),
        )
        self.manager = Manager(self.rooms, cast(Any, None))
        house = cast(Any, SimpleNamespace(manager=self.manager))
        self.publisher = Publisher(self.rooms, house, cast(Any, self))

    def policy(self) -> PolicyObject:
        return PolicyObject(self.rooms, HOURLY)

    def look(self) -> Look:
        look = SimpleNamespace(problems=list(self.wrong), of_policy=lambda _name: self.fares)
        look.overall = self.overall()
        return cast(Look, look)

    def problems(self) -> list[Problem]:
        return list(self.wrong)

    def overall(self) -> str:
        return Look(self.wrong, {}).overall

    def of_policy(self, _policy: Any) -> PolicyHealth:
        return self.fares

    def changed(self, obj: Any, *names: str) -> None:
        kind = obj.interfaces[0].rpartition(".")[2]
        known = [name for name in names if name in PROPERTIES]
        self.told += [(kind, name, getattr(obj, PROPERTIES[name])) for name in known]

    def signal(self, _path: str, _interface: str, name: str, *values: Any) -> None:
        self.told.append(("Manager", name, values[1]))

    def review(self) -> list[tuple[str, str, Any]]:
        """What is told after a look."""
        self.told.clear()
        self.publisher._compare_problems()
        return list(self.told)


def play(body: Callable[[World], Awaitable[None] | None]) -> None:
    async def main() -> None:
        world = World()
        world.review()
        assert world.review() == []
        if again := body(world):
            await again
        assert world.review() == []

    asyncio.run(main())


@pytest.mark.parametrize("reads", [1, 2])
def test_health_that_was_read_between_two_looks_is_told_when_it_is_over(reads: int) -> None:
    def body(world: World) -> None:
        world.wrong = [LOST]
        assert world.manager.health == "critical"
        world.wrong = []
        if reads == 2:  # another client's: the first one's proxy is not mended by it
            assert world.manager.health == "ok"
        assert ("Manager", "Health", "ok") in world.review()

    play(body)


def test_next_run_that_was_read_between_two_looks_is_told_when_it_is_over() -> None:
    def body(world: World) -> None:
        world.next_run = 50
        assert world.manager.next_run == 50
        world.next_run = 100
        assert ("Manager", "NextRun", 100) in world.review()

    play(body)


def test_health_of_a_policy_that_was_read_between_two_looks_is_told_when_it_is_over() -> None:
    def body(world: World) -> None:
        world.fares = ILL
        assert world.policy().health == "critical"
        world.fares = WELL
        assert ("Policy", "Health", "ok") in world.review()

    play(body)


def test_problem_that_was_listed_between_two_looks_is_told_when_it_is_over() -> None:
    async def body(world: World) -> None:
        options = {"from": "", "limit": 10, "fields": []}
        world.wrong = [LOST]
        (row,), _ = await world.manager.list_problems(cast(Any, None), options)
        world.wrong = []
        assert world.review() == [("Manager", "ProblemCleared", row["ID"])]

        world.wrong = [LOST]
        await world.manager.list_problems(cast(Any, None), options)
        assert ("Manager", "ProblemRaised", row["ID"]) in world.review()  # others have not
        world.wrong = []
        assert ("Manager", "ProblemCleared", row["ID"]) in world.review()

    play(body)


def test_policy_that_fares_otherwise_is_told_though_no_problem_is_another() -> None:
    def body(world: World) -> None:
        world.fares = ILL
        assert ("Policy", "Health", "critical") in world.review()

    play(body)


def test_what_was_read_and_is_still_so_is_not_told() -> None:
    def body(world: World) -> None:
        assert (world.manager.health, world.manager.next_run) == ("ok", 100)
        assert world.policy().health == "ok"
        assert world.review() == []

    play(body)
