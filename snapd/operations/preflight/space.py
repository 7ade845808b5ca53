"""Is there room? Asked before anything is written: a full file system stops every VM on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ...errors import NoSpace, PreflightFailed
from ...hypervisor import DomainFacts
from ...model import NO_FLOOR, Disk, Floor, SnapshotInfo
from .blocker import Blocker
from .disks import writable

DISK_BYTES = 4 << 20
DELETE_BYTES = 256 << 10
METADATA_BYTES = 1 << 20
LIBVIRT = "libvirt"  # the item of a blocker that is not about a disk's file system
RAM_MARGIN = 20  # one part in so many on top: device state beside the RAM


def create_needs(facts: DomainFacts, *, memory: bool) -> dict[str, int]:
    """target -> bytes that a snapshot may write to its image at once.

    RAM goes to one image, QEMU takes the first that can hold it; zero pages are not written, but
    how many there are isn't known beforehand.
    """
    needs = {disk.target: _disk_bytes(disk, facts) for disk in writable(facts.info.disks)}
    if memory and needs:
        first = next(iter(needs))
        needs[first] += facts.info.memory + facts.info.memory // RAM_MARGIN
    return needs


def _disk_bytes(disk: Disk, facts: DomainFacts) -> int:
    """The copied L1 table and a few refcount blocks."""
    image = facts.images.get(disk.target)
    return DISK_BYTES + (image.virtual_size >> 26 if image else 0)


def unmeasured_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """RAM is written to the first disk that can hold it: not where its room could not be told."""
    for disk in writable(facts.info.disks)[:1]:
        if disk.source in facts.unknown:
            why = f"the room beside disk {disk.target} could not be told: does its storage answer?"
            yield Blocker(PreflightFailed, "image-unreadable", disk.target, why, ("try-again",))


def delete_needs(facts: DomainFacts, snapshot: SnapshotInfo) -> dict[str, int]:
    """target -> bytes that a deletion writes before it gives any back: a new snapshot table. On a
    file system without any room QEMU fails there, has the snapshot dropped in its memory alone, and
    loses its clusters with the next deletion that works (measured, 7.2)."""
    targets = {d.target for d in writable(facts.info.disks)} & set(snapshot.disks)
    return dict.fromkeys(sorted(targets), DELETE_BYTES)


def space_blockers(
    facts: DomainFacts, needs: Mapping[str, int], floor: Floor = NO_FLOOR
) -> Iterator[Blocker]:
    """What lacks the room for a snapshot: file systems of the images, libvirt's own folder.

    floor: what has to stay free beside the images when the snapshot is made.
    """
    yield from room_blockers(facts, needs, floor)
    metadata = facts.metadata
    if metadata and (metadata.free < METADATA_BYTES or metadata.inodes == 0):
        have = metadata.free if metadata.inodes else 0
        yield _no_space("in libvirt's own folder", LIBVIRT, METADATA_BYTES, have)


def room_blockers(
    facts: DomainFacts, needs: Mapping[str, int], floor: Floor = NO_FLOOR
) -> Iterator[Blocker]:
    """File systems of the images without the room; disks on the same one are counted together."""
    for targets, files in _file_systems(facts, needs):
        need = sum(needs[t] for t in targets)
        free = min(facts.space[t].free for t in targets)
        total = facts.space[targets[0]].total
        if free < need:
            yield _no_space(f"beside {files}", targets[0], need, free)
        elif free - need < floor.of(total):
            yield _under_floor(files, targets[0], need, free, total, floor)


def _file_systems(facts: DomainFacts, needs: Mapping[str, int]) -> Iterator[tuple[list[str], str]]:
    """The targets on each file system that could be measured, and what their files are called."""
    together: dict[int, list[str]] = {}
    for target in needs:
        if target in facts.space:
            together.setdefault(facts.space[target].device, []).append(target)
    sources = {d.target: d.source for d in facts.info.disks}
    for targets in together.values():
        yield targets, ", ".join(Path(sources[t]).name for t in targets)


def _no_space(where: str, item: str, need: int, have: int) -> Blocker:
    text = f"{_mib(need)} MiB are needed {where}, {have >> 20} MiB are free"
    return Blocker(NoSpace, "no-space", item, text, ("make-room",), need, have)


def _under_floor(files: str, item: str, need: int, free: int, total: int, floor: Floor) -> Blocker:
    by_size = floor.size > total * floor.percent // 100
    text = (
        f"{_size(free)} of {_size(total)} are free beside {files}; the snapshot needs "
        f"{_mib(need)} MiB, and the policy keeps "
        f"{_size(floor.size) if by_size else f'{floor.percent} %'} free (min_free)"
    )
    return Blocker(NoSpace, "min-free", item, text, ("make-room",), need + floor.of(total), free)


def _size(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 10 << 30 else f"{size >> 20} MiB"


def _mib(size: int) -> int:
    return -(-size >> 20)
