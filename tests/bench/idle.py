"""What the daemon costs while it has nothing to do, beside libvirt-dbus. As root:

    packaging/check --bench idle [--quick]        about 12 minutes

A private libvirtd has 200 VMs that are off, of 20 snapshots each, all under one policy that is not
due. virtsnapd and Debian's libvirt-dbus serve the same bus in front of it; each is asked once for
everything (the VMs, their snapshots and all about them), and then nobody calls: for 150 s, and for
the 5 minutes that are counted. Not the same: virtsnapd keeps a picture of it all, and polls libvirt
once a minute to see what no event tells; libvirt-dbus knows nothing, and asks when it is asked.

A wake-up is a voluntary context switch: a thread had nothing to do, waited in the kernel, and went
on. So each answer of libvirt's that is waited for is one, as is each timer and each time that one
thread wakes another. "in the median second" is between the polls; "in the busiest second" is in
one. The next rows have the same wake-ups by thread: `loop` is the daemon's own, `libvirt-events`
turns libvirt's (its beat, a keepalive each 5 s for each connection, and several times for each call
of another thread), `libvirt-read` and `libvirt-call` wait for libvirt's answers, `asyncio` for
the disk, `store` for SQLite. Bytes read and written are those of the process, so what libvirtd is
told and answers is in it; messages are what a monitor of the bus has seen from and to each.
libvirtd's CPU time is what both have it do. Memory is what is resident (RSS), libraries that others
have loaded, too, in full; but what is private to the process (USS) where it says private, and where
it is about growth.

"hours of slots": another daemon, in front of libvirt's test driver (which keeps the VMs in the
daemon's own memory), has an hourly policy over 200 running VMs that keeps 3 snapshots each, and the
hours pass one after the other, as fast as they are done. The memory is told after some of them.
Jobs that have ended are gone by the next hour, as always.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snapd.wire import paths
from snapd.wire.values import unwrap
from tests import turns
from tests.bed.private import PrivateLibvirt
from tests.bench import figures, inside
from tests.bench.beds import QEMU, Plain, daemon_on, libvirt_dbus, libvirt_of, usage
from tests.bench.figures import Budget, Figure, Row
from tests.bench.loop import pages
from tests.bus import private_bus
from tests.client import TOP, Client
from tests.driver.house import many
from tests.driver.raw import Raw
from tests.driver.year import scratch

PEER = "libvirt-dbus"
POLICY = """domains = ["*"]
schedule = "{schedule}"
timezone = "UTC"
[keep]
last = 3
"""


@dataclass(frozen=True, slots=True)
class Size:
    """VMs, snapshots of each, seconds until it is begun to count (what the questions have set going
    has come to its end then) and of idleness; VMs and hours of slots: the memory is told after
    those in `marks`, and is to be the same from the second one on."""

    vms: int = 200
    snapshots: int = 20
    resting: int = 150
    seconds: int = 300
    busy_vms: int = 200
    marks: tuple[int, ...] = (2, 6, 12, 24)


QUICK = Size(20, 5, 10, 15, 20, (1, 3, 4, 5))


class Inside(Plain):
    """Its hours can be let pass; see inside."""

    def __init__(self, address: str, uri: str, folder: Path) -> None:
        super().__init__(address, uri, folder)
        self.env["MALLOC_ARENA_MAX"] = "1"  # as its unit has it
        self._told = folder / "hours"
        self._entry = turns.entry(self.turns, inside.MODULE, str(self._told))

    def pass_hour(self, timeout: float = 300) -> float:
        """Let an hour pass, and all be done that is due then; what time it is for it."""
        self._told.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR2)
        deadline = time.monotonic() + timeout
        while not self._told.exists():
            assert self.running and time.monotonic() < deadline, "the hour does not end"
            time.sleep(0.05)
        return float(self._told.read_text())


def measure(quick: bool) -> Iterator[Row]:
    size = QUICK if quick else Size()
    with libvirt_of(size.vms, size.snapshots) as bed:
        yield from idle(size, bed)
    yield from bare()
    yield from day(size)


# --- idle


@dataclass(frozen=True, slots=True)
class Passed:
    """What a process has used in a while; by_thread: wake-ups of the threads of each name, each:
    all of them second by second."""

    cpu: float
    memory: tuple[float, float]
    resident: float
    by_thread: Counter[str]
    each: list[int]
    moved: int
    messages: int
    size: int


class Process:
    """Counts what a process uses; sample() is to be called each second: a thread that has ended is
    not there to be asked."""

    def __init__(self, pid: int, name: str) -> None:
        self.pid, self.name = pid, name
        self._begun, self._moved = usage(pid), _moved(pid)
        self._threads = _switches(pid)
        self._by_thread: Counter[str] = Counter()
        self._each: list[int] = []

    def sample(self) -> None:
        now = _switches(self.pid)
        found: Counter[str] = Counter()
        for thread, (name, count) in now.items():
            found[name] += count - self._threads.get(thread, ("", 0))[1]
        self._threads = now
        self._by_thread += found
        self._each.append(found.total())

    def passed(self, monitor: Monitor) -> Passed:
        now = usage(self.pid)
        return Passed(
            now.cpu - self._begun.cpu,
            (self._begun.memory, now.memory),
            _resident(self.pid),
            self._by_thread,
            self._each,
            _moved(self.pid) - self._moved,
            monitor.messages[self.name],
            monitor.bytes[self.name],
        )


def _switches(pid: int) -> dict[int, tuple[str, int]]:
    """Its threads' names, and how often each has gone to sleep."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # one that has just ended
            told = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            name = "loop" if int(task.name) == pid else told["Name"].strip().rpartition("_")[0]
            count = int(told["voluntary_ctxt_switches"])
            found[int(task.name)] = (name or told["Name"].strip(), count)
    return found


def _resident(pid: int) -> float:
    """MB of memory, shared with others or not."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _moved(pid: int) -> int:
    """Bytes that it has read and written, wherever."""
    told = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(told["rchar"]) + int(told["wchar"])


class Monitor:
    """Counts the messages of a bus, and their bytes, that are from or to one of these names."""

    def __init__(self, address: str, names: dict[str, str]) -> None:
        """names: what to call each, by its unique name."""
        self._raw, self._names = Raw(address), names
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        bus = {"path": "/org/freedesktop/DBus", "destination": "org.freedesktop.DBus"}
        kind = "org.freedesktop.DBus.Monitoring"
        answer = self._raw.call("BecomeMonitor", "asu", ([], 0), interface=kind, **bus)
        assert not answer.error, answer
        self._raw.socket.settimeout(0)

    def sample(self) -> None:
        with suppress(BlockingIOError):
            while True:
                for message in self._raw.messages(self._raw.socket.recv(2**20)):
                    for unique in {message.sender, message.destination} & self._names.keys():
                        self.messages[self._names[unique]] += 1
                        self.bytes[self._names[unique]] += message.size

    def close(self) -> None:
        self._raw.socket.close()


def idle(size: Size, bed: PrivateLibvirt) -> Iterator[Row]:
    time.sleep(3)  # as on any host, no VM was defined a moment ago
    with (
        private_bus() as bus,
        tempfile.TemporaryDirectory() as folder,
        libvirt_dbus(bus.address) as peer,
    ):
        month = time.gmtime().tm_mon + 5
        _policy(Path(folder), f"0 0 1 {month % 12 + 1} *")
        with daemon_on(bus.address, QEMU, Path(folder), Inside) as (daemon, client):
            assert _ask_peer(client) == _ask_ours(client) == size.vms * size.snapshots
            (policy,) = client.rows("ListPolicies")
            assert policy["NextRun"] > time.time() + 86400, policy
            time.sleep(size.resting)
            daemon.longest_turn()
            names = {_owner(client, paths.NAME): "ours", _owner(client, "org.libvirt"): PEER}
            monitor = Monitor(bus.address, names)
            processes = [
                Process(daemon.pid, "ours"),
                Process(peer, PEER),
                Process(bed.libvirtd_pid(), "libvirtd"),
            ]
            _wait(size.seconds, processes, monitor)
            ours, theirs, libvirtd = (p.passed(monitor) for p in processes)
            monitor.close()
            turn = daemon.longest_turn()[0]
            yield from compared(size.seconds, ours, theirs)
            load = Figure([libvirtd.cpu / size.seconds * 100], "%")
            yield Row("CPU of libvirtd meanwhile", load)
            yield from memory(size, ours, theirs)
            what = "loop, longest turn (idle)"
            yield Row(what, Figure([turn], "ms"), budget=Budget("ours", 50))


def _wait(seconds: int, processes: list[Process], monitor: Monitor) -> None:
    begun = time.monotonic()
    for second in range(1, seconds + 1):
        time.sleep(max(0, begun + second - time.monotonic()))
        for process in processes:
            process.sample()
        monitor.sample()


def compared(seconds: int, ours: Passed, theirs: Passed) -> Iterator[Row]:
    def both(what: str, mine: float, its: float, unit: str, budget: Budget | None = None) -> Row:
        figure, other = Figure([mine / seconds], unit), Figure([its / seconds], unit)
        return Row(f"idle, {what}", figure, PEER, other, budget)

    yield both("CPU", ours.cpu * 100, theirs.cpu * 100, "%")
    woken = sum(ours.each), sum(theirs.each)
    yield both("wake-ups", *woken, "/s", Budget("ours", 1))
    for what, pick in (("median", _median), ("busiest", max)):
        mine, its = Figure([pick(ours.each)], ""), Figure([pick(theirs.each)], "")
        yield Row(f"idle, wake-ups in the {what} second", mine, PEER, its)
    for name, count in ours.by_thread.most_common():
        if count:
            yield Row(f"idle, wake-ups of {name}", Figure([count / seconds], "/s"))
    yield both("bytes read and written", ours.moved, theirs.moved, "B/s")
    yield both("messages on the bus", ours.messages, theirs.messages, "/s")
    yield both("bytes on the bus", ours.size, theirs.size, "B/s")


def _median(counts: list[int]) -> int:
    return sorted(counts)[len(counts) // 2]


def memory(size: Size, ours: Passed, theirs: Passed) -> Iterator[Row]:
    what = f"memory, {size.vms} VMs of {size.snapshots} snapshots"
    mine, its = Figure([ours.resident], "MB"), Figure([theirs.resident], "MB")
    yield Row(what, mine, PEER, its, Budget("ratio", 3))
    mine, its = Figure([ours.memory[1]], "MB"), Figure([theirs.memory[1]], "MB")
    yield Row("memory, the same, private", mine, PEER, its)
    grown = [p.memory[1] - p.memory[0] for p in (ours, theirs)]
    what = f"memory, grown in {size.seconds} s of idleness"
    yield Row(what, Figure(grown[:1], "MB"), PEER, Figure(grown[1:], "MB"))


# --- who is asked


def _policy(folder: Path, schedule: str) -> None:
    (folder / "etc/policies.d").mkdir(parents=True, exist_ok=True)
    (folder / "etc/policies.d/all.toml").write_text(POLICY.format(schedule=schedule))


def _owner(client: Client, name: str) -> str:
    return str(client.run(client.bus.bus_call("GetNameOwner", "s", name))[0])


def _ask_ours(client: Client) -> int:
    """Have everything told; how many snapshots there are."""
    client.rows("ListDomains")
    return len(pages(client))


def _ask_peer(client: Client) -> int:
    """The same of the peer."""

    def call(path: str, interface: str, member: str) -> Any:
        given = ("org.libvirt", path, f"org.libvirt.{interface}", member, "u", 0)
        return unwrap(client.run(client.bus.call(*given)))[0]

    count = 0
    for domain in call("/org/libvirt/QEMU", "Connect", "ListDomains"):
        call(domain, "Domain", "GetXMLDesc")
        for snapshot in call(domain, "Domain", "ListDomainSnapshots"):
            call(snapshot, "DomainSnapshot", "GetXMLDesc")
            count += 1
    return count


# --- memory


def bare() -> Iterator[Row]:
    """What there is without a VM."""
    command = [sys.executable, "-c", "import snapd.daemon, time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TOP) as imports:
        assert imports.stdout is not None
        imports.stdout.readline()
        loaded = _resident(imports.pid)
        imports.kill()
    yield Row("memory, Python and the daemon's modules alone", Figure([loaded], "MB"))
    with private_bus() as bus, tempfile.TemporaryDirectory() as folder:
        host = Path(folder) / "host.xml"
        host.write_text(many(0))
        with daemon_on(bus.address, f"test://{host}", Path(folder), Inside) as (daemon, _client):
            found = _resident(daemon.pid)
    yield Row("memory, a daemon without a VM", Figure([found], "MB"))


def day(size: Size) -> Iterator[Row]:
    with private_bus() as bus, tempfile.TemporaryDirectory() as spare, scratch(Path(spare)) as at:
        host = at / "host.xml"
        host.write_text(many(size.busy_vms))
        _policy(at, "0 * * * *")
        with daemon_on(bus.address, f"test://{host}", at, Inside) as (daemon, client):
            assert isinstance(daemon, Inside)
            begun, told = int(daemon.pass_hour()), {}  # they come under the policy in the first one
            for hour in range(1, size.marks[-1] + 1):
                now = daemon.pass_hour()
                if hour in size.marks:
                    told[hour] = usage(daemon.pid).memory
                    what = f"private memory, after {hour} hours of slots of {size.busy_vms} VMs"
                    yield Row(what, Figure([told[hour]], "MB"))
            _, second, *_, last = told.values()
            what = f"memory, grown from {size.marks[1]} to {size.marks[-1]} hours"
            yield Row(what, Figure([last - second], "MB"), budget=Budget("ours", 2))
            turn = daemon.longest_turn()[0]
            yield Row("loop, longest turn (slots)", Figure([turn], "ms"), budget=Budget("ours", 50))
            _check(client, size, begun, int(now) // 3600 - begun // 3600)


def _check(client: Client, size: Size, begun: int, slots: int) -> None:
    """Each slot since then has made a snapshot of each VM, and the old ones are gone."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    while not rows or cursor:
        page, info = client.call("ListRuns", "", limit=1000, **{"from": cursor})
        rows, cursor = rows + page, info["Next"]
    outcomes = Counter(row["Outcome"] for row in rows if row["Slot"] > begun)
    assert outcomes == {"made": slots * size.busy_vms}, (outcomes, slots)
    kept = Counter(row["DomainName"] for row in pages(client))
    assert len(kept) == size.busy_vms and set(kept.values()) == {min(3, slots)}, kept


if __name__ == "__main__":
    figures.main(measure, __doc__)
