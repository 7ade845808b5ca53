"""What the daemon adds to a snapshot: create, revert and delete over D-Bus, beside the bare calls
of libvirt made by a process of our own, on the same guest, in turns. As root, from the top:

    packaging/check --bench create [--quick] [--json]

One real guest with one qcow2 disk of 64 MiB lives in a private libvirtd. Ours is CreateSnapshot (or
RevertSnapshot without a safety snapshot, or DeleteSnapshot) and its job's Wait until the answer is
here. Theirs is what libvirt or QEMU have to do for the same thing, called by libvirt-python:

  RAM        of a running guest with 1 GiB of filled RAM: snapshotCreateXML, revertToSnapshot and
             delete, without a flag
  disks      of the running guest, without its RAM (quiesce=no): libvirt has no such call, so theirs
             is the daemon's own bare part: QEMU's transaction through libvirt's monitor call, and
             the snapshot's registration by snapshotCreateXML; to delete, the same the other way
             round; revertToSnapshot with RUNNING, which boots the guest
  quiesced   the same (quiesce=require), with fsFreeze and fsThaw around the transaction
  off        of the guest that is off: snapshotCreateXML, revertToSnapshot, delete

Not in theirs, and in ours: the look at the VM, its files and images before, that at libvirt's list
and the images after, and a record on disk of what is about to be done, how far it is, and what came
of it. Each is done once before it is measured, then 5 (RAM), 7 (quiesced) or 15 times; reverts are
done in 4 of them where the guest has to boot. It takes 5 minutes; --quick: 64 MiB, once each.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt

from snapd.hypervisor import monitor, reading, xml
from tests.bed import recipe
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bench import figures
from tests.bench.beds import QEMU, Plain, daemon_on
from tests.bench.figures import Budget, Figure, Row
from tests.bench.pause import FILL
from tests.bus import private_bus
from tests.client import Client

LONG = 1800
PATIENCE = 300  # seconds for the guest to boot, or to answer again
REST_SECONDS = 0.5
VERBS = ("create", "revert", "delete")
REDEFINE = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
RUNNING = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING
METADATA_ONLY = libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
RATIO, MORE = Budget("ratio", 1.05), Budget("more", 50)


@dataclass(frozen=True)
class Kind:
    """A sort of snapshot. wish: of CreateSnapshot; runs, reverts: how often it is made, and in how
    many of these it is reverted to."""

    name: str
    peer: str
    wish: dict[str, object]
    runs: int
    reverts: int
    budget: Budget


RAM = Kind("RAM", "libvirt", {"memory": "yes", "max_pause": 600}, 5, 5, RATIO)
DISKS = Kind("disks", "QEMU + libvirt", {"memory": "no", "quiesce": "no"}, 15, 4, MORE)
QUIESCED = Kind("quiesced", "the same", {"memory": "no", "quiesce": "require"}, 7, 0, MORE)
OFF = Kind("off", "libvirt", {}, 15, 15, MORE)


class Ours:
    """The verbs, by the daemon."""

    def __init__(self, client: Client, guest: Guest) -> None:
        self._client, self._vm = client, guest.name

    def create(self, kind: Kind, name: str) -> None:
        self._do("CreateSnapshot", name, kind="internal", **kind.wish)

    def revert(self, kind: Kind, name: str) -> None:
        self._do("RevertSnapshot", name, safety_snapshot=False)

    def delete(self, kind: Kind, name: str) -> None:
        self._do("DeleteSnapshot", name)

    def _do(self, member: str, name: str, **wish: Any) -> None:
        self._client.wait(self._client.call(member, self._vm, name, **wish), LONG)


class Bare:
    """The verbs, by libvirt's own calls; looked up before: what they are about."""

    def __init__(self, domain: libvirt.virDomain) -> None:
        self._domain = domain

    def look_up(self) -> None:
        self._disks = reading.domain(self._domain).disks
        self._xml, _disks = reading.inactive(self._domain)

    def create(self, kind: Kind, name: str) -> None:
        dom = self._domain
        if kind in (RAM, OFF):
            dom.snapshotCreateXML(xml.new_snapshot(name, ""), 0)
            return
        nodes = monitor.nodes(dom, self._disks)
        if kind is QUIESCED:
            dom.fsFreeze()
        monitor.take(dom, nodes, name)
        if kind is QUIESCED:
            dom.fsThaw()
        targets = [disk.target for disk in self._disks]
        text = xml.taken_snapshot(name, "", int(time.time()), "", targets, [], self._xml)
        dom.snapshotCreateXML(text, REDEFINE)

    def revert(self, kind: Kind, name: str) -> None:
        flags = 0 if kind in (RAM, OFF) else RUNNING
        self._domain.revertToSnapshot(self._domain.snapshotLookupByName(name), flags)

    def delete(self, kind: Kind, name: str) -> None:
        snapshot = self._domain.snapshotLookupByName(name)
        if kind in (RAM, OFF):
            snapshot.delete(0)
            return
        for node in monitor.nodes(self._domain, self._disks).values():
            monitor.remove(self._domain, node, name)
        snapshot.delete(METADATA_ONLY)


@dataclass
class Bench:
    """The guest, the two who snapshot it, and what was measured: milliseconds of each verb."""

    guest: Guest
    client: Client
    daemon: Plain
    domain: libvirt.virDomain
    turns: dict[str, list[float]] = field(default_factory=dict)

    def rows(self, kind: Kind, quick: bool) -> Iterator[Row]:
        ours, bare = Ours(self.client, self.guest), Bare(self.domain)
        took: dict[tuple[object, str], list[float]] = {}
        runs, reverts = (1, min(1, kind.reverts)) if quick else (kind.runs, kind.reverts)
        for run in range(runs + 1):
            for who in (ours, bare) if run % 2 else (bare, ours):
                verbs = VERBS if run <= reverts else ("create", "delete")
                bare.look_up()
                self.daemon.longest_turn()
                for verb, seconds in self._once(who, kind, f"{kind.name}-{run}", verbs):
                    took.setdefault((who, verb), []).extend([seconds * 1000] if run else [])
                if who is ours:
                    self.turns.setdefault(kind.name, []).append(self.daemon.longest_turn()[0])
        for verb in VERBS if reverts else ("create", "delete"):
            mine, theirs = (Figure(took[who, verb], "ms") for who in (ours, bare))
            budget = kind.budget if verb == "create" else None
            yield Row(f"{verb}, {kind.name}", mine, kind.peer, theirs, budget)

    def _once(
        self, who: Ours | Bare, kind: Kind, name: str, verbs: Sequence[str]
    ) -> Iterator[tuple[str, float]]:
        """One snapshot, made and deleted by the same; each verb with the seconds that it took."""
        calls: dict[str, Callable[[Kind, str], None]] = {v: getattr(who, v) for v in verbs}
        for verb in verbs:
            time.sleep(REST_SECONDS)  # neither is held up by what the other one has begun
            begun = time.perf_counter()
            calls[verb](kind, name)
            yield verb, time.perf_counter() - begun
            if verb == "revert" and kind is not OFF:
                answers(self.guest)
            self._check(name, there=verb != "delete")

    def _check(self, name: str, *, there: bool) -> None:
        """That it is, or isn't, in libvirt's list, the image and the daemon's list."""
        want = [name] if there else []
        listed, tags = self.domain.snapshotListNames(), self.guest.tags(self.guest.images[0])
        if listed != want or tags != want:
            raise SystemExit(f"libvirt lists {listed} and the image {tags}, not {want}")
        seen = self.client.snapshots
        self.client.until("the daemon sees it", lambda: list(seen(self.guest.name)) == want)

    def fill(self, mib: int) -> None:
        self.guest.cmd("sh", FILL.format(mib), timeout=LONG)
        self.guest.cmd("sh", "sync")

    def stop(self) -> None:
        self.domain.destroy()
        vm = self.guest.name
        row = self.client.domain
        self.client.until("it is off", lambda: (row(vm) or {}).get("State") == "shutoff")


def answers(guest: Guest) -> None:
    """Return when the guest, reverted, answers, and its agent."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError):
            guest.wait(5)
            return
    raise SystemExit("the guest doesn't answer")


def measure(quick: bool) -> Iterator[Row]:
    filled = 64 if quick else 1024
    bed = PrivateLibvirt()  # first of all: before there is a thread
    try:
        bed.start()
        hardware = recipe.Hardware(memory=filled + 192)
        guest = Guest.make("bench", bed.images, hardware=hardware)
        guest.define()
        guest.start()
        guest.wait(PATIENCE)
        libvirt.registerErrorHandler(lambda *_: None, None)  # or it prints what is expected
        domain = libvirt.open(QEMU).lookupByName(guest.name)
        with (
            private_bus() as bus,
            tempfile.TemporaryDirectory() as folder,
            daemon_on(bus.address, QEMU, Path(folder)) as (daemon, client),
        ):
            bench = Bench(guest, client, daemon, domain)
            bench.fill(filled)
            for kind in (RAM, DISKS, QUIESCED):
                yield from bench.rows(kind, quick)
            bench.stop()
            yield from bench.rows(OFF, quick)
            for name, turns in bench.turns.items():
                what = f"loop, longest turn ({name})"
                yield Row(what, Figure(turns, "ms"), budget=Budget("ours", 50))
    finally:
        bed.close()


if __name__ == "__main__":
    figures.main(measure, __doc__)
