"""The daemon with a watch on its loop: `python3 -m tests.turns FILE ARGUMENTS...`.

A turn is what the loop does between two looks at its sockets: whoever calls meanwhile waits for its
end. At SIGUSR1 the longest one since the last time is written to FILE, in milliseconds: of CPU
time of the loop's thread, which a busy machine doesn't stretch, and of the clock.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from snapd import __main__ as program
from snapd import daemon

MODULE = "tests.turns"


class Watch(selectors.EpollSelector):
    """Is asked for what is ready at the begin of each turn, which ends the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = (0.0, 0.0)
        self._begun = (time.thread_time(), time.monotonic())

    def select(self, timeout: float | None = None) -> Any:
        cpu, clock = self._begun
        took = (time.thread_time() - cpu, time.monotonic() - clock)
        self.longest = (max(self.longest[0], took[0]), max(self.longest[1], took[1]))
        ready = super().select(timeout)
        self._begun = (time.thread_time(), time.monotonic())
        return ready

    def tell(self, file: Path) -> None:
        made = file.with_suffix(".new")
        made.write_text(" ".join(f"{seconds * 1000:.1f}" for seconds in self.longest))
        made.replace(file)
        self.longest = (0.0, 0.0)


def main() -> None:
    file, watch = Path(sys.argv[1]), Watch()
    work = daemon.run

    async def run(place: daemon.Place) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, watch.tell, file)
        await work(place)

    daemon.run = run
    # python -X dev has asyncio look at each of its steps, which takes longer than they do
    asyncio.run = partial(asyncio.run, debug=False)
    asyncio.SelectorEventLoop.__init__.__defaults__ = (watch,)
    program.main(sys.argv[2:])


def entry(file: Path) -> tuple[str, str]:
    """What a Daemon is to be started with for its loop to be watched."""
    return MODULE, str(file)


def longest(pid: int, file: Path, timeout: float = 20) -> tuple[float, float]:
    """The longest turn of that daemon since the last time: milliseconds of CPU time, and of the
    clock."""
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + timeout
    while not file.exists():
        assert time.monotonic() < deadline, "the watch of the loop does not answer"
        time.sleep(0.01)
    cpu, clock = map(float, file.read_text().split())
    return cpu, clock


if __name__ == "__main__":
    main()
