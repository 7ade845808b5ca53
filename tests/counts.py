"""The daemon with its calls counted: `python3 -m tests.counts FOLDER PACE MODULE ARGUMENTS...`.

Counted by name are the round trips to libvirt, the statements of the store and the messages that
are sent to the bus. FOLDER has the socket over which a Counted asks for them, and the folder of
snapshot records that is watched as libvirt's is. Its own clock can be moved on.

PACE: how many times faster than it is time passes; 0 = as it is, and what is done by the clock
alone, every 30 s or every minute, isn't done.
"""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import libvirt

from snapd import daemon, inventory
from snapd.bus.rooms import Rooms
from snapd.hypervisor import connection, watch
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.policy import ClockGuard
from snapd.store import opening
from snapd.wire import marshal

MODULE = "tests.counts"
NEVER = 1e9
QUIET_SECONDS = 0.25
FOREIGN = "foreign"
LOCAL = re.compile(
    r"virEvent|virGetLastError|virRegisterErrorHandler|\w+(Free|Ref|GetUUID|GetUUIDString)$"
    r"|vir(Domain|DomainSnapshot|DomainCheckpoint|StoragePool|StorageVol|Network)GetName$"
    r"|virDomainGetID$"
)
"""What libvirt's client answers by itself."""
KINDS = ("libvirt", "sql", "bus")
Counts = dict[str, Counter[str]]
"""Kind -> name -> how often."""


class _Tally:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counts = {kind: Counter() for kind in KINDS}

    def add(self, kind: str, name: str) -> None:
        with self._lock:
            self._counts[kind][name] += 1

    def take(self) -> Counts:
        with self._lock:
            taken, self._counts = self._counts, {kind: Counter() for kind in KINDS}
        return taken


class _Binding:
    """libvirtmod, whose calls are counted unless somebody else makes them."""

    def __init__(self, real: Any, tally: _Tally) -> None:
        self._real, self._tally = real, tally

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._real, name)
        if not LOCAL.match(name):
            call = partial(self._counted, name, call)
        self.__dict__[name] = call
        return call

    def _counted(self, name: str, call: Callable[..., Any], *given: Any) -> Any:
        if threading.current_thread().name != FOREIGN:
            self._tally.add("libvirt", name)
        return call(*given)


def _statement(sql: str) -> str:
    """Its verb and table."""
    table = re.search(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)", sql)
    return f"{sql.split(maxsplit=1)[0]} {table[1] if table else ''}".rstrip()


def _count_statements(tally: _Tally) -> None:
    connect = opening.connect

    def traced(*given: Any) -> sqlite3.Connection:
        db = connect(*given)
        db.set_trace_callback(lambda sql: tally.add("sql", _statement(sql)))
        return db

    opening.connect = cast(Any, traced)


def _message(kind: int, body: Sequence[Any], head: dict[str, Any]) -> str:
    """What it is, and of a change of an object, of which interface."""
    if kind == marshal.METHOD_RETURN:
        return "reply"
    if kind == marshal.ERROR:
        return f"error {head['error']}"
    if kind == marshal.METHOD_CALL:
        return f"call {head['member']}"
    of = {"PropertiesChanged": body[:1], "InterfacesAdded": body[-1], "InterfacesRemoved": body[-1]}
    about = of.get(head["member"], ())
    words = [name.rpartition(".")[2] for name in about if "virtsnap" in name]
    return " ".join(["signal", head["member"], *words])


def _count_messages(tally: _Tally) -> None:
    frame = marshal.frame

    def counted(kind: int, serial: int, sig: str, body: Sequence[Any], **head: Any) -> bytes:
        tally.add("bus", _message(kind, body, head))
        return frame(kind, serial, sig, body, **head)

    marshal.frame = cast(Any, counted)


class _Clock:
    """The wall's time, which begins at ten past, and the seconds since the host's start."""

    def __init__(self, pace: float) -> None:
        self._pace, self._begun = pace, time.monotonic()
        self._wall = time.time() // 3600 * 3600 + 600
        self.ahead = 0.0

    def passed(self) -> float:
        return (time.monotonic() - self._begun) * self._pace + self.ahead

    def __call__(self) -> float:
        return self._wall + self.passed()

    def guard(self, last: int) -> ClockGuard:
        return ClockGuard(last, self, self.passed, self.passed)


def _hasten(loop: Any, pace: float) -> None:
    """Have what the loop is to do later come so many times sooner."""
    begun, select = loop.time(), loop._selector.select
    loop.time = lambda: begun + (time.monotonic() - begun) * pace
    loop._selector.select = lambda timeout: select(timeout and timeout / pace)


class _Control:
    """What a Counted asks for, a line each."""

    def __init__(self, folder: Path, pace: float, tally: _Tally) -> None:
        self._folder, self._tally = folder, tally
        self.clock = _Clock(pace or 1)
        self._rooms: Rooms | None = None
        self._build = daemon.build

    async def build(self, *given: Any, **named: Any) -> Rooms:
        named |= {"clock": self.clock, "clocks": self.clock.guard}
        self._rooms = await self._build(*given, **named)
        return self._rooms

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word, *given = (await reader.readline()).decode().split()
        answer = await getattr(self, f"_{word}")(*given)
        writer.write(json.dumps(answer).encode())
        await writer.drain()
        writer.close()

    async def _take(self) -> Counts:
        return self._tally.take()

    async def _pass(self, seconds: str) -> None:
        assert self._rooms
        self.clock.ahead += float(seconds)
        self._rooms.engine._wake.set()

    async def _foreign(self, domain: str, snapshot: str = "") -> None:
        """Somebody else makes a snapshot, or writes a record anew."""

        def work() -> None:
            if snapshot:
                assert self._rooms and isinstance(self._rooms.hypervisor, LibvirtHypervisor)
                conn = self._rooms.hypervisor._connections._main
                assert conn
                text = f"<domainsnapshot><name>{snapshot}</name></domainsnapshot>"
                conn.lookupByName(domain).snapshotCreateXML(text, 0)
            self._folder.joinpath("records", domain, "s.xml").write_text(snapshot)

        threading.Thread(target=work, name=FOREIGN).start()


def main() -> None:
    folder, pace, module, *arguments = sys.argv[1:]
    tally = _Tally()
    control = _Control(Path(folder), float(pace), tally)
    libvirt.libvirtmod = _Binding(libvirt.libvirtmod, tally)
    _count_statements(tally)
    _count_messages(tally)
    cast(Any, watch).metadata_folder = lambda _uri: f"{folder}/records"
    if not float(pace):
        inventory.POLL_SECONDS = connection.PROBE_SECONDS = NEVER
    daemon.build = control.build
    work = daemon.run

    async def run(place: daemon.Place) -> None:
        if float(pace):
            _hasten(asyncio.get_running_loop(), float(pace))
        async with await asyncio.start_unix_server(control.serve, f"{folder}/socket"):
            await work(place)

    daemon.run = run
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


# --- for the tests


class Counted:
    """A daemon that is to be started with entry(), and what it does. folder: one that isn't there
    yet; domains: those that foreign() is for."""

    def __init__(self, folder: Path, pace: int, *domains: str) -> None:
        self._folder, self._pace = folder, pace
        for path in (folder / "records", *(folder / "records" / one for one in domains)):
            path.mkdir(parents=True)

    def entry(self) -> tuple[str, ...]:
        return MODULE, str(self._folder), str(self._pace), "snapd"

    def _ask(self, *words: str) -> Any:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(30)
            asked.connect(str(self._folder / "socket"))
            asked.sendall(" ".join(words).encode() + b"\n")
            with asked.makefile() as answer:
                return json.loads(answer.read())

    def take(self) -> Counts:
        """What was counted since the last time."""
        return {kind: Counter(found) for kind, found in self._ask("take").items()}

    def settled(self) -> Counts:
        """The same, once nothing more comes."""
        sums: Counts = {kind: Counter() for kind in KINDS}
        quiet = 0
        while quiet < 2:
            time.sleep(QUIET_SECONDS)
            taken = self.take()
            quiet = 0 if any(taken.values()) else quiet + 1
            for kind, found in taken.items():
                sums[kind] += found
        return sums

    def pass_(self, seconds: int) -> None:
        """Have the daemon's clock be so much later, and what is due by now done."""
        self._ask("pass", str(seconds))

    def foreign(self, domain: str, snapshot: str = "") -> None:
        """Have somebody else make a snapshot; "" = only have it look as if."""
        self._ask("foreign", domain, snapshot)


if __name__ == "__main__":
    main()
