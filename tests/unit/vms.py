"""VMs and snapshots made by hand, with nothing against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from snapd.errors import (
    SnapdError,
)
from snapd.hypervisor import DomainFacts, ImageInfo
from snapd.model import (
    Disk,
    DomainInfo,
    Kind,
    SnapshotInfo,
    State,
)
from snapd.operations.preflight import (
    Blocker,
)

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
VDA = Disk("vda", "/images/web-root.qcow2", "qcow2")
VDB = Disk("vdb", "/images/web-data.qcow2", "qcow2")
CD = Disk("sda", "/iso/install.iso", "raw", device="cdrom", readonly=True)
DISKS = (VDA, VDB, CD)


def image_of(**what: Any) -> ImageInfo:
    return ImageInfo("disk.qcow2", **what)


IMAGE = image_of(tags=(("1", "before"),))
BEFORE = SnapshotInfo("before", 1700000000, State.SHUTOFF, disks=("vda", "vdb"), left_out=("sda",))
EXTERNAL = SnapshotInfo("outside", 1700000001, State.RUNNING, Kind.EXTERNAL)
OFF = DomainInfo(UUID, "web-1", State.SHUTOFF, disks=DISKS)
ON = replace(OFF, state=State.RUNNING, instance=3)


def facts_of(info: DomainInfo = OFF, **changes: Any) -> DomainFacts:
    """A VM with nothing against it: two qcow2 disks and a CD, one snapshot in both images."""
    clean = DomainFacts(
        info=info,
        snapshots=(BEFORE,),
        inactive=info.disks,
        inactive_xml="<domain/>",
        images={"vda": IMAGE, "vdb": IMAGE},
        saved=DISKS,
    )
    return replace(clean, **changes)


def with_disk(info: DomainInfo, **changes: Any) -> DomainFacts:
    return facts_of(replace(info, disks=(VDA, replace(VDB, **changes), CD)))


def seen(blockers: list[Blocker]) -> list[tuple[type[SnapdError], str, str]]:
    return [(b.error, b.reason, b.item) for b in blockers]
