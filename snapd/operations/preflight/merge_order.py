"""Which of several external snapshots can be merged now, and in which order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from ...hypervisor import DomainFacts, ImageInfo
from ...model import Disk, SnapshotInfo
from .blocker import Blocker
from .merge import Taken, is_aside, merge_blockers, taken


@dataclass(frozen=True, slots=True)
class MergeOrder:
    """now: names in the order in which libvirt takes them, one after the other; deferred: name ->
    why each of the others can't go now."""

    now: tuple[str, ...] = ()
    deferred: dict[str, Blocker] = field(default_factory=dict)


def merge_order(
    facts: DomainFacts, names: Collection[str], *, by_policy: bool = False
) -> MergeOrder:
    """Which of these external snapshots can be merged now, and in which order.

    Branches go from their ends, and of the chain the oldest first: so what the guest wrote is
    moved once. It is worked out on these facts: before each merge they are to be read anew.
    """
    left = [s.name for s in facts.snapshots if s.name in names]
    now: list[str] = []
    while True:
        against: dict[str, Blocker] = {}
        first = None
        for s in sorted(
            _of(facts, left), key=lambda s: (not is_aside(facts, s), s.created, s.name)
        ):
            found = merge_blockers(facts, s, by_policy=by_policy)
            if not found:
                first = s
                break
            against[s.name] = found[0]
        if first is None:
            return MergeOrder(tuple(now), {s.name: against[s.name] for s in _of(facts, left)})
        facts = merged(facts, first)
        now.append(first.name)
        left.remove(first.name)


def _of(facts: DomainFacts, names: Collection[str]) -> list[SnapshotInfo]:
    return [s for s in facts.snapshots if s.name in names]


def merged(facts: DomainFacts, snapshot: SnapshotInfo) -> DomainFacts:
    """The facts as they are to be once libvirt has deleted it (11.3, measured)."""
    change = Taken() if is_aside(facts, snapshot) else taken(facts, snapshot)
    chains = facts.chains
    gone = set(change.gone.values())
    return replace(
        facts,
        info=replace(
            facts.info,
            disks=_on_bases(facts.info.disks, change),
            current=snapshot.parent if snapshot.current else facts.info.current,
        ),
        inactive=_on_bases(facts.inactive, change),
        snapshots=tuple(
            _without(s, snapshot, change) for s in facts.snapshots if s.name != snapshot.name
        ),
        chains=replace(
            chains,
            layers={
                t: tuple(layer for layer in layers if layer[0] not in gone)
                for t, layers in chains.layers.items()
            },
            live={t: tuple(p for p in files if p not in gone) for t, files in chains.live.items()},
            stored={
                t: tuple(p for p in files if p not in gone) for t, files in chains.stored.items()
            },
            images={p: _backed(image, change) for p, image in chains.images.items()},
        ),
    )


def _on_bases(disks: tuple[Disk, ...], change: Taken) -> tuple[Disk, ...]:
    """A disk whose own file was merged is on what took it in."""
    return tuple(
        replace(d, source=change.into[d.target])
        if d.source and change.gone.get(d.target) == d.source
        else d
        for d in disks
    )


def _backed(image: ImageInfo, change: Taken) -> ImageInfo:
    """libvirt has what stood on a merged file stand on what took it in, on other branches too."""
    for target, gone in change.gone.items():
        if image.backing == gone:
            return replace(image, backing=change.into[target])
    return image


def _without(other: SnapshotInfo, snapshot: SnapshotInfo, change: Taken) -> SnapshotInfo:
    """Another one's record: its place in the tree, and files that are merged away."""
    is_parent = other.name == snapshot.parent
    return replace(
        other,
        parent=snapshot.parent if other.parent == snapshot.name else other.parent,
        current=other.current or (snapshot.current and is_parent),
        bases=tuple(
            (t, change.into[t] if change.gone.get(t) == file else file) for t, file in other.bases
        ),
        bare=tuple(sorted({*other.bare, *(t for t, f in other.bases if change.gone.get(t) == f)})),
        overlays=other.reverted if is_parent and other.reverted else other.overlays,
        reverted=() if is_parent else other.reverted,
    )
