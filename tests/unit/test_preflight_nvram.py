"""UEFI variables in a file of their own: what libvirt 9.0 and 11.3 were seen to do with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snapd.errors import AlreadyExists, Inconsistent, Unsupported
from snapd.hypervisor import DomainFacts, ImageInfo
from snapd.model import NVRAM, Disk, DomainInfo, SnapshotInfo, SnapshotKey
from snapd.operations.plan import plan
from snapd.operations.preflight import create_blockers, delete_blockers, revert_blockers
from snapd.operations.preview import losses
from snapd.operations.revert import warnings
from snapd.operations.wishes import RevertWish, Wish
from tests.unit.external_vms import RUNS, S2, chained
from tests.unit.vms import BEFORE, IMAGE, OFF, ON, UUID, facts_of, image_of, seen

VARS = Disk(NVRAM, "/nvram/web-1.qcow2", "qcow2")


def with_nvram(image: ImageInfo) -> DomainFacts:
    images = {"vda": IMAGE, "vdb": IMAGE, NVRAM: image}
    return facts_of(replace(ON, nvram=VARS), images=images)


def test_create_blockers_raw_nvram_off_is_for_newer_libvirt_to_do() -> None:
    old = facts_of(replace(OFF, raw_nvram=True))
    new = facts_of(replace(OFF, raw_nvram=True, raw_nvram_off=True))
    assert seen(create_blockers(old, "x", memory=False)) == [(Unsupported, "uefi-raw-nvram", "")]
    assert create_blockers(new, "x", memory=False) == []
    running = replace(new, info=replace(new.info, state=ON.state))
    assert seen(create_blockers(running, "x", memory=True)) == [(Unsupported, "uefi-raw-nvram", "")]


def test_create_blockers_name_is_in_the_nvram_already_exists() -> None:
    """libvirt would make a second one of that name there, and a revert finds the old one."""
    facts = with_nvram(image_of(tags=(("1", "before"), ("2", "left"))))
    found = create_blockers(facts, "left", memory=True)
    assert seen(found) == [(AlreadyExists, "half-made", NVRAM)]
    assert create_blockers(facts, "other", memory=True) == []


def test_revert_blockers_nvram_lacks_the_tag_half_made_unless_there_is_ram() -> None:
    """Without RAM libvirt fails when the VM is ended; with it, it reverts the disks alone."""
    facts = with_nvram(image_of())
    assert seen(revert_blockers(facts, BEFORE)) == [(Inconsistent, "half-made", NVRAM)]
    assert revert_blockers(facts, replace(BEFORE, memory=True)) == []
    assert revert_blockers(with_nvram(IMAGE), BEFORE) == []


def test_delete_blockers_nvram_lacks_the_tag_none() -> None:
    assert delete_blockers(with_nvram(image_of()), BEFORE) == []


def _goes(facts: DomainFacts, snapshot: SnapshotInfo) -> list[str]:
    """What a preview says that a revert throws changes of away."""
    wish = RevertWish(SnapshotKey(UUID, snapshot.name, snapshot.created))
    return [w.item for w in losses(facts, snapshot, wish) if w.reason == "disk-changes"]


@pytest.mark.parametrize(
    "info", [replace(RUNS, raw_nvram=True), replace(RUNS, nvram=VARS)], ids=["raw", "qcow2"]
)
def test_external_one_holds_the_nvram_with_ram_alone(info: DomainInfo) -> None:
    """libvirt begins no overlay for it, be it qcow2. QEMU writes it back from RAM (11.3)."""
    facts = chained(info=info)

    def told(memory: str) -> list[str]:
        made = plan(facts, Wish(kind="external", memory=memory), [], "", monitor=True)
        return [w.reason for w in made.warnings]

    assert (told("no"), told("yes")) == (["nvram-left-out"], [])
    assert [w.reason for w in warnings(facts, S2)] == ["nvram-left-out"]
    assert warnings(facts, replace(S2, memory=True)) == []
    assert (_goes(facts, S2), _goes(facts, replace(S2, memory=True))) == (["vda"], ["vda", NVRAM])


def test_internal_one_holds_the_nvram_where_it_is_qcow2() -> None:
    assert warnings(with_nvram(IMAGE), BEFORE) == []
    raw = facts_of(replace(ON, raw_nvram=True))
    assert [w.reason for w in warnings(raw, BEFORE)] == ["nvram-left-out"]
    assert _goes(with_nvram(IMAGE), BEFORE) == ["vda", "vdb", NVRAM]
    assert _goes(raw, BEFORE) == ["vda", "vdb"]
