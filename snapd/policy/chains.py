"""Retention where snapshots are overlays: what can be merged away now, and what piles up. Pure.

The plan says which snapshots may go; libvirt merges only some of those at a time. The rest waits,
and a VM whose disks stand on too many that wait is snapshotted no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import Unsupported
from ..inventory import DomainPicture
from ..model import Kind, Snapshot
from ..planning.retention import Decision

OF_TREE = frozenset({"active-non-leaf", "branching", "children", "not-in-chain"})
"""Words against a merge that go by themselves once those that are in the way have gone."""
LASTING = OF_TREE | {
    "apparmor-commit",
    "checkpoints",
    "external-unsupported",
    "half-made",
    "managed-save",
    "mixed-tree",
    "other-file",
    "pending-config",
    "shared-base",
    "transient",
}
"""Words that no wait changes: what they keep is looked at after the next success, and no sooner."""
FULL = frozenset({"min-free", "no-space"})
MOST_TOLD = 3
PILE = 10
"""So many that wait may a VM's disks stand on, and as many as are kept, where those are more."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """What a plan lets go and libvirt doesn't merge: the word against it, since when (seconds UTC),
    and whether the VM's disks stand on it."""

    word: str
    since: int
    in_chain: bool


@dataclass(frozen=True, slots=True)
class Pile:
    """The external snapshots below a VM's disks that a plan lets go, and how many there may be.
    released: those of them that it lets go at any time, since enough newer ones are there."""

    names: tuple[str, ...]
    limit: int
    released: tuple[str, ...] = ()

    @property
    def full(self) -> bool:
        return len(self.names) >= self.limit

    @property
    def half_full(self) -> bool:
        return 2 * len(self.names) >= self.limit


def active_chain(picture: DomainPicture) -> frozenset[str]:
    """The current snapshot and what it was made upon: of a chain, what the disks stand on."""
    found: list[str] = []
    name = picture.info.current
    while name in picture.snapshots and name not in found:
        found.append(name)
        name = picture.snapshots[name].parent
    return frozenset(found)


def external(decisions: Iterable[Decision], snapshots: Mapping[str, Snapshot]) -> list[Decision]:
    """Those about snapshots that are overlays."""
    return [
        d
        for d in decisions
        if (s := snapshots.get(d.candidate.id)) and s.info.kind is Kind.EXTERNAL
    ]


def pile(decisions: Sequence[Decision], picture: DomainPicture) -> Pile:
    """What has piled up by a plan of the domain."""
    chain, kinds = active_chain(picture), picture.snapshots
    inside = [
        d
        for d in decisions
        if d.candidate.id in chain and kinds[d.candidate.id].kind is Kind.EXTERNAL
    ]
    kept = sum(d.keep for d in inside)
    going = [d for d in inside if not d.keep]
    ageless = (d for d in going if not any("max-age" in why for why in d.reasons))
    names = tuple(d.candidate.id for d in going)
    return Pile(names, max(PILE, kept), tuple(d.candidate.id for d in ageless))


@dataclass(frozen=True, slots=True)
class Heap:
    """What could not be merged at a domain's last prune: waits: name -> Stuck; pile: those that its
    disks stand on."""

    waits: Mapping[str, Stuck]
    pile: Pile


def refusal(pile: Pile, waits: Mapping[str, Stuck], picture: DomainPicture) -> Unsupported | None:
    """Why no other overlay is put on a pile; None = it may be."""
    if not pile.full:
        return None
    vm = picture.info.name
    return Unsupported(
        f"VM {vm}: its disks stand on {len(pile.names)} snapshots that retention lets go and "
        f"libvirt does not merge ({words(waits, pile.names)}){branches(picture, waits)}, and no "
        "other is put on top of them",
        reason="chain-limit",
        item=vm,
        ways=("delete-branch",),
    )


def words(waits: Mapping[str, Stuck], names: Collection[str]) -> str:
    """`3 branching, 1 not-in-chain`; those of which it isn't known stand as `not tried yet`."""
    count = Counter(waits[n].word if n in waits else "not tried yet" for n in names)
    return ", ".join(f"{number} {word}" for word, number in sorted(count.items()))


def in_the_way(picture: DomainPicture, waits: Collection[str]) -> list[str]:
    """What retention keeps on branches that the VM is not on, and that stands on what waits: that
    goes when these have gone. The ends of branches first."""
    chain, found = active_chain(picture), []
    for name, snapshot in picture.snapshots.items():
        above, parent = {name}, snapshot.parent
        while parent in picture.snapshots and parent not in above:
            above.add(parent)
            parent = picture.snapshots[parent].parent
        if name not in chain and name not in waits and above & set(waits):
            found.append((-len(above), name))
    return [name for _depth, name in sorted(found)]


def branches(picture: DomainPicture, waits: Mapping[str, Stuck]) -> str:
    """`, since A and B, which are kept, stand on another branch`; "" = that is not why."""
    names = in_the_way(picture, {n for n, stuck in waits.items() if stuck.word in OF_TREE})
    if not names:
        return ""
    told = [*names[:MOST_TOLD], *([f"{len(names) - MOST_TOLD} more"] if names[MOST_TOLD:] else [])]
    who = " and ".join(filter(None, [", ".join(told[:-1]), told[-1]]))
    one = len(names) == 1
    return f", since {who}, which {'is' if one else 'are'} kept, stand{'s' * one} on another branch"


def noted(
    before: Mapping[str, Stuck], stays: Mapping[str, str], picture: DomainPicture, now: int
) -> dict[str, Stuck]:
    """What is stuck after a prune that left `stays` (name -> word), each since it first was."""
    chain = active_chain(picture)
    return {
        name: Stuck(word, before[name].since if name in before else now, name in chain)
        for name, word in stays.items()
        if word in LASTING
        and name in picture.snapshots
        and picture.snapshots[name].kind is Kind.EXTERNAL
    }


def reasons(decision: Decision, waits: Mapping[str, Stuck]) -> list[str]:
    """Why it is kept or goes; and, where libvirt did not merge it, the word for that."""
    found = waits.get(decision.candidate.id)
    deferred = [f"deferred: {found.word}"] if found and not decision.keep else []
    return [*decision.reasons, *deferred]
