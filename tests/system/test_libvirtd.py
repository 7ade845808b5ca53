"""libvirtd comes and goes under the daemon: what an admin stopped stays so, all else comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.system.guests import MachineGuest
from tests.system.machines import MANAGER, Failed, Machine

STAYS_SECONDS = 20
WHY = "libvirtd was stopped: systemctl start libvirtd"


@pytest.fixture(autouse=True)
def put_back(machine: Machine) -> Iterator[None]:
    """libvirtd runs before and after each test, and the daemon is connected to it."""
    connected(machine)
    yield
    machine.systemctl("reset-failed")
    machine.systemctl("start", "libvirtd.socket", "libvirtd.service")


def connected(machine: Machine, seconds: float = 10) -> None:
    machine.wait(
        lambda: machine.get(MANAGER, "Manager.Connected"), seconds, "the daemon is connected"
    )


def stop(machine: Machine) -> None:
    machine.systemctl("stop", "libvirtd.service")
    assert machine.systemctl("is-active", "libvirtd.socket") == "active"


def test_libvirtd_that_was_stopped_stays_so_and_verbs_say_why(
    machine: Machine, guest: MachineGuest
) -> None:
    stop(machine)
    until = time.monotonic() + STAYS_SECONDS
    while time.monotonic() < until:
        assert machine.systemctl("is-active", "libvirtd", check=False) == "inactive"
        time.sleep(0.5)
    with pytest.raises(Failed) as refused:
        machine.virtsnap("create", guest.name, "s1")
    assert WHY in str(refused.value)
    assert WHY in machine.show("virtsnapd", "StatusText")
    assert machine.systemctl("is-active", "libvirtd", check=False) == "inactive"
    machine.systemctl("start", "libvirtd")
    connected(machine)
    machine.virtsnap("create", guest.name, "s1")
    assert guest.snapshots() == ["s1"]


def test_libvirtd_that_is_restarted_is_joined_again(machine: Machine, guest: MachineGuest) -> None:
    guest.cmd("write", "note", "before")
    machine.systemctl("restart", "libvirtd")
    connected(machine)
    machine.virtsnap("create", guest.name, "s1")
    assert guest.snapshots() == ["s1"]
    guest.cmd("write", "note", "after")
    machine.virtsnap("revert", guest.name, "s1", "--yes")
    guest.wait()
    assert guest.cmd("read", "note") == "before"


def test_upgrade_with_some_seconds_between_is_survived(machine: Machine) -> None:
    stop(machine)
    time.sleep(5)
    machine.systemctl("start", "libvirtd")
    connected(machine)


def test_libvirtd_that_is_killed_comes_back_by_itself(machine: Machine) -> None:
    before = machine.show("libvirtd", "MainPID")
    machine.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", "libvirtd")
    machine.wait(lambda: machine.show("libvirtd", "MainPID") not in (before, "0"), what="a new one")
    connected(machine)


def test_libvirtd_that_fails_for_good_is_started_by_our_next_try(machine: Machine) -> None:
    """As by anybody else's: it is no admin's wish that it is down."""
    machine.write(
        "/run/systemd/system/libvirtd.service.d/no-restart.conf", "[Service]\nRestart=no\n"
    )
    try:
        machine.systemctl("daemon-reload")
        machine.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main", "libvirtd")
        connected(machine, 20)
        assert machine.systemctl("is-active", "libvirtd") == "active"
    finally:
        machine.run("rm -r /run/systemd/system/libvirtd.service.d")
        machine.systemctl("daemon-reload")


@pytest.mark.long
def test_socket_that_was_stopped_as_well_and_is_back_is_meant(machine: Machine) -> None:
    machine.systemctl("stop", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")
    machine.systemctl("stop", "libvirtd.service")
    machine.wait(
        lambda: "No such file" in machine.show("virtsnapd", "StatusText"), what="it was dialled"
    )
    assert machine.systemctl("is-active", "libvirtd", check=False) == "inactive"
    machine.systemctl("start", "libvirtd.socket")
    connected(machine, 40)  # it is tried every 30 s at least


def test_reload_is_over_when_the_files_are_read(machine: Machine) -> None:
    machine.write("/etc/virtsnapd/policies.d/wrong.toml", "domains = 7\n")
    try:
        for _ in range(5):  # systemctl has to wait for it each time, not by luck
            machine.systemctl("reload", "virtsnapd")
            assert "problem: wrong.toml: " in machine.show("virtsnapd", "StatusText")
            assert machine.systemctl("is-active", "virtsnapd") == "active"
            machine.run("mv /etc/virtsnapd/policies.d/wrong.toml /tmp/")
            machine.systemctl("reload", "virtsnapd")
            assert "wrong.toml" not in machine.show("virtsnapd", "StatusText")
            machine.run("mv /tmp/wrong.toml /etc/virtsnapd/policies.d/")
    finally:
        machine.run("rm -f /tmp/wrong.toml /etc/virtsnapd/policies.d/wrong.toml")
        machine.systemctl("reload", "virtsnapd")
