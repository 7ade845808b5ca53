"""Verdicts on making external snapshots, and what lists say of them, over facts made by hand. The
words are the contract's; what libvirt does is what 11.3 with QEMU 10.0 did when asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.errors import (
    AgentUnavailable,
    AlreadyExists,
    Busy,
    Inconsistent,
    NoSpace,
    PreflightFailed,
    Unsupported,
)
from snapd.hypervisor import ChainFacts, FileUse, Space
from snapd.model import Disk, DomainInfo, SnapshotInfo, State
from snapd.operations.preflight import (
    external_create_blockers,
)
from snapd.operations.preflight.external import depth_limit
from snapd.operations.support import Tree, delete_blocker, revert_blocker, support
from tests.unit.external_vms import (
    BASE,
    CHAINS,
    GIB,
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
from tests.unit.vms import BEFORE, OFF, seen

RAW = Disk("vda", BASE, "raw")
FIRST: dict[str, Any] = {
    "info": replace(RUNS, disks=(RAW,), current=""),
    "snapshots": (),
    "chains": ChainFacts(capable=True),
}
"""A VM without snapshots, on a raw disk."""


def _create(how: Any = None, **changes: Any) -> Any:
    wanted = {"memory": False, **(how or {})}
    return seen(external_create_blockers(chained(**changes), "s3", **wanted))


# --- create


def test_create_blockers_raw_disk_and_chain_in_order_none() -> None:
    assert _create(**FIRST) == _create() == _create(info=RESTS) == []
    assert _create({"memory": True}) == []
    assert _create({"by_policy": True}) == []


def test_create_blockers_libvirt_before_9_9_external_unsupported() -> None:
    """Debian 12's cannot revert to them."""
    found = _create(**FIRST | {"chains": ChainFacts()})
    assert found == [(Unsupported, "external-unsupported", "")]


def test_create_blockers_internal_in_tree_mixed_tree() -> None:
    assert _create(**FIRST | {"snapshots": (BEFORE,)})[0] == (Unsupported, "mixed-tree", "before")


@pytest.mark.parametrize(
    ("disk", "word"),
    [
        ({"kind": "network"}, "network-disk"),
        ({"kind": "block"}, "block-device"),
        ({"kind": "volume"}, "block-device"),
        ({"device": "lun"}, "block-device"),
        ({"shareable": True}, "shared-disk"),
        ({"transient": True}, "transient-disk"),
        ({"data_file": True}, "data-file"),
        ({"format": "vmdk"}, "wrong-format"),
        ({"format": ""}, "wrong-format"),
        ({"encrypted": True}, "would-be-plaintext"),
    ],
)
def test_create_blockers_disk_that_no_overlay_goes_on(disk: Any, word: str) -> None:
    info = replace(RUNS, disks=(replace(RAW, **disk), Disk("vdb", "/images/b.qcow2", "qcow2")))
    facts: dict[str, Any] = FIRST | {"info": info}
    assert _create(**facts) == [(Unsupported, word, "vda")]
    assert _create({"disks": ("vdb",)}, **facts) == []


def test_create_blockers_left_out_disk_refused_with_ram_or_by_a_policy() -> None:
    """A revert would put it on a new file as well (measured), and RAM would meet other data."""
    facts: Any = FIRST | {"info": replace(RUNS, disks=(RAW, replace(RAW, target="vdb")))}
    with_ram = _create({"disks": ("vda",), "memory": True}, **facts)
    assert (Unsupported, "all-disks", "vdb") in with_ram
    by_policy = _create({"disks": ("vda",), "by_policy": True}, **facts)
    assert (Unsupported, "external-unsupported", "vdb") in by_policy
    assert (Unsupported, "no-disk", "vdz") in _create({"disks": ("vdz",)}, **facts)


def test_create_blockers_disc_in_the_drive_is_for_a_policy_to_refuse() -> None:
    """A revert puts the drive on a file of libvirt's beside the disc (measured)."""
    disc = Disk("sda", "/iso/install.iso", "raw", device="cdrom", readonly=True)
    facts: Any = FIRST | {"info": replace(RUNS, disks=(RAW, disc))}
    assert _create(**facts) == []
    assert _create({"by_policy": True}, **facts) == [(Unsupported, "external-unsupported", "sda")]


def test_create_blockers_no_disk_with_ram_no_disk() -> None:
    """It can be made, and never be deleted ("the cause is unknown", FIELD_REPORTS 29)."""
    found = _create({"memory": True}, **FIRST | {"info": replace(RUNS, disks=())})
    assert found[0] == (Unsupported, "no-disk", "")


def test_create_blockers_chain_limit() -> None:
    deep = tuple((f"/images/{n}.qcow2", "qcow2") for n in range(49))
    chains = replace(CHAINS, layers={"vda": ((O2, "qcow2"), *deep)}, live={}, stored={}, images={})
    assert _create(chains=chains) == []
    assert _create({"by_policy": True}, chains=chains) == [(Unsupported, "chain-limit", "vda")]


def test_depth_limit_of_libvirt_12_0_is_what_it_starts() -> None:
    """Over some 25 it doesn't start a VM since its change of JSON library (LIBVIRT.md 4)."""
    assert depth_limit((12, 0, 0), by_policy=True) == depth_limit((12, 0, 0), by_policy=False) == 25
    assert 25 < depth_limit((11, 3, 0), by_policy=True) < depth_limit((11, 3, 0), by_policy=False)
    assert depth_limit((12, 1, 0), by_policy=True) == depth_limit((11, 3, 0), by_policy=True)


def test_create_blockers_tree_that_the_vm_left_not_in_chain() -> None:
    moved = (replace(S1, current=True), replace(S2, current=False))
    assert (Inconsistent, "not-in-chain", "vda") in _create(snapshots=moved)
    stale = replace(CHAINS, live={"vda": (O2, BASE)})
    assert _create(chains=stale) == [(Inconsistent, "not-in-chain", "vda")]
    assert _create(missing={BASE}) == [(PreflightFailed, "missing-file", "web.raw")]


@pytest.mark.parametrize("info", [RUNS, RESTS])
def test_create_blockers_stored_configuration_ends_the_chain_above_its_base(info: Any) -> None:
    """libvirt means that nothing lies below by an empty `<backingStore/>` (LIBVIRT.md 9.10)."""
    live = CHAINS.live if info is RUNS else {}
    assert _create(info=info, chains=replace(CHAINS, live=live)) == []
    cut = replace(CHAINS, live=live, stored={"vda": (O2, O1)}, stored_ends=frozenset({"vda"}))
    assert _create(info=info, chains=cut) == [(Inconsistent, "not-in-chain", "vda")]
    whole = replace(cut, stored={"vda": (O2, O1, BASE)})
    assert _create(info=info, chains=whole) == []


def test_create_blockers_first_one_of_a_clone_that_libvirt_has_on_something_else() -> None:
    """No layer is read where there is no external snapshot yet: its own header tells."""
    clone = Disk("vda", O1, "qcow2")
    own: Any = {"snapshots": (), "images": {"vda": image(O1, BASE)}, "inactive": (clone,)}
    own["info"] = replace(RESTS, disks=(clone,), current="")

    def found(stored: tuple[str, ...], *ends: str) -> Any:
        chains = ChainFacts(capable=True, stored={"vda": stored}, stored_ends=frozenset(ends))
        return _create(**own, chains=chains)

    wrong = [(Inconsistent, "not-in-chain", "vda")]
    assert (found((O1,)), found((O1, BASE), "vda"), found((O1, BASE))) == ([], [], [])
    assert (found((O1,), "vda"), found((O1, "/images/old.raw"))) == (wrong, wrong)


def test_create_blockers_stored_configuration_differs_pending_config() -> None:
    other = (replace(RAW, source="/images/other.raw"),)
    assert (Unsupported, "pending-config", "vda") in _create(**FIRST | {"inactive": other})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"holder": "another job"}, (Busy, "unfinished-job", "another job")),
        ({"checkpoints": ("c1",)}, (Unsupported, "checkpoints", "c1")),
        ({"info": replace(RUNS, persistent=False)}, (Unsupported, "transient", "")),
        ({"info": replace(RESTS, managed_save=True)}, (Unsupported, "managed-save", "")),
        ({"info": replace(RUNS, io_error=True)}, (Unsupported, "io-error", "")),
        ({"snapshots": (S1, S2, replace(S1, name="s3"))}, (AlreadyExists, "name-taken", "s3")),
    ],
)
def test_create_blockers_state(changes: Any, expected: Any) -> None:
    assert expected in _create(**changes)


def test_create_blockers_memory() -> None:
    stuck = replace(RUNS, unmigratable="hostdev (pci)")
    assert _create(info=stuck) == []
    words = [(Unsupported, "unmigratable-device", "hostdev (pci)")]
    assert _create({"memory": True}, info=stuck) == words
    by_hand_only = _create({"memory": True, "by_policy": True})
    assert by_hand_only == [(Unsupported, "external-unsupported", "")]
    raw_nvram = replace(RUNS, raw_nvram=True)
    assert _create({"memory": True}, info=raw_nvram) == [], "right on 11.3 (LIBVIRT.md 8.6)"


def test_create_blockers_second_ram_of_a_paused_vm_waits_for_it_to_run() -> None:
    """QEMU 10.0: "Can't migrate the vm that was paused due to previous migration"."""
    paused = replace(RUNS, state=State.PAUSED)
    saved = replace(S2, memory=True, memory_file="/images/web-1.s2.ram")
    found = _create({"memory": True}, info=paused, snapshots=(S1, saved))
    assert found == [(Unsupported, "unfinished-job", "")]
    assert _create({"memory": True}, info=RUNS, snapshots=(S1, saved)) == []


def test_create_blockers_quiesce_required_without_agent_agent_unavailable() -> None:
    assert _create({"quiesce": "require"}) == [(AgentUnavailable, "agent-unavailable", "")]


def test_create_blockers_policy_refuses_what_cannot_be_merged_later() -> None:
    denies = replace(CHAINS, security=frozenset({"apparmor"}))
    assert _create({"by_policy": True}, chains=denies) == [(Unsupported, "apparmor-commit", "")]
    assert _create(chains=denies) == [], "a person is warned"
    assert _create({"by_policy": True}, chains=denies, version=(12, 1, 0)) == []
    shared = {"users": [FileUse("vda", "VM other", "backing")]}
    assert _create({"by_policy": True}, **shared) == [(Unsupported, "shared-base", "vda")]


def test_create_blockers_policy_refuses_what_an_older_libvirt_may_not_revert() -> None:
    """9.9 rejects a target of state disk-snapshot (LIBVIRT.md 4)."""
    older: Any = {"version": (9, 10, 0)}
    assert _create({"by_policy": True}, **older) == [(Unsupported, "external-unsupported", "")]
    assert _create({"by_policy": True}, info=RESTS, **older) == []


def test_create_blockers_ram_without_the_room_no_space() -> None:
    little = {"vda": Space(2 * GIB, 200 * GIB, 1 << 20, 1)}
    info = replace(RUNS, memory=4 * GIB)
    assert _create(info=info, space=little) == []
    assert _create({"memory": True}, info=info, space=little) == [(NoSpace, "no-space", "vda")]


# --- what lists show

CAPABLE = ChainFacts(capable=True)


def _support(info: DomainInfo, tree: Any = (), chains: ChainFacts = CAPABLE) -> tuple[str, str]:
    found = support(info, tree, monitor=True, has_images=True, chains=chains)
    return found["external"], found["external-memory"]


def test_support_external() -> None:
    raw = replace(RUNS, disks=(RAW,))
    assert _support(raw) == _support(RUNS, (S1, S2)) == ("yes", "yes")
    assert _support(raw, chains=ChainFacts()) == ("external-unsupported",) * 2
    assert _support(raw, (BEFORE,)) == ("mixed-tree", "mixed-tree")
    assert _support(replace(raw, unmigratable="shmem x")) == ("yes", "unmigratable-device")
    assert _support(replace(RUNS, disks=(replace(RAW, kind="network"),))) == ("network-disk",) * 2


def _lists(
    info: DomainInfo, snapshot: SnapshotInfo, tree: tuple[SnapshotInfo, ...]
) -> tuple[str, str]:
    both = Tree.of(info, tree)
    return (
        revert_blocker(info, snapshot, both, has_images=True, chains=CAPABLE),
        delete_blocker(info, snapshot, both, pinned=False, has_images=True, chains=CAPABLE),
    )


def test_lists_external_snapshot_headers_have_to_be_read_unchecked() -> None:
    assert _lists(RUNS, S1, (S1, S2)) == _lists(RUNS, S2, (S1, S2)) == ("unchecked", "unchecked")


def test_lists_external_snapshot_shape_of_the_tree_is_told_at_once() -> None:
    x = replace(S2, name="x", current=False, bases=(("vda", "/images/web.1700000099"),))
    assert _lists(RUNS, S1, (S1, S2, x)) == ("unchecked", "branching")
    back = (replace(S1, current=True), replace(S2, current=False))
    assert _lists(RUNS, back[0], back) == ("unchecked", "active-non-leaf")
    on_second = (S1, replace(S2, current=False), replace(x, current=True))
    on = replace(RUNS, disks=(replace(VDA, source=O2),))
    assert _lists(on, on_second[2], on_second)[1] == "branching"
    y = replace(S2, name="y", parent="x", current=False)
    assert _lists(RUNS, x, (S1, S2, x, y)) == ("unchecked", "not-in-chain")


def test_lists_external_snapshot_state_and_mangled_trees() -> None:
    tree = (S1, S2)
    assert _lists(replace(RUNS, busy_since=5), S1, tree) == ("unfinished-job",) * 2
    assert _lists(replace(RESTS, managed_save=True), S1, tree) == ("managed-save",) * 2
    assert _lists(replace(OFF, disks=(replace(VDA, source=O1),)), S1, tree) == ("other-file",) * 2
    assert _lists(RUNS, S1, (S1, S2, BEFORE)) == ("mixed-tree", "mixed-tree")
