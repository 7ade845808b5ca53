"""A domain's tree of external snapshots, as libvirt records it, beside what its disks stand on.

libvirt unlinks files by its record alone, and reports success (LIBVIRT.md 9.7 to 9.11): where the
record, its XML and the image headers don't agree, no verb is safe.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import Inconsistent, PreflightFailed, Unsupported
from ...hypervisor import DomainFacts
from ...model import Disk, DomainInfo, Kind, SnapshotInfo, State
from .blocker import Blocker
from .disks import unreadable, untold
from .domain import redefined


def tree_faults(facts: DomainFacts, *, by_record: bool = False) -> Iterator[Blocker]:
    """What is wrong with the tree as a whole; nothing where there are no external snapshots.

    by_record: for a revert, which unlinks the files that the record of the current one names.
    """
    if not any(s.kind is Kind.EXTERNAL for s in facts.snapshots):
        return
    yield from redefined(facts.info, facts.snapshots)
    yield from _redefined_next(facts)
    yield from unmarked(facts.snapshots)
    for blocker in left_chain(facts.info, facts.snapshots, facts):
        if by_record or not _is_begun_on(facts, blocker.item):
            yield blocker
    yield from internal_inside(facts.snapshots)


def unmarked(snapshots: Sequence[SnapshotInfo]) -> Iterator[Blocker]:
    """Without a current one libvirt takes each leaf for a branch that nobody is on, and unlinks
    what the disks stand on."""
    if snapshots and not any(s.current for s in snapshots):
        why = "none of its external snapshots is marked as the current one"
        yield Blocker(Inconsistent, "not-in-chain", "", why, ("virsh",))


def left_chain(
    info: DomainInfo, snapshots: Sequence[SnapshotInfo], facts: DomainFacts | None = None
) -> Iterator[Blocker]:
    """The disks are not on the overlays of the current snapshot: the mark was moved without a
    revert, or another tool reverted. libvirt would unlink what is in use (LIBVIRT.md 9.7, 9.8).

    facts: tell the one case where that does no harm: once a branch is deleted, libvirt's record of
    what it branched off may name a file that went with it.
    """
    current = next((s for s in snapshots if s.current), None)
    sources = {d.target: d.source for d in info.disks}
    for target, overlay in current.active.items() if current else ():
        if target in sources and sources[target] != overlay:
            if facts and overlay in facts.missing and _is_begun_on(facts, target):
                continue
            why = (
                f"disk {target} is on {Path(sources[target]).name}, not on the overlay of the "
                f"current snapshot {current.name if current else ''}"
            )
            if facts and _is_begun_on(facts, target):
                why += "; make a snapshot first, which sets that right"
            yield Blocker(Inconsistent, "not-in-chain", target, why)


def _is_begun_on(facts: DomainFacts, target: str) -> bool:
    """Whether a disk is on a file that stands on what the current snapshot is made of: one that a
    revert to it began. libvirt forgets that when a snapshot made upon it is deleted, and the next
    revert unlinks the file of another branch (11.3, measured); a new snapshot is in order."""
    current = next((s for s in facts.snapshots if s.current), None)
    base = dict(current.bases).get(target) if current else None
    return base is not None and paths(facts, target)[1:2] == (base,)


def internal_inside(snapshots: Sequence[SnapshotInfo]) -> Iterator[Blocker]:
    """An internal one goes with the overlay that it is in."""
    inside = next((s.name for s in snapshots if s.kind is Kind.INTERNAL), "")
    if inside:
        why = f"snapshot {inside} is an internal one, and would be lost with its overlay"
        yield Blocker(Unsupported, "mixed-tree", inside, why)


def _redefined_next(facts: DomainFacts) -> Iterator[Blocker]:
    """The next start would stand on a file that overlays are backed by (`virsh define` of an older
    XML while the VM runs)."""
    live = {d.target: d.source for d in facts.info.disks}
    bases = {base for s in facts.snapshots for _target, base in s.bases}
    for disk in facts.inactive if facts.info.state.active else ():
        if disk.source in bases and disk.source != live.get(disk.target):
            why = (
                f"the next start would have disk {disk.target} on {Path(disk.source).name}, which "
                "snapshots stand on: each write there damages them"
            )
            yield Blocker(Inconsistent, "other-file", disk.target, why, ("define-overlay",))
            return


def paths(facts: DomainFacts, target: str) -> tuple[str, ...]:
    """The files that a disk stands on by the headers, its own first; () = not read."""
    return tuple(path for path, _format in facts.chains.layers.get(target, ()))


@dataclass(frozen=True, slots=True)
class Bypassed:
    """An overlay of a snapshot that stands on another file, "" = on none, than the one that
    libvirt's record says."""

    snapshot: str
    target: str
    overlay: str
    on: str
    said: str


def bypassed(facts: DomainFacts) -> Iterator[Bypassed]:
    """Where another tool has committed or pulled what an overlay stood on, in the chain that the
    VM is on."""
    for snapshot in line(facts.snapshots):
        bases = dict(snapshot.bases)
        for target, file in (*snapshot.overlays, *snapshot.reverted):
            below, said = _below(facts, target, file), os.path.normpath(bases.get(target, "."))
            if said != "." and below is not None and said not in below:
                yield Bypassed(snapshot.name, target, file, below[0] if below else "", said)


def _below(facts: DomainFacts, target: str, file: str) -> list[str] | None:
    """What a file stands on by the headers, as far as they were read; None = its own was not."""
    found = [os.path.normpath(path) for path in paths(facts, target)]
    if (path := os.path.normpath(file)) in found[:-1]:
        return found[found.index(path) + 1 :]
    image = facts.chains.images.get(file)
    if image is None or not (image.backing == "" or image.backing.startswith("/")):
        return None
    return [os.path.normpath(image.backing)] if image.backing else []


def children(snapshots: Iterable[SnapshotInfo], name: str) -> list[SnapshotInfo]:
    """Those that were made right on it."""
    return [s for s in snapshots if s.parent == name]


def line(snapshots: Sequence[SnapshotInfo]) -> list[SnapshotInfo]:
    """The current one and all that it descends from, the youngest first."""
    by_name = {s.name: s for s in snapshots}
    found: list[SnapshotInfo] = []
    at = next((s for s in snapshots if s.current), None)
    while at and at not in found:
        found.append(at)
        at = by_name.get(at.parent)
    return found


def chain_faults(facts: DomainFacts, disks: Iterable[Disk]) -> Iterator[Blocker]:
    """What is wrong with what these disks stand on, as far as it was read."""
    for disk in disks:
        found = paths(facts, disk.target)
        blocker = _unsound(facts, disk, found) if found else None
        if blocker:
            yield blocker
        else:
            yield from _told_otherwise(facts, disk, found)


def unread_chains(facts: DomainFacts, disks: Iterable[Disk]) -> Iterator[Blocker]:
    """What a disk stands on has to be known, and could not be read."""
    for disk in disks if facts.has_images else ():
        if not paths(facts, disk.target):
            yield unreadable(facts, disk) or untold(f"what disk {disk.target} is on", disk.target)


def _unsound(facts: DomainFacts, disk: Disk, found: Sequence[str]) -> Blocker | None:
    """The chain stops where it shouldn't, or is another one than the disk's."""
    if found[0] != disk.source:
        why = f"disk {disk.target} is on {Path(disk.source).name}, and {Path(found[0]).name} was"
        return Blocker(Inconsistent, "not-in-chain", disk.target, f"{why} read")
    image = facts.chains.images.get(found[-1])
    for path in (*found, *([image.backing] if image and image.backing else [])):
        name = Path(path).name
        if path in facts.missing:
            why = f"file {name}, which disk {disk.target} stands on, is missing"
            return Blocker(PreflightFailed, "missing-file", name, why, ("restore-file",))
        if path in facts.unknown:
            what = f"file {name}, which disk {disk.target} stands on,"
            return untold(what, disk.target, facts.whys.get(path))
    if image and image.backing:
        why = f"what {Path(found[-1]).name}, which disk {disk.target} stands on, is backed by could"
        return Blocker(PreflightFailed, "image-unreadable", disk.target, f"{why} not be read")
    return None


def _told_otherwise(facts: DomainFacts, disk: Disk, found: Sequence[str]) -> Iterator[Blocker]:
    """libvirt's XML beats the headers: a stale one shows the guest another layer, an empty one
    zeros (LIBVIRT.md 9.10). The running XML tells the whole chain, the stored one maybe a part.
    found: () = no layers were read, and the disk's own header tells of the first."""
    headers = [os.path.normpath(path) for path in found or _first(facts, disk)]
    chains, which = facts.chains, ""
    for word, said, ends in (
        ("stored", chains.stored, chains.stored_ends),
        ("running", chains.live, chains.live_ends),
    ):
        xml = [os.path.normpath(path) for path in said.get(disk.target, ())]
        shared = min(len(xml), len(headers))
        whole = disk.target in ends or (bool(found) and word == "running")
        short, long = whole and len(xml) < len(headers), bool(found) and len(xml) > len(headers)
        if xml and headers and (xml[:shared] != headers[:shared] or short or long):
            which = word
    if which:
        why = (
            f"disk {disk.target} stands on {' > '.join(Path(p).name for p in headers)} by its "
            f"images, and on other files by libvirt's {which} configuration"
        )
        yield Blocker(Inconsistent, "not-in-chain", disk.target, why, ("audit",))


def _first(facts: DomainFacts, disk: Disk) -> tuple[str, ...]:
    image = facts.images.get(disk.target)
    return (disk.source, image.backing) if image and image.backing.startswith("/") else ()


def inactive_nodes(facts: DomainFacts, what: str) -> Iterator[Blocker]:
    """Where a VM's RAM was saved while it was paused, QEMU keeps the images closed to all block
    jobs and to a second save until it runs again (11.3 with QEMU 10.0, measured)."""
    if facts.info.state is State.PAUSED and any(s.memory for s in facts.snapshots):
        why = f"it is paused, and QEMU may not {what} since its RAM was saved"
        yield Blocker(Unsupported, "unfinished-job", "", why, ("resume",))
