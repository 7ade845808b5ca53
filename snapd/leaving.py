"""When a daemon that nobody needs ends by itself: a session's, which the next call starts again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .bus.rooms import Rooms
from .wire.fault import WireError
from .wire.paths import NAME

log = logging.getLogger(__name__)
LOOKS = 12
"""How often it is looked while the time runs."""
DRAIN_SECONDS = 20.0
DRAIN_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Duties:
    """What keeps the daemon up. policies: in force; callers: who have called us and are still on
    the bus; called: somebody has since the last look, however short; jobs: not ended, so queued, at
    work, or not settled yet; frozen: guests that have to be thawed."""

    policies: int = 0
    callers: int = 0
    called: bool = False
    jobs: int = 0
    frozen: int = 0

    @property
    def any(self) -> bool:
        return any((self.policies, self.callers, self.called, self.jobs, self.frozen))


class Idleness:
    """For how long there has been nothing to do. Times are of any one clock, in seconds."""

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds, self._since = seconds, now

    def over(self, duties: Duties, now: float) -> bool:
        """Whether it has been so for long enough; any duty begins the time anew."""
        if duties.any:
            self._since = now
        return now - self._since >= self._seconds


class _Bus(Protocol):
    """What is needed of wire.transport.Transport."""

    async def bus_call(self, member: str, sig: str = "", *body: Any) -> list[Any]: ...


class _Router(Protocol):
    """What is needed of bus.router.Router."""

    @property
    def busy(self) -> bool: ...

    def on_call(self, call: Callable[[str], None]) -> None: ...


class Leaver:
    """Ends the daemon's work after so many seconds without a duty; 0 = never.

    stopping: tells systemd, which then holds a start that is asked for until we have ended.
    """

    def __init__(
        self,
        seconds: float,
        rooms: Rooms,
        bus: _Bus,
        router: _Router,
        stopping: Callable[[], None],
    ) -> None:
        self._seconds, self._rooms, self._stopping = seconds, rooms, stopping
        self._bus, self._router = bus, router
        self._callers: set[str] = set()
        self._called = False
        if seconds:
            router.on_call(self._on_call)

    async def run(self) -> None:
        """Return when it is time to end. Raises WireError where the name can't be given back."""
        if not self._seconds:
            await asyncio.Event().wait()
        clock = asyncio.get_running_loop().time
        idle = Idleness(self._seconds, clock())
        while True:
            duties = await self._duties()
            if idle.over(duties, clock()):
                break
            await asyncio.sleep(self._seconds / LOOKS)
        log.info("for %g s nobody has called, and there was nothing to do", self._seconds)
        await self._leave()

    def _on_call(self, sender: str) -> None:
        self._called = True
        self._callers.add(sender)

    async def _duties(self) -> Duties:
        called, self._called = self._called, False
        if self._callers:
            self._callers &= await self._present()
        return Duties(
            policies=len(self._rooms.policies.in_force),
            callers=len(self._callers),
            called=called,
            jobs=self._jobs(),
            frozen=len(self._rooms.operations.frozen_guests.listed()),
        )

    async def _present(self) -> set[str]:
        """Who is on the bus. A signal about each that leaves would wake us more often."""
        try:
            (names,) = await self._bus.bus_call("ListNames")
        except WireError as e:  # whether it is gone is not ours to find out
            log.debug("the bus does not say who is there: %s", e.text)
            return self._callers
        return set(names)

    def _jobs(self) -> int:
        return sum(not job.ended.is_set() for job in self._rooms.jobs.all.values())

    async def _leave(self) -> None:
        """Give the name back, and do in full what was asked for before that was known.

        systemd is told first: a call that comes later has the bus ask it to start us, and it would
        think that we run. What the bus had sent us by then is here when it answers.
        """
        self._stopping()
        await self._bus.bus_call("ReleaseName", "s", NAME)
        until = asyncio.get_running_loop().time() + DRAIN_SECONDS
        while self._router.busy or self._jobs():
            if asyncio.get_running_loop().time() > until:
                log.info("leaving with work under way, which is settled at the next start")
                return
            await asyncio.sleep(DRAIN_LOOK_SECONDS)
