"""A disk on a whole device: hidden from the service, which says so, and the way out that README and
the message give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed import recipe
from tests.bed.recipe import Disk, Hardware
from tests.system.conftest import know
from tests.system.guests import MachineGuest
from tests.system.machines import Machine, Row

FILE = "/srv/disk.qcow2"
NODES = """
[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
for n in 0 1 2 3 4 5 6 7; do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done
"""
"""A machine has none; the kernel's are the host's."""
DROP_IN = "/etc/systemd/system/virtsnapd.service.d/devices.conf"


@pytest.fixture
def on_device(machine: Machine) -> Iterator[MachineGuest]:
    """A VM that is off, whose disk is a qcow2 image on a loop device."""
    machine.run(["qemu-img", "create", "-q", "-f", "qcow2", FILE, "1M"])
    machine.run(["truncate", "--size", "8M", FILE])
    machine.run(NODES)
    device = machine.run(["losetup", "--find", "--show", FILE])
    guest = MachineGuest(machine, "ondev", [])
    try:
        xml = recipe.domain_xml("ondev", [Disk(Path(device))], Hardware(agent=False))
        machine.run(["virsh", "-q", "define", "/dev/stdin"], text=xml)
        know(guest)
        yield guest
    finally:
        guest.virsh("undefine", check=False)
        machine.run(["losetup", "--detach", device])
        machine.run(["rm", "-f", FILE, DROP_IN])
        machine.systemctl("daemon-reload")
        machine.systemctl("restart", "virtsnapd")


def preview(machine: Machine) -> Row:
    """What a snapshot would meet."""
    return dict(machine.call("PreviewCreate", "ssa{sv}", "ondev", "x", "0")[0])


def test_disk_on_a_device_is_unreadable_until_the_service_may_see_devices(
    machine: Machine, on_device: MachineGuest
) -> None:
    told = preview(machine)
    assert told["Verdict"] == "image-unreadable"
    (blocker,) = told["Blockers"]
    assert "PrivateDevices=no and DeviceAllow=block-* r" in blocker["Message"]
    found = machine.virtsnap("audit", check=False)
    assert "unlisted" not in found

    machine.write(DROP_IN, "[Service]\nPrivateDevices=no\nDeviceAllow=block-* r\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "virtsnapd")
    know(on_device)
    assert preview(machine)["Verdict"] == "yes"
    machine.virtsnap("create", "ondev", "x")
    assert on_device.snapshots() == ["x"]
    machine.virtsnap("delete", "ondev", "x", "--yes")
    assert on_device.snapshots() == []
