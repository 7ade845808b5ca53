"""Waiting for somebody else's job by what libvirt tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from snapd.errors import Busy
from snapd.hypervisor import DomainEvent, DomainFacts, EventKind, Hypervisor, Space
from snapd.operations import Job
from snapd.operations.waiting import LOOK_AGAIN_SECONDS, News, Writers, idle_facts
from tests.unit.vms import ON, UUID, facts_of


class EndsDuringTheLook:
    """The backup ends, and libvirt says so, while its VM is being looked at."""

    def __init__(self) -> None:
        self.holders = ["backup", ""]
        self.listeners: list[Callable[[DomainEvent], None]] = []

    def on_event(self, call: Callable[[DomainEvent], None]) -> None:
        self.listeners.append(call)

    async def facts(self, _uuid: str, _snapshot: str = "") -> DomainFacts:
        facts = replace(facts_of(ON), holder=self.holders.pop(0))
        for call in self.listeners:
            call(DomainEvent(UUID, EventKind.OTHER))
        return facts


class _Job:
    stopping = False

    def __init__(self, start_by: float) -> None:
        self.start_by = start_by

    def wait_for(self, _whom: str) -> None: ...

    def enter(self, _phase: str) -> None: ...


def test_idle_facts_end_told_during_the_look_is_not_missed() -> None:
    vm: Any = EndsDuringTheLook()

    async def body() -> DomainFacts:
        news = News(cast(Hypervisor, vm))
        job = cast(Job, _Job(asyncio.get_running_loop().time() + 60))
        return await idle_facts(cast(Hypervisor, vm), news, job, UUID)

    begun = time.monotonic()
    assert asyncio.run(body()).holder == ""
    assert time.monotonic() - begun < LOOK_AGAIN_SECONDS / 2


def _on(*devices: int) -> DomainFacts:
    """A VM whose disks are on these file systems."""
    room = (Space(1 << 40, 1 << 41, 9, device) for device in devices)
    found = dict(zip(("vda", "vdb"), room, strict=False))
    return facts_of(ON, space=found)


async def _writes(
    writers: Writers, patience: float, facts: DomainFacts, seen: list[str], name: str
) -> None:
    job = cast(Job, _Job(asyncio.get_running_loop().time() + patience))
    async with writers.turn(job, facts, ("vda", "vdb")):
        seen.append(f"{name} begins")
        await asyncio.sleep(0.05)
        seen.append(f"{name} ends")


def test_one_merge_at_a_time_on_a_file_system_and_others_beside_it() -> None:
    seen: list[str] = []

    async def body() -> None:
        writers = Writers("merges a snapshot", "merger")
        await asyncio.gather(
            _writes(writers, 60, _on(7, 8), seen, "first"),
            _writes(writers, 60, _on(8, 7), seen, "second"),
            _writes(writers, 60, _on(9), seen, "elsewhere"),
        )

    asyncio.run(body())
    assert seen[:2] == ["first begins", "elsewhere begins"]
    assert seen.index("first ends") < seen.index("second begins")


def test_merge_that_may_not_wait_is_refused_and_holds_nothing() -> None:
    seen: list[str] = []

    async def body() -> None:
        writers = Writers("merges a snapshot", "merger")
        first = asyncio.create_task(_writes(writers, 60, _on(8), seen, "first"))
        await asyncio.sleep(0.01)
        with pytest.raises(Busy, match="merges a snapshot on the same file system") as error:
            await _writes(writers, 0, _on(7, 8), seen, "second")
        assert error.value.item == "merger"
        await _writes(writers, 0, _on(7), seen, "third")
        await first

    asyncio.run(body())
    assert "third ends" in seen
