"""What a snapshot lacks to be made, as far as room goes: for whoever may make some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import NoSpace
from ..hypervisor import DomainFacts
from .context import Context
from .create import planned
from .job import Job
from .preflight import Blocker
from .preflight.space import LIBVIRT
from .waiting import idle_facts
from .wishes import Wish

GAIN_BYTES = 1 << 20
"""Less than that is no gain: a file system's own bookkeeping, or what others write and remove."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """free: bytes on each file system of the images that has not the room, by its first disk; {} =
    there is room on all. other: what is in the way beside, so that room there would not do."""

    free: dict[str, int] = field(default_factory=dict)
    other: Blocker | None = None

    def eased(self, before: Shortage) -> bool:
        """Whether there is more room since."""
        return any(
            target not in self.free or self.free[target] - free >= GAIN_BYTES
            for target, free in before.free.items()
        )


def shortage(facts: DomainFacts, blockers: Iterable[Blocker]) -> Shortage:
    """Pure: what the blockers of a create say of room. libvirt's own folder counts with the disks
    that are on the same file system; elsewhere the images' room is none to it."""
    blockers = list(blockers)
    short = [b for b in blockers if b.error is NoSpace]
    free = {b.item: b.have or 0 for b in short if b.item in facts.space}
    devices = {facts.space[target].device for target in free}
    shared = facts.metadata is not None and facts.metadata.device in devices
    eased = [b for b in short if b.item in free or (shared and b.item == LIBVIRT)]
    return Shortage(free, next((b for b in blockers if b not in eased), None))


class Gauge:
    """Measures before each deletion that is to make room for a snapshot, in a job that holds the
    domain already."""

    def __init__(self, ctx: Context, job: Job, wish: Wish) -> None:
        self._ctx, self._job, self._wish = ctx, job, wish
        self._last: tuple[int, Shortage] | None = None

    async def helps(self, deleted: int) -> bool:
        """Whether one deletion more would bring the snapshot nearer, after so many: not when there
        is room, nor when the last one brought none. Raises, before the first, what is in the way
        of the snapshot beside the room."""
        ctx, job = self._ctx, self._job
        facts = await idle_facts(ctx.hypervisor, ctx.news, job, job.row.domain)
        now = shortage(facts, planned(ctx, facts, self._wish).blockers)
        before, self._last = self._last, (deleted, now)
        if now.other and not before:
            what = f"no room is made on VM {facts.info.name}, a snapshot is refused all the same"
            raise now.other.exception(what)
        if now.other or not now.free:
            return False
        return before is None or deleted == before[0] or now.eased(before[1])
