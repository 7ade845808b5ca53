"""What lists show, and which way a create goes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import (
    AgentUnavailable,
    Busy,
    InvalidArgument,
    Unsupported,
)
from snapd.hypervisor import ChainFacts, DomainFacts, ImageInfo, Space, xml
from snapd.model import (
    Consistency,
    DomainInfo,
    Kind,
    Origin,
    Record,
    SnapshotKey,
    State,
)
from snapd.operations.plan import Plan, Way, plan
from snapd.operations.support import support
from snapd.operations.wishes import Wish
from tests.unit.vms import (
    BEFORE,
    EXTERNAL,
    OFF,
    ON,
    UUID,
    VDA,
    VDB,
    facts_of,
)

DATA = Path(__file__).parents[1] / "data"

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


def _plan(info: DomainInfo, wish: Wish, pause: int = 1000, *, monitor: bool = True) -> Plan:
    """As planned where the last snapshot with RAM stood still for `pause` milliseconds."""
    key = SnapshotKey(UUID, "before", 1700000000)
    last = Record(
        key,
        Origin.MANUAL,
        state=State.RUNNING,
        consistency=Consistency.MEMORY,
        pause_ms=pause,
    )
    return plan(facts_of(info), wish, [last], "", monitor=monitor)


def _decide(info: DomainInfo, wish: Wish, pause: int = 1000) -> Any:
    made = _plan(info, wish, pause)
    assert not made.blockers
    return made.way, made.memory, [w.reason for w in made.warnings]


def test_decide_off_libvirts_own_without_memory() -> None:
    assert _decide(OFF, Wish(), 10 * MINUTE) == (Way.LIBVIRT, False, [])


def test_plan_memory_of_vm_that_is_off_refused_but_by_policy_allowed() -> None:
    """By hand it would be a silent downgrade; a policy says it for the times that it runs."""
    assert [b.reason for b in _plan(OFF, Wish(memory="yes")).blockers] == ["no-memory"]
    assert _plan(OFF, Wish(memory="yes", policies=("nightly",))).blockers == ()


@pytest.mark.parametrize("memory", ["auto", "yes"])
def test_decide_short_pause_with_memory(memory: str) -> None:
    assert _decide(ON, Wish(memory=memory), MINUTE) == (Way.LIBVIRT, True, [])


def test_decide_no_memory_wanted_by_the_monitor() -> None:
    assert _decide(ON, Wish(memory="no")) == (Way.MONITOR, False, [])


def test_decide_quiescing_required_by_the_monitor() -> None:
    ready = replace(ON, agent=True)
    assert _decide(ready, Wish(quiesce="require")) == (Way.MONITOR, False, [])


@pytest.mark.parametrize("info", [ON, replace(ON, state=State.PAUSED, agent=True), OFF])
def test_plan_quiescing_required_of_guest_that_cannot_agent_unavailable(info: DomainInfo) -> None:
    found = _plan(info, Wish(quiesce="require")).blockers
    assert [(b.error, b.reason) for b in found] == [(AgentUnavailable, "agent-unavailable")]


@pytest.mark.parametrize(
    ("info", "estimate"),
    [(ON, MINUTE + 1), (replace(ON, unmigratable="hostdev (pci)"), 1000)],
)
def test_decide_memory_not_to_be_had_left_out_and_said(info: DomainInfo, estimate: int) -> None:
    assert _decide(info, Wish(), estimate) == (Way.MONITOR, False, ["memory-left-out"])


def test_decide_tpm_state_goes_with_ram_alone() -> None:
    """libvirt's swtpm state rides inside saved RAM, and in no disk (LIBVIRT.md 4)."""
    text = (DATA / "domains" / "tpm-emulator.xml").read_text()
    assert xml.emulated_tpm(ET.fromstring(text))
    assert xml.unmigratable(ET.fromstring(text)) == ""
    on, off = replace(ON, tpm=True), replace(OFF, tpm=True)
    assert _support(on) == _support(off) == ("yes", "yes")
    assert _decide(on, Wish(memory="yes")) == (Way.LIBVIRT, True, [])
    assert _decide(on, Wish(memory="no")) == (Way.MONITOR, False, ["tpm-left-out"])
    assert _decide(off, Wish()) == (Way.LIBVIRT, False, ["tpm-left-out"])


def test_decide_raw_nvram_left_out_and_said() -> None:
    info = replace(ON, raw_nvram=True)
    assert _decide(info, Wish(memory="no")) == (Way.MONITOR, False, ["nvram-left-out"])


@pytest.mark.parametrize(
    ("wish", "pause", "monitor", "word"),
    [
        (Wish(memory="yes"), MINUTE + 1, True, "pause-too-long"),
        (Wish(memory="no"), 0, False, "monitor-off"),
        (Wish(), MINUTE + 1, False, "monitor-off"),
        (Wish(disks=("vda",)), 0, True, "all-disks"),
        (Wish(then="stop"), MINUTE + 1, True, "pause-too-long"),
    ],
)
def test_plan_impossible_unsupported(wish: Wish, pause: int, monitor: bool, word: str) -> None:
    found = _plan(ON, wish, pause, monitor=monitor).blockers
    assert [(b.error, b.reason) for b in found] == [(Unsupported, word)]


def test_plan_pause_of_a_paused_vm_says_nothing_of_a_running_one() -> None:
    """A paused guest stands still for 0 ms, whatever its RAM."""
    key = SnapshotKey(UUID, "before", 1700000000)
    paused = Record(key, Origin.MANUAL, (), State.PAUSED, Consistency.MEMORY, 0)
    huge = replace(ON, memory=64 << 30)
    made = plan(facts_of(huge), Wish(memory="yes"), [paused], "", monitor=True)
    assert [b.reason for b in made.blockers] == ["pause-too-long"]


def test_plan_pause_without_ram_beyond_max_pause_refused() -> None:
    """A huge image stands the guest still for seconds, too."""
    key = SnapshotKey(UUID, "before", 1700000000)
    slow = Record(key, Origin.POLICY, (), State.RUNNING, Consistency.CRASH, 9000)
    made = plan(facts_of(ON), Wish(memory="no", max_pause=8), [slow], "", monitor=True)
    assert [b.reason for b in made.blockers] == ["pause-too-long"]
    enough = Wish(memory="no", max_pause=9)
    assert plan(facts_of(ON), enough, [slow], "", monitor=True).blockers == ()


def test_plan_ram_that_then_would_lose_unasked_refused() -> None:
    """Quiescing was required, so auto takes none; the stop would throw it away."""
    ready, wish = replace(ON, agent=True), Wish(then="stop", quiesce="require")
    assert [b.reason for b in _plan(ready, wish).blockers] == ["no-memory"]
    assert _plan(ready, replace(wish, memory="no")).blockers == ()


def test_plan_restart_of_vm_that_is_off_is_said() -> None:
    made = plan(facts_of(OFF), Wish(then="restart"), [], "", monitor=True)
    assert [w.reason for w in made.warnings] == ["then-not-done"]


def test_plan_ram_of_guest_that_may_be_frozen_left_out_or_refused() -> None:
    """A revert to it would bring a frozen guest back, of which nobody knows."""
    auto = plan(facts_of(ON), Wish(), [], "", monitor=True, frozen=True)
    assert (auto.way, [w.reason for w in auto.warnings]) == (Way.MONITOR, ["memory-left-out"])
    refused = plan(facts_of(ON), Wish(memory="yes"), [], "", monitor=True, frozen=True)
    assert [(b.error, b.reason) for b in refused.blockers] == [(Busy, "frozen")]


def test_wish_memory_and_quiescing_invalid_argument() -> None:
    with pytest.raises(InvalidArgument):
        Wish(memory="yes", quiesce="require").check()


def test_decide_all_disks_named_allowed() -> None:
    assert _decide(ON, Wish(memory="no", disks=("vdb", "vda")))[0] is Way.MONITOR


# --- of which kind it is

RAW = replace(VDA, format="raw", source="/images/web-root.img")
ABLE = ChainFacts(capable=True)
RAW_IMAGE = ImageInfo(RAW.source, virtual_size=64 << 20)
ROOMY = Space(free=64 << 30, total=128 << 30, inodes=1 << 20, device=1)


def _raw(state: DomainInfo = ON, **changes: Any) -> DomainFacts:
    """A VM with one raw disk and no snapshot, where libvirt does external ones."""
    facts = DomainFacts(
        replace(state, disks=(RAW,)),
        (),
        (RAW,),
        "<domain/>",
        images={"vda": RAW_IMAGE},
        space={"vda": ROOMY},
        chains=ABLE,
        version=(11, 3, 0),
    )
    return replace(facts, **changes)


def _kind(facts: DomainFacts, *, monitor: bool = True, **wish: Any) -> Any:
    made = plan(facts, Wish(**{"memory": "no", **wish}), [], "", monitor=monitor)
    return made.kind, [b.reason for b in made.blockers], [w.reason for w in made.warnings]


def test_kind_auto_raw_disk_external_and_why() -> None:
    assert _kind(_raw()) == (Kind.EXTERNAL, [], ["external"])
    assert _kind(_raw(OFF)) == (Kind.EXTERNAL, [], ["external"])
    made = plan(_raw(), Wish(memory="no"), [], "", monitor=True)
    assert (made.way, made.disks) == (Way.OVERLAY, ("vda",))
    assert "disk vda is raw" in made.warnings[0].message


def test_kind_auto_qcow2_internal_although_external_could_be_made() -> None:
    assert _kind(facts_of(ON, snapshots=(), chains=ABLE)) == (Kind.INTERNAL, [], [])


def test_kind_auto_where_libvirt_cannot_internal_with_its_reason() -> None:
    assert _kind(_raw(chains=ChainFacts(), version=(9, 0, 0))) == (Kind.INTERNAL, ["raw-disk"], [])


def test_kind_auto_neither_can_be_made_the_internal_ones_reason() -> None:
    data = replace(RAW, format="qcow2", data_file=True)
    facts = _raw()
    facts = replace(facts, info=replace(facts.info, disks=(data,)), inactive=(data,))
    assert _kind(facts) == (Kind.INTERNAL, ["data-file"], [])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"holder": "backup"}, "backup"),
        ({"space": {"vda": Space(0, 128 << 30, 1 << 20, 1)}}, "no-space"),
    ],
)
def test_kind_auto_what_passes_changes_no_kind(changes: dict[str, Any], word: str) -> None:
    kind, reasons, _warnings = _kind(_raw(**changes))
    assert (kind, reasons) == (Kind.EXTERNAL, [word])
    qcow2 = facts_of(ON, snapshots=(), chains=ABLE, space={"vda": ROOMY})
    kind, reasons, _warnings = _kind(replace(qcow2, **changes))
    assert (kind, reasons) == (Kind.INTERNAL, [word])


def test_kind_auto_keeps_that_of_the_tree() -> None:
    over = replace(VDA, source="/images/web-1-vda.s1.qcow2")
    info = replace(ON, disks=(over,), current="s1")
    s1 = replace(
        EXTERNAL,
        name="s1",
        current=True,
        disks=("vda",),
        overlays=(("vda", over.source),),
        bases=(("vda", VDA.source),),
    )
    layers: Any = {"vda": ((over.source, "qcow2"), (VDA.source, "qcow2"))}
    chains = replace(ABLE, layers=layers, live={"vda": (over.source, VDA.source)})
    image = ImageInfo(over.source, backing=VDA.source, backing_format="qcow2", virtual_size=1)
    facts = DomainFacts(
        info,
        (s1,),
        (over,),
        "<domain/>",
        images={"vda": image},
        chains=chains,
        version=(11, 3, 0),
    )
    assert _kind(facts) == (Kind.EXTERNAL, [], ["external"])
    assert _kind(facts, kind="internal")[1][0] == "mixed-tree"
    assert _kind(replace(facts, chains=ChainFacts(), version=(9, 0, 0)))[:2] == (
        Kind.INTERNAL,
        ["mixed-tree"],
    )
    raw = _raw(snapshots=(BEFORE,))
    assert _kind(raw)[:2] == (Kind.INTERNAL, ["raw-disk"])


def test_kind_that_was_asked_for_or_refused() -> None:
    assert _kind(_raw(), kind="internal") == (Kind.INTERNAL, ["raw-disk"], [])
    assert _kind(_raw(), kind="external") == (Kind.EXTERNAL, [], [])
    assert _kind(facts_of(ON, snapshots=(), chains=ABLE), kind="external") == (
        Kind.EXTERNAL,
        [],
        ["not-revertible"],
    )
    old = facts_of(ON, snapshots=())
    assert _kind(old, kind="external")[1] == ["external-unsupported"]


def _not_revertible(facts: DomainFacts, **wish: Any) -> list[tuple[str, str]]:
    made = plan(facts, Wish(kind="external", **wish), [], "", monitor=True)
    assert made.blockers == ()
    return [(w.item, w.message) for w in made.warnings if w.reason == "not-revertible"]


def test_external_that_leaves_a_disk_out_is_said_to_serve_a_backup_alone() -> None:
    facts = facts_of(replace(OFF, disks=(VDA, VDB)), snapshots=(), chains=ABLE)
    assert _not_revertible(facts) == []
    ((disk, said),) = _not_revertible(facts, disks=("vda",))
    assert disk == "vdb"
    assert said == (
        "VM web-1 could not be reverted to it: disk vdb (web-data.qcow2) is left out of the "
        "snapshot, and libvirt's revert would have it go over to an overlay; it serves a backup "
        "alone, and a delete merges it"
    )


def test_external_of_files_that_a_revert_would_name_alike_is_said_to_serve_a_backup_alone() -> None:
    alike = replace(VDB, source=VDA.source.removesuffix(".qcow2") + ".img")
    facts = facts_of(replace(OFF, disks=(VDA, alike)), snapshots=(), chains=ABLE)
    ((_disk, said),) = _not_revertible(facts)
    assert "differ by what follows the last dot only" in said


def test_external_without_ram_is_said_to_serve_a_backup_alone_before_libvirt_10_4() -> None:
    old = _raw(version=(9, 9, 0))
    ((vm, said),) = _not_revertible(old, memory="no")
    assert (vm, "this libvirt may refuse to" in said) == ("web-1", True)
    assert _not_revertible(old, memory="yes") == []
    assert _not_revertible(replace(old, version=(10, 4, 0)), memory="no") == []
    assert _not_revertible(_raw(OFF, version=(9, 9, 0))) == []


def test_kind_running_without_the_monitor_external() -> None:
    info = replace(ON, disks=(VDA,))
    facts = facts_of(info, snapshots=(), chains=ABLE, version=(11, 3, 0))
    assert _kind(facts, monitor=False) == (Kind.EXTERNAL, [], ["external"])


def test_kind_external_ram_by_hand_only() -> None:
    assert plan(_raw(), Wish(memory="auto"), [], "", monitor=True).memory
    assert plan(_raw(), Wish(memory="yes"), [], "", monitor=True).memory
    made = plan(_raw(), Wish(memory="yes", policies=("nightly",)), [], "", monitor=True)
    assert [b.reason for b in made.blockers] == ["raw-disk"]
    asked = Wish(memory="yes", policies=("nightly",), kind="external")
    made = plan(_raw(), asked, [], "", monitor=True)
    assert [b.reason for b in made.blockers] == ["external-unsupported"]


def test_kind_external_ram_of_an_encrypted_disk_is_not_written_plain() -> None:
    """It would stand in a plain file (LIBVIRT.md 9)."""
    secret = replace(VDA, encrypted=True)
    facts = facts_of(replace(ON, disks=(secret,)), snapshots=(), chains=ABLE)
    made = plan(facts, Wish(kind="external"), [], "", monitor=True)
    assert (made.memory, [w.reason for w in made.warnings]) == (False, ["memory-left-out"])
    made = plan(facts, Wish(kind="external", memory="yes"), [], "", monitor=True)
    assert "would-be-plaintext" in [b.reason for b in made.blockers]


def test_kind_external_apparmor_that_keeps_qemu_from_merging() -> None:
    """A policy makes none there, and a person is told when it has to be merged."""
    facts = _raw(chains=replace(ABLE, security=frozenset({"apparmor"})))
    assert _kind(facts) == (Kind.EXTERNAL, [], ["external", "apparmor-commit"])
    assert _kind(facts, policies=("nightly",))[1] == ["raw-disk"]
    assert _kind(facts, policies=("nightly",), kind="external")[1] == ["apparmor-commit"]
