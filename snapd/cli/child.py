"""A command of this host: whether it can be run, and running it with its signals its own."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

NOT_EXECUTABLE, NOT_FOUND = 126, 127
BY_SIGNAL = 128
_FROM_KERNEL = 128
"""si_code SI_KERNEL: a key of the terminal, whose whole foreground group has the signal."""
_ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_WATCHED = (*_ENDING, signal.SIGCHLD)


class Ended(NamedTuple):
    """How a command ended. status: as a shell has it, 128 and the signal's number where one ended
    it; signal: that number, 0 = none; told: whether somebody has sent us a signal to end it;
    error: why it could not even be run, "" = it was."""

    status: int
    signal: int = 0
    told: bool = False
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"cannot be run: {self.error}"
        if self.signal:
            return f"was ended by signal {self.signal}{_named(self.signal)}"
        return f"failed with exit status {self.status}"


def cannot_run(word: str) -> int:
    """The exit code for a command that cannot be run, 0 = it can."""
    if shutil.which(word):
        return 0
    there = Path(word).exists() if "/" in word else shutil.which(word, os.F_OK)
    return NOT_EXECUTABLE if there else NOT_FOUND


def run(command: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Run a command on our own standard input, output and error until it ends.

    Ctrl-C is the command's: the terminal has sent it there as well, and we wait. A signal that a
    process sends us is passed on.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, its status would be lost
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            dict(environment),
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
        )
        return _waited(pid)
    except OSError as error:
        status = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        return Ended(status, error=error.strerror or str(error))
    finally:
        # what came while it ended was meant for it
        while signal.sigtimedwait(_WATCHED, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Have SIGTERM and SIGHUP, unless they are ignored, end our own work as Ctrl-C does, so that
    it can be told what is left; the signals that have come."""
    came: list[int] = []

    def interrupt(number: int, _frame: Any) -> None:
        came.append(number)
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    ours = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield came
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _waited(pid: int) -> Ended:
    told = False
    while True:
        news = signal.sigwaitinfo(_WATCHED)
        if news.si_signo != signal.SIGCHLD:
            if news.si_code != _FROM_KERNEL:
                told = True
                os.kill(pid, news.si_signo)
            continue
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return Ended(code if code >= 0 else BY_SIGNAL - code, max(-code, 0), told)


def _named(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:  # a real-time one
        return ""
