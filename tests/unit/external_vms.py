"""VMs on external snapshots, made by hand, with nothing against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from snapd.hypervisor import ChainFacts, DomainFacts, ImageInfo, Space
from snapd.model import Disk, Kind, SnapshotInfo, State
from tests.unit.vms import ON

BASE = "/images/web.raw"
O1, O2 = "/images/web-1-vda.s1.qcow2", "/images/web-1-vda.s2.qcow2"
VDA = Disk("vda", O2, "qcow2")
S1 = SnapshotInfo(
    "s1",
    1700000001,
    State.RUNNING,
    Kind.EXTERNAL,
    disks=("vda",),
    overlays=(("vda", O1),),
    bases=(("vda", BASE),),
    sources=(("vda", BASE),),
)
S2 = replace(
    S1,
    name="s2",
    created=1700000002,
    parent="s1",
    current=True,
    overlays=(("vda", O2),),
    bases=(("vda", O1),),
    sources=(("vda", O1),),
)
RUNS = replace(ON, disks=(VDA,), current="s2")
RESTS = replace(RUNS, state=State.SHUTOFF, instance=-1)
GIB = 1 << 30


def image(path: str, backing: str = "", **what: Any) -> ImageInfo:
    form = {"": "", BASE: "raw"}.get(backing, "qcow2")
    sizes = {"virtual_size": 20 * GIB, "actual_size": GIB}
    return ImageInfo(path, backing=backing, backing_format=form, **{**sizes, **what})


IMAGES = {O2: image(O2, O1), O1: image(O1, BASE), BASE: image(BASE)}
CHAINS = ChainFacts(
    capable=True,
    layers={"vda": ((O2, "qcow2"), (O1, "qcow2"), (BASE, "raw"))},
    live={"vda": (O2, O1, BASE)},
    stored={"vda": (O2,)},
    images=IMAGES,
)


def chained(**changes: Any) -> DomainFacts:
    """A running VM with one disk, which is on web-1-vda.s2.qcow2, on web-1-vda.s1.qcow2, on a raw
    one: two snapshots."""
    info = changes.pop("info", RUNS)
    clean = DomainFacts(
        info=info,
        snapshots=(S1, S2),
        inactive=info.disks,
        inactive_xml="<domain/>",
        images={"vda": IMAGES[O2]},
        chains=CHAINS,
        saved=(replace(VDA, source=BASE, format="raw"),),
        space={"vda": Space(100 * GIB, 200 * GIB, 1 << 20, 1)},
        version=(11, 3, 0),
    )
    return replace(clean, **changes)
