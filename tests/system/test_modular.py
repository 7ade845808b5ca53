"""libvirt's modular daemons in place of libvirtd, as other distributions than Debian have them.

They are made by packaging/libvirt-modular, for Debian 13 alone. virtqemud, virtstoraged and
virtnetworkd run; there is none for secrets and host devices, as on a host that lacks a package.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.system.guests import MachineGuest
from tests.system.machines import MANAGER, Failed, Machine

MADE = "/srv/libvirt-modular"
DAEMONS = ("virtqemud", "virtstoraged", "virtnetworkd")
URI = "qemu:///system?mode=auto"
"""What `qemu:///system` means everywhere but on Debian, whose library takes it for libvirtd."""
STAYS_SECONDS = 20
WHY = "virtqemud was stopped: systemctl start virtqemud"


@pytest.fixture(scope="module", autouse=True)
def modular(module_machine: Machine) -> None:
    """As libvirt's page on its daemons has it: libvirtd off for good, the others by sockets."""
    machine = module_machine
    libvirtd = [
        f"libvirtd{kind}" for kind in (".service", ".socket", "-ro.socket", "-admin.socket")
    ]
    machine.systemctl("disable", "--now", *libvirtd)
    machine.systemctl("mask", *libvirtd)
    for daemon in DAEMONS:
        machine.run(["install", f"{MADE}/sbin/{daemon}", "/usr/sbin/"])
        machine.run(
            f"cp {MADE}/system/{daemon}.service {MADE}/system/{daemon}*.socket /etc/systemd/system/"
        )
    machine.systemctl("daemon-reload")
    sockets = [f"{daemon}{kind}" for daemon in DAEMONS for kind in (".socket", "-ro.socket")]
    machine.systemctl("enable", "--now", "virtlogd.socket", *sockets)
    machine.write("/etc/libvirt/libvirt.conf", f'uri_default = "{URI}"\n')  # root's
    machine.write("/etc/virtsnapd/virtsnapd.toml", f'[libvirt]\nuri = "{URI}"\n')
    machine.systemctl("restart", "virtsnapd")


@pytest.fixture(autouse=True)
def joined(machine: Machine) -> Iterator[None]:
    """virtqemud runs before and after each test, libvirtd never, and the daemon is connected."""
    connected(machine)
    yield
    machine.systemctl("reset-failed")
    machine.systemctl("start", "virtqemud")
    assert machine.show("libvirtd", "LoadState") == "masked"
    assert machine.ran(["pidof", "libvirtd"]).returncode == 1


def connected(machine: Machine, seconds: float = 10) -> None:
    machine.wait(
        lambda: machine.get(MANAGER, "Manager.Connected"), seconds, "the daemon is connected"
    )


def test_verbs_on_a_guest_of_virtqemud(machine: Machine, guest: MachineGuest) -> None:
    assert machine.run("cat /proc/$(systemctl show -P MainPID virtqemud)/comm") == "virtqemud"
    assert machine.get(MANAGER, "Manager.LibvirtURI") == URI
    guest.cmd("write", "note", "before")
    machine.virtsnap("create", guest.name, "s1", user="member")
    assert guest.snapshots() == ["s1"]
    assert guest.tags(guest.images[0]) == ["s1"]
    guest.cmd("write", "note", "after")
    machine.virtsnap("revert", guest.name, "s1", "--yes")
    guest.wait()
    assert guest.cmd("read", "note") == "before"
    for name in guest.snapshots():
        machine.virtsnap("delete", guest.name, name, "--yes")
    assert guest.snapshots() == guest.tags(guest.images[0]) == []
    assert machine.journal(_SYSTEMD_UNIT="virtsnapd.service", PRIORITY="3") == []


def test_what_others_do_is_seen_by_events(machine: Machine, guest: MachineGuest) -> None:
    guest.virsh("suspend")
    machine.wait(lambda: state(machine, guest) == "paused", 5)
    guest.virsh("resume")
    machine.wait(lambda: state(machine, guest) == "running", 5)


def state(machine: Machine, guest: MachineGuest) -> str:
    rows = machine.call("ListDomains", "a{sv}", "0")[0]
    return str(next(row["State"] for row in rows if row["Name"] == guest.name))


def test_virtqemud_that_was_stopped_stays_so_and_verbs_say_why(
    machine: Machine, guest: MachineGuest
) -> None:
    machine.systemctl("stop", "virtqemud.service")
    assert machine.systemctl("is-active", "virtqemud.socket") == "active"
    until = time.monotonic() + STAYS_SECONDS
    while time.monotonic() < until:
        assert machine.systemctl("is-active", "virtqemud", check=False) == "inactive"
        time.sleep(0.5)
    with pytest.raises(Failed) as refused:
        machine.virtsnap("create", guest.name, "s1")
    assert WHY in str(refused.value)
    assert WHY in machine.show("virtsnapd", "StatusText")
    assert machine.systemctl("is-active", "virtqemud", check=False) == "inactive"
    machine.systemctl("start", "virtqemud")
    connected(machine)
    machine.virtsnap("create", guest.name, "s1")
    assert guest.snapshots() == ["s1"]


def test_virtqemud_that_is_restarted_or_killed_is_joined_again(
    machine: Machine, guest: MachineGuest
) -> None:
    machine.systemctl("restart", "virtqemud")
    connected(machine)
    before = machine.show("virtqemud", "MainPID")
    machine.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", "virtqemud")
    machine.wait(
        lambda: machine.show("virtqemud", "MainPID") not in (before, "0"), what="a new one"
    )
    connected(machine)
    machine.virtsnap("create", guest.name, "s1")
    assert guest.snapshots() == ["s1"]


def test_verbs_without_the_daemons_of_pools_and_networks(
    machine: Machine, guest: MachineGuest
) -> None:
    others = [f"{d}{kind}" for d in DAEMONS[1:] for kind in (".socket", "-ro.socket", ".service")]
    machine.systemctl("stop", *others)
    try:
        machine.virtsnap("create", guest.name, "s1")
        machine.virtsnap("revert", guest.name, "s1", "--yes")
        guest.wait()
        machine.virtsnap("delete", guest.name, "s1", "--yes")
        assert "s1" not in guest.tags(guest.images[0])
    finally:
        machine.systemctl("start", *(name for name in others if name.endswith("socket")))


def test_reboot(machine: Machine, guest: MachineGuest) -> None:
    guest.cmd("write", "note", "before")
    machine.virtsnap("create", guest.name, "s1")
    machine.reboot()
    connected(machine, 30)
    assert guest.snapshots() == ["s1"]
    guest.up()
    guest.cmd("write", "note", "after")
    machine.virtsnap("revert", guest.name, "s1", "--yes")
    guest.wait()
    assert guest.cmd("read", "note") == "before"
    assert machine.failed() == []
