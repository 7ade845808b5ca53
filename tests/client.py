"""The daemon as a process, and a client of it that tests can use without asyncio."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from snapd.errors import SnapdError
from snapd.wire import paths
from snapd.wire.messages import Signal
from snapd.wire.transport import Transport
from snapd.wire.values import Variant, unwrap

T = TypeVar("T")
Row = dict[str, Any]
INTERFACE = "org.virtsnap.Snapd1"
PROPERTIES = "org.freedesktop.DBus.Properties"
TOP = Path(__file__).parents[1]


class Daemon:
    """virtsnapd on a bus of the tests'; its state outlives stop() and kill()."""

    def __init__(
        self,
        address: str,
        uri: str,
        folder: Path,
        entry: Sequence[str] = ("snapd",),
        system_bus: str = "",
    ) -> None:
        """entry: the module that is run, and what it wants before the daemon's own arguments.
        system_bus: where it is to look for logind; this machine's own is never asked."""
        self._entry = entry
        self.cwd = TOP
        self.env: dict[str, str] = {}  # beside our own
        self._system_bus = system_bus or f"unix:path={folder}/no-bus"
        self.config, self.state = folder / "etc", folder / "state"
        for made in (self.config, self.config / "policies.d", self.state):
            made.mkdir(parents=True, exist_ok=True)
        self._address, self._uri = address, uri
        self._log = folder / "daemon.log"
        self._log.touch()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 30) -> None:
        """Start it; return when it owns its name."""
        assert not self.running
        begun = len(self.log)
        command = [*self.command(), "--connect", self._uri, "--config", str(self.config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--state", str(self.state)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.cwd,
                env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self._system_bus, **self.env},
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while f"owns {paths.NAME} on" not in self.log[begun:]:
            assert self.running and time.monotonic() < deadline, f"no daemon: {self.log[begun:]}"
            time.sleep(0.02)

    def command(self) -> list[str]:
        """The program and the bus that it is on."""
        program = [sys.executable, "-X", "dev", "-m", *self._entry]
        return [*program, "--bus-address", self._address]

    def stop(self, timeout: float = 30) -> int:
        """End it as systemd does; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout)

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def close(self) -> None:
        """End it if it runs; AssertionError where it didn't leave well or said a traceback."""
        status = self.stop() if self.running else 0
        assert status == 0, f"the daemon left with status {status}: {self.log}"
        self.check()

    def check(self) -> None:
        """AssertionError where its log holds a traceback or a complaint of python -X dev."""
        found = re.search("Traceback|Warning:|was never", self.log)
        assert found is None, f"{found and found[0]} in the daemon's log: {self.log}"

    def hang(self, on: bool) -> None:
        os.kill(self.pid, signal.SIGSTOP if on else signal.SIGCONT)


def options(values: Mapping[str, Any]) -> dict[str, Variant]:
    """Options of a method from plain values: str, bool, int, list of str, or a Variant."""
    return {k: v if isinstance(v, Variant) else _variant(v) for k, v in values.items()}


def _variant(value: Any) -> Variant:
    if isinstance(value, Mapping):
        return Variant("a{sv}", options(value))
    kind = {bool: "b", int: "x", str: "s", list: "as"}[type(value)]
    return Variant(kind, value)


class Client:
    """A connection of its own to the daemon, from any thread. Errors are those of the daemon."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)
        self._thread.start()
        self._news = threading.Condition()
        self._signals: list[Signal] = []
        self.bus: Transport = self.run(Transport.connect(address))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.run(self.bus.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 120) -> T:
        """Have a coroutine done on the client's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    # --- calls

    def ask(
        self,
        path: str,
        interface: str,
        member: str,
        *values: str | int | list[str],
        opts: Mapping[str, Any] = {},
        timeout: float = 60,
    ) -> Any:
        """Call a method whose arguments are strings, numbers (x), lists of strings, and options;
        its out argument(s), unwrapped."""
        kinds: dict[type, str] = {str: "s", int: "x", list: "as"}
        sig = "".join(kinds[type(value)] for value in values) + "a{sv}"
        name, body = f"{INTERFACE}.{interface}", (*values, options(opts))
        work = self.bus.call(paths.NAME, path, name, member, sig, *body, timeout=timeout)
        answer = unwrap(self.run(work, timeout + 10))
        return answer[0] if len(answer) == 1 else answer

    def call(self, member: str, *values: str | int | list[str], **opts: Any) -> Any:
        """Call a method of the Manager."""
        return self.ask(paths.ROOT, "Manager", member, *values, opts=opts)

    def act(self, domain: str, name: str, member: str, *values: str) -> Any:
        """Call a method of a snapshot."""
        return self.ask(self.call("GetSnapshot", domain, name), "Snapshot", member, *values)

    def rows(self, member: str, *strings: str, **opts: Any) -> list[Row]:
        """The rows of one of its lists."""
        rows, _info = self.call(member, *strings, **opts)
        return list(rows)

    def properties(self, path: str = paths.ROOT, interface: str = "Manager") -> Row:
        """All properties of an object."""
        call = (PROPERTIES, "GetAll", "s", f"{INTERFACE}.{interface}")
        return dict(unwrap(self.run(self.bus.call(paths.NAME, path, *call)))[0])

    # --- jobs

    def wait(self, job: str, timeout: int = 60) -> Row:
        """Wait for a job's end; its result. Raises the job's own error, TimedOut."""
        opts = {"timeout": timeout}
        return dict(self.ask(job, "Job", "Wait", opts=opts, timeout=timeout + 5))

    def job(self, job: str) -> Row:
        return self.properties(job, "Job")

    def create(self, domain: str, name: str = "", **opts: Any) -> Row:
        """CreateSnapshot, waited for."""
        return self.wait(self.call("CreateSnapshot", domain, name, **opts))

    def revert(self, domain: str, name: str, **opts: Any) -> Row:
        """RevertSnapshot, waited for."""
        return self.wait(self.call("RevertSnapshot", domain, name, **opts))

    def delete(self, domain: str, name: str, **opts: Any) -> Row:
        """DeleteSnapshot, waited for."""
        return self.wait(self.call("DeleteSnapshot", domain, name, **opts))

    def refused(self, member: str, *strings: str, **opts: Any) -> tuple[str, str]:
        """Have a verb fail: the last word of the error's name, and its reason word.

        Errors that come before there is a job have no reason word.
        """
        try:
            job = self.call(member, *strings, **opts)
        except SnapdError as error:
            return error.name.rpartition(".")[2], ""
        try:
            self.wait(job)
        except SnapdError as error:
            row = self.job(job)
            assert row["ErrorName"] == error.name
            assert row["ErrorMessage"] == error.message
            return error.name.rpartition(".")[2], row["ErrorDetail"].get("Reason", "")
        raise AssertionError(f"{member} of {strings} was not refused")

    # --- lists

    def domain(self, name: str) -> Row | None:
        """A domain's row, None where the daemon doesn't know it."""
        return next((r for r in self.rows("ListDomains") if r["Name"] == name), None)

    def snapshots(self, domain: str) -> dict[str, Row]:
        """A domain's snapshots by name, oldest first."""
        return {row["Name"]: row for row in self.rows("ListSnapshots", domain)}

    # --- signals

    def listen(self) -> None:
        """Record the daemon's signals from now on."""
        self.run(self.bus.subscribe(self._heard, sender=paths.NAME))

    def _heard(self, signal: Signal) -> None:
        with self._news:
            self._signals.append(signal)
            self._news.notify_all()

    def signals(self, member: str) -> list[list[Any]]:
        """The arguments of the signals of that name so far."""
        with self._news:
            return [unwrap(s.body) for s in self._signals if s.member == member]

    def until(
        self, what: str, found: Callable[[], T | None], timeout: float = 20, pause: float = 0.1
    ) -> T:
        """Ask until something (not None, not False) is found; AssertionError past the timeout."""
        deadline = time.monotonic() + timeout
        while not (value := found()):
            assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
            time.sleep(pause)
        return value

    def until_read(self, timeout: float = 20) -> None:
        """Wait until all VMs are read. Before the first connect the daemon is not loading yet."""

        def read() -> bool:
            manager = self.properties()
            return bool(manager["Connected"] and not manager["Loading"])

        self.until("all VMs are read", read, timeout)
