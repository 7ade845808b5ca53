"""Preflight verdicts over facts made by hand; the words are the contract's reason words.

Of creates: what would hide data, or tear disks later, is refused before anything is touched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.errors import (
    AlreadyExists,
    Busy,
    NoSpace,
    PreflightFailed,
    Unsupported,
)
from snapd.hypervisor import ImageInfo, Space
from snapd.model import (
    Disk,
    DomainInfo,
    Floor,
    State,
)
from snapd.operations.plan import plan
from snapd.operations.preflight import (
    create_blockers,
    delete_blockers,
    revert_blockers,
)
from snapd.operations.wishes import Wish
from tests.unit.vms import (
    BEFORE,
    CD,
    EXTERNAL,
    IMAGE,
    OFF,
    ON,
    VDA,
    VDB,
    facts_of,
    image_of,
    seen,
    with_disk,
)

# --- create


@pytest.mark.parametrize(
    ("info", "memory"),
    [(OFF, False), (ON, False), (ON, True), (replace(ON, state=State.PAUSED), False)],
)
def test_create_blockers_clean_vm_none(info: DomainInfo, memory: bool) -> None:
    assert create_blockers(facts_of(info), "after", memory=memory) == []


@pytest.mark.parametrize("info", [OFF, ON], ids=["off", "on"])
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": "raw"}, "raw-disk"),
        ({"format": "qed"}, "wrong-format"),
        ({"format": ""}, "wrong-format"),
        ({"kind": "block", "source": "/dev/vg/data"}, "block-device"),
        ({"kind": "network", "source": "pool/data"}, "network-disk"),
        ({"shareable": True}, "shared-disk"),
        ({"transient": True}, "transient-disk"),
        ({"encrypted": True}, "encrypted-disk"),
        ({"data_file": True}, "data-file"),
    ],
)
def test_create_blockers_bad_disk_unsupported(
    info: DomainInfo, changes: dict[str, Any], word: str
) -> None:
    found = create_blockers(with_disk(info, **changes), "after", memory=False)
    assert seen(found) == [(Unsupported, word, "vdb")]


@pytest.mark.parametrize("changes", [{"format": "raw", "readonly": True}, {"source": ""}])
def test_create_blockers_disk_that_guest_cannot_change_allowed(changes: dict[str, Any]) -> None:
    assert create_blockers(with_disk(ON, **changes), "after", memory=False) == []


def test_create_blockers_no_writable_disk_refused_unless_there_are_no_images() -> None:
    facts = facts_of(replace(OFF, disks=(CD,)), images={})
    assert seen(create_blockers(facts, "after", memory=False)) == [(Unsupported, "no-disk", "")]
    assert create_blockers(replace(facts, has_images=False), "after", memory=False) == []


@pytest.mark.parametrize(
    ("info", "word"),
    [
        (replace(ON, persistent=False), "transient"),
        (replace(OFF, managed_save=True), "managed-save"),
        (replace(ON, state=State.SUSPENDED), "unfinished-job"),
        (replace(OFF, state=State.CRASHED), "unfinished-job"),
        (replace(OFF, state=State.UNKNOWN), "unfinished-job"),
        (replace(OFF, raw_nvram=True), "uefi-raw-nvram"),
    ],
)
def test_create_blockers_bad_state_unsupported(info: DomainInfo, word: str) -> None:
    found = create_blockers(facts_of(info), "after", memory=False)
    assert seen(found) == [(Unsupported, word, "")]


def test_create_blockers_raw_nvram_matters_only_with_libvirts_own_call() -> None:
    facts = facts_of(replace(ON, raw_nvram=True))
    assert create_blockers(facts, "after", memory=False) == []
    assert [b.reason for b in create_blockers(facts, "after", memory=True)] == ["uefi-raw-nvram"]


def test_create_blockers_unmigratable_device_matters_only_with_memory() -> None:
    facts = facts_of(replace(ON, unmigratable="hostdev (pci)"))
    assert create_blockers(facts, "after", memory=False) == []
    found = create_blockers(facts, "after", memory=True)
    assert seen(found) == [(Unsupported, "unmigratable-device", "hostdev (pci)")]


def test_create_blockers_external_in_tree_mixed_tree() -> None:
    facts = facts_of(snapshots=(BEFORE, EXTERNAL))
    found = create_blockers(facts, "after", memory=False)
    assert seen(found) == [(Unsupported, "mixed-tree", "outside")]


@pytest.mark.parametrize(
    ("holder", "word", "item"),
    [
        ("backup", "backup", "backup"),
        ("block job on vdb", "block-job", "vdb"),
        ("another job", "unfinished-job", "another job"),
    ],
)
def test_blockers_somebody_at_work_busy(holder: str, word: str, item: str) -> None:
    facts = facts_of(ON, holder=holder)
    expected = [(Busy, word, item)]
    assert seen(create_blockers(facts, "after", memory=False)) == expected
    assert seen(revert_blockers(facts, BEFORE)) == expected
    assert seen(delete_blockers(facts, BEFORE)) == expected


@pytest.mark.parametrize(
    "inactive",
    [
        (VDA, CD),
        (VDA, VDB, Disk("vdc", "/images/new.qcow2", "qcow2"), CD),
        (VDA, replace(VDB, source="/images/other.qcow2"), CD),
        (VDA, replace(VDB, format="raw"), CD),
    ],
    ids=["unplugged", "plugged", "other-source", "other-format"],
)
def test_create_blockers_live_differs_from_inactive_pending_config(
    inactive: tuple[Disk, ...],
) -> None:
    found = create_blockers(facts_of(ON, inactive=inactive), "after", memory=False)
    assert [(b.error, b.reason) for b in found] == [(Unsupported, "pending-config")]


def test_create_blockers_other_cd_inserted_allowed() -> None:
    facts = facts_of(ON, inactive=(VDA, VDB, replace(CD, source="")))
    assert create_blockers(facts, "after", memory=False) == []


def test_create_blockers_name_in_list_already_exists() -> None:
    found = create_blockers(facts_of(images={}), "before", memory=False)
    assert seen(found) == [(AlreadyExists, "name-taken", "before")]


def test_create_blockers_name_only_in_image_half_made() -> None:
    found = create_blockers(facts_of(snapshots=()), "before", memory=False)
    assert seen(found) == [
        (AlreadyExists, "half-made", "vda"),
        (AlreadyExists, "half-made", "vdb"),
    ]


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (image_of(encrypted=True), "encrypted-disk"),
        (image_of(data_file="data.raw"), "data-file"),
        (image_of(refcount_bits=8), "wrong-format"),
    ],
)
def test_create_blockers_bad_image_unsupported(image: ImageInfo, word: str) -> None:
    found = create_blockers(facts_of(images={"vda": IMAGE, "vdb": image}), "after", memory=False)
    assert seen(found) == [(Unsupported, word, "vdb")]


def test_create_blockers_bitmap_and_checkpoint_allowed() -> None:
    image = image_of(bitmaps=("backup-1",))
    facts = facts_of(images={"vda": image, "vdb": image}, checkpoints=("backup-1",))
    assert create_blockers(facts, "after", memory=False) == []


@pytest.mark.parametrize(
    ("missing", "word"), [(set(), "image-unreadable"), ({VDB.source}, "missing-disk")]
)
def test_create_blockers_image_not_read_preflight_failed(missing: set[str], word: str) -> None:
    facts = facts_of(images={"vda": IMAGE}, unreadable={"vdb": "no permission"}, missing=missing)
    found = create_blockers(facts, "after", memory=False)
    assert seen(found) == [(PreflightFailed, word, "vdb")]


def test_create_blockers_image_of_other_format_than_declared_wrong_format() -> None:
    facts = facts_of(images={"vda": IMAGE}, unreadable={"vdb": "no qcow2"}, misdeclared={"vdb"})
    assert seen(create_blockers(facts, "after", memory=False)) == [
        (Unsupported, "wrong-format", "vdb")
    ]


def test_create_blockers_managed_save_allowed_only_where_it_is_about_to_go() -> None:
    facts = facts_of(replace(OFF, managed_save=True))
    found = create_blockers(facts, "after", memory=False)
    assert seen(found) == [(Unsupported, "managed-save", "")]
    assert create_blockers(facts, "after", memory=False, over_saved_state=True) == []


@pytest.mark.parametrize(
    ("changes", "item"),
    [
        ({"checkpoints": ("bk-1", "bk-2")}, "bk-1"),
        ({"images": {"vda": IMAGE, "vdb": replace(IMAGE, bitmaps=("bk-1",))}}, "vdb"),
    ],
)
def test_plan_backup_in_the_way_of_a_revert_is_said_when_a_snapshot_is_made(
    changes: dict[str, Any], item: str
) -> None:
    """FIELD_REPORTS 8: else it is learnt when the revert is needed."""
    made = plan(facts_of(ON, **changes), Wish(memory="no"), [], "x", monitor=True)
    assert [(w.reason, w.item) for w in made.warnings] == [("checkpoints", item)]
    assert made.blockers == ()


# --- room

MIB = 1 << 20
RAM = replace(ON, memory=512 * MIB)


def _room(free: int, *, inodes: int = 1000, device: int = 1) -> Space:
    return Space(free * MIB, 10**12, inodes, device)


def test_create_blockers_ram_needs_room_beside_the_first_disk() -> None:
    """512 MiB of RAM, a twentieth more for the devices, and 4 MiB for each disk's tables."""
    apart = {"vda": _room(541), "vdb": _room(4, device=2)}
    assert [b.reason for b in create_blockers(facts_of(RAM, space=apart), "a", memory=True)] == [
        "no-space"
    ]
    apart["vda"] = _room(542)
    assert create_blockers(facts_of(RAM, space=apart), "a", memory=True) == []


def test_create_blockers_disks_on_one_file_system_are_counted_together() -> None:
    both = {"vda": _room(9), "vdb": _room(7)}  # somebody wrote between the two looks
    (found,) = create_blockers(facts_of(ON, space=both), "a", memory=False)
    assert (found.error, found.reason, found.need, found.have) == (
        NoSpace,
        "no-space",
        8 * MIB,
        7 * MIB,
    )
    both = {"vda": _room(8), "vdb": _room(8)}
    assert create_blockers(facts_of(ON, space=both), "a", memory=False) == []


@pytest.mark.parametrize("metadata", [_room(0), _room(100, inodes=0)], ids=["bytes", "inodes"])
def test_create_blockers_libvirts_folder_full_no_space(metadata: Space) -> None:
    """It writes its record last: the images would hold a snapshot that it doesn't know."""
    found = create_blockers(facts_of(metadata=metadata), "a", memory=False)
    assert seen(found) == [(NoSpace, "no-space", "libvirt")]


def test_plan_no_room_for_ram_left_out_and_said() -> None:
    """memory=auto takes the disks only; memory=yes is refused."""
    facts = facts_of(RAM, space={"vda": _room(100), "vdb": _room(100)})
    made = plan(facts, Wish(), [], "", monitor=True)
    assert (made.memory, made.blockers) == (False, ())
    assert [w.reason for w in made.warnings] == ["memory-left-out"]
    refused = plan(facts, Wish(memory="yes"), [], "", monitor=True)
    assert [b.reason for b in refused.blockers] == ["no-space"]


GIB = 1 << 30
FIVE_PERCENT = Floor(percent=5)


@pytest.mark.parametrize(
    ("floor", "free", "need"),
    [
        (FIVE_PERCENT, 5 * GIB + 8 * MIB - 1, 5 * GIB + 8 * MIB),
        (FIVE_PERCENT, 5 * GIB + 8 * MIB, None),
        (Floor(size=10 * GIB), 10 * GIB, 10 * GIB + 8 * MIB),
        (Floor(size=10 * GIB), 11 * GIB, None),
        (Floor(percent=5, size=10 * GIB), 6 * GIB, 10 * GIB + 8 * MIB),
        (Floor(), 8 * MIB, None),
    ],
)
def test_plan_what_leaves_less_than_min_free_is_refused(
    floor: Floor, free: int, need: int | None
) -> None:
    """Of 100 GiB; 4 MiB for each of two disks."""
    space = Space(free, 100 * GIB, 1000, 1)
    facts = facts_of(ON, space={"vda": space, "vdb": space})
    made = plan(facts, Wish(memory="no", min_free=floor), [], "", monitor=True)
    told = [(b.error, b.reason, b.item, b.need, b.have) for b in made.blockers]
    assert told == ([(NoSpace, "min-free", "vda", need, free)] if need else [])
    assert plan(facts, Wish(memory="no"), [], "", monitor=True).blockers == ()


def test_plan_min_free_is_judged_on_each_file_system_by_itself() -> None:
    """Where not even the snapshot has room, that is what is said."""
    space = {"vda": Space(9 * GIB, 100 * GIB, 9, 1), "vdb": Space(9 * GIB, 200 * GIB, 9, 2)}
    facts = facts_of(ON, space=space)
    (found,) = plan(facts, Wish(memory="no", min_free=FIVE_PERCENT), [], "", monitor=True).blockers
    assert (found.reason, found.item, found.ways) == ("min-free", "vdb", ("make-room",))
    for part in ("9216 MiB of 200.0 GiB", "web-data.qcow2", "needs 4 MiB", "keeps 5 %"):
        assert part in found.message
    facts = facts_of(ON, space={**space, "vdb": Space(0, 200 * GIB, 9, 2)})
    made = plan(facts, Wish(memory="no", min_free=FIVE_PERCENT), [], "", monitor=True)
    assert [b.reason for b in made.blockers] == ["no-space"]


def test_plan_ram_that_would_leave_less_than_min_free_is_refused() -> None:
    """542 MiB for RAM and tables and 4 MiB for the second disk leave 5 GiB, or 1 MiB less."""
    for free, reasons in ((5 * GIB + 546 * MIB, []), (5 * GIB + 545 * MIB, ["min-free"])):
        space = Space(free, 100 * GIB, 1000, 1)
        facts = facts_of(RAM, space={"vda": space, "vdb": space})
        made = plan(facts, Wish(memory="yes", min_free=FIVE_PERCENT), [], "", monitor=True)
        assert [b.reason for b in made.blockers] == reasons
