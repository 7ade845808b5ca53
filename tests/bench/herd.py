"""Many VMs due in the same minute: the slot of a policy, beside a loop of virsh over the same VMs.
As root, from the top:

    packaging/check --bench herd [--quick] [--json]

200 VMs of libvirt's test driver, in a private libvirtd that the daemon and virsh both call by the
same socket; then 8 real guests on QEMU (160 MiB of RAM, one disk). Each time a policy is given a
schedule that is due at the next full minute, and the daemon is left alone until it has served it;
before or after that virsh snapshots the same VMs one after the other. Three times, in turns; it
takes 8 minutes, for it waits for full minutes. --quick: 20 VMs, 2 guests, once: 3 minutes.

What the rows say:
  all made      from the slot's instant, of the loop its begin, until the last snapshot is there:
                by the daemon's own signal, which comes after it has looked in libvirt's list and in
                every image; a loop ends with its last virsh
  VM begun      how long after that instant a VM's job began, or its virsh was started: of all
                VMs the median, the 95th of a hundred, and the last
  guest's pause the longest time without a sign of life of a guest, which gives one each 10 ms
  its writes    the longest time between two synced writes of a guest, of which it does one each
                50 ms; what a policy takes is quiesced, so it waits for its end
  loop          the longest turn of the daemon's loop while it served a slot, in CPU time

What is not the same: virsh looks at nothing before and after; its default saves the RAM of a
running guest, too, and --disk-only leaves overlays, which are merged and deleted by virsh before
the next turn. At most 4 VMs are worked on at once by the daemon, which is its default; test driver
VMs have no disk, so there the calls to libvirt are all that is compared.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import libvirt

from snapd.wire import paths
from snapd.wire.messages import Signal
from snapd.wire.values import unwrap
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bench import figures
from tests.bench.beds import QEMU, Plain, daemon_on, name_of
from tests.bench.figures import Budget, Figure, Row
from tests.bus import private_bus
from tests.client import PROPERTIES, Client

TEST = "test+unix:///default?socket=/run/libvirt/libvirt-sock"
TEST_VM = """<domain type='test'><name>{name}</name><memory unit='MiB'>64</memory>
<os><type>hvm</type></os></domain>"""
POLICY = """domains = ["vm-*"]
schedule = "{at:%M} {at:%H} {at:%d} {at:%m} *"
timezone = "UTC"
[keep]
last = 100
"""
LEAD_SECONDS = 6  # so long before the minute all is in place, at least
WATCH_SECONDS = 2  # from so long before until the end guests' signs of life are taken
IDLE_SECONDS = 10  # for which nothing is done
SLOT_SECONDS = 300
VIRSH, DISK_ONLY, NOTHING = "virsh, a loop", "virsh --disk-only, a loop", "nothing done"


@dataclass(frozen=True)
class Burst:
    """Many snapshots, in seconds since they were due: when each VM's turn came, and when the last
    one was there."""

    begun: Sequence[float]
    made: float


@dataclass
class Lives:
    """How guests fared, in milliseconds, a figure each: see "guest's pause" and "its writes"."""

    pauses: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)


# --- the daemon


class Heard:
    """When jobs began and snapshots were there, by the daemon's signals and this host's clock."""

    def __init__(self, client: Client) -> None:
        self.begun: dict[str, float] = {}
        self.made: dict[str, float] = {}
        changed = {"interface": PROPERTIES, "member": "PropertiesChanged"}
        created = {"path": paths.ROOT, "member": "SnapshotCreated"}
        client.run(client.bus.subscribe(self._changed, sender=paths.NAME, **changed))
        client.run(client.bus.subscribe(self._created, sender=paths.NAME, **created))

    def _changed(self, signal: Signal) -> None:
        if signal.path.startswith(f"{paths.JOBS}/"):
            _interface, values, _stale = unwrap(signal.body)
            if values.get("State") == "running":
                self.begun.setdefault(signal.path, time.time())

    def _created(self, signal: Signal) -> None:
        uuid, _path, detail = unwrap(signal.body)
        if detail["Origin"] == "policy":  # what virsh has made may be seen meanwhile, too
            self.made[uuid] = time.time()


class Slots:
    """A policy of the daemon's that is due when it is told."""

    def __init__(self, daemon: Plain, client: Client) -> None:
        self._daemon, self._client = daemon, client
        self._file = daemon.config / "policies.d" / "herd.toml"
        self._heard = Heard(client)
        self.turns: list[float] = []

    def appoint(self) -> int:
        """Have it be due at the next full minute; return when that is."""
        at = int(time.time() + LEAD_SECONDS) // 60 * 60 + 60
        self._file.write_text(POLICY.format(at=datetime.fromtimestamp(at, UTC)))
        wrong = self._client.call("Reload")
        due = self._client.properties()["NextRun"]
        if wrong or due != at:
            raise SystemExit(f"the policy is due at {due}, not at {at}: {wrong}")
        return at

    def serve(self, at: int, count: int) -> Burst:
        """Wait until the slot is served on that many VMs."""
        heard = self._heard
        self._daemon.longest_turn()
        if time.time() >= at:
            raise SystemExit("the slot came before all was in place; is the machine very busy?")
        heard.begun.clear()
        heard.made.clear()
        wait = at - time.time() + SLOT_SECONDS
        self._client.until("all snapshots", lambda: len(heard.made) == count, wait)
        self._client.until("all runs", lambda: self._runs(at) == ["made"] * count, 60)
        self.turns.append(self._daemon.longest_turn()[0])
        if len(heard.begun) != count:
            raise SystemExit(f"{len(heard.begun)} jobs began, not {count}")
        begun = sorted(when - at for when in heard.begun.values())
        return Burst(begun, max(heard.made.values()) - at)

    def _runs(self, at: int) -> list[str]:
        rows = self._client.rows("ListRuns", "", policy="herd", limit=10_000)
        return [row["Outcome"] for row in rows if row["Slot"] == at]


# --- the peer


def loop(uri: str, names: Sequence[str], *words: str) -> Burst:
    """One virsh after the other; words: what its snapshot-create-as is given."""
    virsh, begun, at = ["virsh", "-q", "-c", uri, "snapshot-create-as"], [], time.time()
    for name in names:
        begun.append(time.time() - at)
        subprocess.run([*virsh, name, *words], check=True, stdout=subprocess.DEVNULL)
    return Burst(begun, time.time() - at)


# --- VMs of the test driver


def many(address: str, folder: Path, count: int, runs: int) -> Iterator[Row]:
    """The rows of VMs of libvirt's test driver, which live as long as this connection does."""
    conn = libvirt.open(TEST)
    try:
        names = [name_of(number) for number in range(count)]
        for name in names:
            conn.defineXML(TEST_VM.format(name=name)).create()
        ours, theirs = [], []
        with daemon_on(address, TEST, folder) as (daemon, client):
            slots = Slots(daemon, client)
            loop(TEST, names[:3], "warm-up")
            _gone(conn, names[:3], "warm-up")
            for run in range(runs):
                theirs.append(loop(TEST, names, f"by-virsh-{run}"))
                _gone(conn, names, f"by-virsh-{run}")
                ours.append(slots.serve(slots.appoint(), count))
                _counted(conn, names, run + 1)
        yield from compared(f"{count} VMs, test driver", ours, VIRSH, theirs, "p95")
        yield longest_turn(f"{count} VMs, test driver", slots)
    finally:
        conn.close()


def _gone(conn: libvirt.virConnect, names: Sequence[str], snapshot: str) -> None:
    """Delete virsh's snapshot of each VM again: the daemon is not to see them."""
    for name in names:
        conn.lookupByName(name).snapshotLookupByName(snapshot).delete()


def _counted(conn: libvirt.virConnect, names: Sequence[str], count: int) -> None:
    """SystemExit where a VM doesn't have as many snapshots as were made."""
    for name in names:
        if (found := conn.lookupByName(name).snapshotNum(0)) != count:
            raise SystemExit(f"VM {name} has {found} snapshots, not {count}")


# --- real guests


class Herd:
    """Real guests, without a snapshot between the turns."""

    def __init__(self, images: Path, count: int, client: Client) -> None:
        self._client = client
        self.guests = [Guest.make(name_of(number), images) for number in range(count)]
        for guest in self.guests:
            guest.define()
            guest.start()
        for guest in self.guests:
            guest.wait(300)
        self.names = [guest.name for guest in self.guests]
        client.until("the daemon knows all", lambda: self._known() >= set(self.names))

    def _known(self) -> set[str]:
        return {row["Name"] for row in self._client.rows("ListDomains")}

    def _await(self, guest: Guest, count: int) -> None:
        """Return when the daemon has seen that the guest has so many snapshots."""
        listed = self._client.snapshots
        self._client.until(f"{count} snapshots", lambda: len(listed(guest.name)) == count)

    @contextmanager
    def living(self, lives: Lives) -> Iterator[None]:
        """Take all guests' signs of life while inside."""
        with ExitStack() as stack:
            pulses = [stack.enter_context(guest.pulse()) for guest in self.guests]
            yield
        lives.pauses += [pulse.standstill() * 1000 for pulse in pulses]
        lives.writes += [pulse.write_stall() * 1000 for pulse in pulses]

    def tidy(self) -> None:
        """Have the daemon delete each guest's one internal snapshot."""
        for guest in self.guests:
            (name,) = guest.virsh("snapshot-list", "--name").split()
            self._await(guest, 1)
            self._client.delete(guest.name, name)
        time.sleep(2)

    def merge(self, name: str) -> None:
        """Have virsh merge and delete the external snapshot of that name."""
        for guest in self.guests:
            guest.virsh("blockcommit", "vda", "--active", "--pivot", "--wait", timeout=120)
            guest.virsh("snapshot-delete", name, "--metadata")
            (guest.folder / f"vda.{name}").unlink()
            self._await(guest, 0)
        time.sleep(2)


def real(address: str, folder: Path, images: Path, count: int, runs: int) -> Iterator[Row]:
    """The rows of real guests."""
    bursts: dict[str, list[Burst]] = {"": [], VIRSH: [], DISK_ONLY: []}
    lives = {way: Lives() for way in ("", VIRSH, DISK_ONLY, NOTHING)}
    with daemon_on(address, QEMU, folder) as (daemon, client):
        herd, slots = Herd(images, count, client), Slots(daemon, client)
        for run in range(runs):
            with herd.living(lives[NOTHING]):
                time.sleep(IDLE_SECONDS)
            with herd.living(lives[VIRSH]):
                bursts[VIRSH].append(loop(QEMU, herd.names, f"ram-{run}"))
            herd.tidy()
            with herd.living(lives[DISK_ONLY]):
                bursts[DISK_ONLY].append(loop(QEMU, herd.names, f"disk-{run}", "--disk-only"))
            herd.merge(f"disk-{run}")
            at = slots.appoint()
            time.sleep(max(0, at - time.time() - WATCH_SECONDS - 0.2 * count))
            with herd.living(lives[""]):
                bursts[""].append(slots.serve(at, count))
            herd.tidy()
    what = f"{count} guests"
    yield from compared(what, bursts[""], VIRSH, bursts[VIRSH])
    yield from compared(what, bursts[""], DISK_ONLY, bursts[DISK_ONLY])
    for peer in (NOTHING, VIRSH, DISK_ONLY):
        ours, theirs = lives[""], lives[peer]
        told = (
            ("guest's pause", ours.pauses, theirs.pauses),
            ("its writes", ours.writes, theirs.writes),
        )
        for row, mine, others in told:
            yield Row(f"{what}: {row}", Figure(mine, "ms"), peer, Figure(others, "ms"))
    yield longest_turn(what, slots)


# --- rows


def compared(
    what: str, ours: Sequence[Burst], peer: str, theirs: Sequence[Burst], *more: str
) -> Iterator[Row]:
    """The rows of bursts beside others; more: "p95" for that of when a VM's turn came."""

    def figure(bursts: Sequence[Burst], of: str) -> Figure:
        return Figure([SHARES[of](burst) * 1000 for burst in bursts], "ms")

    for of in ("all made", "VM begun, median", *(f"VM begun, {m}" for m in more), "VM begun, last"):
        yield Row(f"{what}: {of}", figure(ours, of), peer, figure(theirs, of))


SHARES = {
    "all made": lambda burst: burst.made,
    "VM begun, median": lambda burst: statistics.median(burst.begun),
    "VM begun, p95": lambda burst: statistics.quantiles(burst.begun, n=20)[18],
    "VM begun, last": lambda burst: max(burst.begun),
}


def longest_turn(what: str, slots: Slots) -> Row:
    return Row(f"loop, longest turn ({what})", Figure(slots.turns, "ms"), budget=Budget("ours", 50))


def measure(quick: bool) -> Iterator[Row]:
    runs = 1 if quick else 3
    bed = PrivateLibvirt()  # first of all: before there is a thread
    try:
        bed.start()
        with private_bus() as bus, tempfile.TemporaryDirectory() as scratch:
            folders = Path(scratch, "test"), Path(scratch, "qemu")
            yield from many(bus.address, folders[0], 20 if quick else 200, runs)
            yield from real(bus.address, folders[1], bed.images, 2 if quick else 8, runs)
    finally:
        bed.close()


if __name__ == "__main__":
    figures.main(measure, __doc__)
