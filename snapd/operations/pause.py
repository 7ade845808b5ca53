"""How long guests stand still: measured, or estimated where nothing was measured yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ..hypervisor import DomainEvent, DomainFacts, EventKind, Hypervisor
from ..model import Consistency, Kind, Record, State

# Slow guesses, from LIBVIRT.md 9.5 (900 MiB in 7.1 s; 14 ms for an allocated GiB).
RAM_BYTES_PER_SECOND = 128 << 20
IMAGE_MS_PER_GIB = 14
LIVE_MS, OVERLAY_MS = 500, 100
"""An external snapshot with RAM, whose guest runs on meanwhile, and one without (LIBVIRT.md 8)."""


class PauseMeter:
    """The last standstill of each domain, between libvirt's suspended and resumed events."""

    def __init__(self, hypervisor: Hypervisor, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._last: dict[str, int] = {}
        hypervisor.on_event(self._on_event)

    def _on_event(self, event: DomainEvent) -> None:
        if event.kind is EventKind.PAUSED:
            self._since[event.uuid] = self._clock()
        elif event.kind is EventKind.RESUMED and event.uuid in self._since:
            self._last[event.uuid] = round((self._clock() - self._since.pop(event.uuid)) * 1000)
        elif event.kind in (EventKind.STOPPED, EventKind.UNDEFINED):
            self._since.pop(event.uuid, None)

    def forget(self, uuid: str) -> None:
        """Begin to measure anew."""
        self._last.pop(uuid, None)

    def last(self, uuid: str) -> int:
        """Milliseconds of the last whole standstill since forget(); -1 = none seen."""
        return self._last.get(uuid, -1)


def measured_ms(records: Iterable[Record], *, memory: bool) -> int:
    """What the last snapshot of its sort cost the running guest; -1 = none was measured."""
    ran = (r for r in records if r.state is State.RUNNING and r.pause_ms >= 0)
    same = [r for r in ran if (r.consistency is Consistency.MEMORY) == memory]
    return max(same, key=lambda r: r.key.created).pause_ms if same else -1


def estimate_ms(
    facts: DomainFacts, records: Iterable[Record], *, memory: bool, kind: Kind = Kind.INTERNAL
) -> int:
    """What a snapshot would cost the guest: as the last one of its sort did, else a guess, for an
    internal one from the RAM and from what of the images is allocated, be it without data."""
    if not facts.info.state.active:
        return 0
    if (measured := measured_ms(records, memory=memory)) >= 0:
        return measured
    if kind is Kind.EXTERNAL:
        return LIVE_MS if memory else OVERLAY_MS
    allocated = sum(image.mapped for image in facts.images.values())
    disks_ms = allocated * IMAGE_MS_PER_GIB // (1 << 30)
    ram_ms = facts.info.memory * 1000 // RAM_BYTES_PER_SECOND if memory else 0
    return disks_ms + ram_ms
