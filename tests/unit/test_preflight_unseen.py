"""What could not be looked at is not passed: preflight verdicts over facts made by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import PreflightFailed, SnapdError, Unsupported
from snapd.hypervisor import DomainFacts, Need
from snapd.hypervisor.facts import Gatherer
from snapd.hypervisor.files import Files
from snapd.hypervisor.images import Images
from snapd.hypervisor.needs import Want
from snapd.model import Disk, DomainInfo, SnapshotInfo, State
from snapd.operations.plan import plan
from snapd.operations.preflight import (
    RevertTerms,
    create_blockers,
    delete_blockers,
    revert_blockers,
)
from snapd.operations.wishes import Wish
from tests.unit.test_hypervisor_images import made
from tests.unit.vms import BEFORE, CD, IMAGE, OFF, ON, VDA, VDB, facts_of, seen

BASE = "/images/base.qcow2"
ON_BASE = {"vda": IMAGE, "vdb": replace(IMAGE, backing=BASE)}


@pytest.mark.parametrize(
    ("changes", "item"),
    [
        ({"unknown": {CD.source}}, "sda"),
        ({"unknown": {VDB.source}}, "vdb"),
        ({"unknown": {BASE}, "images": ON_BASE}, "vdb"),
    ],
)
def test_revert_blockers_file_that_nobody_can_tell_image_unreadable(
    changes: dict[str, Any], item: str
) -> None:
    (blocker,) = revert_blockers(facts_of(**changes), BEFORE)
    assert (blocker.error, blocker.reason, blocker.item, blocker.ways) == (
        PreflightFailed,
        "image-unreadable",
        item,
        ("try-again",),
    )


def test_revert_blockers_missing_is_said_rather_than_unknown() -> None:
    facts = facts_of(unknown={CD.source}, missing={CD.source})
    assert [b.reason for b in revert_blockers(facts, BEFORE)] == ["missing-file"]


def test_revert_blockers_need_that_nobody_can_tell_only_where_it_is_to_run() -> None:
    facts = facts_of(needs=[Need("emulator", "qemu", told=False)])
    running = revert_blockers(facts, BEFORE, RevertTerms(State.RUNNING))
    assert seen(running) == [(PreflightFailed, "image-unreadable", "qemu")]
    assert revert_blockers(facts, BEFORE) == []


def test_blockers_backing_file_that_nobody_can_tell_only_where_it_would_be_opened() -> None:
    changes: dict[str, Any] = {"unknown": {BASE}, "images": ON_BASE}
    hangs = [(PreflightFailed, "image-unreadable", "vdb")]
    assert seen(delete_blockers(facts_of(OFF, **changes), BEFORE)) == hangs
    assert delete_blockers(facts_of(ON, **changes), BEFORE) == []
    assert seen(create_blockers(facts_of(OFF, **changes), "x", memory=False)) == hangs
    assert create_blockers(facts_of(ON, **changes), "x", memory=False) == []


def test_create_blockers_room_unknown_refused_only_with_memory() -> None:
    """RAM goes to the first disk."""
    facts = facts_of(ON, unknown={VDA.source})
    refused = create_blockers(facts, "x", memory=True)
    assert seen(refused) == [(PreflightFailed, "image-unreadable", "vda")]
    assert create_blockers(facts, "x", memory=False) == []
    assert create_blockers(facts_of(ON, unknown={VDB.source}), "x", memory=True) == []


def test_plan_room_for_ram_unknown_left_out_and_said() -> None:
    made = plan(facts_of(ON, unknown={VDA.source}), Wish(), [], "", monitor=True)
    assert (made.memory, made.blockers) == (False, ())
    assert [w.reason for w in made.warnings] == ["memory-left-out"]


NUMBERED = SnapshotInfo("1", 1700000000, State.SHUTOFF, disks=("vda",))


@pytest.mark.parametrize("blockers", [revert_blockers, delete_blockers])
@pytest.mark.parametrize("info", [OFF, ON])
@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        (Disk("vda", "vol1", "qcow2", kind="volume"), (Unsupported, "block-device")),
        (Disk("vda", "/dev/vg/root", "qcow2", kind="block"), (Unsupported, "block-device")),
        (Disk("vda", "pool/root", "qcow2", kind="network"), (Unsupported, "network-disk")),
        (Disk("vda", "/images/root", ""), (Unsupported, "wrong-format")),
    ],
    ids=["volume", "block", "network", "no-format"],
)
def test_blockers_image_that_is_never_read_refused(
    blockers: Any, info: DomainInfo, disk: Disk, expected: tuple[type[SnapdError], str]
) -> None:
    """A foreign snapshot `1` may be the number of another one in the image (LIBVIRT.md 10)."""
    changes: dict[str, Any] = {"images": {}, "saved": (disk,), "snapshots": (NUMBERED,)}
    facts = facts_of(replace(info, disks=(disk,)), **changes)
    assert seen(blockers(facts, NUMBERED)) == [(*expected, "vda")]
    assert blockers(replace(facts, has_images=False), NUMBERED) == []


def test_blockers_disk_that_holds_no_tag_may_be_unread() -> None:
    ro = Disk("vdc", "/dev/vg/tools", "raw", kind="block", readonly=True)
    facts = facts_of(replace(OFF, disks=(*OFF.disks, ro)), saved=(*OFF.disks, ro))
    assert revert_blockers(facts, BEFORE) == delete_blockers(facts, BEFORE) == []


# --- the facts themselves


class Silent(Files):
    """The host, with one folder on a mount that does not answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = str(folder)

    async def _in_time(self, call: Any, path: str) -> Any:
        if path.startswith(self.folder):
            raise TimeoutError
        return await super()._in_time(call, path)


def test_add_what_the_host_does_not_tell_is_unknown(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    base = made(dead / "base.qcow2")
    top = made(tmp_path / "top.qcow2", "-b", str(base), "-F", "qcow2")
    disks = (
        Disk("vda", str(top), "qcow2"),
        Disk("vdb", str(dead / "data.raw"), "raw"),
        Disk("vdc", str(tmp_path / "no-device"), "raw", kind="block"),
        Disk("sda", str(tmp_path / "no.iso"), "raw", device="cdrom"),
    )
    info = DomainInfo("u", "web-1", State.SHUTOFF, disks=disks)
    facts = DomainFacts(info, (), disks, "")
    wants = [
        Want("file", "kernel", str(dead / "kernel")),
        Want("file", "gone", str(tmp_path / "gone")),
        Want("file", "template", str(tmp_path / "gone"), unless=str(dead / "vars")),
        Want("file", "spare", str(dead / "template"), unless=str(top)),
        Want("network", "lab"),
    ]

    class Nobody:
        async def find(self, *_what: object) -> list[Any]:
            return []

    gatherer = Gatherer(Images(), Silent(dead), Nobody())  # type: ignore[arg-type]
    asyncio.run(gatherer.add(facts, wants))
    assert facts.missing == {str(tmp_path / "no-device"), str(tmp_path / "no.iso")}
    assert facts.unknown == {str(base), str(dead / "data.raw")}
    assert set(facts.space) == {"vda"}
    assert facts.needs == [
        Need("file", "kernel", told=False),
        Need("file", "gone"),
        Need("file", "template", told=False),
    ]
