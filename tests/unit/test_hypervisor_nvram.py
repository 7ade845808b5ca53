"""The NVRAM among QEMU's block devices: the answer is that of QEMU 10.0 under libvirt 11.3."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import libvirt_qemu
import pytest

from snapd.hypervisor import monitor
from snapd.model import NVRAM, Disk

VDA = Disk("vda", "/images/vda.qcow2", "qcow2", alias="virtio-disk0")


def device(qdev: str, node: str, drv: str, *, ro: bool) -> dict[str, Any]:
    return {"device": "", "qdev": qdev, "inserted": {"node-name": node, "drv": drv, "ro": ro}}


CODE = device("/machine/system.flash0", "libvirt-pflash0-format", "raw", ro=True)
DISK = device(
    "/machine/peripheral/virtio-disk0/virtio-backend", "libvirt-1-format", "qcow2", ro=False
)


def vars_as(drv: str, *, ro: bool = False) -> dict[str, Any]:
    return device("/machine/system.flash1", "libvirt-pflash1-format", drv, ro=ro)


@pytest.mark.parametrize(
    ("flash", "node"),
    [
        (vars_as("qcow2"), "libvirt-pflash1-format"),
        (vars_as("raw"), None),
        (vars_as("qcow2", ro=True), None),
    ],
)
def test_with_nvram_only_a_writable_qcow2_one(
    flash: dict[str, Any], node: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = json.dumps({"return": [CODE, flash, DISK, {"device": "", "qdev": "ide0-0-0"}]})
    monkeypatch.setattr(libvirt_qemu, "qemuMonitorCommand", lambda *_: answer)
    dom: Any = SimpleNamespace(name=lambda: "web-1")
    held, nodes = monitor.with_nvram(dom, [VDA])
    assert nodes.pop(NVRAM, None) == node
    assert nodes == {"vda": "libvirt-1-format"}
    assert [disk.target for disk in held] == (["vda", NVRAM] if node else ["vda"])
