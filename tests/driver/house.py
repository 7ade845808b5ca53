"""What the tests of this folder share: a daemon with its folders, files in them, its store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from snapd.wire.values import unwrap
from tests import turns
from tests.client import Client, Daemon

DATA = Path(__file__).parents[1] / "data"
HOST = DATA / "testdriver" / "host.xml"
NODE = DATA / "testdriver" / "node.xml"
STOP_SECONDS = 5.0
TEST = "http://libvirt.org/schemas/domain/test/1.0"
NODE_END = "</node>"

WEB1 = "22222222-2222-4222-8222-222222222201"
WEB2 = "22222222-2222-4222-8222-222222222202"
DB1 = "22222222-2222-4222-8222-222222222203"
HOURLY = 'domains = ["web-*"]\nschedule = "0 * * * *"\n[keep]\nlast = 2\n'


class House:
    """A daemon, its folders, and clients of it; `host` is set before start()."""

    def __init__(self, address: str, folder: Path, host: str = f"test://{HOST}") -> None:
        self.address = address
        self.folder = folder
        self.serve(host)
        self._clients: list[Client] = []

    @property
    def store(self) -> Path:
        return self.daemon.state / "store.sqlite"

    def serve(self, host: str, *entry: str, system_bus: str = "") -> None:
        """Have it started for another libvirt URI, on the same folders, with a watch on its loop.
        entry, system_bus: see turns.entry() and Daemon."""
        self.host = host
        watched = turns.entry(self.folder / "turns", *entry)
        self.daemon = Daemon(self.address, host, self.folder, watched, system_bus)

    def start(self) -> Client:
        """Start the daemon; a client of it."""
        self.daemon.start()
        return self.client

    @property
    def client(self) -> Client:
        """The first client."""
        return self._clients[0] if self._clients else self.another()

    def another(self) -> Client:
        made = Client(self.address)
        self._clients.append(made)
        return made

    def stop(self) -> None:
        """As systemd does: it leaves with 0 and soon."""
        begun = time.monotonic()
        assert self.daemon.stop() == 0, self.daemon.log
        took = time.monotonic() - begun
        assert took < STOP_SECONDS, f"it took {took:.1f} s to stop: {self.daemon.log}"

    def again(self) -> Client:
        """Stop and start it."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop it where it runs; AssertionError where it has misbehaved."""
        try:
            if self.daemon.running:
                self.stop()
        finally:
            if self.daemon.running:
                self.daemon.kill()
            for client in self._clients:
                client.__exit__(None, None, None)
        self.daemon.check()
        if "LD_PRELOAD" not in self.daemon.env:  # libfaketime has who waits for the GIL spin
            turns.check(self.daemon.log)

    # --- its files

    def policy(self, name: str, text: str = HOURLY) -> Path:
        """Write an admin's policy file."""
        path = self.daemon.config / "policies.d" / f"{name}.toml"
        path.write_text(text)
        return path

    @contextmanager
    def db(self) -> Iterator[sqlite3.Connection]:
        """The store of the daemon, which must be stopped; committed at the end."""
        assert not self.daemon.running
        with closing(sqlite3.connect(self.store)) as db, db:
            db.row_factory = sqlite3.Row
            yield db

    def host_of(self, count: int, snapshots: int = 0) -> None:
        """Have it started in front of many VMs; see many()."""
        self.serve_text(many(count, snapshots))

    def serve_text(self, xml: str) -> None:
        """Have it started in front of that host of the test driver's."""
        path = self.folder / "host.xml"
        path.write_text(xml)
        self.serve(f"test://{path}")

    def longest_turn(self) -> tuple[float, float]:
        """The longest turn since the last time; see turns.longest()."""
        return turns.longest(self.daemon.pid, self.folder / "turns")

    def tables(self) -> None:
        """Have the store made, by starting and stopping the daemon once."""
        self.start()
        self.stop()


def problems(client: Client) -> set[str]:
    """The words of the problems that there are."""
    return {row["Problem"] for row in client.rows("ListProblems")}


def heard(client: Client) -> list[tuple[str, str, list[Any]]]:
    """(path, member, arguments) of all signals so far, in order."""
    with client._news:
        return [(s.path, s.member, unwrap(s.body)) for s in client._signals]


def many(count: int, snapshots: int = 0) -> str:
    """A host with that many running VMs vm-0, vm-1, ... of snapshots s-0, s-1, ... by others."""
    return (
        f"<node xmlns:test='{TEST}'>" + "".join(_vm(n, snapshots) for n in range(count)) + NODE_END
    )


def uuid_of(number: int) -> str:
    return f"33333333-3333-4333-8333-{number:012d}"


def _vm(number: int, snapshots: int) -> str:
    head = (
        f"<name>vm-{number}</name><uuid>{uuid_of(number)}</uuid>"
        "<memory unit='KiB'>65536</memory><os><type>hvm</type></os>"
    )
    tree = "".join(
        f"<test:domainsnapshot><name>s-{n}</name><state>running</state>"
        f"<creationTime>{1700000000 + n}</creationTime><active>0</active>"
        f"<domain type='test'>{head}</domain></test:domainsnapshot>"
        for n in range(snapshots)
    )
    return f"<domain type='test' xmlns:test='{TEST}'>{head}{tree}</domain>"
