"""The cheap verdicts that lists show: only what XML and tree tell, nothing is asked or measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..model import DomainInfo, Kind, SnapshotInfo
from .checks import Blocker, disk_blockers, memory_blockers, mixed, state_blockers

YES = "yes"
UNCHECKED = "unchecked"
EXTERNAL = "external-unsupported"


def support(
    info: DomainInfo, snapshots: Sequence[SnapshotInfo], *, monitor: bool, has_images: bool
) -> dict[str, str]:
    """What can be made of a domain now: `internal`, `internal-memory`, `external`,
    `external-memory` -> yes, or the first reason word against it."""
    common = [*state_blockers(info, snapshots), *disk_blockers(info.disks, has_images=has_images)]
    plain = common if info.state.active else [*common, *memory_blockers(info, with_memory=False)]
    with_memory = [*common, *memory_blockers(info, with_memory=True)]
    internal = _word(plain)
    if internal == YES and info.state.active and not monitor:
        internal = "monitor-off"
    return {
        "internal": internal,
        "internal-memory": _word(with_memory),
        "external": EXTERNAL,
        "external-memory": EXTERNAL,
    }


def _word(blockers: Sequence[Blocker]) -> str:
    return blockers[0].reason if blockers else YES


def revert_blocker(
    info: DomainInfo,
    snapshot: SnapshotInfo,
    snapshots: Sequence[SnapshotInfo],
    *,
    has_images: bool,
) -> str:
    """ "" = none known, a reason word, or `unchecked`: images have to be measured by a preview."""
    if snapshot.kind is Kind.EXTERNAL:
        return EXTERNAL
    return next(_revert_words(info, snapshots), UNCHECKED if has_images else "")


def _revert_words(info: DomainInfo, snapshots: Sequence[SnapshotInfo]) -> Iterator[str]:
    yield from (blocker.reason for blocker in mixed(snapshots))
    if not info.persistent:
        yield "transient"
    if info.managed_save:
        yield "managed-save"


def delete_blocker(
    snapshot: SnapshotInfo, snapshots: Sequence[SnapshotInfo], *, has_images: bool
) -> str:
    """As revert_blocker()."""
    if snapshot.kind is Kind.EXTERNAL:
        return EXTERNAL
    return next((b.reason for b in mixed(snapshots)), UNCHECKED if has_images else "")
