"""Everything against deleting a snapshot."""

from __future__ import annotations

from ...errors import Unsupported
from ...hypervisor import DomainFacts
from ...model import Kind, SnapshotInfo
from .blocker import Blocker
from .disks import backing_blockers
from .domain import holder_blockers, tree_blockers
from .merge import merge_blockers
from .revert import tag_blockers
from .space import delete_needs, room_blockers


def delete_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> list[Blocker]:
    """Everything against deleting it now."""
    info = facts.info
    if snapshot.kind is Kind.EXTERNAL:
        return merge_blockers(facts, snapshot)
    found = [*holder_blockers(facts)]
    found += tree_blockers(info, facts.snapshots)
    if not info.state.active:
        held = [d for d in info.disks if d.target in snapshot.disks and d.encrypted]
        for disk in held:
            why = f"disk {disk.target} is encrypted: its tag would stay in the image"
            found.append(Blocker(Unsupported, "encrypted-disk", disk.target, why, ("start",)))
        found += backing_blockers(facts)
    else:
        for disk in (d for d in info.disks if d.target in snapshot.disks and d.transient):
            why = f"disk {disk.target} is transient: its tag is in the file below, and would stay"
            found.append(Blocker(Unsupported, "transient-disk", disk.target, why, ("shut-off",)))
    found += tag_blockers(facts, snapshot, partly=True)
    return [*found, *room_blockers(facts, delete_needs(facts, snapshot))]
