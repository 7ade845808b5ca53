"""What apt makes of a machine: the service runs, as its unit says, and nothing is wrong."""

from __future__ import annotations

import re

import pytest

from tests.system.machines import Machine

UNITS = "/lib/systemd"
ONLY_DAC_READ_SEARCH = f"{1 << 2:016x}"  # capability(7): number 2
EXPOSURE = 2.0


def service_status(machine: Machine) -> dict[str, str]:
    """/proc/PID/status of the service's main process."""
    pid = machine.show("virtsnapd", "MainPID")
    lines = machine.run(["cat", f"/proc/{pid}/status"]).splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_service_is_enabled_and_runs_after_the_install(machine: Machine) -> None:
    assert machine.systemctl("is-enabled", "virtsnapd") == "enabled"
    assert machine.systemctl("is-active", "virtsnapd") == "active"
    assert machine.show("virtsnapd", "NRestarts") == "0"
    assert machine.failed() == []


def test_service_says_nothing_alarming_at_its_start(machine: Machine) -> None:
    assert "0 of 0 VMs" in machine.virtsnap()  # so it has read libvirt
    assert machine.journal("--priority=warning", _SYSTEMD_UNIT="virtsnapd.service") == []


def test_service_runs_as_its_own_user(machine: Machine) -> None:
    uid = machine.run(["id", "-u", "virtsnapd"])
    status = service_status(machine)
    assert status["Uid"].split() == [uid] * 4
    assert uid != "0"
    assert machine.run(["stat", "-c", "%U %a", "/var/lib/virtsnapd"]) == "virtsnapd 700"
    assert machine.run(["stat", "-c", "%U %a", "/etc/virtsnapd/policies.d"]) == "root 755"


@pytest.mark.parametrize("kind", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_service_has_the_one_capability_that_reads_images(machine: Machine, kind: str) -> None:
    assert service_status(machine)[kind] == ONLY_DAC_READ_SEARCH


def test_service_can_gain_nothing(machine: Machine) -> None:
    status = service_status(machine)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # a filter


def test_exposure_is_low(machine: Machine) -> None:
    words = ["systemd-analyze", "security", "--no-pager", "virtsnapd.service"]
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", machine.run(words))
    assert found is not None
    assert float(found[1]) <= EXPOSURE


@pytest.mark.parametrize("scope", ["system", "user"])
def test_units_are_what_systemd_expects(machine: Machine, scope: str) -> None:
    # The manuals may be kept out of a machine by dpkg's path-exclude.
    words = ["systemd-analyze", "verify", "--man=no", f"--{scope}"]
    units = machine.run(f"find {UNITS}/{scope} -maxdepth 1 -type f -name 'virtsnap*'").split()
    assert f"{UNITS}/{scope}/virtsnapd.service" in units
    said = machine.run(["env", "XDG_RUNTIME_DIR=/run", *words, *units], check=False)
    assert said == ""


@pytest.mark.parametrize("command", ["virtsnap", "virtsnapd"])
def test_commands_take_no_module_from_whoever_calls_them(machine: Machine, command: str) -> None:
    for module in ("argparse", "snapd", "asyncio"):
        machine.write(f"/tmp/mine/{module}.py", "raise SystemExit('the caller\\'s module')\n")
    words = ["env", "-C", "/tmp/mine", "PYTHONPATH=/tmp/mine", f"/usr/bin/{command}", "--help"]
    assert machine.run(words).startswith("usage: ")


def test_service_starts_with_the_machine(machine: Machine) -> None:
    machine.reboot()
    assert machine.systemctl("is-active", "virtsnapd") == "active"
    assert machine.failed() == []
