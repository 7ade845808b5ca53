"""The host's own services go: without polkit nobody may change anything, and everybody may read;
without the bus the service ends, is started again, and settles what was at work.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.conftest import know
from tests.system.guests import MachineGuest
from tests.system.machines import MANAGER, SERVICE, Machine, Row

NOT_AUTHORIZED = 5  # the CLI's exit code
CREATE = "virtsnap create vm s1 --no-memory"


@pytest.fixture
def without_polkit(machine: Machine, guest: MachineGuest) -> Iterator[Machine]:
    """The file's machine, whose polkitd is down and can't be started; libvirt has let us in."""
    machine.systemctl("mask", "--runtime", "--now", "polkit")
    try:
        yield machine
    finally:
        machine.systemctl("unmask", "--runtime", "polkit")


@pytest.mark.parametrize("user", ["member", "other", None])
def test_without_polkit_nobody_may_change_anything(
    without_polkit: Machine, guest: MachineGuest, user: str | None
) -> None:
    done = without_polkit.ran(CREATE, user=user)
    assert (done.returncode, done.stdout) == (NOT_AUTHORIZED, "")
    assert "polkit cannot be asked" in done.stderr
    assert "see that polkit.service runs" in done.stderr
    assert guest.snapshots() == []


def test_without_polkit_everybody_may_read(without_polkit: Machine, guest: MachineGuest) -> None:
    rows, _ = without_polkit.call("ListDomains", "a{sv}", "0", user="other")
    assert [row["Name"] for row in rows] == ["vm"]
    assert "vm" in without_polkit.virtsnap("status", user="other")


def test_polkit_that_is_back_is_asked_again(machine: Machine, guest: MachineGuest) -> None:
    machine.systemctl("mask", "--runtime", "--now", "polkit")
    machine.systemctl("unmask", "--runtime", "polkit")
    assert machine.ran(CREATE, user="other").returncode == NOT_AUTHORIZED
    machine.run(CREATE, user="member")
    assert guest.snapshots() == ["s1"]


def test_bus_that_is_restarted_ends_the_service_which_comes_back_and_settles_its_jobs(
    machine: Machine, guest: MachineGuest
) -> None:
    """It takes libvirtd along, in the middle of a snapshot: the guest's QEMU stands still."""
    qemu = machine.run("cat /run/libvirt/qemu/vm.pid")
    before = machine.show("virtsnapd", "MainPID")
    machine.run(["kill", "-STOP", qemu])
    try:
        job = machine.virtsnap("create", "vm", "s1", "--memory", "yes", "--no-wait").split()[-1]
        machine.wait(lambda: machine.get(job, "Job.State") == "running", what="it is at work")
        machine.systemctl("restart", "dbus")
    finally:
        machine.run(["kill", "-CONT", qemu])
    machine.wait(
        lambda: machine.show("virtsnapd", "MainPID") not in (before, "0"), 60, "it is back"
    )
    machine.wait(lambda: machine.get(MANAGER, "Manager.Connected"), what="libvirt is joined")

    def settled() -> list[Row]:
        rows = [row for row in machine.call("ListJobs", "a{sv}", "0")[0] if row["Path"] == job]
        return [row for row in rows if row["State"] in ("done", "failed")]

    (row,) = machine.wait(settled, seconds=60, what="what came of the job is known")
    assert machine.show("virtsnapd", "NRestarts") == "1"
    guest.wait()
    made = {"done": ["s1"], "failed": []}[row["State"]]
    assert guest.snapshots() == guest.tags(guest.images[0]) == made
    know(guest)
    machine.virtsnap("create", "vm", "s2", "--no-memory")
    assert guest.snapshots() == [*made, "s2"]


def test_bus_tells_only_the_service_what_clients_leave_unread(machine: Machine) -> None:
    """And nothing else: whose matches there are is nobody's business."""
    bus = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Debug.Stats"]
    stats = ["busctl", "call", *bus, "GetConnectionStats", "s", SERVICE]
    assert '"OutgoingBytes" u' in machine.run(stats, user="virtsnapd")
    for words, user in ((stats, "member"), (["busctl", "call", *bus, "GetStats"], "virtsnapd")):
        refused = machine.ran(words, user=user)
        assert refused.returncode and "Access denied" in refused.stderr
