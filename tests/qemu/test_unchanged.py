"""Nothing that a person can do to a VM that is off by libvirt leaves all of its files as they were:
so where they are, the poll need not ask for it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snapd.hypervisor import unchanged
from snapd.hypervisor.files import metadata_folder
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from tests.bed import recipe
from tests.bed.guest import virsh
from tests.bed.private import PrivateLibvirt
from tests.qemu.idle import IdleGuest
from tests.qemu.test_facts import ask

Act = Callable[[IdleGuest], Any]
METADATA = ("--config", "--uri", "urn:mine", "--key", "mine")


def anew(guest: IdleGuest, name: str = "three") -> None:
    """One of the same name, in the same second as like as not."""
    guest.virsh("snapshot-delete", name)
    guest.virsh("snapshot-create-as", name)


def defined_anew(guest: IdleGuest) -> None:
    guest.virsh("undefine", "--snapshots-metadata")
    guest.define()


def started(guest: IdleGuest) -> None:
    """It is off again when somebody looks."""
    guest.virsh("start")
    guest.virsh("destroy")


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
    "renamed": lambda guest: guest.virsh("domrename", "another-name"),
    "named again": lambda guest: virsh("domrename", "another-name", guest.name),
    "third made": lambda guest: guest.virsh("snapshot-create-as", "three"),
    "made anew": anew,
    "reverted": lambda guest: guest.virsh("snapshot-revert", "two"),
    "record deleted": lambda guest: guest.virsh("snapshot-delete", "two", "--metadata"),
    "snapshot deleted": lambda guest: guest.virsh("snapshot-delete", "one"),
    "RAM": lambda guest: guest.virsh("setmem", "30M", "--config"),
    "disk": lambda guest: guest.virsh("detach-disk", "vda", "--config"),
    "title": lambda guest: guest.virsh("desc", "--config", "--title", "another"),
    "metadata": lambda guest: guest.virsh("metadata", *METADATA, "--set", "<of-mine/>"),
    "defined": lambda guest: guest.define(),
    "defined anew": defined_anew,
    "started": lambda guest: guest.virsh("start"),
    "saved": lambda guest: guest.virsh("managedsave"),
    "save removed": lambda guest: guest.virsh("managedsave-remove"),
    "started again": lambda guest: guest.virsh("start"),
    "saved again": lambda guest: guest.virsh("managedsave"),
    "save used": started,
}
UNSEEN = {"title", "metadata", "made anew"}
"""What is, or may be, in nothing that is read."""


def test_whatever_libvirt_does_to_a_vm_that_is_off_shows_in_its_files(
    bed: PrivateLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "SETTLED_SECONDS", 0.05)
    guest = IdleGuest.empty("unchanged", bed.images)
    guest.define()
    uuid = recipe.domain_uuid(guest.name)

    async def play(hypervisor: LibvirtHypervisor) -> None:
        for what, act in ACTS.items():
            if not what.startswith("saved"):  # so it runs, and is read at each poll
                before = await settled(hypervisor, uuid, what)
            await asyncio.to_thread(act, guest)
            assert await proven(hypervisor, uuid) == set(), what
            assert await hypervisor.read(uuid) != before or what in UNSEEN, what
        await settled(hypervisor, uuid, "the end")

    try:
        ask(play)
    finally:
        guest.remove()


def test_files_that_are_not_this_libvirts_prove_nothing_once_that_shows(
    bed: PrivateLibvirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that are left on a host whose libvirt was moved to a container."""
    monkeypatch.setattr(unchanged, "SETTLED_SECONDS", 0.05)
    guest = IdleGuest.empty("elsewhere", bed.images)
    guest.define()
    uuid = recipe.domain_uuid(guest.name)
    definitions = shutil.copytree(unchanged.SYSTEM, tmp_path / "etc")
    records = shutil.copytree(metadata_folder("qemu:///system"), tmp_path / "snapshot")

    async def play(hypervisor: LibvirtHypervisor) -> None:
        hypervisor._unchanged = unchanged.Unchanged(str(records), str(definitions))
        await settled(hypervisor, uuid, "elsewhere")
        await asyncio.to_thread(guest.virsh, "snapshot-create-as", "one")
        assert await proven(hypervisor, uuid) == {uuid}  # nobody can know yet
        for _ in range(2):
            _info, (one,) = await hypervisor.read(uuid)
            assert (one.name, await proven(hypervisor, uuid)) == ("one", set())

    try:
        ask(play)
    finally:
        guest.remove()


async def proven(hypervisor: LibvirtHypervisor, uuid: str) -> set[str]:
    """As a poll asks."""
    await hypervisor.list_domains()
    return await hypervisor.unchanged([uuid])


async def settled(hypervisor: LibvirtHypervisor, uuid: str, what: str) -> Any:
    """Read it until what was read is proven to hold."""
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.1)
            found = await hypervisor.read(uuid)
            if await proven(hypervisor, uuid) == {uuid}:
                assert await hypervisor.read(uuid) == found, what
                return found
