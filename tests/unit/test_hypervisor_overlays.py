"""Who waits for whom where overlays are made; libvirt itself is not asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from snapd.hypervisor import ExternalSnapshot, NewOverlay
from snapd.hypervisor.overlays import LibvirtOverlays
from tests.unit.vms import UUID


def test_vm_that_hangs_as_its_ram_is_saved_delays_no_other_in_its_folder() -> None:
    async def body() -> None:
        done: list[str] = []

        async def act(_uuid: str, what: str, call: Callable[..., Any]) -> Any:
            if call.__name__ == "call" and what.startswith("make snapshot"):
                await asyncio.Event().wait()  # a QEMU that doesn't answer
            done.append(what)

        overlays = LibvirtOverlays(act, None)  # type: ignore[arg-type]
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
