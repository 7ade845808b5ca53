"""An hourly policy on a real guest that writes all the time, with reverts to snapshots at random:
does a chain or an image grow without end, is a byte wrong, is a file left?

    packaging/check --bench soak [--kind internal] [--slots 500] [--reverts 20] [--seed 1]
    packaging/debian13 --bench soak --kind external [--slots 500] [--reverts 20] [--seed 1]

As root, from the top of the checkout; kind external needs libvirt 9.9 or newer. libfaketime is in
it, as libvirtd dates external snapshots itself: its clock and the policy's are set on by an hour
for each slot, while both work in real time. 500 slots take about half an hour.

The daemon's own rooms run here, without a bus, on a private libvirt. Before each slot the guest
writes blocks that are known here, on both disks; a copy of what is there then is kept with each
snapshot. After each revert the guest is asked for the sums of its files, and at the end each
snapshot that is left is reverted to in turn. Printed are, every 20 slots and at the end: snapshots,
depth of the chain, bytes on the host, wrong files, left files; nothing is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.inventory import DomainPicture
from snapd.model import JobState, SnapshotKey
from snapd.operations import Asker, RevertWish
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.driver.clock import MovedClock
from tests.driver.year import HOUR, Clock, Ledger, Life

BLOCK = 64 << 10
BLOCKS = 96
PATIENCE = 300  # seconds for a guest to boot, or to answer again
POLICY = """domains = ["*"]
schedule = "0 * * * *"
timezone = "UTC"
kind = "{kind}"
[keep]
last = 3
hourly = 6
[limits]
min_free = "0%"
"""
FORMATS = {"internal": ["qcow2", "qcow2"], "external": ["qcow2", "raw"]}


@contextmanager
def libvirt_on(clock: MovedClock) -> Iterator[PrivateLibvirt]:
    """A private libvirt that has that clock."""
    bed, before = PrivateLibvirt(), dict(os.environ)
    os.environ.update(clock.env)
    try:
        bed.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield bed
    finally:
        bed.close()


def text_of(slot: int) -> bytes:
    """What a block is full of: `0000123\\n`."""
    return f"{slot:07d}\n".encode() * (BLOCK // 8)


@dataclass
class Content:
    """The model file of each disk, block by block: now, and when each snapshot was made."""

    guest: Guest
    rng: random.Random
    now: dict[str, list[int]] = field(default_factory=dict)
    then: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def begin(self) -> None:
        """Have the files, and a load beside them that goes on."""
        for disk in self.guest.disks:
            target = disk.path.stem
            self.now[target] = [0] * BLOCKS
            self._shell(f"yes 0000000 | head -c {BLOCK * BLOCKS} >/disk/{target}/model; sync")
        self.load()

    def load(self) -> None:
        """The guest writes 4 MiB of noise to each disk, again and again."""
        for disk in self.guest.disks:
            write = f"dd if=/dev/urandom of=/disk/{disk.path.stem}/load bs=64k count=64"
            again = f"while :; do {write} conv=notrunc,fsync; sleep 1; done"
            self._shell(f"({again}) >/dev/null 2>&1 &")

    def write(self, slot: int) -> None:
        """Some blocks of the slot's, synced before they are snapshotted."""
        for target, blocks in self.now.items():
            for place in self.rng.sample(range(BLOCKS), 3):
                blocks[place] = slot
                part = f"yes {slot:07d} | head -c {BLOCK}"
                to = f"dd of=/disk/{target}/model bs={BLOCK} seek={place}"
                self._shell(f"{part} | {to} conv=notrunc iflag=fullblock 2>/dev/null")
        self._shell("sync")

    def keep(self, name: str) -> None:
        self.then[name] = {target: list(blocks) for target, blocks in self.now.items()}

    def back(self, name: str) -> int:
        """The guest is where it was; how many of its files are wrong."""
        self.now = {target: list(blocks) for target, blocks in self.then[name].items()}
        self.guest.cmd("drop")
        wrong = 0
        for target, blocks in self.now.items():
            held = self._shell(f"sha256sum /disk/{target}/model").split()[0]
            meant = hashlib.sha256(b"".join(text_of(slot) for slot in blocks)).hexdigest()
            wrong += held != meant
        self.load()
        return wrong

    def _shell(self, command: str) -> str:
        return self.guest.cmd("sh", command, timeout=PATIENCE)


def chains(guest: Guest) -> dict[str, list[str]]:
    """Disk -> the files that it stands on, by libvirt and the headers."""
    found = {}
    for disk in ET.fromstring(guest.virsh("dumpxml")).iterfind("devices/disk"):
        source, driver, target = disk.find("source"), disk.find("driver"), disk.find("target")
        if source is None or driver is None or target is None:
            continue
        command = ["qemu-img", "info", "-U", "--backing-chain", "--output=json"]
        command += ["-f", driver.get("type", ""), source.get("file", "")]
        done = subprocess.run(command, check=True, capture_output=True, timeout=60)
        found[target.get("dev", "")] = [layer["filename"] for layer in json.loads(done.stdout)]
    return found


def left_over(guest: Guest, picture: DomainPicture) -> list[str]:
    """Files in the VM's folder that neither its disks nor its snapshots stand on."""
    used = {Path(path) for layers in chains(guest).values() for path in layers}
    for snapshot in picture.snapshots.values():
        used.add(Path(snapshot.memory_file))
        for _target, base in snapshot.bases:
            below = base
            while below and Path(below) not in used:
                used.add(Path(below))
                done = subprocess.run(
                    ["qemu-img", "info", "-U", "--output=json", below],
                    check=True,
                    capture_output=True,
                )
                below = json.loads(done.stdout).get("full-backing-filename", "")
    return sorted(path.name for path in guest.folder.iterdir() if path not in used)


@dataclass
class Soak:
    """The run, and its counts."""

    life: Life
    guest: Guest
    content: Content
    clock: Clock
    moved: MovedClock
    made: int = 0
    failed: int = 0
    reverts: int = 0
    wrong: int = 0
    deepest: int = 0

    @property
    def picture(self) -> DomainPicture:
        return self.life.rooms.inventory.domains[self.guest.uuid]

    async def slot(self, number: int) -> None:
        """An hour on: the guest writes, the policy snapshots and prunes."""
        await asyncio.to_thread(self.content.write, number)
        before = set(self.picture.snapshots)
        ahead = (int(self.clock.wall) // HOUR + 1) * HOUR - self.clock.wall
        self.clock.pass_(ahead)
        self.moved.set(int(self.clock.wall - time.time()))
        await asyncio.sleep(1.5)  # libvirtd looks at its clock's file once a second
        await self.life.rooms.engine.look()
        await self.quiet()
        new = set(self.picture.snapshots) - before
        self.made += bool(new)
        self.failed += not new
        for name in new:
            self.content.keep(name)
        if not new:
            runs = self.life.rooms.engine.slots.values()
            print(f"slot {number}: nothing made: {[r.error_message for r in runs]}", flush=True)
        self.deepest = max(self.deepest, *map(len, chains(self.guest).values()))

    async def quiet(self) -> None:
        """Until nothing is at work but what waits for a later try; as long as the guest needs."""
        while not self.life._is_quiet():
            await asyncio.sleep(0.02)

    async def revert(self, name: str, *, safety: bool = True) -> None:
        """As a person does it, and a look at what the guest has then."""
        self.clock.pass_(1)
        rooms, info = self.life.rooms, self.picture.snapshots[name]
        wish = RevertWish(SnapshotKey(self.guest.uuid, name, info.created), "running", safety)
        before = set(self.picture.snapshots)
        job = await rooms.operations.revert(self.picture.info, wish, Asker(max_wait=PATIENCE))
        await job.ended.wait()
        await self.quiet()
        if job.row.state is not JobState.DONE:
            print(f"revert to {name}: {job.row.error_message}", flush=True)
            return
        for made in set(self.picture.snapshots) - before:
            self.content.keep(made)
        await asyncio.to_thread(self.guest.wait, PATIENCE)
        self.reverts += 1
        self.wrong += await asyncio.to_thread(self.content.back, name)

    def told(self, number: int) -> None:
        size = sum(f.stat().st_blocks * 512 for f in self.guest.folder.iterdir()) / 2**20
        waits = self.life.rooms.engine.pruning.waits(self.guest.uuid)
        depth = max(map(len, chains(self.guest).values()))
        print(
            f"{number:5} slots: {self.made} made, {self.failed} failed, "
            f"{len(self.picture.snapshots)} there, {len(waits)} deferred; chain {depth} "
            f"(at most {self.deepest}); {size:.0f} MiB; {self.reverts} reverts, "
            f"{self.wrong} files wrong; "
            f"left over: {left_over(self.guest, self.picture) or 'nothing'}",
            flush=True,
        )


async def soak(options: argparse.Namespace, bed: PrivateLibvirt, moved: MovedClock) -> None:
    rng = random.Random(options.seed)
    guest = Guest.make("soak", bed.images, disks=FORMATS[options.kind], disk_mib=128)
    guest.define()
    guest.start()
    guest.wait(PATIENCE)
    content = Content(guest, rng)
    content.begin()
    folder = bed.scratch / "state"
    (folder / "etc" / "policies.d").mkdir(parents=True)
    policy = folder / "etc" / "policies.d" / "soak.toml"
    policy.write_text(POLICY.format(kind=options.kind))
    real = LibvirtHypervisor("qemu:///system")
    kept = asyncio.create_task(real.keep())
    while not real.connected:
        await asyncio.sleep(0.05)
    clock = Clock(time.time())
    life = await Life.begin(folder, real, clock, rng, Ledger())
    await life.rooms.policies.load()
    run = Soak(life, guest, content, clock, moved)
    await life.rooms.engine.look()
    await run.quiet()
    reverts = set(rng.sample(range(10, options.slots), min(options.reverts, options.slots - 10)))
    try:
        for number in range(1, options.slots + 1):
            await run.slot(number)
            if number in reverts:
                await run.revert(rng.choice(sorted(run.picture.snapshots)))
            if number % 20 == 0:
                run.told(number)
        for name in sorted(run.picture.snapshots):
            await run.revert(name, safety=False)
        run.told(options.slots)
    finally:
        await life.end()
        kept.cancel()
        await asyncio.gather(kept, return_exceptions=True)
        await real.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kind", choices=sorted(FORMATS), default="internal")
    parser.add_argument("--slots", type=int, default=500)
    parser.add_argument("--reverts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"virtsnapd-soak-{os.getpid()}"
    folder.mkdir()
    moved = MovedClock(folder)
    try:
        with libvirt_on(moved) as bed:
            asyncio.run(soak(options, bed, moved))
    finally:
        (folder / "clock").unlink()
        folder.rmdir()


if __name__ == "__main__":
    main()
