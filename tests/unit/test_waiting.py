"""Waiting for somebody else's job by what libvirt tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from snapd.hypervisor import DomainEvent, DomainFacts, EventKind, Hypervisor
from snapd.operations import Job
from snapd.operations.waiting import LOOK_AGAIN_SECONDS, News, idle_facts
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
