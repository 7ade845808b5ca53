"""The daemon with a fault in it: `python -m tests.qemu.faulty FOLDER ARGS...` is virtsnapd with
ARGS until FOLDER/plan.json names a verb. Then it counts the steps of the next job of that verb and
strikes at the first one that the plan doesn't know yet.

The steps are no list: they are what every verb goes through, whatever it does. `asked`: the job is
about to be added. `stored`: the store has committed something. `before`, `during` (it takes longer
than 0.1 s), `after`: a call that changes something at libvirt. `done`: a monitor command that
changes something. Between two of them nothing happens that outlives the daemon. So a step that is
added to a verb tomorrow is struck at without a word here.
FOLDER/said tells the steps, and which of them was struck at.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snapd.__main__ import main
from snapd.hypervisor import monitor
from snapd.hypervisor.connection import Connections
from snapd.store import JobRow, Store

DURING_SECONDS = 0.1


class Fault:
    """A plan, once its verb's job is there.

    The plan: verb; kinds: of the steps that count; struck: those that had their turn; pidfile: who
    is struck ("" = this daemon); seconds: 0 = SIGKILL, else SIGSTOP and SIGCONT that much later;
    moments: of `during`, where there are to be more than one.
    """

    def __init__(self, folder: Path) -> None:
        self._plan_file = folder / "plan.json"
        self._said = os.open(folder / "said", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._plan: dict[str, Any] | None = None
        self._seen: Counter[str] = Counter()
        self._struck = False
        self.job = 0
        self.last = ""

    def arm(self, verb: str) -> bool:
        """Whether the plan is about the job that is being added. It is used up then."""
        if self._plan is not None or not self._plan_file.exists():
            return False
        plan = json.loads(self._plan_file.read_text())
        if plan["verb"] != verb:
            return False
        self._plan_file.unlink()
        self._plan, self._struck = plan, False
        self._seen.clear()
        return True

    @property
    def moments(self) -> list[float]:
        """When something is `during` a call, in seconds after its begin."""
        return list((self._plan or {}).get("moments", [DURING_SECONDS]))

    def disarm(self) -> None:
        self._plan, self.job = None, 0

    def step(self, kind: str, name: str) -> None:
        if self._plan is None or kind not in self._plan["kinds"]:
            return
        self._seen[f"{kind} {name}"] += 1
        count = self._seen[f"{kind} {name}"]
        step = f"{kind} {name}" if count == 1 else f"{kind} {name} {count}"
        os.write(self._said, f"{step}\n".encode())
        if not self._struck and step not in self._plan["struck"]:
            self._struck = True
            os.write(self._said, f"struck: {step}\n".encode())
            self._strike(self._plan["pidfile"], self._plan["seconds"])

    def _strike(self, pidfile: str, seconds: float) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is gone already
            pid = int(Path(pidfile).read_text()) if pidfile else os.getpid()
            os.kill(pid, signal.SIGSTOP if seconds else signal.SIGKILL)
            if seconds:
                threading.Timer(seconds, _go_on, (pid,)).start()


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _caller(*through: str) -> str:
    """The function that called, past those that everything goes through."""
    frame = sys._getframe(2)
    while frame.f_code.co_name in through and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_name


def _count_calls(fault: Fault) -> None:
    """Each call that changes something at libvirt."""
    act, ask = Connections.act, monitor._ask

    async def acting(self: Connections, what: str, call: Callable[[Any], Any]) -> Any:
        name = _caller("act", "_act")
        fault.last = ""
        fault.step("before", name)
        later = asyncio.get_running_loop().call_later
        timers = [later(seconds, fault.step, "during", name) for seconds in fault.moments]
        try:
            answer = await act(self, what, call)
        finally:
            for timer in timers:
                timer.cancel()
        if fault.last != "done":  # then it is over by the same thing
            fault.step("after", name)
        return answer

    def asking(dom: Any, execute: str, arguments: Any) -> Any:
        answer = ask(dom, execute, arguments)
        if not execute.startswith("query-"):
            fault.step("done", execute)
            fault.last = "done"
        return answer

    Connections.act = acting  # type: ignore[method-assign]
    monitor._ask = asking


def _count_writes(fault: Fault) -> None:
    """Each commit of the store, from whatever method."""
    run = Store._run

    async def running(self: Store, work: Callable[[], Any]) -> Any:
        changed = False

        def counted() -> Any:
            nonlocal changed
            before = self._db.total_changes if hasattr(self, "_db") else 0
            answer = work()
            changed = self._db.total_changes != before
            return answer

        answer = await run(self, counted)
        if changed:
            fault.step("stored", _caller("running", "_run"))
        return answer

    Store._run = running  # type: ignore[method-assign, assignment]


def _watch_jobs(fault: Fault) -> None:
    """From the moment that a job of the verb is added until it has ended, whatever it nests."""
    add, update = Store.add_job, Store.update_job

    async def adding(self: Store, row: JobRow) -> int:
        armed = fault.arm(row.verb.value)
        if armed:
            fault.step("asked", "add_job")
        number = await add(self, row)
        if armed:
            fault.job = number
        return number

    async def updating(self: Store, row: JobRow, *args: Any, **more: Any) -> None:
        await update(self, row, *args, **more)
        if row.id == fault.job and row.state.finished:
            fault.disarm()

    Store.add_job = adding  # type: ignore[method-assign]
    Store.update_job = updating  # type: ignore[method-assign]


if __name__ == "__main__":
    the_fault = Fault(Path(sys.argv[1]))
    _count_calls(the_fault)
    _count_writes(the_fault)
    _watch_jobs(the_fault)
    main(sys.argv[2:])
