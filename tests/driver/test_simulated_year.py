"""A year of 20 VMs and 3 policies in front of the test driver, with all that goes wrong in one."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.model import Origin, SnapshotKey
from snapd.operations import Asker, Wish, settling
from snapd.policy import plan
from snapd.store import RunRow, Store
from tests.driver.house import many, uuid_of
from tests.driver.year import DAY, HOUR, Clock, Ledger, Life, scratch

ZONE = "Europe/Berlin"
BEGIN = int(datetime(2027, 1, 10, 12, tzinfo=UTC).timestamp())
VMS = 20
# name -> (schedule, VMs, the rest)
POLICIES = {
    "daily": ("30 2 * * *", "vm-?", 'randomized_delay = "20min"\n[keep]\nlast = 3\ndaily = 7'),
    "often": ("0 */6 * * *", "vm-1", "[keep]\nlast = 4\nhourly = 2\n[limits]\nmax_count = 5"),
    "weekly": ("15 3 * * 0", "*", '[keep]\nweekly = 4\nmonthly = 3\n[limits]\nmax_age = "60d"'),
}
QUIET = ["", "", "", "manual", "manual", "foreign", "foreign"]
HAPPENINGS = [*QUIET, "hold", "pin", "stop", "crash", "sleep", "step"]
MANUAL = Wish(stem="manual", memory="no", reason="by hand")


class Year:
    """What happens, and what has to be true all the while."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.dice = folder, random.Random(seed)
        self.clock, self.book = Clock(BEGIN), Ledger()
        self.foreign: dict[str, set[str]] = {uuid_of(n): {"s-0"} for n in range(VMS)}
        self.manual: set[SnapshotKey] = set()
        self.pinned: set[SnapshotKey] = set()
        self.said: Counter[str] = Counter()

    async def play(self, days: int) -> None:
        host = self.folder / "host.xml"
        host.write_text(many(VMS, 1))
        for name, (schedule, domains, rest) in POLICIES.items():
            head = f'domains = ["{domains}"]\nschedule = "{schedule}"\ntimezone = "{ZONE}"\n'
            (self.folder / "etc" / "policies.d" / f"{name}.toml").write_text(head + rest + "\n")
        real = LibvirtHypervisor(f"test://{host}")
        kept = asyncio.create_task(real.keep())
        try:
            await self._days(real, days)
        finally:
            kept.cancel()
            await asyncio.gather(kept, return_exceptions=True)
            await real.close()

    async def _days(self, real: LibvirtHypervisor, days: int) -> None:
        self.life = await self._begin(real)
        for _ in range(days):
            tomorrow = self.clock.wall + DAY
            await self._something(real)
            self.life.flaky.errors = self.dice.choice([0, 0, 0, 5, 30])
            while (due := self.life.next_due()) < tomorrow:
                self.clock.pass_(due - self.clock.wall)
                await self.life.look()
            self.clock.pass_(max(0, tomorrow - self.clock.wall))
            await self.life.look()
            self.said["failed calls"] += self.life.flaky.failed
            self.life.flaky.failed = 0
        self.life.flaky.errors, self.life.flaky.dead = 0, set()
        await self.life.rooms.inventory.refresh_all()
        await self.life.end()

    async def _begin(self, real: LibvirtHypervisor) -> Life:
        life = await Life.begin(self.folder, real, self.clock, self.dice, self.book)
        await life.look()
        return life

    # --- what happens

    async def _something(self, real: LibvirtHypervisor) -> None:
        happening = self.dice.choice(HAPPENINGS)
        some = [uuid_of(self.dice.randrange(VMS)) for _ in range(3)]
        self.life.flaky.dead = self.dice.choice([set(), set(), set(some)])
        self.said[happening] += 1
        uuid = uuid_of(self.dice.randrange(VMS))
        match happening:
            case "manual":
                await self._by_hand(uuid)
            case "foreign":
                name = f"virsh-{len(self.foreign[uuid])}"
                await real.create(uuid, name, "")
                self.foreign[uuid].add(name)
            case "hold":
                info = self.life.rooms.inventory.domains[uuid].info
                until = int(self.clock.wall) + 2 * DAY
                await self.life.rooms.holds.hold("daily", info, until=until, reason="a while")
            case "pin":
                await self._pin(uuid)
            case "stop":
                await self.life.end()
                self.clock.pass_(self.dice.randrange(60 * HOUR))
                self.life = await self._begin(real)
            case "crash":
                await self._crash(real)
            case "sleep":
                self.clock.sleep(self.dice.randrange(60, 40 * HOUR))
                await self.life.look()
                self.clock.pass_(31)
                await self.life.look()
            case "step":
                self.clock.step(self.dice.choice([-1, 1]) * self.dice.randrange(60, 12 * HOUR))
                await self.life.look()

    async def _pin(self, uuid: str) -> None:
        rooms = self.life.rooms
        picture = await rooms.inventory.refresh(uuid)
        if owned := [s for s in rooms.catalog.of(picture) if s.owned]:
            one = self.dice.choice(owned)
            await rooms.ownership.pin(picture, one.info, "mine", 0)
            self.pinned.add(one.key)

    async def _by_hand(self, uuid: str) -> None:
        operations = self.life.rooms.operations
        info = self.life.rooms.inventory.domains[uuid].info
        job = await operations.create(info, MANUAL, Asker(1000))
        await self.life.quiet()
        if job.row.snapshot and not job.row.error_name:
            self.manual.add(SnapshotKey(uuid, job.row.snapshot, job.row.created))

    async def _crash(self, real: LibvirtHypervisor) -> None:
        """In the middle of the work of the next slot."""
        self.clock.pass_(self.life.next_due() - self.clock.wall)
        await self.life.rooms.engine.look()
        for _ in range(self.dice.randrange(40)):
            await asyncio.sleep(0.0005)
        await self.life.crash(self.folder)
        await asyncio.sleep(0.05)  # libvirt ends the calls that it had begun
        self.clock.pass_(self.dice.choice([5, 5, 600, 30 * HOUR]))
        self.life = await self._begin(real)
        self.book.catch_up(self.life.rooms)


def expected(name: str, begin: int, end: int) -> list[int]:
    """A policy's slots in (begin, end], by another cron."""
    zone = ZoneInfo(ZONE)
    fires = CronSim(POLICIES[name][0], datetime.fromtimestamp(begin, zone))
    stamps = (int(fire.timestamp()) for fire in fires)
    return list(takewhile(lambda stamp: stamp <= end, stamps))


def accounted(rows: Iterable[RunRow], slots: list[int]) -> Counter[int]:
    """How often each slot is told of."""
    found: Counter[int] = Counter()
    for row in rows:
        several = re.match(r"(\d+) slots from (\d+) on", row.reason)
        if several:
            first = slots.index(int(several[2]))
            found.update(slots[first : first + int(several[1])])
        else:
            found[row.slot] += 1
    return found


async def check(year: Year) -> None:
    """What has to be true at the end of it."""
    store = await Store.open(year.folder / "state")
    try:
        rows, total = await store.runs({}, 0, 0, 0, 10**6)
        assert total == len(rows)
        opened = await store.open_runs()
        for slot in await store.slots():
            mine = [
                row
                for row in (*rows, *opened)
                if (row.policy, row.domain) == (slot.policy, slot.domain)
            ]
            slots = expected(slot.policy, BEGIN, slot.last_slot)
            assert accounted(mine, slots) == Counter(slots), (slot, year.said)
        year.said.update(row.outcome for row in rows)
    finally:
        await store.close()
    bad = [key for key, covered in year.book.gone if not covered]
    assert bad == []
    life = year.life.rooms
    for uuid, names in year.foreign.items():
        assert names <= set(life.inventory.domains[uuid].snapshots), uuid
    here = {
        SnapshotKey(uuid, s.name, s.created)
        for uuid, picture in life.inventory.domains.items()
        for s in picture.snapshots.values()
    }
    assert year.manual | year.pinned <= here
    assert {key for key in year.book.there if year.book.labels[key]} <= here
    for picture in life.inventory.domains.values():
        kept = [s for s in life.catalog.of(picture) if s.origin is Origin.POLICY]
        assert len(kept) < 30, picture.info.name
        decisions = plan(
            life.catalog.of(picture), life.policies.in_force, life.settings, year.clock.wall
        )
        assert all(
            d.keep for d in decisions if d.candidate.id.startswith(("manual", "virsh", "s-"))
        )


def run(tmp_path: Path, days: int, seed: int) -> Year:
    async def main(folder: Path) -> Year:
        year = Year(folder, seed)
        await year.play(days)
        await check(year)
        return year

    with scratch(tmp_path) as folder:
        return asyncio.run(main(folder), debug=False)  # as python -X dev would have it: too slow


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))]
)
def test_year_of_failures_restarts_and_wrong_clocks_breaks_no_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(settling, "RETRY", (0.002, 0.02))
    year = run(tmp_path, 365, seed)
    print(year.said, len(year.book.gone))
    for what in ("made", "failed", "caught-up", "skipped", "failed calls", *HAPPENINGS):
        assert year.said[what], (what, year.said)
    assert len(year.book.gone) > 1000
