"""What QEMU refuses gets to callers as an error that the contract knows."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, cast

import libvirt_qemu
import pytest

import snapd
from snapd.errors import PREFIX, LibvirtError, SnapdError, Unsupported, by_name
from snapd.hypervisor.libvirt_driver import LibvirtHypervisor
from snapd.model import Disk
from tests.unit.vms import ON

BEFORE_THE_BUS = {"StoreInUse", "StoreBroken"}
"""They end the start of the daemon: nobody can have called it yet."""
DISK = Disk("vda", "/images/web-root.qcow2", "qcow2", alias="virtio-disk0")


def test_errors_of_every_room_have_a_name_on_the_bus() -> None:
    for module in pkgutil.walk_packages(snapd.__path__, "snapd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = [kind for kind in _below(SnapdError) if _name(kind).startswith(PREFIX)]
    found = {kind.__name__ for kind in ours if kind is not by_name(_name(kind))}
    assert found == BEFORE_THE_BUS


def _name(kind: type[SnapdError]) -> str:
    return kind("x").name


def _below(kind: type[SnapdError]) -> Iterator[type[SnapdError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


class Refusing:
    """A libvirt connection and a VM of it, whose QEMU refuses one monitor command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def answer(self, _dom: object, text: str, _flags: int) -> str:
        command = json.loads(text)["execute"]
        if command == self.command:
            error = {"class": "GenericError", "desc": "Node 'libvirt-1-format' is busy"}
            return json.dumps({"error": error})
        drive = {"qdev": DISK.alias, "inserted": {"node-name": "n", "drv": "qcow2"}}
        image = {"filename": DISK.source, "snapshots": [{"id": "1", "name": "x"}]}
        node = {"node-name": "n", "drv": "qcow2", "image": image}
        return json.dumps({"return": [drive] if command == "query-block" else [node]})

    def name(self) -> str:
        return "web-1"

    def lookupByUUIDString(self, _uuid: str) -> Refusing:  # noqa: N802
        return self

    async def act(self, _what: str, call: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(call, self)

    async def look(
        self, _what: str, call: Callable[[Any], Any], _timeout: float, answered: Callable[[], None]
    ) -> Any:
        try:
            return await asyncio.to_thread(call, self)
        finally:
            answered()

    shared = False


Ask = Callable[[LibvirtHypervisor], Coroutine[Any, Any, object]]


@pytest.mark.parametrize(
    ("command", "ask", "error"),
    [
        (
            "blockdev-snapshot-delete-internal-sync",
            lambda h: h.remove_tags(ON.uuid, [DISK], "x"),
            LibvirtError,
        ),
        ("query-block", lambda h: h.tags(ON, [DISK]), LibvirtError),
        ("query-named-block-nodes", lambda h: h.remove_tags(ON.uuid, [DISK], "x"), LibvirtError),
        ("transaction", lambda h: h.take(ON.uuid, [DISK], "x"), Unsupported),
    ],
)
def test_command_that_qemu_refuses_is_an_error_of_the_contract(
    monkeypatch: pytest.MonkeyPatch, command: str, ask: Ask, error: type[SnapdError]
) -> None:
    """A block job that began since the look, for example."""
    conn = Refusing(command)
    monkeypatch.setattr(libvirt_qemu, "qemuMonitorCommand", conn.answer)

    async def main() -> None:
        made = LibvirtHypervisor("test:///default")
        closing = made._connections
        try:
            made._connections = cast(Any, conn)
            await ask(made)
        finally:
            made._connections = closing
            await made.close()

    with pytest.raises(SnapdError) as refused:
        asyncio.run(main())
    assert type(refused.value) is error
    assert "web-1" in refused.value.message
    assert "is busy" in refused.value.message
