"""Verdicts on reverting to external snapshots, over facts made by hand. The
words are the contract's; what libvirt does is what 11.3 with QEMU 10.0 did when asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.errors import (
    Inconsistent,
    NeedsForce,
    PreflightFailed,
    Protected,
    Unsupported,
)
from snapd.hypervisor import FileUse, Need
from snapd.model import Disk, SnapshotInfo, State
from snapd.operations.preflight import (
    RevertTerms,
    delete_after_blockers,
    revert_blockers,
    revert_external_blockers,
)
from tests.unit.external_vms import (
    BASE,
    CHAINS,
    IMAGES,
    O1,
    O2,
    RESTS,
    RUNS,
    S1,
    S2,
    chained,
    image,
)
from tests.unit.vms import seen

RAW = Disk("vda", BASE, "raw")


def _revert(snapshot: SnapshotInfo = S1, terms: RevertTerms | None = None, **changes: Any) -> Any:
    facts = chained(**changes)
    return seen(revert_external_blockers(facts, snapshot, terms or RevertTerms()))


def test_revert_blockers_chain_in_order_none() -> None:
    for info in (RUNS, RESTS):
        for snapshot in (S1, S2):
            assert revert_blockers(chained(info=info), snapshot) == []


def test_revert_blockers_libvirt_before_9_9_external_unsupported() -> None:
    found = _revert(chains=replace(CHAINS, capable=False))
    assert found == [(Unsupported, "external-unsupported", "s1")]


def test_revert_blockers_record_names_a_file_that_others_stand_on_shared_base() -> None:
    """libvirt unlinks it by the record, whatever the disk is on (LIBVIRT.md 9.8)."""
    other = replace(S1, name="x", parent="s2", bases=(("vda", O2),))
    found = _revert(snapshots=(S1, S2, other))
    assert (Protected, "shared-base", "x") in found
    moved = (replace(S1, current=True), replace(S2, current=False))
    found = _revert(snapshots=moved)
    assert (Inconsistent, "not-in-chain", "vda") in found
    assert (Protected, "shared-base", "s2") in found
    nobody = (S1, replace(S2, current=False))
    assert _revert(snapshots=nobody)[0] == (Inconsistent, "not-in-chain", "")


def test_revert_blockers_file_of_a_disk_that_was_detached_pending_config() -> None:
    """libvirt unlinks by the record of the current one, and it is all that the disk has since; a
    revert to one that never held that disk has nothing else against it."""
    data = "/images/web-1-vdb.s2.qcow2"
    both = replace(
        S2,
        disks=("vda", "vdb"),
        overlays=(("vda", O2), ("vdb", data)),
        bases=(("vda", O1), ("vdb", "/images/data.qcow2")),
    )
    assert _revert(snapshots=(S1, both)) == [(Unsupported, "pending-config", "vdb")]
    assert _revert(snapshots=(S1, both), missing={data}) == []


def test_revert_blockers_internal_snapshot_in_the_file_that_goes_mixed_tree() -> None:
    tagged = replace(IMAGES[O2], tags=(("1", "int"),))
    assert _revert(images={"vda": tagged}) == [(Protected, "mixed-tree", "vda")]


@pytest.mark.parametrize("snapshot", [S1, S2])
def test_revert_blockers_missing_base_is_named(snapshot: SnapshotInfo) -> None:
    """libvirt finds out when the VM has been ended."""
    assert (PreflightFailed, "missing-file", "web.raw") in _revert(snapshot, missing={BASE})


def test_revert_blockers_base_of_another_branch_is_followed_by_its_headers() -> None:
    gone = "/images/web.1700000099"
    x = replace(S1, name="x", parent="s1", bases=(("vda", "/images/web-1-vda.x.qcow2"),))
    chains = replace(
        CHAINS,
        images=IMAGES | {"/images/web-1-vda.x.qcow2": replace(IMAGES[O1], backing=gone)},
    )
    found = _revert(x, snapshots=(S1, S2, x), chains=chains, missing={gone})
    assert found == [(PreflightFailed, "missing-file", "web.1700000099")]


def test_revert_blockers_memory_file() -> None:
    """A memory file at an overlay's path is overwritten by it, and the revert fails (8.2)."""
    saved = replace(S1, memory=True, memory_file="/images/web-1.s1.ram")
    tree = (saved, S2)
    assert _revert(saved, snapshots=tree) == []
    found = _revert(saved, snapshots=tree, missing={saved.memory_file})
    assert found == [(PreflightFailed, "missing-file", "web-1.s1.ram")]
    twice = replace(S2, memory=True, memory_file=saved.memory_file)
    found = _revert(saved, snapshots=(saved, twice))
    assert found == [(Inconsistent, "other-file", "web-1.s1.ram")]
    over = replace(S1, memory=True, memory_file=O1)
    assert (Inconsistent, "other-file", "web-1-vda.s1.qcow2") in _revert(over, snapshots=(over, S2))


@pytest.mark.parametrize(
    ("disks", "expected"),
    [
        (
            (RAW, Disk("vdb", "/images/b.qcow2", "qcow2")),
            [(Unsupported, "external-unsupported", "vdb")],
        ),
        (
            (RAW, Disk("sda", "/iso/a.iso", "raw", device="cdrom", readonly=True)),
            [(Unsupported, "external-unsupported", "sda")],
        ),
        ((RAW, Disk("sda", "", "raw", device="cdrom", readonly=True)), []),
        ((replace(RAW, encrypted=True),), [(Unsupported, "would-be-plaintext", "vda")]),
        ((replace(RAW, kind="block"),), [(Unsupported, "block-device", "vda")]),
    ],
)
def test_revert_blockers_disks_that_libvirt_begins_files_for(disks: Any, expected: Any) -> None:
    """For every one that has a file, discs and left-out ones too (measured); never encrypted."""
    found = _revert(S1, saved=disks)
    assert [f for f in found if f[1] != "pending-config"] == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"info": replace(RUNS, persistent=False)}, (Unsupported, "transient", "")),
        ({"info": replace(RESTS, managed_save=True)}, (NeedsForce, "managed-save", "")),
        ({"saved_tpm": True}, (NeedsForce, "tpm-newer", "")),
        ({"checkpoints": ("c1",)}, (Unsupported, "checkpoints", "c1")),
        ({"version": (9, 10, 0)}, (Unsupported, "external-unsupported", "s1")),
        ({"users": [FileUse("vda", "VM b", "backing")]}, (Protected, "shared-base", "vda")),
        ({"users": [FileUse("", "VM b", "unchecked")]}, (PreflightFailed, "unchecked", "VM b")),
    ],
)
def test_revert_blockers_state_and_others(changes: Any, expected: Any) -> None:
    assert _revert(**changes) == [expected]


def test_revert_blockers_lacking_network_only_where_it_is_to_run() -> None:
    lacks: dict[str, Any] = {"needs": [Need("network", "lab")]}
    assert _revert(**lacks) == []
    running = RevertTerms(State.RUNNING)
    assert _revert(S1, running, **lacks) == [(PreflightFailed, "missing-network", "lab")]


def test_revert_blockers_apparmor_and_a_folder_that_it_does_not_know_apparmor_commit() -> None:
    """The new file's name ends in a number: AppArmor's helper reads only .qcow2 and the like
    outside of a few folders (LIBVIRT.md 9)."""
    denies = replace(CHAINS, security=frozenset({"apparmor"}))
    assert _revert(chains=denies) == [(Unsupported, "apparmor-commit", "vda")]
    known = (replace(RAW, source="/var/lib/libvirt/images/web.raw"),)
    assert _revert(chains=denies, saved=known) == []


def _thrown_away(snapshot: SnapshotInfo, *, safety: bool = False, **what: Any) -> Any:
    wanted = what.pop("wanted", State.RUNNING)
    facts = chained(**what)
    return [
        (b.reason, b.item, b.ways)
        for b in delete_after_blockers(facts, snapshot, wanted, safety=safety)
    ]


def test_delete_after_what_is_made_on_it_stays_and_keeps_it() -> None:
    """libvirt deletes no current one that others stand on, and the safety snapshot is one."""
    assert _thrown_away(S2) == []
    assert _thrown_away(S2, safety=True) == [("active-non-leaf", "s2", ("no-safety-snapshot",))]
    for safety in (False, True):
        assert _thrown_away(S1, safety=safety) == [("active-non-leaf", "s2", ("delete-children",))]


def test_delete_after_of_a_branch_that_the_vm_is_not_on_safety_snapshot_is_elsewhere() -> None:
    other = replace(S2, name="other", overlays=(("vda", "/images/other"),), current=False)
    root = replace(S1, parent="")
    tree = (root, other, S2)
    assert _thrown_away(S2, safety=True, snapshots=tree)[0][0] == "active-non-leaf"
    assert _thrown_away(other, safety=True, snapshots=tree) == []


def test_delete_after_of_the_second_branch_libvirt_would_lose_track() -> None:
    """The VM was reverted to s1 and one made there: its base is no overlay that s1 names."""
    begun = "/images/web.1795994501"
    second = replace(S2, name="second", bases=(("vda", begun),), current=False)
    found = _thrown_away(second, snapshots=(S1, S2, second))
    assert found == [("branching", "s2", ("delete-branch",))]


def test_delete_after_of_one_with_ram_that_is_left_paused_no_merge() -> None:
    ram = replace(S2, memory=True)
    left = _thrown_away(ram, snapshots=(S1, ram), wanted=State.PAUSED)
    assert left == [("unfinished-job", "", ("resume",))]
    assert _thrown_away(ram, snapshots=(S1, ram)) == []
    assert _thrown_away(ram, snapshots=(S1, ram), wanted=State.SHUTOFF) == []


@pytest.mark.parametrize("below", [BASE, ""], ids=["commit", "pull"])
def test_revert_blockers_what_another_tool_may_have_overwritten_not_in_chain(below: str) -> None:
    """`blockcommit` by hand of the overlay in the middle: s1 would be of another moment. What was
    pulled up overwrote nothing."""
    layers = {"vda": tuple(layer for layer in ((O2, "qcow2"), (below, "raw")) if layer[0])}
    live = {"vda": tuple(path for path, _format in layers["vda"])}
    images = {**IMAGES, O2: image(O2, below)}
    chains = replace(CHAINS, layers=layers, live=live, images=images)
    against = [(Inconsistent, "not-in-chain", "vda")] if below else []
    what: Any = {"chains": chains, "images": {"vda": images[O2]}}
    assert (_revert(S1, **what), _revert(S2, **what)) == (against, [])
