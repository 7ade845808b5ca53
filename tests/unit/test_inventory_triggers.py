"""Events that come while a job of ours is at work, or just after, are taken for its doing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from snapd.hypervisor import DomainEvent, EventKind, Hypervisor
from snapd.inventory import Inventory
from tests.unit.standin import StandIn
from tests.unit.vms import OFF, ON

STOPPED = DomainEvent(ON.uuid, EventKind.STOPPED, trigger="shutdown")


class Told:
    """An inventory whose VM is held or not, and what it tells."""

    def __init__(self) -> None:
        self.held = False
        vm = StandIn(ON)
        self.inventory = Inventory(cast(Hypervisor, vm), lambda _uuid: self.held)
        self.words: list[tuple[str, str]] = []
        self.inventory.on_trigger(lambda uuid, word: self.words.append((uuid, word)))
        (self.event,) = vm.on_events


def play(body: Callable[[Told], None]) -> None:
    async def main() -> None:
        body(Told())

    asyncio.run(main())


def test_trigger_is_told_at_once() -> None:
    def body(told: Told) -> None:
        told.event(STOPPED)
        told.event(DomainEvent(ON.uuid, EventKind.STARTED, trigger="start"))
        assert told.words == [(ON.uuid, "shutdown"), (ON.uuid, "start")]

    play(body)


def test_revert_and_what_is_no_trigger_are_not_told() -> None:
    def body(told: Told) -> None:
        told.event(DomainEvent(ON.uuid, EventKind.STOPPED, True, "shutdown"))
        told.event(DomainEvent(ON.uuid, EventKind.PAUSED))
        assert told.words == []

    play(body)


def test_trigger_while_a_job_is_at_work_is_dropped_and_not_put_off() -> None:
    def body(told: Told) -> None:
        told.held = True
        told.event(STOPPED)
        told.inventory.let_go(ON.uuid)
        told.held = False
        assert told.words == []

    play(body)


def test_event_that_comes_after_the_end_of_its_job_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As libvirt sends them: of 150 stops on a busy machine 4 were told up to 17 ms late."""

    def body(told: Told) -> None:
        now = 1000.0
        monkeypatch.setattr("snapd.inventory.time", SimpleNamespace(monotonic=lambda: now))
        told.inventory.let_go(ON.uuid)
        now += 1
        told.event(STOPPED)
        assert told.words == []
        told.event(DomainEvent("another", EventKind.STOPPED, trigger="shutdown"))
        assert told.words == [("another", "shutdown")]
        now += 5
        told.event(STOPPED)
        assert told.words[1:] == [(ON.uuid, "shutdown")]

    play(body)


def test_events_of_a_merge_are_no_start_of_a_vm_that_is_off() -> None:
    """As libvirt 11.3 sent them: block jobs and QEMU's end, of a guest that never ran. A policy
    with only_if = changed would take one snapshot more after each that it deletes."""

    async def main() -> None:
        held = True
        vm = StandIn(OFF)
        inventory = Inventory(cast(Hypervisor, vm), lambda _uuid: held)
        active: list[str] = []
        inventory.on_active(active.append)
        await inventory.refresh(OFF.uuid)
        (event,) = vm.on_events
        event(DomainEvent(OFF.uuid, EventKind.OTHER))
        inventory.let_go(OFF.uuid)
        held = False
        event(DomainEvent(OFF.uuid, EventKind.OTHER))  # late, as the queue has it
        assert active == []
        event(DomainEvent(OFF.uuid, EventKind.STARTED, trigger="start"))
        assert active == [OFF.uuid]

    asyncio.run(main())


def test_block_job_of_a_running_vm_tells_that_it_is_active() -> None:
    async def main() -> None:
        vm = StandIn(ON)
        inventory = Inventory(cast(Hypervisor, vm), lambda _uuid: True)
        await inventory.refresh(ON.uuid)
        active: list[str] = []
        inventory.on_active(active.append)
        (event,) = vm.on_events
        event(DomainEvent(ON.uuid, EventKind.OTHER))
        assert active == [ON.uuid]

    asyncio.run(main())
