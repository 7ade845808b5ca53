"""The daemon with a watch on its loop: `python3 -m tests.turns FILE MODULE ARGUMENTS...`.

A turn is what the loop does between two looks at its sockets: whoever calls meanwhile waits for its
end. At SIGUSR1 the longest one since the last time is written to FILE, in milliseconds: of CPU
time of the loop's thread, which a busy machine doesn't stretch, and of the clock. At the end the
longest of all goes to the log, in one line, with what took most of it.

MODULE is what is run, with ARGUMENTS: the daemon, or another entry of the tests. Of asyncio's debug
mode, which python -X dev has and which takes longer than what it looks at, only the check is left
that nobody calls the loop from another thread.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import runpy
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from snapd import daemon

T = TypeVar("T")
MODULE = "tests.turns"
BLOCKED_MS = 250
"""What a turn may take of CPU time, on any machine; the budget is 50, and the benches print it."""
_SAID = re.compile(r"^loop: the longest turn took ([\d.]+) ms of CPU time.*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds of CPU time and of the clock; what took most of it, and how much of the former."""

    cpu: float = 0.0
    clock: float = 0.0
    what: str = "nothing"
    part: float = 0.0

    def __str__(self) -> str:
        took = f"{self.cpu * 1000:.1f} ms of CPU time, {self.clock * 1000:.1f} ms by the clock"
        return f"took {took}; {self.part * 1000:.1f} ms in {self.what}"


class Watch(selectors.EpollSelector):
    """Is asked for what is ready at the begin of each turn, which ends the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = (0.0, 0.0)
        self.worst = Turn()
        self._begun = (math.inf, math.inf)
        self._part: tuple[float, asyncio.Handle | None] = (0.0, None)

    def select(self, timeout: float | None = None) -> Any:
        self.over()
        ready = super().select(timeout)
        self._begun, self._part = (time.thread_time(), time.monotonic()), (0.0, None)
        return ready

    def over(self) -> None:
        cpu, clock = time.thread_time() - self._begun[0], time.monotonic() - self._begun[1]
        self.longest = (max(self.longest[0], cpu), max(self.longest[1], clock))
        if cpu > self.worst.cpu:
            part, handle = self._part
            self.worst = Turn(cpu, clock, _named(handle) if handle else "the loop itself", part)

    def note_parts(self) -> None:
        """Have what is called in each turn timed, one by one."""
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            if (took := time.thread_time() - begun) > self._part[0]:
                self._part = (took, handle)

        asyncio.Handle._run = timed  # type: ignore[assignment, method-assign]

    def tell(self, file: Path) -> None:
        made = file.with_suffix(".new")
        made.write_text(" ".join(f"{seconds * 1000:.1f}" for seconds in self.longest))
        made.replace(file)
        self.longest = (0.0, 0.0)


def _named(handle: asyncio.Handle) -> str:
    """Who was called: of a task its coroutine, for which call of a client, and which one it waits
    for now."""
    call = getattr(handle, "_callback", None)
    while isinstance(call, partial):
        call = call.func
    task = getattr(call, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(call, "__qualname__", call))
    inner: Any = task.get_coro()
    named = "" if task.get_name().startswith("Task-") else f" ({task.get_name()})"
    names, line = [inner.__qualname__ + named], 0
    while frame := getattr(inner, "cr_frame", None):
        line = frame.f_lineno
        if not asyncio.iscoroutine(inner.cr_await):
            break
        inner = inner.cr_await
        names.append(inner.__qualname__)
    return " > ".join(names) + (f", which waits in line {line} now" if line else "")


def _ours(call: Callable[..., T]) -> Callable[..., T]:
    """A method of the loop's that raises where it is called from another thread."""
    ident = threading.get_ident()

    def called(*given: Any, **named: Any) -> T:
        if threading.get_ident() != ident:
            raise RuntimeError("the loop is called from another thread")
        return call(*given, **named)

    return called


def main() -> None:
    file, module, *arguments = sys.argv[1:]
    watch = Watch()
    watch.note_parts()
    work = daemon.run

    async def run(place: daemon.Place) -> None:
        loop = asyncio.get_running_loop()
        if sys.flags.dev_mode:
            loop.call_soon, loop.call_at = _ours(loop.call_soon), _ours(loop.call_at)  # type: ignore[assignment, method-assign]
        loop.add_signal_handler(signal.SIGUSR1, watch.tell, Path(file))
        try:
            await work(place)
        finally:
            watch.over()
            sys.stderr.write(f"loop: the longest turn {watch.worst}\n")

    def run_loop(main: Coroutine[Any, Any, None]) -> None:
        loop = partial(asyncio.SelectorEventLoop, watch)
        with asyncio.Runner(debug=False, loop_factory=loop) as runner:
            runner.run(main)

    daemon.run = run
    asyncio.run = run_loop  # type: ignore[assignment]
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def entry(file: Path, *inner: str) -> tuple[str, ...]:
    """What a Daemon is to be started with for its loop to be watched. inner: another entry, which
    is run instead of the daemon itself."""
    return MODULE, str(file), *(inner or ("snapd",))


def check(log: str) -> None:
    """AssertionError where the log of a daemon, or several, tells of a turn that took too long."""
    for said in _SAID.finditer(log):
        assert float(said[1]) < BLOCKED_MS, said[0]


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
