"""UEFI variables in a file of their own: what libvirt 9.0 and 11.3 were seen to do with it."""

from __future__ import annotations

from dataclasses import replace

from snapd.errors import AlreadyExists, Inconsistent, Unsupported
from snapd.hypervisor import DomainFacts, ImageInfo
from snapd.model import NVRAM, Disk
from snapd.operations.preflight import create_blockers, delete_blockers, revert_blockers
from tests.unit.vms import BEFORE, IMAGE, OFF, ON, facts_of, image_of, seen

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
