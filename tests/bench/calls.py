"""What one call costs a client on the bus, beside libvirt-dbus doing the same for it. As root:

    packaging/check --bench calls [--quick]      about a minute

A private libvirtd has 200 VMs that are off, and vm-big with 1,000 snapshots. virtsnapd and Debian's
libvirt-dbus serve the same bus in front of it, and the same client (ours, in Python) asks both,
in turns: once to warm up, then 7 times; a small call 200 times. What each answered is compared.

Not the same: virtsnapd answers from its own picture of libvirt, which it reads again at each sign
of a change and once a minute; libvirt-dbus asks libvirtd at each call. The client gets fields from
the one and XML from the other, and to read that is not in its time here; the VMs' XML is short.
libvirt-dbus is asked one call after the other, as a simple client does, and with 32 calls under
way at a time: the better one of the two is what the budget is held against.
"CPU of the client" is what the client needs to write, read and unpack all that: in C it is less.

Columns: milliseconds by the clock (CPU where said), median (least-most); ratio is ours to theirs.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import libvirt

from snapd.wire import paths
from snapd.wire.values import Variant, unwrap
from tests.bench import beds
from tests.bench.figures import Budget, Figure, Row, main
from tests.bus import private_bus
from tests.client import INTERFACE, PROPERTIES, Client, options

T = TypeVar("T")
FREEDESKTOP = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
PEER, CONNECT = "org.libvirt", "/org/libvirt/QEMU"
ONE_BY_ONE, AT_ONCE = "libvirt-dbus, one by one", "libvirt-dbus, 32 at a time"
TOGETHER = 32
TURN_MS = 50


@dataclass(frozen=True, slots=True)
class Size:
    domains: int
    snapshots: int
    runs: int
    small: int


WHOLE, QUICK = Size(200, 1000, 7, 200), Size(20, 100, 2, 20)


@dataclass(slots=True)
class Way:
    """One way to find something out: what was answered last, and milliseconds of each time, by the
    clock and of this process's CPU."""

    ask: Callable[[], Any]
    answer: Any = None
    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self) -> None:
        cpu, clock = time.process_time(), time.perf_counter()
        self.answer = self.ask()
        self.clock.append((time.perf_counter() - clock) * 1000)
        self.cpu.append((time.process_time() - cpu) * 1000)


def in_turns(ways: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, Way]:
    """Have each done, once to warm up and then `runs` times: what else the machine does hits all
    of them."""
    found = {name: Way(ask) for name, ask in ways.items()}
    for number in range(runs + 1):
        for way in found.values():
            way.run()
            if not number:
                way.clock.clear()
                way.cpu.clear()
    return found


class Asker:
    """Asks both services over one connection; each question is a coroutine on its loop."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def done(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self._client.run(wait())

    async def ours(self, path: str, interface: str, member: str, sig: str, *body: Any) -> Any:
        where = (paths.NAME, path, interface)
        return unwrap(await self._client.bus.call(*where, member, sig, *body))

    async def theirs(self, path: str, interface: str, member: str, sig: str, *body: Any) -> Any:
        (answer,) = await self._client.bus.call(PEER, path, interface, member, sig, *body)
        return unwrap(answer)

    async def listed(self, member: str, *strings: str) -> list[dict[str, Any]]:
        """The rows of one of our lists, of one page."""
        sig, opts = "s" * len(strings) + "a{sv}", options({"limit": Variant("u", 10_000)})
        where = (paths.ROOT, f"{INTERFACE}.Manager", member)
        rows, info = await self.ours(*where, sig, *strings, opts)
        if info["Next"] or info["Incomplete"]:
            raise RuntimeError(f"{member} left something out: {info}")
        return list(rows)


async def each(
    items: Sequence[str], ask: Callable[[str], Awaitable[T]], together: int
) -> dict[str, T]:
    """Ask about each item, so many at a time."""
    answers: dict[str, T] = {}
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            answers[item] = await ask(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(together):
            group.create_task(worker())
    return answers


# --- the snapshots of a VM


def their_snapshots(ask: Asker, uuid: str, together: int) -> dict[str, tuple[str, bool]]:
    """XML and being current of each snapshot of a VM, by its path at libvirt-dbus."""

    async def one(path: str) -> tuple[str, bool]:
        interface = f"{PEER}.DomainSnapshot"
        text = await ask.theirs(path, interface, "GetXMLDesc", "u", 0)
        return text, await ask.theirs(path, interface, "IsCurrent", "u", 0)

    async def work() -> dict[str, tuple[str, bool]]:
        domain = await ask.theirs(CONNECT, f"{PEER}.Connect", "DomainLookupByUUID", "s", uuid)
        listed = await ask.theirs(domain, f"{PEER}.Domain", "ListDomainSnapshots", "u", 0)
        return await each(listed, one, together)

    return ask.done(work())


def snapshots(ask: Asker, uuid: str, size: Size) -> Iterator[Row]:
    """All fields of all snapshots of a VM."""
    ways = in_turns(
        {
            "": lambda: ask.done(ask.listed("ListSnapshots", uuid)),
            ONE_BY_ONE: lambda: their_snapshots(ask, uuid, 1),
            AT_ONCE: lambda: their_snapshots(ask, uuid, TOGETHER),
        },
        size.runs,
    )
    ours = {(row["Name"], row["Created"], row["Current"]) for row in ways[""].answer}
    for name in (ONE_BY_ONE, AT_ONCE):
        found = {_fields(text, current) for text, current in ways[name].answer.values()}
        if ours != found or len(found) != size.snapshots:
            raise RuntimeError(f"{len(ours)} snapshots by us, {len(found)} others by {name}")
    what = f"all fields of {size.snapshots:,} snapshots of a VM"
    yield from compared(what, ways, Budget("faster", 10))


def _fields(text: str, current: bool) -> tuple[str, int, bool]:
    root = ET.fromstring(text)
    return root.findtext("name", ""), int(root.findtext("creationTime", "0")), current


def compared(what: str, ways: Mapping[str, Way], budget: Budget | None = None) -> Iterator[Row]:
    """Ours beside each of the peer's two ways; the budget stands beside the better one."""
    ours = ways[""]
    best = min((ONE_BY_ONE, AT_ONCE), key=lambda name: statistics.median(ways[name].clock))
    for name in (ONE_BY_ONE, AT_ONCE):
        theirs = Figure(ways[name].clock, "ms")
        limit = budget if name == best else None
        yield Row(what, Figure(ours.clock, "ms"), name, theirs, limit)
    cpu = Figure(ours.cpu, "ms"), best, Figure(ways[best].cpu, "ms")
    yield Row("  CPU of the client in that", *cpu)


# --- the list of all VMs


def their_domains(ask: Asker, together: int) -> dict[str, dict[str, Any]]:
    """The properties of all VMs, by their paths at libvirt-dbus."""

    async def one(path: str) -> dict[str, Any]:
        return dict(await ask.theirs(path, PROPERTIES, "GetAll", "s", f"{PEER}.Domain"))

    async def work() -> dict[str, dict[str, Any]]:
        listed = await ask.theirs(CONNECT, f"{PEER}.Connect", "ListDomains", "u", 0)
        return await each(listed, one, together)

    return ask.done(work())


def virsh_list() -> set[str]:
    command = ["virsh", "-c", beds.QEMU, "list", "--all"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {words[1] for line in told.splitlines()[2:] if len(words := line.split()) > 1}


def domains(ask: Asker, size: Size) -> Iterator[Row]:
    """All VMs and what they are."""
    virsh = "virsh list --all, a process"
    ways = in_turns(
        {
            "": lambda: ask.done(ask.listed("ListDomains")),
            ONE_BY_ONE: lambda: their_domains(ask, 1),
            AT_ONCE: lambda: their_domains(ask, TOGETHER),
            virsh: virsh_list,
        },
        size.runs,
    )
    ours = {row["Name"] for row in ways[""].answer}
    for name in (ONE_BY_ONE, AT_ONCE):
        if {row["Name"] for row in ways[name].answer.values()} != ours:
            raise RuntimeError(f"{name} has other VMs than we: {ways[name].answer}")
    if ways[virsh].answer != ours or len(ours) != size.domains + 1:
        raise RuntimeError(f"virsh has {len(ways[virsh].answer)} VMs, we have {len(ours)}")
    what = f"ListDomains of {len(ours)} VMs"
    yield from compared(what, ways)
    yield Row(what, Figure(ways[""].clock, "ms"), virsh, Figure(ways[virsh].clock, "ms"))


# --- small calls


def small(ask: Asker, client: Client, uuid: str, size: Size) -> Iterator[Row]:
    """One call about one snapshot; the bus's own answer is the least that any can take."""

    async def find(name: str) -> tuple[str, str]:
        manager = (paths.ROOT, f"{INTERFACE}.Manager")
        (ours,) = await ask.ours(*manager, "GetSnapshot", "ssa{sv}", uuid, name, {})
        domain = await ask.theirs(CONNECT, f"{PEER}.Connect", "DomainLookupByUUID", "s", uuid)
        lookup = (domain, f"{PEER}.Domain", "SnapshotLookupByName", "su")
        return ours, await ask.theirs(*lookup, name, 0)

    name = f"s-{size.snapshots // 2}"
    mine, path = ask.done(find(name))
    domain = ask.done(ask.theirs(CONNECT, f"{PEER}.Connect", "DomainLookupByUUID", "s", uuid))
    get_all, described = f"{INTERFACE}.Snapshot", (path, f"{PEER}.DomainSnapshot", "GetXMLDesc")
    manager = (paths.ROOT, f"{INTERFACE}.Manager", "GetSnapshot", "ssa{sv}")
    lookup = (domain, f"{PEER}.Domain", "SnapshotLookupByName", "su", name, 0)
    ways = in_turns(
        {
            "all": lambda: ask.done(ask.ours(mine, PROPERTIES, "GetAll", "s", get_all)),
            "XML": lambda: ask.done(ask.theirs(*described, "u", 0)),
            "get": lambda: ask.done(ask.ours(*manager, uuid, name, {})),
            "look up": lambda: ask.done(ask.theirs(*lookup)),
            "bus": lambda: client.run(client.bus.call(*FREEDESKTOP, "GetId")),
        },
        size.small,
    )
    if ways["all"].answer[0]["Name"] != name or f"<name>{name}</name>" not in ways["XML"].answer:
        raise RuntimeError(f"what was answered is not about {name}")
    if (ways["get"].answer, ways["look up"].answer) != ([mine], path):
        raise RuntimeError("a snapshot's object is another one each time")
    took = {key: Figure(way.clock, "ms") for key, way in ways.items()}
    peer = "libvirt-dbus, GetXMLDesc"
    yield Row("all properties of a snapshot (GetAll)", took["all"], peer, took["XML"])
    peer = "libvirt-dbus, SnapshotLookupByName"
    yield Row("GetSnapshot: the object of a name", took["get"], peer, took["look up"])
    yield Row("the bus's own answer (GetId)", took["bus"])


# --- all of it


def big_domain(size: Size) -> str:
    """Have the VM with many snapshots; its UUID."""
    uuid = beds.uuid_of(size.domains)
    conn = libvirt.open(beds.QEMU)
    try:
        domain = conn.defineXML(beds.DOMAIN.format(name="vm-big", uuid=uuid))
        text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        for n in range(size.snapshots):
            beds.redefine(domain, n, text)
    finally:
        conn.close()
    return uuid


def measure(quick: bool) -> Iterator[Row]:
    size = QUICK if quick else WHOLE
    with beds.libvirt_of(size.domains, 0), tempfile.TemporaryDirectory() as folder:
        uuid = big_domain(size)
        with (
            private_bus() as bus,
            beds.daemon_on(bus.address, beds.QEMU, Path(folder)) as (daemon, client),
            beds.libvirt_dbus(bus.address),
        ):
            ask, turns = Asker(client), {}
            daemon.longest_turn()
            for name, rows in (
                ("ListSnapshots", snapshots(ask, uuid, size)),
                ("ListDomains", domains(ask, size)),
                ("small calls", small(ask, client, uuid, size)),
            ):
                yield from rows
                turns[name] = daemon.longest_turn()[0]
            worst = max(turns, key=lambda name: turns[name])
            longest = Figure([turns[worst]], "ms")
            yield Row(f"loop: longest turn ({worst})", longest, budget=Budget("ours", TURN_MS))


if __name__ == "__main__":
    main(measure, __doc__)
