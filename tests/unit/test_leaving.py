"""When a session's daemon ends by itself, and in which order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapd import __main__ as program
from snapd import leaving, options
from snapd.bus.rooms import Rooms
from snapd.leaving import Duties, Idleness, Leaver

NOTHING = Duties()


def test_ends_when_there_was_nothing_to_do_for_so_long() -> None:
    idle = Idleness(60, now=1000)
    assert not idle.over(NOTHING, 1059.9)
    assert idle.over(NOTHING, 1060)


@pytest.mark.parametrize(
    "duties",
    [
        Duties(policies=1),
        Duties(callers=1),
        Duties(called=True),
        Duties(jobs=1),
        Duties(frozen=1),
    ],
    ids=str,
)
def test_any_duty_begins_the_time_anew(duties: Duties) -> None:
    idle = Idleness(60, now=0)
    assert not idle.over(duties, 500)
    assert not idle.over(NOTHING, 559)
    assert idle.over(NOTHING, 560)


@pytest.mark.parametrize(
    ("words", "linger"),
    [
        (["--session"], 60),
        (["--system"], 0),
        ([], 0),
        (["--bus-address=x", "--connect=test:///default", "--config=/c", "--state=/s"], 0),
    ],
)
def test_only_a_sessions_ends_and_none_starts_a_libvirt(
    monkeypatch: pytest.MonkeyPatch, words: list[str], linger: float
) -> None:
    monkeypatch.setenv("LIBVIRT_AUTOSTART", "1")
    place = program._place(options.build(), words)
    assert place.linger == linger
    assert os.environ["LIBVIRT_AUTOSTART"] == "0"


class World:
    """A bus, a router and rooms in one; told: what happened, in order."""

    def __init__(self, *present: str) -> None:
        self.present = ["org.freedesktop.DBus", ":1.0", *present]
        self.told: list[str] = []
        self.busy = False
        self.call: Callable[[str], None] = lambda _sender: None
        self.at_release: Callable[[], object] = lambda: None
        self.jobs = SimpleNamespace(all={})
        self.policies = SimpleNamespace(in_force={})
        self.frozen: list[object] = []
        self.operations = SimpleNamespace(frozen_guests=SimpleNamespace(listed=lambda: self.frozen))

    def on_call(self, call: Callable[[str], None]) -> None:
        self.call = call

    async def bus_call(self, member: str, sig: str = "", *body: Any) -> list[Any]:
        if member == "ListNames":
            return [self.present]
        assert (sig, body) == ("s", ("org.virtsnap.Snapd1",))
        self.told.append(member)
        self.at_release()
        return [1]

    def leaver(self, seconds: float = 0.1) -> Leaver:
        stopping = lambda: self.told.append("STOPPING")  # noqa: E731
        return Leaver(seconds, cast(Rooms, self), self, self, stopping)

    def job(self) -> asyncio.Event:
        """One that has not ended until the event is set."""
        ended = asyncio.Event()
        self.jobs.all[1] = SimpleNamespace(ended=ended)
        return ended


async def stays(leaver: Leaver, until: Callable[[], object]) -> None:
    """It doesn't end for five times as long as it would wait, but does then."""
    task = asyncio.create_task(leaver.run())
    await asyncio.sleep(0.5)
    assert not task.done()
    until()
    async with asyncio.timeout(10):
        await task


def test_systemd_is_told_before_the_name_is_given_back() -> None:
    """Or a call in between would have systemd start what it thinks is running."""
    world = World()
    asyncio.run(world.leaver().run())
    assert world.told == ["STOPPING", "ReleaseName"]


def test_without_seconds_it_never_ends() -> None:
    async def main() -> None:
        task = asyncio.create_task(World().leaver(0).run())
        await asyncio.sleep(0.3)
        assert not task.done()
        task.cancel()

    asyncio.run(main())


def test_caller_that_stays_on_the_bus_keeps_it() -> None:
    async def main() -> None:
        world = World(":1.7")
        leaver = world.leaver()
        world.call(":1.7")
        await stays(leaver, lambda: world.present.remove(":1.7"))

    asyncio.run(main())


def test_peer_that_never_called_does_not() -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await World(":1.7").leaver().run()

    asyncio.run(main())


def test_open_job_frozen_guest_and_policy_keep_it() -> None:
    async def main() -> None:
        world = World()
        await stays(world.leaver(), world.job().set)
        world = World()
        world.frozen.append(object())
        await stays(world.leaver(), world.frozen.clear)
        world = World()
        world.policies.in_force["nightly"] = object()
        await stays(world.leaver(), world.policies.in_force.clear)

    asyncio.run(main())


def test_call_that_came_while_leaving_is_served_and_its_job_done() -> None:
    async def main() -> None:
        world = World()

        def come() -> None:
            world.busy = True

        world.at_release = come
        task = asyncio.create_task(world.leaver().run())
        async with asyncio.timeout(10):
            while "ReleaseName" not in world.told:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert not task.done()
        ended = world.job()
        world.busy = False
        await asyncio.sleep(0.3)
        assert not task.done()
        ended.set()
        async with asyncio.timeout(10):
            await task

    asyncio.run(main())


def test_job_that_takes_too_long_is_left_to_the_next_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "DRAIN_SECONDS", 0.2)

    async def main() -> None:
        world = World()
        world.at_release = world.job
        async with asyncio.timeout(10):
            await world.leaver().run()

    asyncio.run(main())
