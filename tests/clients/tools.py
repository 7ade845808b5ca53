"""Clients as processes: what they print, at their end or while they run.

The paths, names and types here are written out, not made by the code that is tested: this is what
an author reads in the contract and in tests/data/testdriver/host.xml.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "org.virtsnap.Snapd1"
ROOT = "/org/virtsnap/Snapd1"
MANAGER = "org.virtsnap.Snapd1.Manager"
SNAPSHOT = "org.virtsnap.Snapd1.Snapshot"
DOMAIN = "org.virtsnap.Snapd1.Domain"
POLICY = "org.virtsnap.Snapd1.Policy"
JOB = "org.virtsnap.Snapd1.Job"

WEB1_UUID = "22222222-2222-4222-8222-222222222201"
WEB1 = "/org/virtsnap/Snapd1/domains/22222222_2222_4222_8222_222222222201"
WEB2 = "/org/virtsnap/Snapd1/domains/22222222_2222_4222_8222_222222222202"
DB1 = "/org/virtsnap/Snapd1/domains/22222222_2222_4222_8222_222222222203"
TREE = "/org/virtsnap/Snapd1/snapshots/22222222_2222_4222_8222_222222222201"
BY_HAND = f"{TREE}/by_2dhand"
ONE = f"{TREE}/one"
POLICIES = "/org/virtsnap/Snapd1/policies"
NIGHTLY = "/org/virtsnap/Snapd1/policies/nightly"
JOBS = "/org/virtsnap/Snapd1/jobs"

# what host.xml says: (name, state, current snapshot)
VMS = {
    WEB1: ("web-1", "running", BY_HAND),
    WEB2: ("web-2", "shutoff", "/"),
    DB1: ("db-1", "paused", "/"),
}
HERE = Path(__file__).parent


def run(*command: str, fails: bool = False) -> str:
    """What a command printed; of one that has to fail, what it complained of."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode != 0) == fails, f"{command}: {done.stdout}{done.stderr}"
    return done.stderr if fails else done.stdout


def script(name: str, address: str) -> dict[str, Any]:
    """Run a client of this folder to its end: the one JSON document that it printed."""
    out = run(sys.executable, str(HERE / name), address)
    return dict(json.loads(out))


class Listener:
    """A process whose lines are read while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()

    @property
    def lines(self) -> list[str]:
        with self._news:
            return list(self._lines)

    def until(self, what: str, found: Callable[[list[str]], bool], timeout: float = 30) -> None:
        """Wait until the lines so far hold something; AssertionError past the timeout."""
        deadline = time.monotonic() + timeout
        with self._news:
            while not found(self._lines):
                left = deadline - time.monotonic()
                assert left > 0, f"{what}: not within {timeout:g} s: {self._lines}"
                self._news.wait(left)

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait(30)


@contextmanager
def listener(*command: str) -> Iterator[Listener]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Listener(process)
        finally:
            if process.poll() is None:
                process.terminate()


def in_order(heard: list[Any], wanted: list[Any]) -> None:
    """AssertionError where not all that is wanted was heard, in that order, whatever else was."""
    rest = iter(heard)
    for each in wanted:
        assert each in rest, f"{each} is missing or too early in {heard}"
