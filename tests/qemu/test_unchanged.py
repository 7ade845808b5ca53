"""Nothing that a person can do to a VM that is off by libvirt leaves all of its files as they were:
so where they are, the poll need not ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from snapd.hypervisor import unchanged
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from tests.bed import recipe
from tests.bed.private import PrivateLibvirt
from tests.qemu.idle import IdleGuest
from tests.qemu.test_facts import ask

Act = Callable[[IdleGuest], Any]


def redefine(guest: IdleGuest) -> None:
    """virsh snapshot-edit does this, after the editor."""
    file = guest.images[0].with_suffix(".xml")
    file.write_text(guest.virsh("snapshot-dumpxml", "one").replace(">before<", ">after<"))
    guest.virsh("snapshot-create", str(file), "--redefine")


# in this order
ACTS: dict[str, Act] = {
    "snapshot made": lambda guest: guest.virsh("snapshot-create-as", "one", "before"),
    "another made": lambda guest: guest.virsh("snapshot-create-as", "two"),
    "snapshot edited": redefine,
    "another chosen": lambda guest: guest.virsh("snapshot-current", "one"),
    "reverted": lambda guest: guest.virsh("snapshot-revert", "two"),
    "record deleted": lambda guest: guest.virsh("snapshot-delete", "two", "--metadata"),
    "snapshot deleted": lambda guest: guest.virsh("snapshot-delete", "one"),
    "RAM": lambda guest: guest.virsh("setmem", "30M", "--config"),
    "disk": lambda guest: guest.virsh("detach-disk", "vda", "--config"),
    "title": lambda guest: guest.virsh("desc", "--config", "--title", "another"),
    "defined": lambda guest: guest.define(),
    "started": lambda guest: guest.virsh("start"),
    "saved": lambda guest: guest.virsh("managedsave"),
    "save removed": lambda guest: guest.virsh("managedsave-remove"),
}


def test_whatever_libvirt_does_to_a_vm_that_is_off_shows_in_its_files(
    bed: PrivateLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "SETTLED_SECONDS", 0.05)
    guest = IdleGuest.empty("unchanged", bed.images)
    guest.define()
    uuid = recipe.domain_uuid(guest.name)

    async def play(hypervisor: LibvirtHypervisor) -> None:
        for what, act in ACTS.items():
            if what != "saved":  # so it runs, and is read at each poll
                before = await settled(hypervisor, uuid, what)
            await asyncio.to_thread(act, guest)
            assert await hypervisor.unchanged([uuid]) == set(), what
            assert await hypervisor.read(uuid) != before or what == "title", what
        await settled(hypervisor, uuid, "the end")

    try:
        ask(play)
    finally:
        guest.remove()


async def settled(hypervisor: LibvirtHypervisor, uuid: str, what: str) -> Any:
    """Read it until what was read is proven to hold."""
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.1)
            found = await hypervisor.read(uuid)
            if await hypervisor.unchanged([uuid]) == {uuid}:
                assert await hypervisor.read(uuid) == found, what
                return found
