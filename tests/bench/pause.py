"""How long a snapshot stands a guest still, and how long create, revert and delete take; beside
plain virsh doing the same, in the same run, on the same guest. As root, from the top:

    packaging/check --bench pause [--quick] [--runs N]      with this machine's libvirt
    packaging/debian13 --bench pause [--quick] [--runs N]   with Debian 13's

Each way makes a snapshot of a running guest, reverts to it and deletes it, N times (3): with 256
and 1024 MiB of filled RAM, and with a disk of 200 GiB whose metadata are allocated. --quick: once
each, without 1024 MiB. The guest and its libvirt are private ones and gone afterwards.

What the columns say (median, and from least to most where there was more than one run):
  pause    ms: the longest time without a sign of life of the guest, by the host's clock. It gives
           one each 10 ms, so that is the least there is (row "nothing done"); what else works on
           the guest's one CPU, as its agent, or on the host, is in it, too: let the host be idle
  stopped  ms from STOP to RESUME, by QEMU's own events through libvirt; 0 = there was no STOP
  writes   ms: the longest time between two synced writes, of which the guest does one each 50 ms
  answers  s from the begin of the revert until the guest answers again; it boots where its RAM
           was not in the snapshot
The others are seconds that the verb took. Nothing is judged here.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import libvirt
import libvirt_qemu

from snapd.errors import SnapdError
from tests.bed import recipe
from tests.bed.guest import Guest, virsh
from tests.bed.private import PrivateLibvirt
from tests.bed.talk import GuestError
from tests.bus import private_bus
from tests.client import Client, Daemon

BUDGET = 0.1
LONG = 1800  # seconds for one step; a busy machine emulates a GiB of RAM slowly
PATIENCE = 300  # seconds for a guest to boot, or to answer again
# A random MiB again and again: as good as all random, as no page is zero, and sooner done.
FILL = (
    "head -c 1048576 /dev/urandom >/run/one; i=0; while [ $i -lt {} ]; do "
    "cat /run/one; i=$((i + 1)); done >/run/fill"
)
POLICY, VIRSH, NOTHING = "policy's default", "virsh default", "nothing done"
COLUMNS = ("create", "pause", "stopped", "writes", "revert", "answers", "delete", "pause ")
MILLISECONDS = ("pause", "stopped", "writes", "pause ")


@dataclass(frozen=True)
class Scene:
    """What the guest is: MiB of RAM that are filled, GiB of a second disk (0 = none)."""

    filled: int
    disk_gib: int = 0

    @property
    def title(self) -> str:
        disk = f", a disk of {self.disk_gib} GiB, metadata allocated" if self.disk_gib else ""
        return f"{self.filled} MiB of filled RAM{disk}"


@dataclass
class Way:
    """One row: how its three verbs are carried out, and what was measured."""

    name: str
    create: Callable[[Guest, str], str]  # returns the name that it has
    revert: Callable[[Guest, str], None]
    delete: Callable[[Guest, str], None]
    figures: dict[str, list[float]] = field(default_factory=dict)
    refusal: str = ""

    def note(self, column: str, value: float) -> None:
        self.figures.setdefault(column, []).append(value)


# --- the ways


def ours(client: Client) -> list[Way]:
    """Those of the daemon."""

    def revert(guest: Guest, name: str) -> None:
        job = client.call("RevertSnapshot", guest.name, name, safety_snapshot=False)
        client.wait(job, LONG)

    def delete(guest: Guest, name: str) -> None:
        client.wait(client.call("DeleteSnapshot", guest.name, name), LONG)

    def by_policy(guest: Guest, _name: str) -> str:
        run = client.wait(client.call("RunPolicy", "bench", domain=guest.name), LONG)
        (row,) = run["Domains"]
        if row["Outcome"] != "made":
            raise GuestError(f"{row['Outcome']}, {row['Reason']}")
        (made,) = client.snapshots(guest.name)
        time.sleep(1)  # the next one's name has another second
        return str(made)

    def by_hand(name: str, **wish: object) -> Way:
        def create(guest: Guest, snapshot: str) -> str:
            job = client.call("CreateSnapshot", guest.name, snapshot, max_wait=600, **wish)
            return str(client.wait(job, LONG)["Name"])

        return Way(name, create, revert, delete)

    external = {"kind": "external"}
    return [
        Way(POLICY, by_policy, revert, delete),
        by_hand("internal", kind="internal", memory="no", quiesce="no"),
        by_hand("internal, RAM", kind="internal", memory="yes"),
        by_hand("external", **external, memory="no", quiesce="no"),
        by_hand("external, quiesced", **external, memory="no", quiesce="require"),
        by_hand("external, RAM, live", **external, memory="yes"),
    ]


def plain() -> list[Way]:
    """Those of virsh."""

    def way(name: str, *words: str, ram: bool = False) -> Way:
        def create(guest: Guest, snapshot: str) -> str:
            more = ["--memspec", f"{guest.folder}/{snapshot}.ram"] if "--live" in words else []
            guest.virsh("snapshot-create-as", snapshot, *words, *more, timeout=LONG)
            return snapshot

        def revert(guest: Guest, snapshot: str) -> None:
            how = [] if ram else ["--running"]
            guest.virsh("snapshot-revert", snapshot, *how, timeout=LONG)

        def delete(guest: Guest, snapshot: str) -> None:
            guest.virsh("snapshot-delete", snapshot, timeout=LONG)

        return Way(name, create, revert, delete)

    return [
        way(VIRSH, ram=True),
        way("virsh --disk-only", "--disk-only"),
        way("virsh, --quiesce", "--disk-only", "--quiesce"),
        way("virsh --memspec --live", "--live", ram=True),
    ]


# --- the guest


class Stage:
    """The guest of a scene; another one takes its place where a way left it in no good state."""

    def __init__(self, scene: Scene, images: Path, client: Client) -> None:
        self._scene, self._images, self._client = scene, images, client
        self._made = 0
        self.guest = self._new()

    def ready(self) -> Guest:
        """The guest: running, its RAM filled, without a snapshot."""
        if not self._fit():
            self.guest.remove()
            self.guest = self._new()
        have = self.guest.cmd("sh", "[ ! -e /run/fill ] || stat -c %s /run/fill") or "0"
        if int(have) != self._scene.filled * 2**20:
            self.guest.cmd("sh", FILL.format(self._scene.filled), timeout=LONG)
        self.guest.cmd("sh", "sync")
        time.sleep(1)
        return self.guest

    def _fit(self) -> bool:
        if virsh("snapshot-list", self.guest.name, "--name") or self.guest.state() != "running":
            return False
        with suppress(GuestError):
            self.guest.wait(PATIENCE)
            return True
        return False

    def _new(self) -> Guest:
        self._made += 1
        name = f"bench-{self._scene.filled}-{self._scene.disk_gib}-{self._made}"
        hardware = recipe.Hardware(memory=self._scene.filled + 192)
        guest = Guest.make(name, self._images, hardware=hardware)
        if self._scene.disk_gib:
            big = recipe.Disk(guest.folder / "vdb.qcow2")
            words = ["-f", "qcow2", "-o", "preallocation=metadata", str(big.path)]
            subprocess.run(
                ["qemu-img", "create", "-q", *words, f"{self._scene.disk_gib}G"], check=True
            )
            guest = Guest(name, guest.folder, (*guest.disks, big), hardware)
        guest.define()
        guest.start()
        guest.wait(PATIENCE)
        known = self._client.domain
        self._client.until("the daemon knows it", lambda: known(name) is not None, 60)
        return guest


class Stops:
    """Records for how long QEMU said that the guests' CPUs were stopped."""

    def __init__(self) -> None:
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=self._listen, name="events", daemon=True).start()
        self._conn = libvirt.open("qemu:///system")
        self._since: float | None = None
        self._longest = 0.0
        for event in ("STOP", "RESUME"):
            libvirt_qemu.qemuMonitorEventRegister(self._conn, None, event, self._heard, None)

    def longest(self) -> float:
        """Seconds of the longest one since the last call."""
        time.sleep(0.3)  # an event may be on its way
        longest, self._longest = self._longest, 0.0
        return longest

    def _heard(
        self, _conn: object, _domain: object, event: str, seconds: int, micros: int, *_: object
    ) -> None:
        at = seconds + micros / 1e6
        if event == "STOP":
            self._since = at
        elif self._since is not None:
            self._longest = max(self._longest, at - self._since)
            self._since = None

    @staticmethod
    def _listen() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()


# --- measuring


def measure(way: Way, stage: Stage, stops: Stops, number: int) -> None:
    """One snapshot: made, reverted to, deleted. What is refused is noted, and ends it."""
    guest, step = stage.ready(), "create"
    stops.longest()
    try:
        with guest.pulse() as pulse, timed(way, "create"):
            name = way.create(guest, f"s{number}")
        way.note("pause", pulse.standstill())
        way.note("writes", pulse.write_stall())
        way.note("stopped", stops.longest())
        step, begun = "revert", time.monotonic()
        with timed(way, "revert"):
            way.revert(guest, name)
        answers(guest)
        way.note("answers", time.monotonic() - begun)
        guest.wait(PATIENCE)
        step = "delete"
        with guest.pulse() as pulse, timed(way, "delete"):
            way.delete(guest, name)
        way.note("pause ", pulse.standstill())
    except (SnapdError, GuestError) as error:
        text = str(error).replace("\n", " ").rpartition("error: ")[2]
        way.refusal = f"{step}: {text}"


def nothing(stage: Stage, stops: Stops) -> Way:
    """What there is to see where nothing is done."""
    way = Way(NOTHING, lambda *_: "", lambda *_: None, lambda *_: None)
    guest = stage.ready()
    stops.longest()
    with guest.pulse() as pulse:
        time.sleep(3)
    way.note("pause", pulse.standstill())
    way.note("writes", pulse.write_stall())
    way.note("stopped", stops.longest())
    return way


@contextmanager
def timed(way: Way, column: str) -> Iterator[None]:
    """What is done inside took so long, where it ends well."""
    begun = time.monotonic()
    yield
    way.note(column, time.monotonic() - begun)


def answers(guest: Guest) -> None:
    """Return when the guest, reverted, answers; its agent may not do so yet."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(GuestError):
            guest.cmd("ping", timeout=1)
            return
    raise GuestError("the guest doesn't answer")


# --- the table


def cell(column: str, values: list[float]) -> str:
    if not values:
        return "-"
    scale, form = (1000, "{:.0f}") if column in MILLISECONDS else (1, "{:.2f}")
    least, median, most = (form.format(f(values) * scale) for f in (min, statistics.median, max))
    return median if len(values) == 1 else f"{median} ({least}-{most})"


def table(scene: Scene, ways: list[Way]) -> str:
    rows = [["", *(f"{c} ms" if c in MILLISECONDS else f"{c} s" for c in COLUMNS)]]
    rows[0][-1] = "pause ms"
    rows += [[w.name, *(cell(c, w.figures.get(c, [])) for c in COLUMNS)] for w in ways]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"\n{scene.title}"]
    for row in rows:
        first, *others = (text.ljust(w) for text, w in zip(row, widths, strict=True))
        lines.append("  ".join([first, *others]).rstrip())
    lines += [f"  {way.name}: {way.refusal}" for way in ways if way.refusal]
    return "\n".join([*lines, budget(ways)])


def progress(scene: Scene, way: Way) -> str:
    """What a way's last turn came to, for who waits."""
    told = [f"{column.strip()} {way.figures[column][-1]:.3f}" for column in way.figures]
    return f"{scene.title}: {way.name}: {', '.join(told)} s {way.refusal}".rstrip()


def budget(ways: list[Way]) -> str:
    """How the pause of what a policy does compares with that of virsh's default."""
    medians = {
        way.name: statistics.median(way.figures["pause"]) * 1000
        for way in ways
        if "pause" in way.figures
    }
    said = f"budget {BUDGET}; nothing done: {medians[NOTHING]:.0f} ms"
    if POLICY not in medians or VIRSH not in medians:
        return f"pause of a policy's default to virsh's default: not measured ({said})"
    ours_ms, virsh_ms = medians[POLICY], medians[VIRSH]
    return (
        f"pause of a policy's default {ours_ms:.0f} ms, of virsh's default {virsh_ms:.0f} ms: "
        f"{ours_ms / virsh_ms:.3f} ({said})"
    )


def heading(runs: int) -> str:
    told = virsh("version")
    found = re.findall(r"Using library: (libvirt [\d.]+)|hypervisor: (QEMU [\d.]+)", told)
    words = [a or b for a, b in found]
    words += [f"kernel {platform.release()}", f"guests by {recipe.accelerator()}"]
    return f"{', '.join(words)}; runs: {runs}"


def bench(bed: PrivateLibvirt, client: Client, scenes: list[Scene], runs: int) -> None:
    stops = Stops()
    print(heading(runs), flush=True)
    for scene in scenes:
        stage = Stage(scene, bed.images, client)
        ways = [*ours(client), *plain()]
        rows = [nothing(stage, stops), *ways]
        for number in range(runs):
            for way in ways:  # in turns: what else the machine does hits all of them
                measure(way, stage, stops, number)
                print(progress(scene, way), file=sys.stderr, flush=True)
        print(table(scene, rows), flush=True)
        stage.guest.remove()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.pause", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    scenes = [Scene(256), *([] if chosen.quick else [Scene(1024)]), Scene(64, 200)]
    bed = PrivateLibvirt()  # first of all: before there is a thread
    recipe.accelerator()
    try:
        bed.start()
        with tempfile.TemporaryDirectory() as folder, private_bus() as bus:
            daemon = Daemon(bus.address, "qemu:///system", Path(folder))
            policy = 'domains = ["*"]\nschedule = "@yearly"\n[keep]\nlast = 3\n'
            (daemon.config / "policies.d" / "bench.toml").write_text(policy)
            daemon.start()
            try:
                with Client(bus.address) as client:
                    bench(bed, client, scenes, 1 if chosen.quick else chosen.runs)
            finally:
                daemon.close()
    finally:
        bed.close()


if __name__ == "__main__":
    main()
