"""Who asks for a password where no desktop does it: polkit's own agent for terminals.

As systemctl has it: pkttyagent runs beside us from the first call that may ask until the end. An
agent of a desktop comes first, if there is one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

PROGRAM = "pkttyagent"
SESSIONS = "/run/systemd/users"
"""Where logind has a file for each user who has one."""
SECONDS = 5.0
"""What it has to register itself; without it the call is made all the same."""
END_SECONDS = 2.0


class Agent:
    """ask: whether anybody may be asked at all, by whatever agent."""

    def __init__(self, bus: str, *, ask: bool) -> None:
        self.ask = ask
        self._wanted = ask and bus == "system" and os.geteuid() != 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def asks(self) -> bool:
        """Whether it is there, and may have the terminal for itself."""
        return self._process is not None

    async def ready(self) -> None:
        """Have it there, where one is of use; called before each call that may ask."""
        if not self._wanted:
            return
        self._wanted = False
        if not _in_front_of_somebody():
            return
        read, write = os.pipe()
        try:
            self._process = _start(write)
        finally:
            os.close(write)
        try:
            await _closed(read)
        finally:
            os.close(read)

    def close(self) -> None:
        """End it, also in the middle of a question."""
        if self._process is None:
            return
        import subprocess

        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _in_front_of_somebody() -> bool:
    """Whether a person can type an answer: it is read from the terminal, as we would."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # no terminal, closed, or none at all
        return False


def _start(notify: int) -> subprocess.Popen[bytes] | None:
    """It closes the fd `notify` once it is registered; None where it is not installed."""
    import subprocess
    from pathlib import Path

    # with the start time, since a PID may be another process's by now
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    # setpriv has it end when we are killed
    command = ["setpriv", "--pdeathsig", "TERM", PROGRAM]
    command += ["--notify-fd", str(notify), "--process", f"{os.getpid()},{start}"]
    # a desktop's is found by the user's session, and polkit takes no fallback where there is none
    if Path(SESSIONS, str(os.geteuid())).exists():
        command.append("--fallback")
    try:
        return subprocess.Popen(
            command,
            pass_fds=[notify],
            # it talks to the terminal itself; of what else it says nothing is for a person
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


async def _closed(fd: int) -> None:
    """Wait until nobody has the other end of a pipe any more, but not for long."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    loop.add_reader(fd, closed.set)
    try:
        async with asyncio.timeout(SECONDS):
            await closed.wait()
    except TimeoutError:
        return
    finally:
        loop.remove_reader(fd)
