"""What the disks, and the images behind them, tell against an internal snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import AlreadyExists, PreflightFailed, Unsupported
from ...hypervisor import SILENT, BareFacts, DomainFacts, ImageInfo, Unseen
from ...model import Disk, DomainInfo
from .blocker import Blocker

MIN_REFCOUNT_BITS = 16


def writable(disks: Iterable[Disk]) -> tuple[Disk, ...]:
    """The disks that a snapshot has to include, since the guest can change them."""
    return tuple(d for d in disks if d.writable)


def held(info: DomainInfo) -> tuple[Disk, ...]:
    """What has the snapshot's tag in it: the writable disks, and the NVRAM where it is qcow2."""
    return (*writable(info.disks), *((info.nvram,) if info.nvram else ()))


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


def image_blockers(facts: DomainFacts, name: str) -> Iterator[Blocker]:
    """What the images tell: read from their headers, one layer, by the declared format."""
    for disk in held(facts.info):
        if blocker := unreadable(facts, disk):
            yield blocker
        elif image := facts.images.get(disk.target):
            yield from _image_faults(disk, image, name)


def backing_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """Backing files that are missing: a QEMU that runs has them open, one that is to be started
    and qemu-img don't find them; nor can they be where nobody can tell."""
    for target, image in facts.images.items():
        name = Path(image.backing).name
        if image.backing and image.backing in facts.unknown:
            what = f"file {name}, which disk {target} is backed by,"
            yield untold(what, target, facts.whys.get(image.backing))
        elif image.backing and image.backing in facts.missing:
            text = f"file {name}, which disk {target} is backed by, is missing"
            yield Blocker(PreflightFailed, "missing-file", name, text, ("restore-file",))


def untold(what: str, item: str, unseen: Unseen | None = None) -> Blocker:
    """Something that was looked for, and the look didn't end in time or was refused."""
    unseen = unseen or SILENT
    why = f"whether {what} is there could not be told: {unseen.why}"
    return Blocker(PreflightFailed, "image-unreadable", item, why, unseen.ways)


def unread(facts: DomainFacts, disk: Disk) -> Blocker | None:
    """Why the image of a disk that has to hold the tag was not read."""
    if disk.target in facts.images or not facts.has_images:
        return None
    if blocker := unreadable(facts, disk):
        return blocker
    if disk.kind == "file" and not disk.format:
        why = f"disk {disk.target} is of no declared format, so its image is not read"
        return Blocker(Unsupported, "wrong-format", disk.target, why, ("correct-format",))
    word = "network-disk" if disk.kind == "network" else "block-device"
    why = f"disk {disk.target} is of type {disk.kind}, whose image is not read"
    return Blocker(Unsupported, word, disk.target, why)


def unreadable(facts: DomainFacts, disk: Disk) -> Blocker | None:
    """Why an image could not be read: it is missing, is not what was declared, or just can't."""
    why = facts.unreadable.get(disk.target)
    if not why:
        return None
    if disk.source in facts.missing:
        text = f"disk {disk.target} has no file"
        return Blocker(PreflightFailed, "missing-disk", disk.target, text, ("restore-file",))
    if disk.target in facts.misdeclared:
        text = f"the image of disk {disk.target} is not {disk.format}, as the VM declares it"
        return Blocker(Unsupported, "wrong-format", disk.target, text, ("correct-format",))
    text = f"disk {disk.target} cannot be judged: {why}"
    ways = facts.whys[disk.source].ways if disk.source in facts.whys else ()
    return Blocker(PreflightFailed, "image-unreadable", disk.target, text, ways)


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


def monitor_blockers(facts: DomainFacts | BareFacts) -> Iterator[Blocker]:
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
