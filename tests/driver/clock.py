"""A clock that a test moves under a daemon's feet: the wall's alone, as when somebody sets it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"
CACHE_SECONDS = 1


class MovedClock:
    """libfaketime's: `env` is for the daemon that is to have it, and its children."""

    def __init__(self, folder: Path) -> None:
        (library,) = Path("/").glob(_LIBRARIES[1:])
        self._file = folder / "clock"
        self.seconds = 0
        self.set(0)
        self.env: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(CACHE_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # else it takes the monotonic deadline of a wait for the wall's: threads that wait for
            # Python's lock spin, and three such daemons take ten times as long for everything
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: int) -> None:
        """Have it be so far ahead of the true one; a daemon that runs has it a second later."""
        self.seconds = seconds
        self._file.write_text(f"{seconds:+d}\n")
