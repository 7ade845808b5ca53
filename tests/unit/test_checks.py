"""Preflight verdicts over facts made by hand; the words are the contract's reason words.

The rules are those that losses taught: what tears disks at a revert, or hides data, is refused
before anything is touched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.errors import (
    AlreadyExists,
    Busy,
    Inconsistent,
    InvalidArgument,
    NeedsForce,
    PreflightFailed,
    SnapdError,
    Unsupported,
)
from snapd.hypervisor import DomainFacts, ImageInfo
from snapd.model import Disk, DomainInfo, Kind, SnapshotInfo, State
from snapd.operations.checks import Blocker, create_blockers, delete_blockers, revert_blockers
from snapd.operations.create import Way, Wish, decide
from snapd.operations.support import support

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
VDA = Disk("vda", "/images/web-root.qcow2", "qcow2")
VDB = Disk("vdb", "/images/web-data.qcow2", "qcow2")
CD = Disk("sda", "/iso/install.iso", "raw", device="cdrom", readonly=True)
DISKS = (VDA, VDB, CD)


def _image(**what: Any) -> ImageInfo:
    return ImageInfo("disk.qcow2", **what)


IMAGE = _image(tags=(("1", "before"),))
BEFORE = SnapshotInfo("before", 1700000000, State.SHUTOFF, disks=("vda", "vdb"), left_out=("sda",))
EXTERNAL = SnapshotInfo("outside", 1700000001, State.RUNNING, Kind.EXTERNAL)
OFF = DomainInfo(UUID, "web-1", State.SHUTOFF, disks=DISKS)
ON = replace(OFF, state=State.RUNNING, instance=3)


def _facts(info: DomainInfo = OFF, **changes: Any) -> DomainFacts:
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


def _with_disk(info: DomainInfo, **changes: Any) -> DomainFacts:
    return _facts(replace(info, disks=(VDA, replace(VDB, **changes), CD)))


def _seen(blockers: list[Blocker]) -> list[tuple[type[SnapdError], str, str]]:
    return [(b.error, b.reason, b.item) for b in blockers]


# --- create


@pytest.mark.parametrize(
    ("info", "memory"),
    [(OFF, False), (ON, False), (ON, True), (replace(ON, state=State.PAUSED), False)],
)
def test_create_blockers_clean_vm_none(info: DomainInfo, memory: bool) -> None:
    assert create_blockers(_facts(info), "after", memory=memory) == []


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
    found = create_blockers(_with_disk(info, **changes), "after", memory=False)
    assert _seen(found) == [(Unsupported, word, "vdb")]


@pytest.mark.parametrize("changes", [{"format": "raw", "readonly": True}, {"source": ""}])
def test_create_blockers_disk_that_guest_cannot_change_allowed(changes: dict[str, Any]) -> None:
    assert create_blockers(_with_disk(ON, **changes), "after", memory=False) == []


def test_create_blockers_no_writable_disk_refused_unless_there_are_no_images() -> None:
    facts = _facts(replace(OFF, disks=(CD,)), images={})
    assert _seen(create_blockers(facts, "after", memory=False)) == [(Unsupported, "no-disk", "")]
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
    found = create_blockers(_facts(info), "after", memory=False)
    assert _seen(found) == [(Unsupported, word, "")]


def test_create_blockers_raw_nvram_matters_only_with_libvirts_own_call() -> None:
    facts = _facts(replace(ON, raw_nvram=True))
    assert create_blockers(facts, "after", memory=False) == []
    assert [b.reason for b in create_blockers(facts, "after", memory=True)] == ["uefi-raw-nvram"]


def test_create_blockers_unmigratable_device_matters_only_with_memory() -> None:
    facts = _facts(replace(ON, unmigratable="hostdev (pci)"))
    assert create_blockers(facts, "after", memory=False) == []
    found = create_blockers(facts, "after", memory=True)
    assert _seen(found) == [(Unsupported, "unmigratable-device", "hostdev (pci)")]


def test_create_blockers_external_in_tree_mixed_tree() -> None:
    facts = _facts(snapshots=(BEFORE, EXTERNAL))
    found = create_blockers(facts, "after", memory=False)
    assert _seen(found) == [(Unsupported, "mixed-tree", "outside")]


@pytest.mark.parametrize(
    ("holder", "word", "item"),
    [
        ("backup", "backup", "backup"),
        ("block job on vdb", "block-job", "vdb"),
        ("another job", "unfinished-job", "another job"),
    ],
)
def test_blockers_somebody_at_work_busy(holder: str, word: str, item: str) -> None:
    facts = _facts(ON, holder=holder)
    expected = [(Busy, word, item)]
    assert _seen(create_blockers(facts, "after", memory=False)) == expected
    assert _seen(revert_blockers(facts, BEFORE)) == expected
    assert _seen(delete_blockers(facts, BEFORE)) == expected


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
    found = create_blockers(_facts(ON, inactive=inactive), "after", memory=False)
    assert [(b.error, b.reason) for b in found] == [(Unsupported, "pending-config")]


def test_create_blockers_other_cd_inserted_allowed() -> None:
    facts = _facts(ON, inactive=(VDA, VDB, replace(CD, source="")))
    assert create_blockers(facts, "after", memory=False) == []


def test_create_blockers_name_in_list_already_exists() -> None:
    found = create_blockers(_facts(images={}), "before", memory=False)
    assert _seen(found) == [(AlreadyExists, "", "before")]


def test_create_blockers_name_only_in_image_half_made() -> None:
    found = create_blockers(_facts(snapshots=()), "before", memory=False)
    assert _seen(found) == [
        (AlreadyExists, "half-made", "vda"),
        (AlreadyExists, "half-made", "vdb"),
    ]


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (_image(encrypted=True), "encrypted-disk"),
        (_image(data_file="data.raw"), "data-file"),
        (_image(refcount_bits=8), "wrong-format"),
    ],
)
def test_create_blockers_bad_image_unsupported(image: ImageInfo, word: str) -> None:
    found = create_blockers(_facts(images={"vda": IMAGE, "vdb": image}), "after", memory=False)
    assert _seen(found) == [(Unsupported, word, "vdb")]


def test_create_blockers_bitmap_and_checkpoint_allowed() -> None:
    image = _image(bitmaps=("backup-1",))
    facts = _facts(images={"vda": image, "vdb": image}, checkpoints=("backup-1",))
    assert create_blockers(facts, "after", memory=False) == []


@pytest.mark.parametrize(
    ("missing", "word"), [(set(), "image-unreadable"), ({VDB.source}, "missing-disk")]
)
def test_create_blockers_image_not_read_preflight_failed(missing: set[str], word: str) -> None:
    facts = _facts(images={"vda": IMAGE}, unreadable={"vdb": "no permission"}, missing=missing)
    found = create_blockers(facts, "after", memory=False)
    assert _seen(found) == [(PreflightFailed, word, "vdb")]


def test_exception_of_blocker_carries_the_data() -> None:
    (blocker,) = create_blockers(_with_disk(OFF, format="raw"), "after", memory=False)
    error = blocker.exception("cannot snapshot VM web-1")
    assert type(error) is Unsupported
    assert (error.reason, error.disk, error.item) == ("raw-disk", "vdb", "vdb")
    assert error.message.startswith("cannot snapshot VM web-1: disk vdb is raw")


# --- revert


def test_revert_blockers_clean_vm_none() -> None:
    assert revert_blockers(_facts(), BEFORE) == []
    assert revert_blockers(_facts(ON), BEFORE) == []


def _revert(**changes: Any) -> list[tuple[type[SnapdError], str, str]]:
    return _seen(revert_blockers(_facts(**changes), BEFORE))


def _images(vdb: ImageInfo) -> dict[str, ImageInfo]:
    return {"vda": IMAGE, "vdb": vdb}


def test_revert_blockers_external_external_unsupported() -> None:
    found = revert_blockers(_facts(snapshots=(EXTERNAL,)), EXTERNAL)
    assert _seen(found) == [(Unsupported, "external-unsupported", "outside")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"snapshots": (BEFORE, EXTERNAL)}, (Unsupported, "mixed-tree", "outside")),
        ({"info": replace(ON, persistent=False)}, (Unsupported, "transient", "")),
        ({"info": replace(OFF, managed_save=True)}, (NeedsForce, "managed-save", "")),
        ({"checkpoints": ("bk-1", "bk-2")}, (Unsupported, "checkpoints", "bk-1")),
        (
            {"images": _images(replace(IMAGE, bitmaps=("bk-1",)))},
            (Unsupported, "checkpoints", "vdb"),
        ),
        ({"images": _images(_image())}, (Inconsistent, "half-made", "vdb")),
        (
            {"images": _images(_image(tags=(("1", "before"), ("2", "before"))))},
            (Inconsistent, "half-made", "vdb"),
        ),
        (
            {"images": _images(_image(tags=(("1", "before"), ("before", "x"))))},
            (Inconsistent, "half-made", "vdb"),
        ),
        (
            {"images": {"vda": IMAGE}, "unreadable": {"vdb": "no permission"}},
            (PreflightFailed, "image-unreadable", "vdb"),
        ),
        ({"missing": {CD.source}}, (PreflightFailed, "missing-file", "install.iso")),
        (
            {"saved": (VDA, replace(VDB, source="/images/old.qcow2"), CD)},
            (Inconsistent, "other-file", "vdb"),
        ),
        ({"saved": (VDA, CD)}, (Unsupported, "pending-config", "vdb")),
        (
            {"saved": (*DISKS, Disk("vdc", "/images/gone.qcow2", "qcow2"))},
            (Unsupported, "pending-config", "vdc"),
        ),
    ],
)
def test_revert_blockers_what_would_tear_disks_refused(
    changes: dict[str, Any], expected: tuple[type[SnapdError], str, str]
) -> None:
    assert _revert(**changes) == [expected]


# --- delete


@pytest.mark.parametrize("info", [OFF, ON], ids=["off", "on"])
def test_delete_blockers_broken_off_delete_may_be_finished(info: DomainInfo) -> None:
    assert delete_blockers(_facts(info), BEFORE) == []
    assert delete_blockers(_facts(info, images=_images(_image())), BEFORE) == []


def test_delete_blockers_external_external_unsupported() -> None:
    found = delete_blockers(_facts(snapshots=(EXTERNAL,)), EXTERNAL)
    assert _seen(found) == [(Unsupported, "external-unsupported", "outside")]


def test_delete_blockers_tag_twice_half_made() -> None:
    twice = _image(tags=(("1", "before"), ("2", "before")))
    found = delete_blockers(_facts(images=_images(twice)), BEFORE)
    assert _seen(found) == [(Inconsistent, "half-made", "vdb")]


def test_delete_blockers_encrypted_disk_refused_only_while_off() -> None:
    """qemu-img has no key: the tag would stay, with return code 0."""
    off = delete_blockers(_with_disk(OFF, encrypted=True), BEFORE)
    assert _seen(off) == [(Unsupported, "encrypted-disk", "vdb")]
    assert delete_blockers(_with_disk(ON, encrypted=True), BEFORE) == []


# --- what lists show


def _support(info: DomainInfo, *, monitor: bool = True, tree: Any = (BEFORE,)) -> tuple[str, str]:
    found = support(info, tree, monitor=monitor, has_images=True)
    assert found.keys() == {"internal", "internal-memory", "external", "external-memory"}
    assert found["external"] == found["external-memory"] == "external-unsupported"
    return found["internal"], found["internal-memory"]


def test_support_clean_vm_yes() -> None:
    assert _support(OFF) == ("yes", "yes")
    assert _support(ON) == ("yes", "yes")


def test_support_monitor_off_matters_only_for_running_without_memory() -> None:
    assert _support(ON, monitor=False) == ("monitor-off", "yes")
    assert _support(OFF, monitor=False) == ("yes", "yes")


def test_support_device_against_memory_leaves_disks_only() -> None:
    assert _support(replace(ON, unmigratable="hostdev (pci)")) == ("yes", "unmigratable-device")
    assert _support(replace(ON, raw_nvram=True)) == ("yes", "uefi-raw-nvram")
    assert _support(replace(OFF, raw_nvram=True)) == ("uefi-raw-nvram", "uefi-raw-nvram")


def test_support_bad_disk_and_tree_first_word() -> None:
    raw = replace(OFF, disks=(replace(VDA, format="raw"),))
    assert _support(raw) == ("raw-disk", "raw-disk")
    assert _support(raw, tree=(EXTERNAL,)) == ("mixed-tree", "mixed-tree")


# --- which way a create goes

MINUTE = 60_000


def _decide(info: DomainInfo, wish: Wish, estimate: int = 1000, *, monitor: bool = True) -> Any:
    plan = decide(_facts(info), wish, estimate, monitor=monitor)
    return plan.way, plan.memory, [w.reason for w in plan.warnings]


def test_decide_off_libvirts_own_without_memory() -> None:
    assert _decide(OFF, Wish(memory="yes"), 10 * MINUTE) == (Way.LIBVIRT, False, [])


@pytest.mark.parametrize("memory", ["auto", "yes"])
def test_decide_short_pause_with_memory(memory: str) -> None:
    assert _decide(ON, Wish(memory=memory), MINUTE) == (Way.LIBVIRT, True, [])


def test_decide_no_memory_wanted_by_the_monitor() -> None:
    assert _decide(ON, Wish(memory="no")) == (Way.MONITOR, False, [])


def test_decide_quiescing_required_by_the_monitor() -> None:
    assert _decide(ON, Wish(quiesce="require")) == (Way.MONITOR, False, [])


@pytest.mark.parametrize(
    ("info", "estimate"),
    [(ON, MINUTE + 1), (replace(ON, unmigratable="hostdev (pci)"), 1000)],
)
def test_decide_memory_not_to_be_had_left_out_and_said(info: DomainInfo, estimate: int) -> None:
    assert _decide(info, Wish(), estimate) == (Way.MONITOR, False, ["memory-left-out"])


def test_decide_raw_nvram_left_out_and_said() -> None:
    info = replace(ON, raw_nvram=True)
    assert _decide(info, Wish(memory="no")) == (Way.MONITOR, False, ["nvram-left-out"])


@pytest.mark.parametrize(
    ("wish", "estimate", "monitor", "word"),
    [
        (Wish(memory="yes"), MINUTE + 1, True, "pause-too-long"),
        (Wish(memory="no"), 0, False, "monitor-off"),
        (Wish(), MINUTE + 1, False, "monitor-off"),
        (Wish(kind="external"), 0, True, "external-unsupported"),
        (Wish(disks=("vda",)), 0, True, ""),
    ],
)
def test_decide_impossible_unsupported(wish: Wish, estimate: int, monitor: bool, word: str) -> None:
    with pytest.raises(Unsupported) as caught:
        decide(_facts(ON), wish, estimate, monitor=monitor)
    assert caught.value.reason == word


def test_decide_memory_and_quiescing_invalid_argument() -> None:
    with pytest.raises(InvalidArgument):
        decide(_facts(ON), Wish(memory="yes", quiesce="require"), 0, monitor=True)


def test_decide_all_disks_named_allowed() -> None:
    assert _decide(ON, Wish(memory="no", disks=("vdb", "vda")))[0] is Way.MONITOR
