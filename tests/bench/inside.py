"""The daemon as idle.py needs it: `python3 -m tests.bench.inside FILE ARGUMENTS...`.

Its threads have their names for the kernel, too. At SIGUSR2 an hour passes at once, as for a host
that is awake; what is due then is done, and when all is quiet again what time it is is written to
FILE. So a day takes minutes, and no clock jumps. Jobs that have ended linger for a second, as the
hour that the next slot comes after is not waited for.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from snapd import __main__ as program
from snapd import daemon
from snapd.bus.rooms import Rooms
from snapd.operations import jobs
from snapd.policy import ClockGuard

MODULE = "tests.bench.inside"
HOUR = 3600
QUIET_SECONDS = 1.0


class Hours:
    """The clock, ahead of the true one by the hours that were let pass."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ahead = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> float:
        return time.time() + self._ahead

    def guard(self, last: int) -> ClockGuard:
        return ClockGuard(
            last,
            self,
            lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + self._ahead,
            lambda: time.monotonic() + self._ahead,
            lambda: True,
        )

    def pass_one(self, rooms: Rooms) -> None:
        self._ahead += HOUR
        task = asyncio.create_task(self._until_quiet(rooms))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_quiet(self, rooms: Rooms) -> None:
        rooms.engine._wake.set()
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_SECONDS:
            await asyncio.sleep(0.02)
            if not self._is_quiet(rooms):
                quiet_since = time.monotonic()
        made = self._file.with_suffix(".new")
        made.write_text(str(self()))
        made.replace(self._file)

    def _is_quiet(self, rooms: Rooms) -> bool:
        due = any(rooms.engine.next_run(p) <= self() for p in rooms.policies.in_force.values())
        at_work = any(not job.ended.is_set() for job in rooms.jobs.all.values())
        return not due and not at_work and not rooms.engine._attempts and not rooms.engine._tasks


def main() -> None:
    hours = Hours(Path(sys.argv[1]))
    build_rooms: Callable[..., Awaitable[Rooms]] = daemon.build
    run = threading.Thread.run

    async def build(*given: Any, **named: Any) -> Rooms:
        rooms = await build_rooms(*given, **named, clock=hours, clocks=hours.guard)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR2, hours.pass_one, rooms)
        return rooms

    def run_named(thread: threading.Thread) -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(thread.name[:15])
        run(thread)

    jobs.LINGER_SECONDS = 1
    daemon.build = build
    setattr(threading.Thread, "run", run_named)  # noqa: B010 (its own type has no place for it)
    program.main(sys.argv[2:])


if __name__ == "__main__":
    main()
