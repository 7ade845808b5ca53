"""Preflight: pure verdicts over facts. Nothing here asks anybody anything.

A blocker names the rule by its reason word, the offending thing, and the ways out. The rules are
LIBVIRT.md's section 10: each was earned by a loss that somebody replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import (
    AlreadyExists,
    Busy,
    Inconsistent,
    NeedsForce,
    PreflightFailed,
    SnapdError,
    Unsupported,
)
from ..hypervisor import DomainFacts, ImageInfo
from ..model import Disk, DomainInfo, Kind, SnapshotInfo, State

MIN_REFCOUNT_BITS = 16


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why not: error class, reason word, the thing, a sentence's end, and the ways out (words)."""

    error: type[SnapdError]
    reason: str
    item: str
    message: str
    ways: tuple[str, ...] = field(default=())

    def exception(self, what: str) -> SnapdError:
        """As an error of the act: `cannot snapshot VM web-1`."""
        disk = self.item if self.reason in _DISK_REASONS else ""
        return self.error(
            f"{what}: {self.message}",
            reason=self.reason,
            disk=disk,
            item=self.item,
            ways=self.ways,
        )


_DISK_REASONS = {
    "raw-disk",
    "block-device",
    "network-disk",
    "shared-disk",
    "missing-disk",
    "wrong-format",
    "transient-disk",
    "encrypted-disk",
    "data-file",
    "image-unreadable",
    "pending-config",
}


def writable(disks: Iterable[Disk]) -> tuple[Disk, ...]:
    """The disks that a snapshot has to include, since the guest can change them."""
    return tuple(d for d in disks if d.writable)


# --- create


def disk_blockers(disks: Sequence[Disk], *, has_images: bool) -> Iterator[Blocker]:
    """What the domain's XML alone tells against an internal snapshot."""
    if not writable(disks) and has_images:  # the test driver snapshots a VM without any, too
        yield Blocker(Unsupported, "no-disk", "", "it has no writable disk to snapshot")
    for disk in writable(disks):
        word, why = _disk_fault(disk)
        if word:
            yield Blocker(
                Unsupported,
                word,
                disk.target,
                f"disk {disk.target} {why}; every writable disk must be a plain qcow2 file",
                ("convert-to-qcow2", "detach-disk") if word == "raw-disk" else (),
            )


def _disk_fault(disk: Disk) -> tuple[str, str]:
    faults = (
        (disk.shareable, "shared-disk", "is shared with other VMs"),
        (disk.transient, "transient-disk", "is transient: its content goes with each stop"),
        (disk.encrypted, "encrypted-disk", "is encrypted: its snapshot could not be reverted"),
        (disk.data_file, "data-file", "keeps its data in a second file"),
        (disk.kind == "network", "network-disk", "is on the network"),
        (disk.kind != "file", "block-device", f"is of type {disk.kind}"),
        (disk.format == "raw", "raw-disk", "is raw"),
        (disk.format != "qcow2", "wrong-format", f"is {disk.format or 'of no declared format'}"),
    )
    return next(((word, why) for bad, word, why in faults if bad), ("", ""))


def state_blockers(info: DomainInfo, snapshots: Sequence[SnapshotInfo]) -> Iterator[Blocker]:
    """What the domain's state and tree tell against an internal snapshot."""
    if not info.persistent:
        why = "it is transient: libvirt forgets its snapshots when it stops"
        yield Blocker(Unsupported, "transient", "", why, ("define",))
    if info.managed_save:
        why = "its RAM is in a managed save, which no snapshot would include"
        yield Blocker(Unsupported, "managed-save", "", why, ("start", "discard-saved-state"))
    if info.state in (State.SUSPENDED, State.CRASHED, State.UNKNOWN):
        yield Blocker(Unsupported, "unfinished-job", "", f"it is {info.state}", ("start",))
    yield from mixed(snapshots)


def mixed(snapshots: Sequence[SnapshotInfo]) -> Iterator[Blocker]:
    """A tree of one kind refuses the other: libvirt loses data in mixed ones."""
    external = next((s.name for s in snapshots if s.kind is Kind.EXTERNAL), "")
    if external:
        yield Blocker(
            Unsupported, "mixed-tree", external, f"snapshot {external} is an external one"
        )


def memory_blockers(info: DomainInfo, *, with_memory: bool) -> Iterator[Blocker]:
    """What keeps libvirt's own create (with RAM, or of a VM that is off) from working."""
    if with_memory and info.unmigratable:
        yield Blocker(
            Unsupported,
            "unmigratable-device",
            info.unmigratable,
            f"its RAM cannot be saved because of {info.unmigratable}",
            ("no-memory", "shut-off"),
        )
    if info.raw_nvram:
        yield Blocker(
            Unsupported,
            "uefi-raw-nvram",
            "",
            "its UEFI variables are in a raw file",
            ("no-memory", "qcow2-nvram") if info.state.active else ("start", "qcow2-nvram"),
        )


def holder_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """Who else is at work on it."""
    if facts.holder == "backup":
        yield Blocker(Busy, "backup", "backup", "a backup of it is running")
    elif facts.holder.startswith("block job"):
        yield Blocker(Busy, "block-job", facts.holder.split()[-1], f"a {facts.holder} is running")
    elif facts.holder:
        yield Blocker(Busy, "unfinished-job", facts.holder, f"{facts.holder} has it")


def image_blockers(facts: DomainFacts, name: str) -> Iterator[Blocker]:
    """What the images tell: read from their headers, one layer, by the declared format."""
    for disk in writable(facts.info.disks):
        if why := facts.unreadable.get(disk.target):
            missing = disk.source in facts.missing
            word = "missing-disk" if missing else "image-unreadable"
            text = "has no file" if missing else f"cannot be judged: {why}"
            yield Blocker(PreflightFailed, word, disk.target, f"disk {disk.target} {text}")
            continue
        image = facts.images.get(disk.target)
        if image:
            yield from _image_faults(disk, image, name)


def _image_faults(disk: Disk, image: ImageInfo, name: str) -> Iterator[Blocker]:
    if image.encrypted:
        why = f"the image of disk {disk.target} is encrypted"
        yield Blocker(Unsupported, "encrypted-disk", disk.target, why)
    if image.data_file:
        why = f"the image of disk {disk.target} keeps its data in a second file"
        yield Blocker(Unsupported, "data-file", disk.target, why)
    if image.refcount_bits < MIN_REFCOUNT_BITS:
        why = f"the image of disk {disk.target} has refcount_bits={image.refcount_bits}"
        yield Blocker(Unsupported, "wrong-format", disk.target, why)
    if name and image.count(name):
        why = f"disk {disk.target} holds an unmanaged snapshot {name!r}; take another name"
        yield Blocker(AlreadyExists, "half-made", disk.target, why, ("other-name", "audit"))


def monitor_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """What makes a running VM's snapshot without RAM unsafe: it is registered with the inactive
    configuration, and a revert to one that differs from the live one tears the disks."""
    live = {d.target: _identity(d) for d in facts.info.disks if d.device != "cdrom"}
    inactive = {d.target: _identity(d) for d in facts.inactive if d.device != "cdrom"}
    different = sorted(t for t in live.keys() | inactive.keys() if live.get(t) != inactive.get(t))
    if different:
        yield Blocker(
            Unsupported,
            "pending-config",
            different[0],
            f"disk {different[0]} is not the same in its running and its stored configuration",
            ("restart", "memory"),
        )


def _identity(disk: Disk) -> tuple[object, ...]:
    return (disk.source, disk.format, disk.kind, disk.device, disk.readonly, disk.transient)


def create_blockers(facts: DomainFacts, name: str, *, memory: bool) -> list[Blocker]:
    """Everything against making an internal snapshot of that name now, the gravest first."""
    info = facts.info
    found = [*holder_blockers(facts)]
    if name and any(s.name == name for s in facts.snapshots):
        why = f"it has a snapshot {name!r} already; take another name"
        found.append(Blocker(AlreadyExists, "", name, why, ("other-name",)))
    found += [
        *state_blockers(info, facts.snapshots),
        *disk_blockers(info.disks, has_images=facts.has_images),
    ]
    if info.state.active and not memory:
        found += monitor_blockers(facts)
    else:
        found += memory_blockers(info, with_memory=info.state.active)
    return [*found, *image_blockers(facts, name)]


# --- revert and delete


def tag_blockers(facts: DomainFacts, snapshot: SnapshotInfo, *, partly: bool) -> Iterator[Blocker]:
    """The tag must be in every image exactly once, and must not be an image snapshot's number.

    partly: it may be missing in some (a delete that was broken off is to be finished).
    """
    for target in snapshot.disks or [d.target for d in writable(facts.info.disks)]:
        image = facts.images.get(target)
        if image is None:
            if target in facts.unreadable:
                why = f"disk {target} cannot be judged: {facts.unreadable[target]}"
                yield Blocker(PreflightFailed, "image-unreadable", target, why)
            continue
        count = image.count(snapshot.name)
        if count > 1:
            why = f"disk {target} holds {count} snapshots named {snapshot.name!r}"
            yield Blocker(Inconsistent, "half-made", target, why, ("audit",))
        elif count == 0 and not partly:
            why = f"disk {target} does not hold snapshot {snapshot.name!r} any more"
            yield Blocker(Inconsistent, "half-made", target, why, ("audit", "delete"))
        if any(number == snapshot.name and tag != number for number, tag in image.tags):
            why = f"in disk {target}, {snapshot.name!r} is the number of another snapshot"
            yield Blocker(Inconsistent, "half-made", target, why, ("start", "audit"))


def revert_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> list[Blocker]:
    """Everything against reverting to it now; facts.saved are its own domain XML's disks."""
    found = [*holder_blockers(facts)]
    if snapshot.kind is Kind.EXTERNAL:
        why = "it is an external snapshot, which this version does not revert"
        return [*found, Blocker(Unsupported, "external-unsupported", snapshot.name, why)]
    found += mixed(facts.snapshots)
    if not facts.info.persistent:
        found.append(Blocker(Unsupported, "transient", "", "the VM is transient", ("define",)))
    if facts.info.managed_save:
        why = "the VM has a managed save, whose old RAM would meet the reverted disks"
        found.append(Blocker(NeedsForce, "managed-save", "", why, ("start",)))
    if facts.checkpoints:
        first = facts.checkpoints[0]
        why = f"an incremental backup chain is in the way (checkpoint {first})"
        found.append(Blocker(Unsupported, "checkpoints", first, why, ("delete-checkpoints",)))
    for target, image in facts.images.items():
        if image.bitmaps and not facts.checkpoints:
            why = f"disk {target} holds a backup bitmap ({image.bitmaps[0]})"
            found.append(Blocker(Unsupported, "checkpoints", target, why, ("remove-bitmap",)))
    found += tag_blockers(facts, snapshot, partly=False)
    return [*found, *_saved_blockers(facts)]


def _saved_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """libvirt ends QEMU first and finds what is missing afterwards; so it is looked for before."""
    present = {d.target: d.source for d in writable(facts.info.disks)}
    for disk in facts.saved:
        name = Path(disk.source).name
        if disk.source in facts.missing:
            why = f"file {name} of disk {disk.target} is missing"
            yield Blocker(PreflightFailed, "missing-file", name, why, ("restore-file",))
        elif disk.writable and disk.target not in present:
            why = f"disk {disk.target} has left the VM since ({name})"
            yield Blocker(Unsupported, "pending-config", disk.target, why, ("attach-disk",))
        elif disk.writable and present[disk.target] != disk.source:
            why = f"disk {disk.target} was on another file then ({name})"
            yield Blocker(Inconsistent, "other-file", disk.target, why)
    if facts.saved:
        then = {d.target for d in facts.saved if d.writable}
        for target in sorted(present.keys() - then):
            why = f"disk {target} was not there then, and would leave the VM"
            yield Blocker(Unsupported, "pending-config", target, why, ("detach-disk",))


def delete_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> list[Blocker]:
    """Everything against deleting it now."""
    found = [*holder_blockers(facts)]
    if snapshot.kind is Kind.EXTERNAL:
        why = "it is an external snapshot, which this version does not merge"
        return [*found, Blocker(Unsupported, "external-unsupported", snapshot.name, why)]
    found += mixed(facts.snapshots)
    if not facts.info.state.active:
        held = [d for d in facts.info.disks if d.target in snapshot.disks and d.encrypted]
        for disk in held:
            why = f"disk {disk.target} is encrypted: its tag would stay in the image"
            found.append(Blocker(Unsupported, "encrypted-disk", disk.target, why, ("start",)))
    return [*found, *tag_blockers(facts, snapshot, partly=True)]
