"""Verdicts on merging an external snapshot away, over facts made by hand. The words are the
contract's; where libvirt is said to refuse or to destroy, 11.3 with QEMU 10.0 did it when asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.errors import Busy, Inconsistent, NoSpace, PreflightFailed, Protected, Unsupported
from snapd.hypervisor import DomainFacts, FileUse, Space
from snapd.model import SnapshotInfo, State
from snapd.operations.preflight import delete_blockers, merge_blockers
from tests.unit.external_vms import (
    BASE,
    CHAINS,
    GIB,
    IMAGES,
    O1,
    O2,
    RESTS,
    RUNS,
    S1,
    S2,
    VDA,
    chained,
    image,
)
from tests.unit.vms import BEFORE, seen


def _merge(snapshot: SnapshotInfo = S1, **changes: Any) -> Any:
    return seen(merge_blockers(chained(**changes), snapshot))


def _with_images(**changed: Any) -> Any:
    return replace(CHAINS, images=IMAGES | changed)


def test_merge_blockers_chain_in_order_none() -> None:
    for info in (RUNS, RESTS):
        for snapshot in (S1, S2):
            assert merge_blockers(chained(info=info), snapshot) == []
            assert delete_blockers(chained(info=info), snapshot) == []


def test_merge_blockers_libvirt_before_9_9_external_unsupported() -> None:
    """9.0 deletes them, but goes wrong with trees (LIBVIRT.md 9.9), and never reverts."""
    old = replace(CHAINS, capable=False)
    assert _merge(chains=old) == [(Unsupported, "external-unsupported", "s1")]


# --- what libvirt refuses, code 67


def _aside(name: str, parent: str, base: str) -> SnapshotInfo:
    return replace(S2, name=name, parent=parent, current=False, bases=(("vda", base),))


def test_merge_blockers_two_children_branching() -> None:
    other = _aside("x", "s1", "/images/web.1700000099")
    found = _merge(S1, snapshots=(S1, S2, other))
    assert found == [(Unsupported, "branching", "s2")]


def test_merge_blockers_current_that_has_a_child_active_non_leaf() -> None:
    reverted = replace(S1, current=True, reverted=(("vda", "/images/web.1700000099"),))
    tree = (reverted, replace(S2, current=False))
    on = replace(RUNS, disks=(replace(VDA, source="/images/web.1700000099"),), current="s1")
    layers: Any = {"vda": (("/images/web.1700000099", "qcow2"), (BASE, "raw"))}
    chains = replace(CHAINS, layers=layers, live={}, stored={})
    found = _merge(reverted, info=on, snapshots=tree, chains=chains)
    assert found == [(Unsupported, "active-non-leaf", "s2")]


def test_merge_blockers_inner_one_of_another_branch_not_in_chain() -> None:
    x = _aside("x", "s1", "/images/web.1700000099")
    y = _aside("y", "x", "/images/web-1-vda.x.qcow2")
    assert _merge(x, snapshots=(S1, S2, x, y)) == [(Unsupported, "not-in-chain", "y")]


# --- the end of a branch that the VM isn't on: libvirt unlinks what it was made of


LEFT = "/images/web.1700000099"


def test_merge_blockers_end_of_another_branch_none() -> None:
    aside = _aside("x", "s1", LEFT)
    chains = _with_images(**{LEFT: image(LEFT, BASE)})
    assert _merge(aside, snapshots=(S1, S2, aside), chains=chains) == []
    assert _merge(aside, snapshots=(S1, S2, aside)) == [], "its name tells where nothing else does"


@pytest.mark.parametrize(
    ("base", "word"), [(BASE, "not-in-chain"), (O1, "not-in-chain"), ("/images/my.qcow2", "")]
)
def test_merge_blockers_end_of_a_branch_made_of_what_is_in_use_protected(
    base: str, word: str
) -> None:
    """The tree is mangled: libvirt 11.3 would unlink the VM's own files, or somebody's."""
    found = _merge(replace(S2, name="x", current=False, bases=(("vda", base),)), snapshots=(S1, S2))
    assert (Protected, word or "not-in-chain", "vda") in found


def test_merge_blockers_end_of_a_branch_that_another_stands_on_shared_base() -> None:
    x, y = _aside("x", "s1", LEFT), _aside("y", "s1", "/images/web-1-vda.y.qcow2")
    above = image("y", LEFT)
    chains = _with_images(**{LEFT: image(LEFT, BASE), "/images/web-1-vda.y.qcow2": above})
    found = _merge(x, snapshots=(S1, S2, x, y), chains=chains)
    assert found == [(Protected, "shared-base", "y")]


# --- trees that libvirt would destroy


def test_merge_blockers_mark_moved_without_a_revert_not_in_chain() -> None:
    """`virsh snapshot-current VM s1` (LIBVIRT.md 9.7): s2 looks like a branch that nobody is on."""
    tree = (replace(S1, current=True), replace(S2, current=False))
    for snapshot in tree:
        assert _merge(snapshot, snapshots=tree)[0] == (Inconsistent, "not-in-chain", "vda")


def test_merge_blockers_no_mark_at_all_not_in_chain() -> None:
    tree = (S1, replace(S2, current=False))
    assert _merge(tree[1], snapshots=tree)[0] == (Inconsistent, "not-in-chain", "")


def test_merge_blockers_next_start_on_a_base_other_file() -> None:
    """`virsh define` of an older XML while it runs."""
    found = _merge(inactive=(replace(VDA, source=O1),))
    assert found[0] == (Inconsistent, "other-file", "vda")


@pytest.mark.parametrize(
    "said",
    [
        {"live": {"vda": (O2, BASE)}},  # a stale one: the guest sees another layer (9.10)
        {"live": {"vda": (O2,)}},  # an empty one: it reads zeros
        {"stored": {"vda": (O2, BASE)}},
    ],
)
def test_merge_blockers_headers_and_xml_disagree_not_in_chain(said: Any) -> None:
    assert _merge(chains=replace(CHAINS, **said)) == [(Inconsistent, "not-in-chain", "vda")]


def test_merge_blockers_layer_between_that_no_snapshot_explains_not_in_chain() -> None:
    """libvirt merges what lies right above s1's file, which is another tool's then."""
    strange = "/images/hand.qcow2"
    layers = ((O2, "qcow2"), (O1, "qcow2"), (strange, "qcow2"), (BASE, "raw"))
    chains = replace(CHAINS, layers={"vda": layers}, live={}, stored={})
    assert (Inconsistent, "not-in-chain", "vda") in _merge(S1, chains=chains)


def test_merge_blockers_missing_layer_is_named() -> None:
    found = _merge(missing={BASE})
    assert found == [(PreflightFailed, "missing-file", "web.raw")]
    assert _merge(unknown={O1}) == [(PreflightFailed, "image-unreadable", "vda")]


def test_merge_blockers_headers_not_read_image_unreadable() -> None:
    found = _merge(chains=replace(CHAINS, layers={}))
    assert (PreflightFailed, "image-unreadable", "vda") in found


# --- what would be lost


def test_merge_blockers_internal_snapshot_in_an_overlay_that_goes_mixed_tree() -> None:
    """libvirt copies guest data alone, and unlinks the overlay (FIELD_REPORTS 4)."""
    inside = replace(IMAGES[O1], tags=(("1", "int"),))
    assert _merge(S1, chains=_with_images(**{O1: inside})) == [(Protected, "mixed-tree", "vda")]
    assert _merge(S2, chains=_with_images(**{O1: inside})) == []
    assert _merge(snapshots=(S1, S2, BEFORE))[0] == (Unsupported, "mixed-tree", "before")


def test_merge_blockers_others_stand_on_what_it_writes_shared_base() -> None:
    """other.qcow2, backed by the same file, reads the new data (FIELD_REPORTS 5)."""
    use = [FileUse("vda", "VM other", "backing")]
    assert _merge(users=use) == [(Protected, "shared-base", "vda")]
    use = [FileUse("vda", "VM other", "active")]
    assert _merge(users=use) == [(Protected, "shared-disk", "vda")]
    use = [FileUse("", "VM other", "unchecked")]
    assert _merge(users=use) == [(PreflightFailed, "unchecked", "VM other")]


def test_merge_blockers_others_on_a_file_that_it_leaves_alone_none() -> None:
    """A clone of the first disk stays as it is when a younger overlay is merged into another."""
    use = [FileUse("vda", "VM clone", "backing", BASE)]
    assert _merge(S1, users=use) == [(Protected, "shared-base", "vda")]
    assert _merge(S2, users=use) == []
    for file in (O1, O2):
        assert _merge(S2, users=[FileUse("vda", "VM clone", "backing", file)]) != []


def test_merge_blockers_memory_file_that_is_an_overlay_other_file() -> None:
    """An overlay of the same path overwrites the RAM and is the disk (LIBVIRT.md 8.2)."""
    with_ram = replace(S1, memory=True, memory_file=O2)
    found = _merge(with_ram, snapshots=(with_ram, S2))
    assert [word for _error, word, _item in found] == ["other-file"]
    mine = replace(S1, memory=True, memory_file="/images/web-1.s1.ram")
    assert _merge(mine, snapshots=(mine, S2)) == []


# --- state, room, host


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"holder": "backup"}, (Busy, "backup", "backup")),
        ({"checkpoints": ("c1",)}, (Unsupported, "checkpoints", "c1")),
        ({"info": replace(RUNS, persistent=False)}, (Unsupported, "transient", "")),
        ({"info": replace(RESTS, managed_save=True)}, (Unsupported, "managed-save", "")),
        ({"info": replace(RUNS, io_error=True)}, (Unsupported, "io-error", "")),
    ],
)
def test_merge_blockers_state(changes: Any, expected: Any) -> None:
    assert _merge(**changes) == [expected]


def test_merge_blockers_paused_since_its_ram_was_saved() -> None:
    """QEMU 10.0: "Inactive 'libvirt-2-format' can't be a backing child"; without RAM it merges."""
    paused = replace(RUNS, state=State.PAUSED)
    assert _merge(info=paused) == []
    with_ram = replace(S2, memory=True, memory_file="/images/web-1.s2.ram", state=State.PAUSED)
    found = _merge(S1, info=paused, snapshots=(S1, with_ram))
    assert found == [(Unsupported, "unfinished-job", "")]


def test_merge_blockers_apparmor_refuses_where_nobody_can_undo_it() -> None:
    """libvirt before 12.1 starts a VM with `deny BASE w` (LIBVIRT.md 9); to merge one that is off,
    it starts it."""
    denies = replace(CHAINS, security=frozenset({"apparmor"}))
    denied = [(Unsupported, "apparmor-commit", "")]
    assert _merge(info=RESTS, chains=denies) == denied
    assert _merge(info=RUNS, chains=denies) == []
    facts = chained(chains=denies)
    assert seen(merge_blockers(facts, S1, by_policy=True)) == denied
    newer = replace(facts, version=(12, 1, 0))
    assert merge_blockers(newer, S1, by_policy=True) == []


def test_merge_blockers_room_for_what_is_in_the_overlay_no_space() -> None:
    """1 GiB is in the overlay; what the file below has allocated already needs no room."""
    little: dict[str, Any] = {"space": {"vda": Space(GIB // 2, 200 * GIB, 1 << 20, 1)}}
    assert _merge(**little) == [(NoSpace, "no-space", "vda")]
    full = replace(IMAGES[BASE], actual_size=20 * GIB)
    assert _merge(chains=_with_images(**{BASE: full}), **little) == []


def test_merge_blockers_disk_has_left_the_vm_pending_config() -> None:
    other = replace(RUNS, disks=(replace(VDA, target="vdb", source="/images/b.qcow2"),))
    found = _merge(info=other, chains=replace(CHAINS, layers={}, live={}, stored={}))
    assert (Unsupported, "pending-config", "vda") in found


def test_merge_blockers_record_without_configuration_half_made() -> None:
    bare = replace(S1, bases=())
    facts: DomainFacts = chained(snapshots=(bare, S2))
    assert (Inconsistent, "half-made", "vda") in seen(merge_blockers(facts, bare))


def test_merge_blockers_bare_record_on_another_branch_branching() -> None:
    """11.3 dies of a segmentation fault when s1 is deleted, with x, whose record ends with its own
    file (a merge had left it so), on a branch beside s2's s3; not when x's names what is below."""
    s2 = replace(S2, current=False)
    s3 = replace(S2, name="s3", parent="s2", bases=(("vda", O2),), overlays=(("vda", "/images/3"),))
    x = _aside("x", "s2", "/images/web.1700000099")
    y = replace(_aside("y", "x", "/images/web-1-vda.x.qcow2"), bare=("vda",))
    on = replace(RUNS, disks=(replace(VDA, source="/images/3"),), current="s3")
    layers: Any = {"vda": (("/images/3", "qcow2"), (O2, "qcow2"), (O1, "qcow2"), (BASE, "raw"))}
    chains = replace(CHAINS, layers=layers, live={}, stored={})
    for tree, found in (
        ((S1, s2, s3, x), []),
        ((S1, s2, s3, replace(x, bare=("vda",))), [(Unsupported, "branching", "x")]),
        ((S1, s2, s3, x, y), [(Unsupported, "branching", "y")]),
        ((S1, s2, replace(s3, bare=("vda",)), x), []),
    ):
        assert _merge(S1, info=on, snapshots=tree, chains=chains) == found


def test_merge_blockers_what_another_tool_committed_would_not_move_along() -> None:
    """`blockcommit` by hand of O2 into O1: s3 still stands on O2, and that on O1, which a merge of
    s1 would unlink without libvirt looking at O2."""
    top = "/images/web-1-vda.s3.qcow2"
    s3 = replace(S2, name="s3", parent="s2", bases=(("vda", O2),), overlays=(("vda", top),))
    tree = (S1, replace(S2, current=False), s3)
    on = replace(RUNS, disks=(replace(VDA, source=top),), current="s3")
    images = {**IMAGES, top: image(top, O1)}
    chains = replace(
        CHAINS,
        layers={"vda": ((top, "qcow2"), (O1, "qcow2"), (BASE, "raw"))},
        live={"vda": (top, O1, BASE)},
        stored={},
        images=images,
    )
    changed = {"info": on, "snapshots": tree, "chains": chains, "images": {"vda": images[top]}}
    against = (Inconsistent, "not-in-chain", "vda")
    for snapshot in tree:
        assert against in _merge(snapshot, **changed)
