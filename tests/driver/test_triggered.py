"""Policies that a VM's own doing triggers, and what is not begun while the host stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from snapd.bus.rooms import Rooms
from snapd.daemon import Place, build
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.model import Consistency, JobState, Origin, Snapshot, SnapshotKey
from snapd.operations import Asker, RevertWish, Wish
from snapd.settings import Settings
from snapd.store import Store
from tests.bus import PrivateBus, private_bus
from tests.client import Client, Row
from tests.driver.fake_logind import FakeLogind
from tests.driver.house import HOST, HOURLY, WEB1, House
from tests.driver.test_policies import of_policy, slots

ON = 'domains = ["web-1"]\non = [{words}]\nmin_gap = "{gap}"\n[keep]\nlast = 9\n'
QUIET = 1.0


class Alive:
    """A daemon without a bus, in this process: only so can a test touch its VMs."""

    def __init__(self, rooms: Rooms, hypervisor: LibvirtHypervisor) -> None:
        self.rooms = rooms
        self._hypervisor = hypervisor

    @property
    def vm(self) -> libvirt.virDomain:
        conn = self._hypervisor._connections._main
        assert conn is not None
        return conn.lookupByUUIDString(WEB1)

    def made(self, policy: str) -> list[Snapshot]:
        """What a policy has made so far, oldest first."""
        found = self.rooms.catalog.of(self.rooms.inventory.domains[WEB1])
        return [s for s in found if policy in s.policies]

    async def has_made(self, policy: str, count: int) -> list[Snapshot]:
        """Wait for that many, and see that no more come."""
        async with asyncio.timeout(20):
            while len(self.made(policy)) < count:
                await asyncio.sleep(0.05)
        await asyncio.sleep(QUIET)
        assert len(self.made(policy)) == count
        return self.made(policy)


def live(
    folder: Path,
    policies: dict[str, str],
    body: Callable[[Alive], Awaitable[None]],
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Run a test's body in front of the test driver, with these policies in force."""
    for name, text in policies.items():
        path = folder / "etc" / "policies.d" / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def main() -> None:
        uri = f"test://{HOST}"
        place = Place("", uri, uri, folder / "etc", folder / "state")
        store = await Store.open(place.state)
        hypervisor = LibvirtHypervisor(uri)
        rooms = await build(place, Settings(), store, [], hypervisor, stopping=stopping)
        works = (hypervisor.keep(), rooms.inventory.run(), rooms.engine.run())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await rooms.inventory.ready("cannot live")
            await body(Alive(rooms, hypervisor))
        finally:
            await rooms.jobs.stop(1)
            await rooms.engine.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await hypervisor.close()
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("word", ["start", "shutdown", "crash"])
def test_policy_is_run_by_the_words_that_it_names_alone(tmp_path: Path, word: str) -> None:
    begun = int(time.time())

    async def body(alive: Alive) -> None:
        vm = alive.vm
        vm.shutdown()
        vm.create()
        vm.coreDump(str(tmp_path / "core"), libvirt.VIR_DUMP_CRASH)
        (made,) = await alive.has_made("mine", 1)
        assert (made.origin, made.policies) == (Origin.EVENT, ("mine",))
        assert made.info.name.startswith("mine-2")
        assert made.info.created >= begun
        runs, _ = await alive.rooms.store.runs({"domain": WEB1}, 0, 0, 0, 10)
        assert [(run.policy, run.outcome) for run in runs] == [("mine", "made")]
        assert f"on {word}" in runs[0].reason

    live(tmp_path, {"mine": ON.format(words=f'"{word}"', gap="1h")}, body)


def test_guest_that_shuts_down_again_within_min_gap_is_let_be(tmp_path: Path) -> None:
    async def body(alive: Alive) -> None:
        alive.vm.shutdown()
        (made,) = await alive.has_made("rare", 1)
        assert made.record is not None and made.record.consistency is Consistency.OFFLINE
        await asyncio.sleep(3.5)  # else it would be taken for our own doing
        alive.vm.create()
        alive.vm.shutdown()
        await alive.has_made("often", 2)
        assert [s.key for s in alive.made("rare")] == [made.key]

    policies = {
        "often": ON.format(words='"shutdown"', gap="0s"),
        "rare": ON.format(words='"shutdown"', gap="1h"),
    }
    live(tmp_path, policies, body)


def test_what_jobs_and_reverts_do_triggers_nothing(tmp_path: Path) -> None:
    async def body(alive: Alive) -> None:
        rooms = alive.rooms
        info = rooms.inventory.domains[WEB1].info
        for wish in (Wish("one", then="stop"), Wish("two", then="restart", memory="no")):
            job = await rooms.operations.create(info, wish, Asker())
            await job.ended.wait()
        one = rooms.inventory.domains[WEB1].snapshots["one"]
        key = SnapshotKey(WEB1, "one", one.created)
        for after in ("running", "stopped"):
            job = await rooms.operations.revert(info, RevertWish(key, after), Asker())
            await job.ended.wait()
            assert job.row.state is JobState.DONE, job.row.error_message
        alive.vm.revertToSnapshot(alive.vm.snapshotLookupByName("by-hand"), 0)
        await alive.has_made("any", 0)

    live(tmp_path, {"any": ON.format(words='"start", "shutdown", "crash"', gap="0s")}, body)


def test_vm_that_the_stopping_host_shuts_down_triggers_nothing(tmp_path: Path) -> None:
    """Nor later, where the host goes on after all: what it would show is of no use by then."""
    host = {"stopping": True}

    async def body(alive: Alive) -> None:
        alive.vm.shutdown()
        await asyncio.sleep(QUIET)
        host["stopping"] = False
        await alive.rooms.engine.look()
        await alive.has_made("off", 0)

    live(tmp_path, {"off": ON.format(words='"shutdown"', gap="0s")}, body, lambda: host["stopping"])


# ---- the daemon, and logind


@pytest.fixture
def system_bus() -> Iterator[PrivateBus]:
    with private_bus(system_limits=True) as bus:
        yield bus


def test_slot_that_is_due_while_the_host_stops_is_caught_up_when_it_goes_on(
    house: House, system_bus: PrivateBus
) -> None:
    house.serve(house.host, system_bus=system_bus.address)
    daemon = house.daemon
    house.policy("hourly", HOURLY.replace('"web-*"', '"web-1"'))
    client = house.start()
    client.until("its slot", lambda: slots(house))
    house.stop()
    with house.db() as db:
        assert db.execute("UPDATE slots SET last_slot = last_slot - 7200").rowcount == 1
    fake = client.run(FakeLogind.at(system_bus.address, preparing=True))
    client = house.start()
    client.until_read()
    client.until("it knows", lambda: "the host is stopping: " in daemon.log)
    have_it_look(house)
    time.sleep(QUIET)
    assert (of_policy(client, "web-1"), client.rows("ListRuns", "web-1")) == ([], [])
    client.run(fake.prepare(False))
    client.until("it knows", lambda: "the host goes on" in daemon.log)
    have_it_look(house)  # it would by itself, too, half a minute later
    runs = client.until("it is caught up", lambda: _two_runs(client))
    assert sorted(r["Outcome"] for r in runs) == ["caught-up", "made"]
    assert len(of_policy(client, "web-1")) == 1
    client.run(fake.close())


def have_it_look(house: House) -> None:
    """By another policy, which is about no VM here."""
    house.policy(f"other-{time.monotonic_ns()}", HOURLY.replace("web-*", "nobody"))
    house.client.call("Reload")


def _two_runs(client: Client) -> list[Row] | None:
    runs = client.rows("ListRuns", "web-1")
    return runs if len(runs) >= 2 else None
