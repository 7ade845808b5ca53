"""Whether lists take longer while five VMs are stuck in the middle of a snapshot. As root:

    packaging/check --bench stuck [--quick]      2 to 4 minutes

A private libvirtd has 200 VMs that are off, of 20 snapshots each, and five that run (a QEMU without
an operating system). Three times, in turns, the same lists are timed while no VM is stuck, while
five are stuck in snapshots of virtsnapd's own, and while five are stuck in virsh's. Stuck means
that the VM's QEMU is stopped (SIGSTOP) while its snapshot is under way: ours right when virtsnapd
has said that it is being taken, virsh's before it is begun. libvirt's own word for each
(`virsh domcontrol`) is asked before, who waits for the snapshots is asked after the lists, and when
the VMs are set free all ten snapshots are made.

The peer is ours with none stuck. For the reader: the list of one stuck VM beside `virsh
snapshot-list` of it, a whole process. All VMs may be at work at once (`[limits] parallel = 5`).
Columns: milliseconds by the clock, median (least-most).
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from snapd.wire import paths
from snapd.wire.messages import Signal
from snapd.wire.values import unwrap
from tests.bed.guest import virsh
from tests.bench import beds
from tests.bench.figures import Budget, Figure, Row, main
from tests.bus import private_bus
from tests.client import PROPERTIES, Client
from tests.qemu.idle import IdleGuest

STUCK = 5
PAGE = 1000
BUDGET = Budget("ratio", 1.5)
TURN_MS = 50
NONE, OURS, VIRSH = "none", "5 VMs stuck in ours", "5 VMs stuck in virsh's"
PAGES, DOMAINS, GET, ONE, PROCESS = "pages", "ListDomains", "GetSnapshot", "one", "virsh"
TRIES = 5


@dataclass(frozen=True, slots=True)
class Size:
    """times: that each list is timed in one of the rounds; small: that a small call is."""

    domains: int
    snapshots: int
    rounds: int
    times: int
    small: int


WHOLE, QUICK = Size(200, 20, 3, 7, 60), Size(20, 5, 1, 3, 10)


# --- VMs that are stuck


def pid_of(guest: IdleGuest) -> int:
    return int(Path(f"/run/libvirt/qemu/{guest.name}.pid").read_text())


def at_work(guest: IdleGuest) -> bool:
    """Whether libvirt says that it is at work on that VM: its words are "occupied" while it waits
    for QEMU's answer to us, "background job" in a snapshot of its own, else "ok"."""
    return guest.virsh("domcontrol") != "ok"


def stick(client: Client, guest: IdleGuest, name: str) -> str:
    """Have a VM stop in the middle of a snapshot of virtsnapd's; the job that waits for it."""
    pid, stopped = pid_of(guest), threading.Event()

    def heard(told: Signal) -> None:
        if unwrap(told.body)[1].get("Phase") == "taking":
            os.kill(pid, signal.SIGSTOP)
            stopped.set()

    wish = {"sender": paths.NAME, "interface": PROPERTIES, "member": "PropertiesChanged"}
    for _ in range(TRIES):
        listening = client.run(client.bus.subscribe(heard, **wish))
        job = str(client.call("CreateSnapshot", guest.name, name, memory="no", quiesce="no"))
        client.until(f"{guest.name} is stopped", stopped.is_set)
        client.run(listening.close())
        time.sleep(0.3)
        if client.job(job)["Phase"] == "taking" and at_work(guest):
            return job
        stopped.clear()
        os.kill(pid, signal.SIGCONT)  # QEMU was done already
        client.wait(job)
        client.delete(guest.name, name)
    raise RuntimeError(f"{guest.name} can't be stopped in the middle of a snapshot")


@contextmanager
def stuck_in_ours(client: Client, guests: list[IdleGuest]) -> Iterator[None]:
    """Five snapshots of virtsnapd's are under way inside, and made afterwards."""
    jobs: list[str] = []
    try:
        for guest in guests:
            jobs.append(stick(client, guest, "ours"))
        yield
        if any(client.job(job)["Phase"] != "taking" for job in jobs):
            raise RuntimeError("a VM was not stuck all the time")
    finally:
        free(guests)
    for job in jobs:
        client.wait(job)


@contextmanager
def stuck_in_virshs(_client: Client, guests: list[IdleGuest]) -> Iterator[None]:
    """The same with virsh's."""
    making = []
    try:
        for guest in guests:
            os.kill(pid_of(guest), signal.SIGSTOP)
            command = ["virsh", "-q", "-c", beds.QEMU, "snapshot-create-as", guest.name, "virsh"]
            making.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        deadline = time.monotonic() + 20
        while not all(map(at_work, guests)):
            if time.monotonic() > deadline:
                raise RuntimeError("virsh has not begun its snapshots")
            time.sleep(0.05)
        time.sleep(1)  # virtsnapd looks at VMs of which libvirt tells
        yield
        if any(process.poll() is not None for process in making):
            raise RuntimeError("a VM was not stuck all the time")
    finally:
        free(guests)
    if any(process.wait(60) for process in making):
        raise RuntimeError("virsh could not make its snapshots")


def free(guests: list[IdleGuest]) -> None:
    for guest in guests:
        os.kill(pid_of(guest), signal.SIGCONT)


def cleared(client: Client, guests: list[IdleGuest], name: str) -> None:
    """All of them were made; have them deleted again."""
    for guest in guests:
        client.until("it is made", partial(made, client, guest.name, name), 60)
        client.delete(guest.name, name)


def made(client: Client, domain: str, name: str) -> bool:
    row = client.snapshots(domain).get(name)
    return row is not None and row["Status"] == "ok"


# --- the lists


@dataclass(slots=True)
class Lists:
    """What is timed, and what it has taken by now: state -> what -> milliseconds."""

    client: Client
    size: Size
    took: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    turns: dict[str, float] = field(default_factory=dict)

    def time(self, state: str, stuck: str, turn: Callable[[], tuple[float, float]]) -> None:
        """Time each list in that state, in turns. stuck: one of the VMs that may be stuck."""
        steps: dict[str, Callable[[], int]] = {
            PAGES: self._pages,
            DOMAINS: lambda: len(self.client.rows("ListDomains")),
            ONE: lambda: len(self.client.rows("ListSnapshots", stuck)),
            PROCESS: lambda: len(virsh("snapshot-list", stuck, "--name").split()),
        }
        counted: dict[str, set[int]] = {}
        self._note("create and delete", turn)  # what was done since the last time
        for _ in range(self.size.times):
            for what, step in steps.items():
                counted.setdefault(what, set()).add(self._timed(state, what, step))
                self._note(what, turn)
        for _ in range(self.size.small):
            self._timed(state, GET, self._get)
        self._note(GET, turn)
        self._check(state, counted)

    def _note(self, what: str, turn: Callable[[], tuple[float, float]]) -> None:
        self.turns[what] = max(self.turns.get(what, 0), turn()[0])

    def _timed(self, state: str, what: str, step: Callable[[], int]) -> int:
        begun = time.perf_counter()
        found = step()
        took = (time.perf_counter() - begun) * 1000
        self.took.setdefault(state, {}).setdefault(what, []).append(took)
        return found

    def _pages(self) -> int:
        """All snapshots of all VMs, a page at a time."""
        count, cursor = 0, ""
        while True:
            opts: dict[str, Any] = {"limit": PAGE, "from": cursor}
            rows, info = self.client.call("ListSnapshots", "", **opts)
            count += len(rows)
            if not (cursor := info["Next"]):
                return count

    def _get(self) -> int:
        path = self.client.call("GetSnapshot", beds.name_of(0), "s-0")
        return len(path)

    def _check(self, state: str, counted: dict[str, set[int]]) -> None:
        """What is under way may be listed already, or not yet."""
        most = self.size.domains * self.size.snapshots
        odd = [n for n in counted[PAGES] if not most <= n <= most + STUCK]
        if odd or counted[DOMAINS] != {self.size.domains + STUCK}:
            raise RuntimeError(f"{state}: not what is there: {counted}")

    def rows(self) -> Iterator[Row]:
        total = self.size.domains * self.size.snapshots
        names = {
            PAGES: f"ListSnapshots, {total:,} in pages of {PAGE:,}",
            DOMAINS: f"ListDomains, {self.size.domains + STUCK}",
            GET: "GetSnapshot",
        }
        for what, name in names.items():
            free = Figure(self.took[NONE][what], "ms")
            for state in (OURS, VIRSH):
                ours = Figure(self.took[state][what], "ms")
                yield Row(f"{name}; {state}", ours, "none stuck", free, BUDGET)
        for state in (OURS, VIRSH):
            ours, process = (Figure(self.took[state][what], "ms") for what in (ONE, PROCESS))
            yield Row(f"a stuck VM's list; {state}", ours, "virsh snapshot-list", process)
        worst = max(self.turns, key=lambda what: self.turns[what])
        longest = Figure([self.turns[worst]], "ms")
        yield Row(f"loop: longest turn ({worst})", longest, budget=Budget("ours", TURN_MS))


# --- all of it


def guests_in(images: Path) -> list[IdleGuest]:
    made = [IdleGuest.empty(f"stuck-{n}", images) for n in range(STUCK)]
    for guest in made:
        guest.define()
        guest.start()
    return made


def measure(quick: bool) -> Iterator[Row]:
    size = QUICK if quick else WHOLE
    with beds.libvirt_of(size.domains, size.snapshots) as bed:
        guests = guests_in(bed.images)
        with tempfile.TemporaryDirectory() as folder, private_bus() as bus:
            (Path(folder) / "etc").mkdir()
            (Path(folder) / "etc/virtsnapd.toml").write_text(f"[limits]\nparallel = {STUCK}\n")
            with beds.daemon_on(bus.address, beds.QEMU, Path(folder)) as (daemon, client):
                lists = Lists(client, size)
                lists.time("warm-up", guests[0].name, daemon.longest_turn)
                lists.turns.clear()
                for _ in range(size.rounds):
                    lists.time(NONE, guests[0].name, daemon.longest_turn)
                    with stuck_in_ours(client, guests):
                        lists.time(OURS, guests[0].name, daemon.longest_turn)
                    cleared(client, guests, "ours")
                    with stuck_in_virshs(client, guests):
                        lists.time(VIRSH, guests[0].name, daemon.longest_turn)
                    cleared(client, guests, "virsh")
                yield from lists.rows()


if __name__ == "__main__":
    main(measure, __doc__)
