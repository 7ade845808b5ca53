"""What libvirt's revert begins a file for besides the disks that an external snapshot holds: every
disk with something in it, CDs and read-only ones too, beside what is in it (11.3, measured)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ...errors import Unsupported
from ...model import Disk
from .blocker import Blocker


def overlaid_blockers(disks: Sequence[Disk], held: Collection[str]) -> Iterator[Blocker]:
    """What of a configuration's disks no revert to it gets right. held: targets that the snapshot
    holds. All of it is found by libvirt when the VM has been ended, or goes wrong in silence."""
    for disk in (d for d in disks if d.source and d.target not in held):
        name = Path(disk.source).name
        if disk.device in ("cdrom", "floppy"):
            why, ways = f"drive {disk.target} has {name} in it", ("eject",)
        elif disk.readonly:
            why, ways = f"disk {disk.target} ({name}) is read-only", ("detach-disk",)
        else:
            why, ways = f"disk {disk.target} ({name}) is left out of the snapshot", ("all-disks",)
        why += ", and libvirt's revert would have it go over to an overlay"
        yield Blocker(Unsupported, "external-unsupported", disk.target, why, ways)
    seen: dict[str, str] = {}
    for disk in (d for d in disks if d.source):
        stem = str(Path(disk.source).with_suffix(""))
        if stem in seen:
            why = (
                f"the files of disks {seen[stem]} and {disk.target} differ by what follows the "
                "last dot only, and libvirt's revert would give both the same new name"
            )
            yield Blocker(Unsupported, "external-unsupported", disk.target, why)
        seen.setdefault(stem, disk.target)
