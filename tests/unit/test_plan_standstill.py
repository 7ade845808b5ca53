"""Images so big that an internal snapshot would stand the guest still: kind auto spares it that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.errors import Busy
from snapd.hypervisor import ChainFacts, DomainFacts, ImageInfo, Space
from snapd.model import DomainInfo, Kind, State
from snapd.operations import Wish, outlook
from snapd.operations.plan import Plan, plan
from tests.unit.external_vms import chained
from tests.unit.vms import BEFORE, CD, OFF, ON, VDA, VDB, facts_of

GIB = 1 << 30
ABLE = ChainFacts(capable=True)
ROOM = Space(free=64 * GIB, total=128 * GIB, inodes=1 << 20, device=1)
DISKS = (VDA, VDB)
SMALL = ImageInfo(VDA.source, virtual_size=20 * GIB, actual_size=GIB, length=2 * GIB)
SPARSE = ImageInfo(VDB.source, virtual_size=200 * GIB, actual_size=32 << 20, length=201 * GIB)
"""As `qemu-img create -o preallocation=metadata` makes one."""


def big(info: DomainInfo = ON, **changes: Any) -> DomainFacts:
    """A VM without snapshots, where libvirt does external ones, with a small and a big disk."""
    sound: dict[str, Any] = {
        "snapshots": (),
        "chains": ABLE,
        "version": (11, 3, 0),
        "images": {"vda": SMALL, "vdb": SPARSE},
        "space": {"vda": ROOM, "vdb": ROOM},
    }
    return facts_of(replace(info, disks=DISKS), **{**sound, **changes})


def made_of(facts: DomainFacts, **wish: Any) -> Plan:
    return plan(facts, Wish(**{"memory": "no", **wish}), [], "", monitor=True)


def said(made: Plan) -> list[str]:
    return [w.reason for w in made.warnings]


@pytest.mark.parametrize("policies", [(), ("nightly",)])
def test_big_image_external_and_why(policies: tuple[str, ...]) -> None:
    made = made_of(big(), policies=policies)
    assert (made.kind, made.blockers, said(made)) == (Kind.EXTERNAL, (), ["external"])
    assert made.disks == ("vda", "vdb")
    assert "stand it still for about 2.8 s" in made.warnings[0].message
    assert made.pause_ms < 500


@pytest.mark.parametrize(
    "image",
    [
        SMALL,
        replace(SPARSE, length=40 * GIB),
        replace(SPARSE, virtual_size=20 * GIB, actual_size=300 * GIB),  # of saved RAM, or leftovers
    ],
)
def test_image_that_takes_less_than_a_second_internal(image: ImageInfo) -> None:
    made = made_of(big(images={"vda": SMALL, "vdb": image}))
    assert (made.kind, made.blockers, said(made)) == (Kind.INTERNAL, (), [])


def test_several_images_are_counted_together() -> None:
    half = replace(SPARSE, length=60 * GIB)
    assert made_of(big(images={"vda": SMALL, "vdb": half})).kind is Kind.INTERNAL
    half_each = {"vda": replace(half, path=VDA.source), "vdb": half}
    assert made_of(big(images=half_each)).kind is Kind.EXTERNAL


def test_vm_that_is_off_or_paused_by_what_it_would_be_while_it_runs() -> None:
    """The first snapshot decides for the tree."""
    made = made_of(big(OFF))
    assert (made.kind, made.pause_ms, said(made)) == (Kind.EXTERNAL, 0, ["external"])
    assert "while it runs" in made.warnings[0].message
    assert made_of(big(replace(ON, state=State.PAUSED))).kind is Kind.EXTERNAL


def test_shorter_max_pause_counts() -> None:
    """What an internal one would be refused for, an external one serves."""
    sixty = {"vda": SMALL, "vdb": replace(SPARSE, length=60 * GIB)}
    assert made_of(big(images=sixty), max_pause=1).kind is Kind.INTERNAL
    over = made_of(big(), max_pause=2)
    assert (over.kind, over.blockers) == (Kind.EXTERNAL, ())
    never = made_of(big(images=sixty), max_pause=0)
    assert (never.kind, [b.reason for b in never.blockers]) == (Kind.INTERNAL, ["pause-too-long"])


def test_ram_that_is_saved_stands_it_still_anyway_internal() -> None:
    with_ram = replace(ON, memory=256 << 20)
    for memory in ("yes", "auto"):
        made = made_of(big(with_ram), memory=memory)
        assert (made.kind, made.memory) == (Kind.INTERNAL, True)


def test_ram_that_takes_too_long_to_save_inside_is_saved_beside() -> None:
    made = made_of(big(replace(ON, memory=16 * GIB)), memory="auto")
    assert (made.kind, made.memory, said(made)) == (Kind.EXTERNAL, True, ["external"])


def test_more_than_a_chain_holds_are_to_be_kept_internal() -> None:
    """They would come to end in chain-limit; what no internal one can serve is external still."""
    assert made_of(big(), policies=("nightly",), many=True).kind is Kind.INTERNAL
    raw = replace(VDA, format="raw")
    facts = big(replace(ON, disks=(raw,)))
    facts = replace(facts, info=replace(ON, disks=(raw,)), inactive=(raw,))
    assert made_of(facts, policies=("nightly",), many=True).kind is Kind.EXTERNAL


def test_tree_and_asker_keep_their_kind() -> None:
    assert made_of(big(snapshots=(BEFORE,))).kind is Kind.INTERNAL
    assert made_of(big(), kind="internal").kind is Kind.INTERNAL


@pytest.mark.parametrize(
    "changes",
    [
        {"chains": ChainFacts(), "version": (9, 0, 0)},
        {"chains": replace(ABLE, security=frozenset({"apparmor"}))},  # it could not be merged
        {"version": (10, 3, 0)},  # a revert may be refused
        {"info": replace(ON, disks=(*DISKS, CD))},  # a revert would put a file on the CD
        {"info": replace(OFF, disks=(*DISKS, CD))},
    ],
)
def test_where_it_could_not_be_reverted_or_merged_internal(changes: dict[str, Any]) -> None:
    facts = big(**{k: v for k, v in changes.items() if k != "info"})
    info = changes.get("info", facts.info)
    made = made_of(replace(facts, info=info, inactive=info.disks))
    assert (made.kind, made.blockers, said(made)) == (Kind.INTERNAL, (), [])


def test_where_checkpoints_are_in_the_way_internal() -> None:
    made = made_of(big(checkpoints=("sunday",)))
    assert (made.kind, made.blockers, said(made)) == (Kind.INTERNAL, (), ["checkpoints"])


def test_off_where_this_libvirt_reverts_no_running_ones_internal() -> None:
    assert made_of(big(OFF, version=(10, 3, 0))).kind is Kind.INTERNAL


def test_what_passes_changes_no_kind() -> None:
    made = made_of(big(holder="backup"))
    assert (made.kind, [b.error for b in made.blockers]) == (Kind.EXTERNAL, [Busy])
    full = made_of(big(space={"vda": ROOM, "vdb": replace(ROOM, free=0, device=2)}))
    assert (full.kind, [b.reason for b in full.blockers]) == (Kind.EXTERNAL, ["no-space"])


def test_what_is_against_internal_ones_alone_is_told_as_ever() -> None:
    """A wish for some disks is none for another kind, however big they are."""
    made = made_of(big(), disks=("vda",))
    assert (made.kind, [b.reason for b in made.blockers]) == (Kind.INTERNAL, ["all-disks"])


def test_lists_that_look_at_no_image_tell_the_kind_once_there_is_a_snapshot() -> None:
    wish, host = Wish(memory="no", policies=("nightly",)), {"monitor": True, "has_images": True}
    first, then = big(), chained()
    told = [
        outlook(f.info, f.snapshots, [], wish, chains=ABLE, version=f.version, **host)
        for f in (first, then)
    ]
    assert [(o.verdict, o.kind) for o in told] == [("yes", "internal"), ("yes", "external")]
    assert told[1].why.endswith("so are those that the VM has")


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        (0, "about 3 s, and with a max_pause of 0 it may not at all"),
        (2, "about 2828 ms, more than max_pause (2 s) allows"),
        (1, "about 3 s, more than max_pause (1 s) allows"),
    ],
)
def test_standstill_that_is_too_long_is_told_so_that_it_is_more(allowed: int, said: str) -> None:
    made = made_of(big(), kind="internal", max_pause=allowed)
    (blocker,) = made.blockers
    assert blocker.message.endswith(said)
