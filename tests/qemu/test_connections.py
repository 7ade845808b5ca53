"""Connections to libvirtd: as many as are needed, and one when none is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from snapd.hypervisor import connection
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from tests.bed import recipe
from tests.bed.private import PrivateLibvirt
from tests.qemu.idle import IdleGuest
from tests.qemu.test_facts import ask


def sockets() -> int:
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        try:
            found += str(file.readlink()).startswith("socket:")
        except FileNotFoundError:  # the folder's own
            continue
    return found


def test_connections_for_looks_are_closed_when_nobody_looks_any_more(
    bed: PrivateLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(connection, "IDLE_SECONDS", 1.0)
    guests = [IdleGuest.empty(f"looked-at-{n}", bed.images) for n in range(3)]
    for guest in guests:
        guest.define()

    async def look(hypervisor: LibvirtHypervisor) -> None:
        one = sockets()
        await asyncio.gather(*(hypervisor.read(recipe.domain_uuid(g.name)) for g in guests))
        assert sockets() > one
        async with asyncio.timeout(20):
            while sockets() > one:
                await asyncio.sleep(0.1)
        await hypervisor.read(recipe.domain_uuid(guests[0].name))

    try:
        ask(look)
    finally:
        for guest in guests:
            guest.remove()
