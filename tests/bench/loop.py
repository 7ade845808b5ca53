"""How long the daemon's loop stands still with 10,000 snapshots of one VM.

    packaging/check --bench loop [--quick]

A turn is what the loop does between two looks at its sockets. Each row is the longest one during a
step: CPU time of the loop's thread, which other work on the machine doesn't stretch, and by the
clock. Takes half a minute.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import snapd.wire  # noqa: F401 - makes dbus_next safe to import
from snapd.wire import paths
from snapd.wire.values import unwrap
from tests.bench import figures
from tests.bench.figures import Budget, Figure, Row
from tests.bus import private_bus
from tests.client import Client
from tests.client import Row as Listed
from tests.driver.house import House, uuid_of

SNAPSHOTS = 10_000
MANAGED = "org.freedesktop.DBus.ObjectManager"


def paged(client: Client, limit: int = 1000) -> Iterator[list[Listed]]:
    """All snapshots, a page at a time."""
    cursor = ""
    while True:
        page, info = client.call("ListSnapshots", "", limit=limit, **{"from": cursor})
        yield page
        if not (cursor := info["Next"]):
            return


def pages(client: Client, limit: int = 1000) -> list[Listed]:
    """All snapshots, asked for in pages."""
    return [row for page in paged(client, limit) for row in page]


def managed(client: Client) -> dict[str, Any]:
    """All objects of the collection, by their paths."""
    call = (paths.NAME, paths.snapshots_of(uuid_of(0)), MANAGED, "GetManagedObjects")
    (found,) = unwrap(client.run(client.bus.call(*call, timeout=110)))
    return dict(found)


def burst(client: Client) -> None:
    """What tells of itself: a snapshot that comes, is pinned and goes."""
    client.create("vm-0", "new")
    for reason in map(str, range(50)):
        client.act("vm-0", "new", "Unpin")
        path = client.call("GetSnapshot", "vm-0", "new")
        client.ask(path, "Snapshot", "Pin", reason)
    client.act("vm-0", "new", "Unpin")
    client.delete("vm-0", "new")


STEPS: dict[str, Callable[[Client], Any]] = {
    "ListSnapshots, pages of 1,000": pages,
    "ListSnapshots, one page": lambda client: pages(client, SNAPSHOTS),
    "GetManagedObjects": managed,
    "signals": burst,
}


def measured(house: House) -> Iterator[tuple[str, float, float, Any]]:
    """Each step's name, its longest turn in milliseconds (CPU, clock), and what it answered."""
    client = house.client
    for name, step in STEPS.items():
        house.longest_turn()
        answer = step(client)
        yield name, *house.longest_turn(), answer


def measure(quick: bool) -> Iterator[Row]:
    with private_bus() as bus, tempfile.TemporaryDirectory() as folder:
        house = House(bus.address, Path(folder))
        house.host_of(1, 500 if quick else SNAPSHOTS)
        house.start().rows("ListDomains")
        try:
            yield from _rows("start", *house.longest_turn())
            time.sleep(2)
            house.longest_turn()
            time.sleep(2)
            yield from _rows("idle", *house.longest_turn())
            for name, cpu, clock, _answer in measured(house):
                yield from _rows(name, cpu, clock)
        finally:
            house.close()


def _rows(step: str, cpu: float, clock: float) -> Iterator[Row]:
    what = f"loop, longest turn: {step}"
    yield Row(what, Figure([cpu], "ms"), budget=Budget("ours", 50))
    yield Row(f"{what}, by the clock", Figure([clock], "ms"))


if __name__ == "__main__":
    figures.main(measure, __doc__)
