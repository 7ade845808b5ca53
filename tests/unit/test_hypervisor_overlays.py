"""Who waits for whom where overlays are made, and what of them is told to stay. libvirt is its test
driver, whose pools never show the files that a folder really has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from snapd.errors import Busy
from snapd.hypervisor import ExternalSnapshot, NewOverlay, external_xml, pools, xml
from snapd.hypervisor.files import Files
from snapd.hypervisor.overlays import LibvirtOverlays
from tests.unit.vms import UUID


def test_vm_that_hangs_as_its_ram_is_saved_delays_no_other_in_its_folder() -> None:
    async def body() -> None:
        done: list[str] = []

        async def act(_uuid: str, what: str, call: Callable[..., Any]) -> Any:
            if call.__name__ == "call" and what.startswith("make snapshot"):
                await asyncio.Event().wait()  # a QEMU that doesn't answer
            done.append(what)

        overlays = LibvirtOverlays(act, None, Files())  # type: ignore[arg-type]
        wanted = ExternalSnapshot("s1", "", (), memory_file="/images/web-1.s1.ram")
        hangs = asyncio.create_task(overlays.create(UUID, wanted))
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            new = NewOverlay("vda", "/images/web-2-vda.s1.qcow2", "/images/web-2.qcow2", "qcow2", 1)
            await overlays.make("another", [new])
        assert not hangs.done()
        hangs.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hangs
        assert done == ["make snapshot s1 of", "make files for a snapshot of"]

    asyncio.run(body())


@pytest.fixture
def conn() -> Iterator[libvirt.virConnect]:
    """With a pool of /images that rests."""
    conn = libvirt.open("test:///default")
    conn.storagePoolDefineXML(external_xml.pool("admins", "/images"), 0)
    yield conn
    conn.close()


def _pools(conn: libvirt.virConnect) -> dict[str, bool]:
    """Name -> whether it is active."""
    return {pool.name(): bool(pool.isActive()) for pool in conn.listAllStoragePools(0)}


def test_pool_that_rests_is_not_started_or_it_would_stay_so_if_we_were_killed(
    conn: libvirt.virConnect,
) -> None:
    before = _pools(conn)
    assert not before["admins"]
    with pools.covering(conn, "/images") as pool:
        assert _pools(conn) == {**before, pool.name(): True}
    assert _pools(conn) == before


def test_pool_that_we_left_behind_beside_one_that_rests_is_found_again(
    conn: libvirt.virConnect,
) -> None:
    before, left = _pools(conn), contextlib.ExitStack()
    first = left.enter_context(pools.covering(conn, "/images"))  # and then we were killed
    with pools.covering(conn, "/images") as second:
        assert second.UUIDString() == first.UUIDString()
    assert _pools(conn) == before


def _removed(conn: libvirt.virConnect, *paths: Path) -> tuple[str, ...]:
    """What stays of these, by a pool that lists the first of them alone."""

    async def act(_uuid: str, _what: str, call: Callable[..., Any]) -> Any:
        return call(conn.lookupByName("test"))

    async def body() -> tuple[str, ...]:
        overlays = LibvirtOverlays(act, None, Files())  # type: ignore[arg-type]
        return await overlays.remove(UUID, [str(path) for path in paths])

    pool = conn.storagePoolCreateXML(external_xml.pool("images", str(paths[0].parent)), 0)
    new = NewOverlay("vda", str(paths[0]), "/base.qcow2", "qcow2", 1)
    pool.createXML(external_xml.volume(new, {}), 0)
    return asyncio.run(body())


def test_file_that_no_pool_shows_is_not_taken_for_removed(
    conn: libvirt.virConnect, tmp_path: Path
) -> None:
    listed, gone, there = (tmp_path / f"{name}.qcow2" for name in ("listed", "gone", "there"))
    there.touch()
    assert _removed(conn, listed, gone, there) == (str(there),)
    assert there.exists()


def test_file_that_is_there_although_it_was_removed_stays(
    conn: libvirt.virConnect, tmp_path: Path
) -> None:
    listed = tmp_path / "listed.qcow2"
    listed.touch()
    assert _removed(conn, listed) == (str(listed),)


def test_file_that_no_pool_shows_and_that_cannot_be_looked_at_stays(
    conn: libvirt.virConnect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, hidden = tmp_path / "listed.qcow2", tmp_path / "hidden.qcow2"

    def denied(path: str) -> bool:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("snapd.hypervisor.files._gone", denied)
    assert _removed(conn, listed, hidden) == (str(hidden),)


def test_mark_is_moved_to_a_leaf_of_a_vm_that_is_off_alone(conn: libvirt.virConnect) -> None:
    dom = conn.lookupByName("test")
    dom.destroy()
    for name in ("s1", "s2"):
        dom.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")
    dom.revertToSnapshot(dom.snapshotLookupByName("s1"))

    async def act(_uuid: str, _what: str, call: Callable[..., Any]) -> Any:
        return call(dom)

    def mark(name: str) -> str:
        text = dom.snapshotLookupByName(name).getXMLDesc()
        stamp = xml.snapshot(text, current=False).created
        overlays = LibvirtOverlays(act, None, Files())  # type: ignore[arg-type]
        asyncio.run(overlays.mark(UUID, name, created=stamp))
        return str(dom.snapshotCurrent().getName())

    assert dom.snapshotCurrent().getName() == "s1"
    assert mark("s2") == "s2"
    assert dom.snapshotLookupByName("s2").getParent().getName() == "s1"
    with pytest.raises(Busy):
        mark("s1")
    dom.create()
    with pytest.raises(Busy):
        mark("s2")


@pytest.mark.parametrize(
    ("state", "starting"), [([3, 11], True), ([3, 1], False), ([1, 1], False), ([5, 1], False)]
)
def test_vm_that_libvirt_has_for_starting_is_known_by_its_state_alone(
    state: list[int], starting: bool
) -> None:
    """Numbers of libvirt-domain.h: paused since it is starting up, by a person; running; off."""

    class Stuck:
        def state(self) -> list[int]:
            return state

    async def look(_uuid: str, _what: str, ask: Callable[..., Any], _seconds: float) -> Any:
        return ask(Stuck())

    overlays = LibvirtOverlays(None, look, Files())  # type: ignore[arg-type]
    assert asyncio.run(overlays.starting(UUID)) is starting
