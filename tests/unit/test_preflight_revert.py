"""Preflight verdicts over facts made by hand; the words are the contract's reason words.

Of reverts and deletes: what tears disks is refused before anything is stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.errors import (
    Inconsistent,
    NeedsForce,
    PreflightFailed,
    Protected,
    SnapdError,
    Unsupported,
)
from snapd.hypervisor import FileUse, ImageInfo, Need, Space
from snapd.model import (
    Disk,
    DomainInfo,
    Kind,
    SnapshotInfo,
    State,
)
from snapd.operations.preflight import (
    RevertTerms,
    create_blockers,
    delete_blockers,
    revert_blockers,
)
from tests.unit.vms import (
    BEFORE,
    CD,
    DISKS,
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

# --- revert


def test_revert_blockers_clean_vm_none() -> None:
    assert revert_blockers(facts_of(), BEFORE) == []
    assert revert_blockers(facts_of(ON), BEFORE) == []


def _revert(**changes: Any) -> list[tuple[type[SnapdError], str, str]]:
    return seen(revert_blockers(facts_of(**changes), BEFORE))


def _images(vdb: ImageInfo) -> dict[str, ImageInfo]:
    return {"vda": IMAGE, "vdb": vdb}


def test_revert_blockers_external_external_unsupported() -> None:
    found = revert_blockers(facts_of(snapshots=(EXTERNAL,)), EXTERNAL)
    assert seen(found) == [(Unsupported, "external-unsupported", "outside")]


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
        ({"info": ON, "live_bitmaps": {"vda": ("bk-2",)}}, (Unsupported, "checkpoints", "vda")),
        ({"images": _images(image_of())}, (Inconsistent, "half-made", "vdb")),
        (
            {"images": _images(image_of(tags=(("1", "before"), ("2", "before"))))},
            (Inconsistent, "half-made", "vdb"),
        ),
        (
            {"images": _images(image_of(tags=(("1", "before"), ("before", "x"))))},
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


def _revert_to(terms: RevertTerms, info: DomainInfo = OFF, **changes: Any) -> list[str]:
    return [b.reason for b in revert_blockers(facts_of(info, **changes), BEFORE, terms)]


@pytest.mark.parametrize(
    ("force", "discard", "expected"),
    [
        (False, False, ["managed-save"]),
        (True, False, ["managed-save"]),
        (False, True, ["managed-save"]),
        (True, True, []),
    ],
)
def test_revert_blockers_managed_save_needs_both_words(
    force: bool, discard: bool, expected: list[str]
) -> None:
    terms = RevertTerms(force=force, discard_saved_state=discard)
    assert _revert_to(terms, replace(OFF, managed_save=True)) == expected


def test_revert_blockers_tpm_newer_than_disks_needs_force() -> None:
    assert _revert_to(RevertTerms(), saved_tpm=True) == ["tpm-newer"]
    assert _revert_to(RevertTerms(force=True), saved_tpm=True) == []
    with_ram = replace(BEFORE, memory=True)
    assert revert_blockers(facts_of(saved_tpm=True), with_ram) == []


@pytest.mark.parametrize("changes", [{"checkpoints": ("bk",)}, {"images": _images(image_of())}])
def test_revert_blockers_force_gets_past_nothing_that_tears(changes: dict[str, Any]) -> None:
    terms = RevertTerms(State.RUNNING, force=True, discard_saved_state=True)
    assert len(_revert_to(terms, **changes)) == 1


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("file", "missing-file"),
        ("emulator", "missing-file"),
        ("folder", "missing-file"),
        ("network", "missing-network"),
        ("bridge", "missing-network"),
        ("device", "missing-device"),
    ],
)
def test_revert_blockers_lacks_what_it_ran_with_only_where_it_is_to_run(
    kind: str, word: str
) -> None:
    lacks: dict[str, Any] = {"needs": [Need(kind, "x")]}
    assert _revert_to(RevertTerms(State.RUNNING), **lacks) == [word]
    assert _revert_to(RevertTerms(State.PAUSED), **lacks) == [word]
    assert _revert_to(RevertTerms(State.SHUTOFF), **lacks) == []
    with_ram = replace(BEFORE, memory=True)  # libvirt loads it before we can stop it
    assert len(revert_blockers(facts_of(**lacks), with_ram, RevertTerms(State.SHUTOFF))) == 1


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("active", [(Protected, "shared-disk", "vda")]),
        ("backing", [(Protected, "shared-base", "vda")]),
    ],
)
def test_revert_blockers_others_need_the_image_protected(how: str, expected: Any) -> None:
    assert _revert(users=[FileUse("vda", "VM clone-1", how)]) == expected


def test_revert_blockers_others_who_cannot_be_asked_need_force() -> None:
    users = [FileUse("", "VM clone-1", "unchecked")]
    (blocker,) = revert_blockers(facts_of(users=users), BEFORE)
    assert (blocker.error, blocker.reason, blocker.item, blocker.ways) == (
        PreflightFailed,
        "unchecked",
        "VM clone-1",
        ("try-again", "force"),
    )
    assert _revert_to(RevertTerms(force=True), users=users) == []
    known = [*users, FileUse("vda", "VM clone-2", "backing")]
    assert _revert_to(RevertTerms(force=True), users=known) == ["shared-base"]


def test_revert_blockers_record_without_configuration_half_made() -> None:
    assert _revert(saved=()) == [(Inconsistent, "half-made", "")]


# --- delete


@pytest.mark.parametrize("info", [OFF, ON], ids=["off", "on"])
def test_delete_blockers_broken_off_delete_may_be_finished(info: DomainInfo) -> None:
    assert delete_blockers(facts_of(info), BEFORE) == []
    assert delete_blockers(facts_of(info, images=_images(image_of())), BEFORE) == []


def test_delete_blockers_external_external_unsupported() -> None:
    found = delete_blockers(facts_of(snapshots=(EXTERNAL,)), EXTERNAL)
    assert seen(found) == [(Unsupported, "external-unsupported", "outside")]


def test_delete_blockers_tag_twice_half_made() -> None:
    twice = image_of(tags=(("1", "before"), ("2", "before")))
    found = delete_blockers(facts_of(images=_images(twice)), BEFORE)
    assert seen(found) == [(Inconsistent, "half-made", "vdb")]


@pytest.mark.parametrize("info", [ON, OFF])
def test_delete_blockers_without_any_room_no_space(info: DomainInfo) -> None:
    """QEMU writes a new snapshot table first; where it can't, the clusters are lost."""
    for free, reasons in ((512 << 10, []), ((512 << 10) - 1, ["no-space"])):
        both = Space(free, 1 << 40, 9, 1)
        found = delete_blockers(facts_of(info, space={"vda": both, "vdb": both}), BEFORE)
        assert [b.reason for b in found] == reasons


def test_delete_blockers_encrypted_disk_refused_only_while_off() -> None:
    """qemu-img has no key: the tag would stay, with return code 0."""
    off = delete_blockers(with_disk(OFF, encrypted=True), BEFORE)
    assert seen(off) == [(Unsupported, "encrypted-disk", "vdb")]
    assert delete_blockers(with_disk(ON, encrypted=True), BEFORE) == []


def test_delete_blockers_transient_disk_refused_only_while_it_runs() -> None:
    """Its tag is in the file below, which nothing writes meanwhile."""
    running = delete_blockers(with_disk(ON, transient=True), BEFORE)
    assert seen(running) == [(Unsupported, "transient-disk", "vdb")]
    assert delete_blockers(with_disk(OFF, transient=True), BEFORE) == []


def test_revert_blockers_encrypted_disk_refused_only_without_ram() -> None:
    found = seen(revert_blockers(with_disk(ON, encrypted=True), BEFORE))
    assert found == [(Unsupported, "encrypted-disk", "vdb")]
    assert revert_blockers(with_disk(ON, encrypted=True), replace(BEFORE, memory=True)) == []


# --- trees that others made, and that the domain has left

OVERLAY = SnapshotInfo(
    "ext",
    1700000002,
    State.SHUTOFF,
    Kind.EXTERNAL,
    current=True,
    disks=("vda",),
    overlays=(("vda", "/images/web-root.ext"),),
    bases=(("vda", "/images/web-root.qcow2"),),
)
ON_OVERLAY = replace(OFF, disks=(replace(VDA, source="/images/web-root.ext"), VDB, CD))


@pytest.mark.parametrize("blockers", [revert_blockers, delete_blockers])
def test_blockers_external_in_good_order_external_unsupported(blockers: Any) -> None:
    found = blockers(facts_of(ON_OVERLAY, snapshots=(OVERLAY,)), OVERLAY)
    assert seen(found) == [(Unsupported, "external-unsupported", "ext")]


@pytest.mark.parametrize("blockers", [revert_blockers, delete_blockers])
def test_blockers_domain_defined_onto_its_own_base_inconsistent(blockers: Any) -> None:
    """What `virsh define` of an older XML does; every write would damage the overlay."""
    found = blockers(facts_of(OFF, snapshots=(OVERLAY,)), OVERLAY)
    assert seen(found)[0] == (Inconsistent, "other-file", "vda")


def test_create_blockers_domain_defined_onto_its_own_base_inconsistent() -> None:
    found = create_blockers(facts_of(OFF, snapshots=(OVERLAY,)), "a", memory=False)
    assert seen(found)[0] == (Inconsistent, "other-file", "vda")


@pytest.mark.parametrize("blockers", [revert_blockers, delete_blockers])
def test_blockers_current_mark_moved_without_a_revert_inconsistent(blockers: Any) -> None:
    """`virsh snapshot-current VM s1` (LIBVIRT.md 9.7): libvirt would unlink what is in use."""
    moved = replace(OFF, disks=(replace(VDA, source="/images/web-root.newer"), VDB, CD))
    found = blockers(facts_of(moved, snapshots=(OVERLAY,)), OVERLAY)
    assert seen(found)[0] == (Inconsistent, "not-in-chain", "vda")


def test_delete_blockers_branch_point_branching() -> None:
    """libvirt 9.0 deletes it with code 0, and its children's images are unreadable (9.9)."""
    children = [replace(OVERLAY, name=n, parent="ext", current=False) for n in ("a", "b")]
    facts = facts_of(ON_OVERLAY, snapshots=(OVERLAY, *children))
    assert seen(delete_blockers(facts, OVERLAY))[0] == (Unsupported, "branching", "a")


def test_blockers_internal_below_an_external_mixed_tree() -> None:
    facts = facts_of(ON_OVERLAY, snapshots=(OVERLAY, BEFORE))
    for blockers in (revert_blockers, delete_blockers):
        assert (Unsupported, "mixed-tree", "before") in seen(blockers(facts, OVERLAY))
        assert seen(blockers(facts, BEFORE))[0] == (Unsupported, "mixed-tree", "ext")


def test_exception_of_blocker_carries_the_data() -> None:
    (blocker,) = create_blockers(with_disk(OFF, format="raw"), "after", memory=False)
    error = blocker.exception("cannot snapshot VM web-1")
    assert type(error) is Unsupported
    assert (error.reason, error.disk, error.item) == ("raw-disk", "vdb", "vdb")
    assert error.message.startswith("cannot snapshot VM web-1: disk vdb is raw")


def test_blockers_backing_file_gone_refused_only_where_it_would_be_opened() -> None:
    """A QEMU that runs has it open; a revert ends that QEMU, and then nothing starts."""
    changes: dict[str, Any] = {
        "images": _images(replace(IMAGE, backing="/images/base.qcow2")),
        "missing": {"/images/base.qcow2"},
    }
    gone = [(PreflightFailed, "missing-file", "base.qcow2")]
    for info in (OFF, ON):
        assert seen(revert_blockers(facts_of(info, **changes), BEFORE)) == gone
    assert seen(delete_blockers(facts_of(OFF, **changes), BEFORE)) == gone
    assert delete_blockers(facts_of(ON, **changes), BEFORE) == []
    assert seen(create_blockers(facts_of(OFF, **changes), "x", memory=False)) == gone
    assert create_blockers(facts_of(ON, **changes), "x", memory=False) == []


@pytest.mark.parametrize(
    ("name", "version", "refused"),
    [
        ("by virsh", (11, 3, 0), True),
        ("Ünterwegs", (11, 3, 0), True),
        ("before_1.2-x", (11, 3, 0), False),
        ("by virsh", (9, 0, 0), False),
    ],
)
def test_revert_blockers_ram_under_a_name_that_libvirt_cannot_load(
    name: str, version: tuple[int, int, int], refused: bool
) -> None:
    """libvirt 11.3: "Invalid job ID 'internal-snapshot-load-by virsh'", the VM off."""
    image = image_of(tags=(("1", name),))
    facts = facts_of(ON, version=version, images={"vda": image, "vdb": image})
    disks_only = replace(BEFORE, name=name)
    found = seen(revert_blockers(facts, replace(disks_only, memory=True)))
    assert found == ([(Unsupported, "name-unloadable", name)] if refused else [])
    assert revert_blockers(facts, disks_only) == []
