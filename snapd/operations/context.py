"""What every verb works with, and the small steps that all of them share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import Changed, Inconsistent, NoSuchSnapshot
from ..hypervisor import DomainFacts, Hypervisor
from ..inventory import Inventory
from ..model import DomainInfo, SnapshotInfo, SnapshotKey
from ..store import Store
from .jobs import Jobs
from .pause import PauseMeter
from .preflight import Blocker
from .thaw import FrozenGuests
from .waiting import News, Writers


@dataclass(frozen=True)
class Context:
    """The rooms that a verb needs. clock: seconds UTC; tail: a short random word for names; boot:
    another word after each start of the host. writers: who writes RAM; mergers: who merges
    overlays, one on a file system."""

    hypervisor: Hypervisor
    inventory: Inventory
    store: Store
    jobs: Jobs
    pauses: PauseMeter
    frozen_guests: FrozenGuests
    news: News
    writers: Writers
    mergers: Writers
    clock: Callable[[], float] = time.time
    tail: Callable[[], str] = lambda: ""
    boot: str = ""


def refuse(what: str, blockers: Sequence[Blocker]) -> None:
    """Raise the first blocker as the act's error."""
    if blockers:
        raise blockers[0].exception(what)


def pick(facts: DomainFacts, key: SnapshotKey) -> SnapshotInfo:
    """The snapshot of that name and creation time; Changed where it is another one by now."""
    found = next((s for s in facts.snapshots if s.name == key.name), None)
    vm = facts.info.name
    if found is None:
        raise NoSuchSnapshot(f"VM {vm} has no snapshot {key.name!r} any more", item=key.name)
    if found.created != key.created:
        raise Changed(
            f"snapshot {key.name!r} of VM {vm} is not the one that was asked about: "
            "it was made anew; look again",
            item=key.name,
        )
    return found


async def verify_tags(
    ctx: Context, info: DomainInfo, targets: Sequence[str], name: str
) -> dict[str, int]:
    """target -> how many snapshots of that name its image holds now; {} without images."""
    if not ctx.hypervisor.has_images:
        return {}
    disks = [d for d in info.disks if d.target in targets]
    gone = sorted(set(targets) - {d.target for d in disks})
    if gone:
        raise Inconsistent(f"VM {info.name}: disk {gone[0]} has left the VM meanwhile")
    tags = await ctx.hypervisor.tags(info, disks)
    return {target: names.count(name) for target, names in tags.items()}
