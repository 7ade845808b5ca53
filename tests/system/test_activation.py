"""The first call starts the service; where it may not start, the caller is told so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.machines import MANAGER, SERVICE, Machine

PING = f"busctl call {SERVICE} {MANAGER} {SERVICE}.Manager ListDomains 'a{{sv}}' 0"
UNAVAILABLE = 6  # the CLI's exit code


@pytest.fixture
def stopped(machine: Machine) -> Iterator[Machine]:
    """The file's machine, the service stopped by the admin."""
    machine.systemctl("stop", "virtsnapd")
    assert machine.systemctl("is-active", "virtsnapd", check=False) == "inactive"
    yield machine
    machine.systemctl("unmask", "virtsnapd")
    machine.systemctl("enable", "--now", "virtsnapd")


def test_first_call_by_busctl_starts_the_service_and_is_answered(stopped: Machine) -> None:
    rows, info = stopped.call("ListDomains", "a{sv}", "0")
    assert (rows, info["Total"]) == ([], 0)
    assert stopped.systemctl("is-active", "virtsnapd") == "active"


def test_first_call_by_somebody_without_rights_is_answered(stopped: Machine) -> None:
    assert "0 of 0 VMs" in stopped.virtsnap(user="other")
    assert stopped.systemctl("is-active", "virtsnapd") == "active"


def test_many_first_calls_at_once_start_one_service(stopped: Machine) -> None:
    calls = f"for i in 1 2 3 4 5 6 7 8; do {PING} >/tmp/answer.$i & done; wait; cat /tmp/answer.*"
    answers = stopped.run(calls).splitlines()
    assert len(answers) == 8
    assert all(answer.startswith("aa{sv}a{sv} 0 ") for answer in answers)
    assert stopped.show("virtsnapd", "NRestarts") == "0"
    assert stopped.run("pgrep -c -u virtsnapd -f virtsnapd") == "1"


def test_first_call_starts_a_service_that_is_not_enabled(stopped: Machine) -> None:
    stopped.systemctl("disable", "virtsnapd")
    assert stopped.get(MANAGER, "Manager.LibvirtURI") == "qemu:///system"
    assert stopped.systemctl("is-active", "virtsnapd") == "active"


def test_masked_service_is_not_started_and_callers_are_told(stopped: Machine) -> None:
    stopped.systemctl("mask", "virtsnapd")
    assert "Unit virtsnapd.service is masked" in stopped.run(PING, check=False)
    said = stopped.ran(["virtsnap"])
    assert (said.returncode, said.stdout) == (UNAVAILABLE, "")
    assert "virtsnapd is masked" in said.stderr
    assert "systemctl unmask virtsnapd" in said.stderr
    assert stopped.systemctl("is-active", "virtsnapd", check=False) == "inactive"


def test_stopped_service_stays_stopped_while_nobody_calls(stopped: Machine) -> None:
    stopped.run(["virsh", "list"])  # libvirt's events wake nobody
    stopped.systemctl("restart", "libvirtd")
    assert stopped.systemctl("is-active", "virtsnapd", check=False) == "inactive"
