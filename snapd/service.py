"""What systemd is told: READY, STATUS, WATCHDOG, RELOADING, STOPPING. Without it all is nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable

try:
    from systemd.daemon import notify as _notify
except ImportError:  # a venv without systemd-python, where nobody waits for it either

    def _notify(_state: str) -> bool:
        return False


log = logging.getLogger(__name__)

STATUS_SECONDS = 15.0
NEWS_SECONDS = 1.0
"""At most so often the status is told anew, whatever happens."""


def _tell(state: str) -> None:
    """systemd that can't be told is no reason to end: what counts is done without it."""
    try:
        _notify(state)
    except OSError as e:
        log.warning("systemd cannot be told how virtsnapd is: %s", e.strerror)


class Notifier:
    """Speaks to $NOTIFY_SOCKET. The watchdog is fed only while all that must live does."""

    def __init__(self) -> None:
        self._period = _watchdog_seconds(os.environ)
        self._status = ""
        self._news = asyncio.Event()

    def look(self) -> None:
        """Something has changed that the status may tell of."""
        self._news.set()

    def ready(self, status: str) -> None:
        """What began, the start or a reload, is over."""
        self._status = status
        _tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The files are being read again; ready() has to follow, whatever comes of it."""
        _tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        _tell("STOPPING=1\nSTATUS=waiting for running jobs")

    async def watch(self, alive: Callable[[], bool], status: Callable[[], str]) -> None:
        """Feed the watchdog and tell the status, for ever. alive: whether libvirt's thread is."""
        pause = min(self._period / 2, STATUS_SECONDS) if self._period else STATUS_SECONDS
        while True:
            if self._period and alive():
                _tell("WATCHDOG=1")
            if (now := status()) != self._status:
                self._status = now
                _tell(f"STATUS={now}")
            quiet = min(NEWS_SECONDS, pause)
            await asyncio.sleep(quiet)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause - quiet):
                    await self._news.wait()
            self._news.clear()


def _watchdog_seconds(environ: os._Environ[str]) -> float:
    """systemd's WatchdogSec for this process, 0 = none (systemd-python has no call for it)."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(environ.get("WATCHDOG_USEC", "0")) / 1e6
