"""A daemon without its bus, on a clock of the test's, in front of libvirt's test driver.

Time passes only when the test lets it; what is due is then done as it would be: by the daemon's own
rooms, wired as daemon.py wires them. Its life can be ended at any moment, in order or not.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snapd.bus.rooms import Rooms
from snapd.daemon import Place, build
from snapd.errors import Busy, LibvirtError, SnapdError, TimedOut
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.model import JobState, SnapshotKey, Verb
from snapd.operations import Job
from snapd.policy import ClockGuard
from snapd.settings import Settings
from snapd.store import Store

HOUR, DAY = 3600, 86400


@dataclass
class Clock:
    """The wall's time, and the seconds since the host's start, all and awake."""

    wall: float
    boot: float = 1e6
    awake: float = 1e6

    def __call__(self) -> float:
        return self.wall

    def pass_(self, seconds: float) -> None:
        self.sleep(seconds)
        self.awake += seconds

    def sleep(self, seconds: float) -> None:
        """The host is suspended for so long."""
        self.wall += seconds
        self.boot += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.wall += seconds

    def guard(self, last: int) -> ClockGuard:
        return ClockGuard(last, self, lambda: self.boot, lambda: self.awake, lambda: True)


class Flaky:
    """The hypervisor, some of whose calls fail; errors: how many of a hundred; dead: the domains
    of which all do."""

    def __init__(self, real: LibvirtHypervisor, dice: random.Random) -> None:
        self._real, self._dice = real, dice
        self.errors = 0
        self.dead: set[str] = set()
        self.ended = False
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def on_event(self, call: Any) -> None:
        self._real.on_event(lambda event: None if self.ended else call(event))

    def on_connection(self, call: Any) -> None:
        self._real.on_connection(lambda connected: None if self.ended else call(connected))

    def _may_fail(self, uuid: str, what: str) -> None:
        if uuid in self.dead or self._dice.randrange(100) < self.errors:
            self.failed += 1
            kinds: list[type[SnapdError]] = [LibvirtError, Busy, TimedOut]
            raise self._dice.choice(kinds)(f"{what} failed")

    async def facts(self, uuid: str, snapshot: str = "") -> Any:
        self._may_fail(uuid, "looking")
        return await self._real.facts(uuid, snapshot)

    async def register(self, uuid: str, *given: Any, **named: Any) -> None:
        self._may_fail(uuid, "registering")
        await self._real.register(uuid, *given, **named)

    async def delete(self, uuid: str, *given: Any, **named: Any) -> None:
        self._may_fail(uuid, "deleting")
        await self._real.delete(uuid, *given, **named)


@dataclass
class Ledger:
    """What a person who watches would write down: what was made, with which labels, and what went.

    gone: each snapshot that was deleted, and whether every label of it had a newer one then.
    """

    labels: dict[SnapshotKey, tuple[str, ...]] = field(default_factory=dict)
    there: dict[SnapshotKey, None] = field(default_factory=dict)
    gone: list[tuple[SnapshotKey, bool]] = field(default_factory=list)

    def watch(self, rooms: Rooms) -> None:
        rooms.jobs.listen(ended=lambda job: self._ended(rooms, job))

    def _ended(self, rooms: Rooms, job: Job) -> None:
        key = SnapshotKey(job.row.domain, job.row.snapshot, job.row.created)
        if job.row.state is not JobState.DONE:
            return
        if job.row.verb is Verb.CREATE and (record := rooms.store.record(key)):
            self.labels[key] = record.policies
            self.there[key] = None
        if job.row.verb is Verb.DELETE:
            self._went(key)

    def _went(self, key: SnapshotKey) -> None:
        self.there.pop(key, None)
        newer = [k for k in self.there if k.domain == key.domain and k.created >= key.created]
        left = {label for k in newer for label in self.labels[k]}
        labels = set(self.labels.get(key, ()))
        self.gone.append((key, bool(labels) and labels <= left))

    def catch_up(self, rooms: Rooms) -> None:
        """What was done while nobody could be told, in a crash."""
        for uuid, picture in rooms.inventory.domains.items():
            for info in picture.snapshots.values():
                key = SnapshotKey(uuid, info.name, info.created)
                if (record := rooms.store.record(key)) and record.owned:
                    self.labels[key] = record.policies
                    self.there[key] = None
        for key in list(self.there):
            if key.name not in rooms.inventory.domains[key.domain].snapshots:
                self._went(key)


class Life:
    """One daemon's life. `rooms` are its rooms."""

    def __init__(self, rooms: Rooms, flaky: Flaky, clock: Clock, before: set[Any]) -> None:
        self.rooms, self.flaky, self.clock = rooms, flaky, clock
        self._before = before
        self._reading = asyncio.create_task(rooms.inventory.run())

    @classmethod
    async def begin(
        cls, folder: Path, real: LibvirtHypervisor, clock: Clock, dice: random.Random, book: Ledger
    ) -> Life:
        before = asyncio.all_tasks()
        flaky = Flaky(real, dice)
        place = Place("", None, "", folder / "etc", folder / "state")
        store = await Store.open(place.state)
        rooms = await build(
            place,
            Settings(),
            store,
            [],
            flaky,
            clock,
            clock.guard,
        )
        book.watch(rooms)
        await rooms.jobs.load()
        life = cls(rooms, flaky, clock, before)
        rooms.inventory.look("")
        async with asyncio.timeout(20):
            while rooms.inventory.loading:
                await asyncio.sleep(0.001)
        return life

    # --- time

    async def look(self) -> None:
        """Have all done that is due now."""
        await self.rooms.engine.look()
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until nothing is at work, but for what waits for a later try."""
        async with asyncio.timeout(60):
            while not self._is_quiet():
                await asyncio.sleep(0.0005)

    def _is_quiet(self) -> bool:
        engine = self.rooms.engine
        at_work = any(not job.ended.is_set() for job in self.rooms.jobs.all.values())
        waiting = all(a.waiting for a in engine._attempts)
        return not at_work and waiting and len(engine._tasks) == len(engine._attempts)

    def next_due(self) -> float:
        """When something is to be done next."""
        engine = self.rooms.engine
        due: list[float] = [engine.next_run(p) for p in self.rooms.policies.in_force.values()]
        due += [a.retry_at for a in engine._attempts]
        due.append(engine.pruning.next_due())
        now = self.clock.wall
        ahead = [at for at in due if at > now]
        put_off = any(0 < at <= now for at in due)
        return min(ahead, default=now + DAY) if not put_off else min([now + 30, *ahead])

    # --- its end

    async def end(self) -> None:
        """As by SIGTERM."""
        await self.rooms.jobs.stop(5)
        await self.rooms.engine.stop()
        await self._cancel()

    async def crash(self, folder: Path) -> None:
        """As by SIGKILL, whatever is at work: what is on disk now is what the next one finds."""
        state = folder / "state"
        kept = folder / "kept"
        kept.mkdir()
        for file in state.glob("store.sqlite*"):
            shutil.copy2(file, kept)
        await self._cancel()
        for file in state.glob("store.sqlite*"):
            file.unlink()
        for file in kept.iterdir():
            file.rename(state / file.name)
        kept.rmdir()

    async def _cancel(self) -> None:
        self.flaky.ended = True
        ours = asyncio.all_tasks() - self._before - {asyncio.current_task()}
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        await self.rooms.store.close()


@contextmanager
def scratch(fallback: Path) -> Iterator[Path]:
    """A folder in memory, where the host has such: a year has many commits."""
    shm = Path("/dev/shm")
    folder = shm / f"virtsnapd-{random.randrange(1 << 60):x}" if shm.is_dir() else fallback / "year"
    (folder / "etc" / "policies.d").mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
