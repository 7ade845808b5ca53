"""External snapshots, which others made: judged, and refused with the reason.

libvirt destroys some of their trees itself and reports success (LIBVIRT.md 9.7 to 9.11); so what
is wrong with a tree is said before that this version doesn't touch it anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import Inconsistent, Unsupported
from ...hypervisor import DomainFacts
from ...model import NO_FLOOR, DomainInfo, Floor, Kind, SnapshotInfo
from .blocker import Blocker
from .domain import redefined


def external_blockers(
    info: DomainInfo, snapshots: Sequence[SnapshotInfo], snapshot: SnapshotInfo, verb: str
) -> Iterator[Blocker]:
    """Everything against reverting to an external one, or merging it (verb: these words)."""
    yield from redefined(info, snapshots)
    yield from left_chain(info, snapshots)
    children = [s.name for s in snapshots if s.parent == snapshot.name]
    if verb == "merge" and len(children) > 1:
        why = f"{' and '.join(children[:2])} both branch off it"
        yield Blocker(Unsupported, "branching", children[0], why)
    inside = next((s.name for s in snapshots if s.kind is Kind.INTERNAL), "")
    if inside:
        why = f"snapshot {inside} is an internal one, and would be lost with its overlay"
        yield Blocker(Unsupported, "mixed-tree", inside, why)
    why = f"it is an external snapshot, which this version does not {verb}"
    yield Blocker(Unsupported, "external-unsupported", snapshot.name, why, ("virsh",))


def left_chain(info: DomainInfo, snapshots: Sequence[SnapshotInfo]) -> Iterator[Blocker]:
    """The disks are not on the overlays of the current snapshot: the mark was moved without a
    revert, or another tool reverted. libvirt would unlink what is in use (LIBVIRT.md 9.7, 9.8)."""
    current = next((s for s in snapshots if s.current), None)
    sources = {d.target: d.source for d in info.disks}
    for target, overlay in current.active.items() if current else ():
        if target in sources and sources[target] != overlay:
            why = (
                f"disk {target} is on {Path(sources[target]).name}, not on the overlay of the "
                f"current snapshot {current.name if current else ''}"
            )
            yield Blocker(Inconsistent, "not-in-chain", target, why)
            return


def external_create_blockers(
    facts: DomainFacts,
    name: str,
    *,
    memory: bool,
    quiesce: str = "no",
    disks: tuple[str, ...] = (),
    by_policy: bool = False,
    min_free: Floor = NO_FLOOR,
) -> list[Blocker]:
    """Everything against making an external snapshot now, the gravest first.

    name: "" = one that is free is found. memory: its RAM goes to a file. disks: targets, () = every
    writable one. by_policy: no person looks after it, so that what can't be merged later is refused
    now.
    """
    why = "this version makes internal snapshots only"
    return [Blocker(Unsupported, "external-unsupported", "", why, ("internal",))]
