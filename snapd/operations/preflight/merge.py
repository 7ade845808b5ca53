"""Everything against merging an external snapshot away, and which of several can go now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ...hypervisor import DomainFacts
from ...model import SnapshotInfo
from .blocker import Blocker
from .domain import holder_blockers
from .external import external_blockers


def merge_blockers(
    facts: DomainFacts, snapshot: SnapshotInfo, *, by_policy: bool = False
) -> list[Blocker]:
    """Everything against libvirt's delete of it now. by_policy: nobody is there to undo what fails
    half way."""
    found = external_blockers(facts.info, facts.snapshots, snapshot, "merge")
    return [*holder_blockers(facts), *found]


@dataclass(frozen=True, slots=True)
class MergeOrder:
    """now: names in the order in which libvirt takes them, one after the other; deferred: name ->
    why each of the others can't go now."""

    now: tuple[str, ...] = ()
    deferred: dict[str, Blocker] = field(default_factory=dict)


def merge_order(
    facts: DomainFacts, names: Collection[str], *, by_policy: bool = False
) -> MergeOrder:
    """Which of these external snapshots can be merged now, and in which order. It is of the facts
    as they are: after each merge they are to be read anew, and asked again."""
    wanted = [s for s in facts.snapshots if s.name in names]
    found = {s.name: merge_blockers(facts, s, by_policy=by_policy) for s in wanted}
    return MergeOrder(deferred={name: against[0] for name, against in found.items() if against})
