"""The host itself, by logind: is it stopping, and would it please wait while a job is at work.

logind is on the system bus, whatever bus the API is on. Where there is none of either, the host is
never seen to stop and is never held up: said once, and looked for again now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import Protocol

from .errors import SnapdError
from .model import Verb
from .operations import Job, Jobs
from .wire.fault import WireError
from .wire.messages import Signal
from .wire.text import one_line
from .wire.transport import Transport
from .wire.values import unwrap

log = logging.getLogger(__name__)

LOGIND = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = f"{LOGIND}.Manager"
PROPERTIES = "org.freedesktop.DBus.Properties"
DEADLINE = 5.0
LOOK_SECONDS = 300.0
RETRY_SECONDS = (10.0, 300.0)

HOLD_AFTER = 1.0
"""Seconds that a job has run when holding the host up begins: most are over by then."""
HOLD_AT_MOST = 600.0
"""Seconds of one job after which the host may stop all the same: a stuck VM is no reason."""
GRANT_SECONDS = 2.0
PROGRAM = "systemd-inhibit"
MODES = ("block-weak", "block", "delay")
"""Before systemd 257 `block` lets root stop the host all the same. Since then it refuses root, too,
an UPS whose battery runs out among them, and `block-weak` is what it was. Who may not block may
delay, for some seconds."""
_WHY = {
    Verb.CREATE: "a snapshot of VM {} is being made",
    Verb.REVERT: "VM {} is being reverted to a snapshot",
    Verb.DELETE: "a snapshot of VM {} is being deleted",
    Verb.PRUNE: "snapshots of VM {} are being deleted",
    Verb.DELETE_OWN: "snapshots of VM {} are being deleted",
}
"""The verbs that act on a VM themselves, as a person reads them who wants to stop the host."""


class HostStop:
    """Whether the host is about to stop: `stopping`, kept true by run(). asked: set some seconds
    after its start at most, when that is known or can't be. reachable: logind is there and answers.
    """

    def __init__(self) -> None:
        self.stopping = False
        self.reachable = False
        self.asked = asyncio.Event()
        self._said = False
        self._told = 0

    async def run(self) -> None:
        """Follow what logind says, and look for it again where it can't be asked; for ever."""
        pause, most = RETRY_SECONDS
        while True:
            try:
                await self._follow()
            except (WireError, SnapdError, TimeoutError) as e:
                if self.reachable:  # so it was there: what it said last holds until the next try
                    pause = RETRY_SECONDS[0]
                else:
                    self._set(stopping=False)
                self.reachable = False
                self._say(str(e) or "no answer from the bus")
                self.asked.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, most)

    async def _follow(self) -> None:
        """Until something fails. Raises WireError, TimeoutError."""
        bus = await Transport.connect("system", DEADLINE)
        try:
            async with asyncio.timeout(DEADLINE):
                # first the owner, or asking would have the bus try to start one
                await bus.bus_call("GetNameOwner", "s", LOGIND)
                heard = {"path": PATH, "interface": MANAGER, "member": "PrepareForShutdown"}
                await bus.subscribe(self._heard, sender=LOGIND, **heard)
            while True:
                await self._ask(bus)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):  # one that was restarted says nothing
                        await bus.wait_disconnected()
        finally:
            await bus.close()

    async def _ask(self, bus: Transport) -> None:
        told = self._told
        asked = (MANAGER, "PreparingForShutdown")
        answer = await bus.call(LOGIND, PATH, PROPERTIES, "Get", "ss", *asked, timeout=DEADLINE)
        self.reachable, self._said = True, False
        if told == self._told:  # else a signal is newer than the answer
            self._set(stopping=unwrap(answer) == [True])
        self.asked.set()

    def _heard(self, signal: Signal) -> None:
        self._told += 1
        self._set(stopping=list(signal.body) == [True])

    def _set(self, *, stopping: bool) -> None:
        if stopping != self.stopping:
            self.stopping = stopping
            what = "is stopping: policies begin nothing" if stopping else "goes on: policies do too"
            log.info("the host %s", what)

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            log.info("no logind to ask whether the host is stopping, nor to hold it up: %s", why)


class _Host(Protocol):
    """What Inhibitor asks of HostStop."""

    @property
    def stopping(self) -> bool: ...

    @property
    def reachable(self) -> bool: ...


class Inhibitor:
    """Holds up the host's shutdown and sleep while a job acts on a VM, from its first second on and
    for at most ten minutes of one job.

    Our transport takes no file descriptors, so a child holds logind's: `systemd-inhibit cat`, which
    ends when its input does, so also when we are killed.
    """

    def __init__(self, jobs: Jobs, host: _Host, program: str = PROGRAM) -> None:
        self._host, self._program = host, program
        self._acting: dict[int, tuple[float, str]] = {}
        self._changed = asyncio.Event()
        self._child: asyncio.subprocess.Process | None = None
        self._mode = 0
        self._not_before = 0.0
        self._said = False
        self._task: asyncio.Task[None] | None = None
        jobs.listen(added=self._look, changed=lambda job, _names: self._look(job), ended=self._look)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="inhibitor")
        self._task.add_done_callback(_seen)

    async def stop(self) -> None:
        """Let the host go, whoever is still at work."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._release()

    def _look(self, job: Job) -> None:
        """Note when a job begins and ends to act. One that only waits, or is a part, does not."""
        idle = job.inline or job.ended.is_set() or job.row.state.finished or job.cancellable
        why = "" if idle else _WHY.get(job.row.verb, "")
        if not why:
            self._acting.pop(job.id, None)
        elif job.id not in self._acting:
            now = asyncio.get_running_loop().time()
            self._acting[job.id] = now, why.format(one_line(job.row.domain_name, 128))
        self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            why, pause = self._due(asyncio.get_running_loop().time())
            if why and not self._holding:
                await self._hold(why)
            elif not why:
                await self._release()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    def _due(self, now: float) -> tuple[str, float | None]:
        """Why the host is to be held up now, "" = it isn't; seconds after which that may change."""
        spans = [(t + HOLD_AFTER, t + HOLD_AT_MOST, why) for t, why in self._acting.values()]
        ahead = [edge - now for span in spans for edge in span[:2] if edge > now]
        reasons = (why for first, last, why in spans if first <= now < last)
        return next(reasons, ""), min(ahead, default=None)

    @property
    def _holding(self) -> bool:
        return self._child is not None and self._child.returncode is None

    async def _hold(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if not self._host.reachable or self._host.stopping or now < self._not_before:
            return
        while not await self._granted(why, MODES[self._mode]):
            if self._mode + 1 == len(MODES):
                self._mode, self._not_before = 0, now + RETRY_SECONDS[1]
                return
            self._mode += 1

    async def _granted(self, why: str, mode: str) -> bool:
        """Start the child; False where it ends again at once."""
        await self._release()
        what = ["--what=shutdown:sleep", "--who=virtsnapd", f"--why={why}", f"--mode={mode}"]
        # Or it would tell systemd in our name how it ended.
        env = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        try:
            self._child = child = await asyncio.create_subprocess_exec(
                *(self._program, *what, "cat"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env=env,
            )
        except OSError as e:
            self._say(f"{self._program}: {e.strerror}")
            return False
        assert child.stderr is not None
        try:
            async with asyncio.timeout(GRANT_SECONDS):
                said = await child.stderr.read(1024)
                await child.wait()
        except TimeoutError:
            log.debug("the host is held up (%s): %s", mode, why)
            return True
        if mode == MODES[-1]:
            self._say(one_line(said.decode(errors="replace"), 300))
        return False

    async def _release(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()
        try:
            async with asyncio.timeout(GRANT_SECONDS):
                await child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            log.info("the host cannot be held up while a job is at work: %s", why)


def _seen(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("the host is no longer held up while a job is at work", exc_info=error)
