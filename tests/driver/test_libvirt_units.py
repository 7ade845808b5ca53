"""libvirt's units, asked of systemd on the bus: a stand-in's words (tests/system has the real)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from snapd import units
from snapd.units import LibvirtUnits
from tests.bus import PrivateBus, private_bus
from tests.driver.fake_systemd import FakeSystemd

SERVICE, SOCKET = "libvirtd_2eservice", "libvirtd_2esocket"
STOPPED = "libvirtd was stopped: systemctl start libvirtd"


@pytest.fixture
def system_bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    with private_bus(system_limits=True) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        yield bus


@asynccontextmanager
async def served(bus: PrivateBus) -> AsyncIterator[tuple[FakeSystemd, LibvirtUnits]]:
    """A libvirtd that serves our connection."""
    fake = await FakeSystemd.at(bus.address)
    server = LibvirtUnits("qemu:///system")
    try:
        await server.connected()
        assert await server.stopped() == ""
        yield fake, server
    finally:
        await fake.close()


def test_stopped_is_left_alone_until_it_runs_again(system_bus: PrivateBus) -> None:
    async def main() -> None:
        async with served(system_bus) as (fake, server):
            fake.active[SERVICE] = "deactivating"
            assert await server.stopped() == "libvirtd is stopping"
            fake.active[SERVICE] = "inactive"
            assert await server.stopped() == STOPPED
            fake.active[SERVICE] = "active"
            assert await server.stopped() == ""

    asyncio.run(main())


def test_crashed_one_is_dialled(system_bus: PrivateBus) -> None:
    async def main() -> None:
        async with served(system_bus) as (fake, server):
            fake.active[SERVICE], fake.result[SERVICE] = "failed", "exit-code"
            assert await server.stopped() == ""

    asyncio.run(main())


def test_socket_that_was_gone_and_is_back_is_meant_to_be_dialled(system_bus: PrivateBus) -> None:
    async def main() -> None:
        async with served(system_bus) as (fake, server):
            fake.active[SERVICE] = fake.active[SOCKET] = "inactive"
            assert await server.stopped() == ""
            fake.active[SOCKET] = "active"
            assert await server.stopped() == ""

    asyncio.run(main())


def test_systemd_that_does_not_answer_changes_nothing(
    system_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "DEADLINE", 0.5)

    async def main() -> None:
        async with served(system_bus) as (fake, server):
            fake.mute = True
            assert await server.stopped() == ""
            fake.mute, fake.active[SERVICE] = False, "inactive"
            assert await server.stopped() == STOPPED
            fake.mute = True
            assert await server.stopped() == STOPPED
            await fake.bus.release_name("org.freedesktop.systemd1")
            assert await server.stopped() == STOPPED

    asyncio.run(main())


def test_at_our_own_start_it_is_dialled(system_bus: PrivateBus) -> None:
    async def main() -> None:
        fake = await FakeSystemd.at(system_bus.address)
        fake.active[SERVICE] = "inactive"
        assert await LibvirtUnits("qemu:///system").stopped() == ""
        await fake.close()

    asyncio.run(main())


@pytest.mark.parametrize("uri", ["qemu:///session", "test:///default"])
def test_libvirt_of_no_unit_asks_nobody(system_bus: PrivateBus, uri: str) -> None:
    async def main() -> None:
        fake = await FakeSystemd.at(system_bus.address)
        fake.mute = True  # whoever asks waits for 5 s
        server = LibvirtUnits(uri)
        async with asyncio.timeout(1):
            await server.connected()
            assert await server.stopped() == ""
        await fake.close()

    asyncio.run(main())


def test_host_without_systemd_or_bus_has_libvirt_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")

    async def main() -> None:
        server = LibvirtUnits("qemu:///system")
        await server.connected()
        assert await server.stopped() == ""

    asyncio.run(main())
