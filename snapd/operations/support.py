"""The cheap verdicts that lists show: only what XML, tree and version tell; nothing is asked or
measured, and what would have to be is `unchecked` until a preview looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ..hypervisor import ChainFacts, DomainFacts
from ..model import DomainInfo, Kind, Record, SnapshotInfo
from .pause import measured_ms
from .plan import plan
from .preflight import (
    Blocker,
    cheap_external_blockers,
    disk_blockers,
    external_blockers,
    memory_blockers,
    shape_blockers,
    state_blockers,
    tree_blockers,
)
from .wishes import Wish

YES = "yes"
UNCHECKED = "unchecked"
NO_CHAINS = ChainFacts()


def support(
    info: DomainInfo,
    snapshots: Sequence[SnapshotInfo],
    *,
    monitor: bool,
    has_images: bool,
    chains: ChainFacts = NO_CHAINS,
) -> dict[str, str]:
    """What can be made of a domain now: `internal`, `internal-memory`, `external`,
    `external-memory` -> yes, or the first reason word against it. chains: what this libvirt can
    do, of no domain."""
    common = [*state_blockers(info, snapshots), *disk_blockers(info.disks, has_images=has_images)]
    plain = common if info.state.active else [*common, *memory_blockers(info, with_memory=False)]
    with_memory = [*common, *memory_blockers(info, with_memory=True)]
    internal = _word(plain)
    if internal == YES and info.state.active and not monitor:
        internal = "monitor-off"
    return {
        "internal": internal,
        "internal-memory": _word(with_memory),
        **{
            f"external{'-memory' if memory else ''}": _word(
                [*cheap_external_blockers(info, snapshots, chains, memory=memory)]
            )
            for memory in (False, True)
        },
    }


def _word(blockers: Sequence[Blocker]) -> str:
    return blockers[0].reason if blockers else YES


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a snapshot would fare. blocker: what is against it, None = nothing known; kind: what it
    would be, "" where it cannot be made; pause_ms: the guest's standstill, -1 = unknown; why: why
    it is of that kind, where that is not the usual one."""

    blocker: Blocker | None
    kind: str
    pause_ms: int
    why: str = ""

    @property
    def verdict(self) -> str:
        """`yes`, or the reason word."""
        return self.blocker.reason if self.blocker else YES


def outlook(
    info: DomainInfo,
    snapshots: Sequence[SnapshotInfo],
    records: Sequence[Record],
    wish: Wish,
    *,
    monitor: bool,
    has_images: bool,
    chains: ChainFacts = NO_CHAINS,
    version: tuple[int, int, int] = (0, 0, 0),
) -> Outlook:
    """How such a snapshot would fare now, by the very plan that makes it, but with no image looked
    at: what they alone tell shows when it is made. records: ours of the domain; chains: as
    support()'s; version: libvirt's."""
    tree = tuple(snapshots)
    facts = DomainFacts(
        info, tree, info.disks, "", chains=chains, version=version, has_images=has_images
    )
    made = plan(facts, wish, records, "", monitor=monitor)
    pause = made.pause_ms
    if info.state.active and not made.memory:  # the guess would be from images
        pause = measured_ms(records, memory=False)
    blocker = made.blockers[0] if made.blockers else None
    if blocker:
        return Outlook(blocker, "", pause)
    why = next((w.message for w in made.warnings if w.reason == "external"), "")
    return Outlook(None, made.kind.value, pause, why)


@dataclass(frozen=True, slots=True)
class Tree:
    """A domain's snapshots, and the reason words that they have against any verb: looked at once,
    not again for each of thousands."""

    snapshots: tuple[SnapshotInfo, ...]
    words: tuple[str, ...]

    @classmethod
    def of(cls, info: DomainInfo, snapshots: Iterable[SnapshotInfo]) -> Tree:
        tree = tuple(snapshots)
        return cls(tree, tuple(blocker.reason for blocker in tree_blockers(info, tree)))


def revert_blocker(
    info: DomainInfo,
    snapshot: SnapshotInfo,
    tree: Tree,
    *,
    has_images: bool,
    chains: ChainFacts = NO_CHAINS,
) -> str:
    """ "" = none known, a reason word, or `unchecked`: images have to be measured by a preview."""
    if snapshot.kind is Kind.EXTERNAL and not chains.capable:
        return _word([*external_blockers(info, tree.snapshots, snapshot, "revert to")])
    if snapshot.kind is Kind.EXTERNAL:
        return next(_external_words(info, tree), UNCHECKED)
    return next(_revert_words(info, tree), UNCHECKED if has_images else "")


def _external_words(info: DomainInfo, tree: Tree) -> Iterator[str]:
    """What is against any verb in a tree of external ones. Whether the disks have left it, the
    headers tell."""
    words = [word for word in tree.words if word != "mixed-tree"]
    words += ["mixed-tree"] if any(s.kind is Kind.INTERNAL for s in tree.snapshots) else []
    words += ["transient"] if not info.persistent else []
    words += ["managed-save"] if info.managed_save else []
    words += ["unfinished-job"] if info.busy else []
    yield from words


def _revert_words(info: DomainInfo, tree: Tree) -> Iterator[str]:
    yield from tree.words
    if not info.persistent:
        yield "transient"
    if info.managed_save:
        yield "managed-save"
    if info.busy:
        yield "unfinished-job"


def delete_blocker(
    info: DomainInfo,
    snapshot: SnapshotInfo,
    tree: Tree,
    *,
    pinned: bool,
    has_images: bool,
    chains: ChainFacts = NO_CHAINS,
) -> str:
    """As revert_blocker()."""
    if pinned:
        return "pinned"
    if snapshot.kind is Kind.EXTERNAL and chains.capable:
        shape = (blocker.reason for blocker in shape_blockers(tree.snapshots, snapshot))
        return next(chain(_external_words(info, tree), shape), UNCHECKED)
    if snapshot.kind is Kind.EXTERNAL:
        return _word([*external_blockers(info, tree.snapshots, snapshot, "merge")])
    words = list(tree.words)
    words += ["unfinished-job"] if info.busy else []
    return next(iter(words), UNCHECKED if has_images else "")
