"""A VM that does not answer holds up the look at no other one, and is not asked ever more."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any, cast

import pytest

from snapd.errors import NoSuchDomain, Unavailable
from snapd.hypervisor import DomainEvent, EventKind, Hypervisor
from snapd.inventory import Inventory
from snapd.model import DomainInfo, SnapshotInfo
from tests.unit.standin import StandIn
from tests.unit.vms import ON

OTHER = "22222222-2222-4222-8222-222222222299"


class OneIsStuck(StandIn):
    """Two VMs, of which ON does not answer once it is stuck."""

    connected = True

    def __init__(self) -> None:
        super().__init__(ON)
        self.stuck, self.asked = asyncio.Event(), Counter[str]()
        self.free = asyncio.Event()

    async def versions(self) -> tuple[str, str]:
        return "9.0.0", "7.2.0"

    async def list_domains(self) -> dict[str, str]:
        return {ON.uuid: ON.name, OTHER: "other"}

    async def read(self, uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
        self.asked[uuid] += 1
        if uuid == ON.uuid and self.stuck.is_set():
            await self.free.wait()
        return replace(ON, uuid=uuid), []


def test_look_at_a_vm_does_not_wait_for_one_that_does_not_answer() -> None:
    async def main() -> None:
        vms = OneIsStuck()
        inventory = Inventory(cast(Hypervisor, vms))
        task: asyncio.Task[Any] = asyncio.create_task(inventory.run())
        inventory.look(OTHER)
        async with asyncio.timeout(5):
            await inventory._loaded.wait()
        await asyncio.sleep(0.05)  # what was wanted meanwhile is listed
        vms.stuck.set()
        begun = vms.asked.copy()
        for _ in range(5):
            inventory.look(ON.uuid)
            await asyncio.sleep(0.01)
        inventory.look(OTHER)
        async with asyncio.timeout(1):
            while vms.asked[OTHER] == begun[OTHER]:
                await asyncio.sleep(0.01)
        assert vms.asked[ON.uuid] == begun[ON.uuid] + 1
        vms.free.set()  # what happened while it was stuck is looked at once more
        async with asyncio.timeout(1):
            while vms.asked[ON.uuid] < begun[ON.uuid] + 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert vms.asked[ON.uuid] == begun[ON.uuid] + 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_look_at_a_vm_does_not_wait_for_the_end_of_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.inventory.POLL_SECONDS", 0.05)

    async def main() -> None:
        vms = OneIsStuck()
        inventory = Inventory(cast(Hypervisor, vms))
        task: asyncio.Task[Any] = asyncio.create_task(inventory.run())
        async with asyncio.timeout(5):
            await inventory._loaded.wait()
            vms.stuck.set()
            read = vms.asked[ON.uuid]
            while vms.asked[ON.uuid] == read:  # until a poll waits for it
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        begun = vms.asked[OTHER]
        inventory.look(OTHER)
        async with asyncio.timeout(1):
            while vms.asked[OTHER] == begun:
                await asyncio.sleep(0.01)
        assert vms.asked[ON.uuid] == read + 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_vm_that_comes_while_all_are_listed_stays() -> None:
    class Slow(OneIsStuck):
        """Its list of all VMs is older than what is read of the other one."""

        async def list_domains(self) -> dict[str, str]:
            await self.free.wait()
            return {ON.uuid: ON.name}

    async def main() -> None:
        vms = Slow()
        inventory = Inventory(cast(Hypervisor, vms))
        listing = asyncio.create_task(inventory.refresh_all())
        await asyncio.sleep(0)
        await inventory.refresh(OTHER)
        vms.free.set()
        await listing
        assert inventory.domains.keys() == {ON.uuid, OTHER}
        await inventory.refresh_all()  # and goes where it is not listed later, either
        assert inventory.domains.keys() == {ON.uuid}

    asyncio.run(main())


def test_vm_that_is_read_while_all_are_listed_stays() -> None:
    """It was undefined and is defined anew; the list is of between."""

    class Between(OneIsStuck):
        async def list_domains(self) -> dict[str, str]:
            await self.free.wait()
            return {}

    async def main() -> None:
        vms = Between()
        inventory = Inventory(cast(Hypervisor, vms))
        for uuid in (ON.uuid, OTHER):
            await inventory.refresh(uuid)
        listing = asyncio.create_task(inventory.refresh_all())
        await asyncio.sleep(0)
        await inventory.refresh(OTHER)
        vms.free.set()
        await listing
        assert inventory.domains.keys() == {OTHER}

    asyncio.run(main())


class Held:
    """A VM that a job of ours is at work on."""

    def __init__(self) -> None:
        self.vm, self.held = StandIn(ON), True
        self.inventory = Inventory(cast(Hypervisor, self.vm), lambda _uuid: self.held)

    def event(self, kind: EventKind = EventKind.OTHER, at: float = 0) -> None:
        for call in self.vm.on_events:
            call(DomainEvent(ON.uuid, kind, at=at))

    async def refresh(self, during: Callable[[], None] = lambda: None) -> None:
        async def read(_uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
            during()
            return self.vm.info, []

        self.vm.read = read  # type: ignore[method-assign]
        await self.inventory.refresh(ON.uuid)

    def looks(self) -> bool:
        """Whether the end of the job has the VM listed again."""
        self.inventory.let_go(ON.uuid)
        return bool(self.inventory._wanted)


def _held(body: Callable[[Held], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body(Held()))


def test_what_a_job_was_told_of_before_its_last_look_has_no_other_one_follow() -> None:
    async def body(held: Held) -> None:
        await held.refresh()
        held.event()
        await held.refresh()
        assert not held.looks()
        held.event()
        assert held.looks()

    _held(body)


def test_what_happens_while_a_job_looks_or_later_is_looked_at_when_it_is_done() -> None:
    async def during(held: Held) -> None:
        await held.refresh(held.event)
        assert held.looks()

    async def later(held: Held) -> None:
        held.event()
        await held.refresh()
        held.event()
        assert held.looks()

    async def unseen(held: Held) -> None:
        held.event()
        assert held.looks()

    for body in (during, later, unseen):
        _held(body)


def test_what_a_look_could_not_show_is_looked_at_when_the_job_is_done() -> None:
    def fails() -> None:
        raise Unavailable("no answer")

    async def failed(held: Held) -> None:
        await held.refresh()
        held.event()
        with pytest.raises(Unavailable):
            await held.refresh(fails)
        assert held.looks()

    async def half_done(held: Held) -> None:
        """What somebody is at work on sends events before all of it is done."""
        held.event()
        held.vm.info = replace(ON, busy_since=1)
        await held.refresh()
        assert held.looks()

    async def gone_between(held: Held) -> None:
        held.event()
        await held.refresh()
        with pytest.raises(NoSuchDomain):
            await held.refresh(_no_domain)
        held.event()
        assert held.looks()

    for body in (failed, half_done, gone_between):
        _held(body)


@pytest.mark.parametrize("held", [True, False])
def test_record_that_is_told_of_late_is_looked_at_where_it_was_written_later(held: bool) -> None:
    """libvirt's files are told of together, a while after; what was told at once is not lost."""

    async def before(vm: Held) -> None:
        vm.held = held
        at = time.monotonic()
        await vm.refresh()
        vm.event(EventKind.RECORDED, at=at)
        assert not vm.looks()

    async def later(vm: Held) -> None:
        vm.held = held
        await vm.refresh()
        vm.event(EventKind.RECORDED, at=time.monotonic())
        assert vm.looks()

    async def both(vm: Held) -> None:
        vm.held = held
        at = time.monotonic()
        await vm.refresh()
        vm.event()
        vm.event(EventKind.RECORDED, at=at)
        assert vm.looks()

    for body in (before, later, both):
        _held(body)


def _no_domain() -> None:
    raise NoSuchDomain("no such VM")


class MostAreTheSame(OneIsStuck):
    """same: what is proven to be as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.same: set[str] = set()
        self.offered: list[set[str]] = []

    async def unchanged(self, uuids: Collection[str]) -> set[str]:
        self.offered.append(set(uuids))
        return self.same & set(uuids)


def test_poll_reads_again_what_is_not_proven_to_be_as_it_was() -> None:
    async def main() -> None:
        vms, now = MostAreTheSame(), 1000
        held: set[str] = set()
        inventory = Inventory(cast(Hypervisor, vms), held.__contains__, lambda: now)
        vms.same = {ON.uuid, OTHER}
        await inventory.refresh_all()  # the first of a connection has nothing to be held against
        assert (vms.asked, vms.offered) == ({ON.uuid: 1, OTHER: 1}, [])
        inventory.loading, vms.same, now = False, {OTHER}, 1060
        await inventory.refresh_all()
        assert vms.asked == {ON.uuid: 2, OTHER: 1}
        assert {p.checked for p in inventory.domains.values()} == {1060}  # both were asked for

        vms.same, now = {ON.uuid, OTHER}, 1120
        inventory.domains[ON.uuid].error = Unavailable("it did not answer")
        held.add(OTHER)  # whose job reads it when it is done
        await inventory.refresh_all()
        assert vms.offered[-1] == set()
        assert vms.asked == {ON.uuid: 3, OTHER: 1}
        assert inventory.domains[OTHER].checked == 1060

        del inventory.domains[OTHER]  # what has come is read, whatever was known of it
        await inventory.refresh_all()
        assert vms.asked[OTHER] == 2

    asyncio.run(main())


def test_poll_asks_libvirt_again_after_it_was_away() -> None:
    async def main() -> None:
        vms = MostAreTheSame()
        inventory = Inventory(cast(Hypervisor, vms))
        await inventory.refresh_all()
        inventory.loading, vms.same = False, {ON.uuid, OTHER}
        for call in vms.on_connections:
            call(False)
            call(True)
        await inventory.refresh_all()
        assert vms.asked == {ON.uuid: 2, OTHER: 2}

    asyncio.run(main())


def test_connection_that_is_new_while_the_first_poll_reads_is_read_at_once() -> None:
    async def main() -> None:
        vms = OneIsStuck()
        vms.stuck.set()
        inventory = Inventory(cast(Hypervisor, vms))
        for call in vms.on_connections:
            call(True)
        task: asyncio.Task[Any] = asyncio.create_task(inventory.run())
        async with asyncio.timeout(5):
            while not vms.asked[OTHER]:
                await asyncio.sleep(0.01)
            for call in vms.on_connections:
                call(False)
                call(True)
            vms.free.set()
            await inventory._loaded.wait()
        assert vms.asked[OTHER] == 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_poll_that_keeps_a_core_busy_comes_less_often_but_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = 0.0
    monkeypatch.setattr("time.process_time", lambda: cpu)

    class Costly(OneIsStuck):
        """A reading of it keeps a core busy so long."""

        seconds = 4.0

        async def read(self, uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
            nonlocal cpu
            cpu += self.seconds
            return await super().read(uuid)

    async def main() -> None:
        vms = Costly()
        inventory = Inventory(cast(Hypervisor, vms))
        assert await inventory._read_everything() == 60  # the first of a connection comes but once
        assert await inventory._read_everything() == 80
        vms.seconds = 2.9
        assert await inventory._read_everything() == 60
        vms.seconds = 50  # what others did while it waited is counted, too
        assert await inventory._read_everything() == 300

    asyncio.run(main())
