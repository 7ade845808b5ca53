"""How the daemon's costs grow from 10 to 100 to 1,000 VMs of 50 snapshots each. As root:

    packaging/check --bench scale [--quick] [--json]

It is in front of a private libvirtd (VMs that are off) and then of libvirt's test driver (VMs that
run; libvirt is then a part of the daemon, also in its memory). One policy covers all VMs and is not
due. Rows hold a number of VMs against the one before it: the ratio is how much more it costs where
there are 10 times as many VMs, and the budget is that it is no worse than linear, with a fifth more
for noise. The times are as a client in Python sees them, which reads the answers with the daemon's
own reader. It lets each page go before the next one, and its garbage collector is off meanwhile:
that would take more time than all else, the more the more VMs there are, and is not ours.

    exec to READY       until systemd is told so; reading VMs begins then
    exec to all read    until Loading is false; the first start has an empty store, the others not
    re-read             libvirtd is restarted: from Connected to Loading = false
    poll                what is read once a minute; its CPU time is the whole process's
    bare calls          what libvirt alone needs for it: each domain's and snapshot's XML, by one
                        connection in one thread of another process
    by virsh            from the end of `virsh snapshot-create-as` (of a VM that is off, with an
                        empty disk) until SnapshotCreated is heard; in front of the test driver,
                        which virsh cannot reach, from a call of CreateSnapshot
    collections         GetManagedObjects of domains and policies, and of each VM's snapshots one
                        after the other; there are no jobs
    memory              private (USS): when all is read, and after all the other steps

"loop" is the longest turn of the daemon's loop (CPU time of its thread), and the step it came in.

It takes minutes, most of them for libvirtd to read its 50,000 records when it starts and for the
daemon to have them told, and it wants the machine for itself: beside other work the test driver,
which reads its host for 5 s, may not be there within the daemon's 20.
"""

from __future__ import annotations

import gc
import socket
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from snapd.wire import paths
from snapd.wire.messages import Signal
from snapd.wire.values import unwrap
from tests import turns
from tests.bench import beds, figures, polls
from tests.bench.figures import Budget, Figure, Row
from tests.bench.grounds import Bare, Driven, Ground, Hosted
from tests.bench.loop import MANAGED, paged
from tests.bus import private_bus
from tests.client import Client

SIZES, SNAPSHOTS, RUNS = (10, 100, 1000), 50, 3
QUICK_SIZES, QUICK_SNAPSHOTS = (3, 12, 48), 5
SLACK = 1.2
TURN_MS = 50
LONG = 300
POLICY = 'domains = ["*"]\nschedule = "@yearly"\n[keep]\nlast = 3\n'
READY, READ = "exec to READY", "exec to all read"
MEMORY, MEMORY_AFTER = "memory, all read", "memory, after all steps"
REREAD, POLL, POLL_CPU = "re-read", "poll", "poll, CPU"
BARE, BARE_CPU = "bare calls", "bare calls, CPU"
BESIDE = {REREAD: BARE, POLL: BARE, POLL_CPU: BARE_CPU}


class Announced:
    """The socket that systemd would listen on: when READY came, `at`, 0 = not yet."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        threading.Thread(target=self._listen, name="notify", daemon=True).start()

    def _listen(self) -> None:
        while True:
            if b"READY=1" in self._socket.recv(4096):
                self.at = time.monotonic()


class Ear:
    """What the Manager tells of itself, and when: (monotonic, member, arguments)."""

    def __init__(self, client: Client) -> None:
        self.heard: list[tuple[float, str, list[Any]]] = []
        self._client = client
        client.run(client.bus.subscribe(self._hear, sender=paths.NAME, path=paths.ROOT))

    def _hear(self, signal: Signal) -> None:
        self.heard.append((time.monotonic(), signal.member, unwrap(signal.body)))

    def until(self, what: str, wanted: Callable[[str, list[Any]], bool], since: float) -> float:
        """When the first such signal since then came."""

        def found() -> float | None:
            every = (
                at for at, name, told in list(self.heard) if at >= since and wanted(name, told)
            )
            return next(every, None)

        return self._client.until(what, found, LONG, 0.01)

    def loading(self, begun: bool, since: float) -> float:
        """When the reading of all VMs began, or ended."""

        def wanted(member: str, told: list[Any]) -> bool:
            return member == "PropertiesChanged" and told[1].get("Loading") is begun

        return self.until(f"Loading is {begun}", wanted, since)

    def snapshot(self, member: str, name: str, since: float) -> float:
        return self.until(member, lambda m, told: m == member and told[2]["Name"] == name, since)


class Polled(beds.Plain):
    """One that polls all the time; see polls."""

    def __init__(self, address: str, uri: str, folder: Path) -> None:
        super().__init__(address, uri, folder)
        self.polls = folder / "polls"
        self._entry = turns.entry(self.turns, polls.MODULE, str(self.polls))


class Stage:
    """One number of VMs. got: what was measured, by quantity; turns: the loop's longest, by
    step, in milliseconds."""

    def __init__(self, ground: Ground, address: str, folder: Path, count: int, each: int) -> None:
        self.ground, self.count, self.each = ground, count, each
        self.got: dict[str, list[float]] = defaultdict(list)
        self.turns: dict[str, float] = defaultdict(float)
        self._address, self._folder = address, folder
        self._announced = Announced(folder / "notify")

    # --- starting

    @contextmanager
    def daemon(self, kind: type[beds.Plain]) -> Iterator[tuple[beds.Plain, Client, Ear]]:
        """One that has read all VMs and rests."""
        daemon = kind(self._address, self.ground.uri, self._folder)
        (daemon.config / "policies.d" / "yearly.toml").write_text(POLICY)
        daemon.env["NOTIFY_SOCKET"] = str(self._announced.path)
        with Client(self._address) as client:
            ear = Ear(client)
            self._announced.at, begun = 0.0, time.monotonic()
            daemon.start(60)
            try:
                read = ear.loading(False, ear.loading(True, begun))
                self._note(READY, self._announced.at - begun)
                self._note(READ, read - begun)
                self._note_turn(daemon, "start")
                rest(daemon.pid)
                self._note_turn(daemon, "after the start")
                yield daemon, client, ear
            finally:
                daemon.close()

    def _note(self, what: str, seconds: float) -> None:
        assert seconds > 0, f"{what}: {seconds} s"
        self.got[what].append(seconds * 1000)

    def _note_turn(self, daemon: beds.Plain, step: str) -> None:
        self.turns[step] = max(self.turns[step], daemon.longest_turn()[0])

    # --- measuring

    def measure(self, runs: int) -> None:
        with self.daemon(beds.Plain) as (daemon, client, ear):
            self.got[MEMORY].append(beds.usage(daemon.pid).memory)
            for _run in range(runs):
                for what, ask in self._questions(client).items():
                    gc.collect()
                    gc.disable()
                    begun = time.monotonic()
                    ask()
                    self._note(what, time.monotonic() - begun)
                    gc.enable()
                    self._note_turn(daemon, what)
                self._make(client, ear)
                self._note_turn(daemon, "a snapshot")
            self._beside(daemon, ear, runs)
            self.got[MEMORY_AFTER].append(beds.usage(daemon.pid).memory)
        with self.daemon(Polled) as (daemon, client, _ear):
            assert isinstance(daemon, Polled)
            seen, file = len(polls.read(daemon.polls)), daemon.polls
            client.until("polls", lambda: len(polls.read(file)) > seen + runs, LONG)
            for clock, cpu in polls.read(file)[seen + 1 :]:
                self.got[POLL].append(clock)
                self.got[POLL_CPU].append(cpu)
            self._note_turn(daemon, POLL)
        for _run in range(runs - 2):
            with self.daemon(beds.Plain):
                pass

    def _questions(self, client: Client) -> dict[str, Callable[[], None]]:
        """What is asked, and checked to be answered whole."""
        vms, every = self.count, self.count * self.each

        def managed(*collections: str) -> int:
            return sum(len(objects(client, path)) for path in collections)

        def whole(found: int, expected: int) -> None:
            assert found == expected, f"{found} of {expected} answered"

        each = [paths.snapshots_of(self.ground.uuid_of(n)) for n in range(vms)]
        return {
            "ListDomains": lambda: whole(len(client.rows("ListDomains")), vms),
            "ListSnapshots, pages of 1,000": lambda: whole(
                len({row["Path"] for page in paged(client) for row in page}), every
            ),
            "ListSnapshots of one VM": lambda: whole(len(client.snapshots("vm-1")), self.each),
            "collections: domains": lambda: whole(managed(paths.DOMAINS), vms),
            "collections: policies": lambda: whole(managed(paths.POLICIES), 1),
            "collections: snapshots of each VM": lambda: whole(managed(*each), every),
        }

    def _make(self, client: Client, ear: Ear) -> None:
        """A snapshot that comes and goes."""
        name, what = f"new-{time.monotonic_ns()}", "a snapshot"
        if isinstance(self.ground, Hosted):
            what = "a snapshot by virsh"
            virsh("snapshot-create-as", "vm-0", name)
            begun = time.monotonic()
            came = ear.snapshot("SnapshotCreated", name, begun - 5)
            virsh("snapshot-delete", "vm-0", name)
        else:
            begun = time.monotonic()
            client.create("vm-0", name)
            came = ear.snapshot("SnapshotCreated", name, begun)
            client.delete("vm-0", name)
        self._note(what, came - begun)
        ear.snapshot("SnapshotDeleted", name, begun)

    def _beside(self, daemon: beds.Plain, ear: Ear, runs: int) -> None:
        """Reading all VMs anew, in turns with libvirt's own calls."""
        hosted = self.ground if isinstance(self.ground, Hosted) else None
        bare = None if hosted else Bare(self.ground.uri)
        for _run in range(runs):
            if hosted:
                since = time.monotonic()
                hosted.restart()
                begun = ear.loading(True, since)
                self._note(REREAD, ear.loading(False, begun) - begun)
                rest(daemon.pid)
                self._note_turn(daemon, REREAD)
                bare = Bare(self.ground.uri)
            assert bare is not None
            found, clock, cpu = bare.read()
            assert found == self.count * self.each, f"{found} snapshots were read"
            self.got[BARE].append(clock)
            self.got[BARE_CPU].append(cpu)
            if hosted:
                bare.close()


def objects(client: Client, path: str) -> dict[str, Any]:
    """All of a collection."""
    call = client.bus.call(paths.NAME, path, MANAGED, "GetManagedObjects", timeout=LONG)
    (found,) = unwrap(client.run(call, LONG))
    return dict(found)


def virsh(*words: str) -> None:
    done = subprocess.run(["virsh", "-c", beds.QEMU, *words], capture_output=True, text=True)
    assert done.returncode == 0, f"virsh {words[0]}: {done.stderr.strip()}"


def rest(pid: int) -> None:
    """Wait until a process has next to nothing to do."""
    deadline, before = time.monotonic() + LONG, beds.usage(pid).cpu
    while True:
        time.sleep(0.5)
        now = beds.usage(pid).cpu
        if now - before < 0.03:
            return
        assert time.monotonic() < deadline, "the daemon does not come to rest"
        before = now


# --- the rows


def rows_of(stages: list[Stage]) -> Iterator[Row]:
    """A quantity's growth line by line, then the next one; and the longest turns."""
    name = stages[0].ground.name
    for what in [what for what in stages[0].got if what not in (BARE, BARE_CPU)]:
        unit = "MB" if what.startswith("memory") else "ms"
        yield Row(f"{name}: {what}, {stages[0].count:,} VMs", Figure(stages[0].got[what], unit))
        for less, more in pairwise(stages):
            yield Row(
                f"{name}: {what}, {more.count:,} VMs",
                Figure(more.got[what], unit),
                f"{less.count:,} VMs",
                Figure(less.got[what], unit),
                Budget("ratio", round(more.count / less.count * SLACK, 1)),
            )
    for ours, theirs in BESIDE.items():
        for stage in stages:
            if ours in stage.got:
                figured = Figure(stage.got[ours], "ms"), theirs, Figure(stage.got[theirs], "ms")
                yield Row(f"{name}: {ours}, {stage.count:,} VMs", *figured)
    for stage in stages:
        step, turn = max(stage.turns.items(), key=lambda found: found[1])
        what = f"{name}: loop, longest turn ({step}), {stage.count:,} VMs"
        yield Row(what, Figure([turn], "ms"), budget=Budget("ours", TURN_MS))


def grown(ground: Ground, sizes: tuple[int, ...], each: int, runs: int) -> Iterator[Row]:
    stages = []
    try:
        for count in sizes:
            ground.grow(count)
            with private_bus() as bus, tempfile.TemporaryDirectory() as folder:
                stage = Stage(ground, bus.address, Path(folder), count, each)
                stage.measure(runs)
            stages.append(stage)
    finally:
        ground.close()
    yield from rows_of(stages)


def measure(quick: bool) -> Iterator[Row]:
    sizes, each = (QUICK_SIZES, QUICK_SNAPSHOTS) if quick else (SIZES, SNAPSHOTS)
    runs = 1 if quick else RUNS
    with beds.libvirt_of(0, 0) as bed:  # first of all: before there is a thread
        yield from grown(Hosted(bed, each), sizes, each, runs)
    with tempfile.TemporaryDirectory() as folder:
        yield from grown(Driven(Path(folder), each), sizes, each, runs)


if __name__ == "__main__":
    figures.main(measure, __doc__)
