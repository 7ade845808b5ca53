"""What systemd is told: READY, STATUS, WATCHDOG, STOPPING. Without systemd all of it is nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

try:
    from systemd.daemon import notify as _notify
except ImportError:  # a venv without systemd-python, where nobody waits for it either

    def _notify(_state: str) -> bool:
        return False


STATUS_SECONDS = 15.0


class Notifier:
    """Speaks to $NOTIFY_SOCKET. The watchdog is fed only while all that must live does."""

    def __init__(self) -> None:
        self._period = _watchdog_seconds(os.environ)
        self._status = ""

    def ready(self, status: str) -> None:
        _notify(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        _notify("STOPPING=1\nSTATUS=waiting for running jobs")

    async def watch(self, alive: Callable[[], bool], status: Callable[[], str]) -> None:
        """Feed the watchdog and tell the status, for ever. alive: whether libvirt's thread is."""
        pause = min(self._period / 2, STATUS_SECONDS) if self._period else STATUS_SECONDS
        while True:
            if self._period and alive():
                _notify("WATCHDOG=1")
            if (now := status()) != self._status:
                self._status = now
                _notify(f"STATUS={now}")
            await asyncio.sleep(pause)


def _watchdog_seconds(environ: os._Environ[str]) -> float:
    """systemd's WatchdogSec for this process, 0 = none (systemd-python has no call for it)."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(environ.get("WATCHDOG_USEC", "0")) / 1e6
