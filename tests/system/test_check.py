"""virtsnap check in a real systemd: the shipped units, and what it says of the service's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.guests import MachineGuest
from tests.system.machines import Machine

CHECK, TIMER = "virtsnap-check.service", "virtsnap-check.timer"
POLICY = 'domains = ["{vm}"]\nschedule = "0 3 1 1 *"\n[keep]\nlast = 1\n'
DISKLESS = (
    "<domain type='qemu'><name>diskless</name><memory unit='MiB'>64</memory>"
    "<os><type arch='x86_64'>hvm</type></os></domain>"
)
DROP_IN = f"/etc/systemd/system/{CHECK}.d/tell.conf"
TOLD = "/run/told"


@pytest.fixture(scope="module")
def sound(module_machine: Machine) -> str:
    """The name of a VM that can be snapshotted, and is off."""
    return MachineGuest.make(module_machine, "sound", ["/var/lib/libvirt/images"]).name


@pytest.fixture
def protected(machine: Machine, sound: str) -> Iterator[Machine]:
    """The file's machine with a policy that has succeeded on all its VMs."""
    policy(machine, "good", sound)
    yield machine
    machine.run("rm -f /etc/virtsnapd/policies.d/*.toml")
    machine.systemctl("enable", "--now", "virtsnapd")
    machine.systemctl("reload", "virtsnapd")
    machine.run("systemctl reset-failed")


def policy(machine: Machine, name: str, vm: str) -> None:
    """Have a policy in force on a VM, and run it."""
    machine.write(f"/etc/virtsnapd/policies.d/{name}.toml", POLICY.format(vm=vm))
    machine.systemctl("reload", "virtsnapd")
    machine.wait(
        lambda: machine.call("ListCoverage", "sa{sv}", name, "0")[0],
        what=f"policy {name} covers VM {vm}",
    )
    machine.virtsnap("policy", "run", name, check=False)


@pytest.fixture
def failing(protected: Machine) -> Iterator[Machine]:
    """The same with a policy that fails."""
    protected.run(["virsh", "-q", "define", "/dev/stdin"], text=DISKLESS)
    policy(protected, "bad", "diskless")
    yield protected
    protected.run(["virsh", "-q", "undefine", "diskless"])


def check(machine: Machine, *words: str, user: str | None = None) -> tuple[int, list[str]]:
    """Its exit code and its lines."""
    done = machine.ran(["virtsnap", "check", *words], user=user)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def start(machine: Machine) -> tuple[str, str, list[str]]:
    """Start the service: systemd's result, the exit code, what it has said this time."""
    cursor = machine.run("journalctl -q -n 0 --show-cursor").partition("cursor: ")[2]
    machine.systemctl("start", CHECK, check=False)
    # all of it: with a match, journalctl leaves out the first entry behind a cursor
    said = machine.journal(f"--after-cursor={cursor}")
    lines = [each["MESSAGE"] for each in said if each.get("SYSLOG_IDENTIFIER") == "virtsnap"]
    return machine.show(CHECK, "Result"), machine.show(CHECK, "ExecMainStatus"), lines


def test_timer_is_there_and_not_enabled(machine: Machine) -> None:
    assert machine.systemctl("is-enabled", TIMER, check=False) == "disabled"
    assert machine.systemctl("is-active", TIMER, check=False) == "inactive"
    assert machine.systemctl("is-enabled", CHECK, check=False) == "static"


def test_timer_that_is_enabled_waits_for_the_next_hour(machine: Machine) -> None:
    machine.systemctl("enable", "--now", TIMER)
    try:
        assert machine.systemctl("is-active", TIMER) == "active"
        assert machine.show(TIMER, "NextElapseUSecRealtime") != ""
        assert machine.show(TIMER, "Unit") == CHECK
    finally:
        machine.systemctl("disable", "--now", TIMER)


def test_service_succeeds_where_all_is_well(protected: Machine) -> None:
    result, code, lines = start(protected)
    assert (result, code) == ("success", "0"), lines
    assert lines[0].startswith("VIRTSNAP OK - 1 VM under 1 policy, no problem | ")
    assert protected.failed() == []


@pytest.mark.parametrize("user", [None, "member", "other"])
def test_check_may_be_run_by_anybody(protected: Machine, user: str | None) -> None:
    code, lines = check(protected, user=user)
    assert (code, lines[0].partition(" | ")[0]) == (
        0,
        "VIRTSNAP OK - 1 VM under 1 policy, no problem",
    )


def test_failing_policy_fails_the_service_and_starts_what_is_to_tell(failing: Machine) -> None:
    failing.write(DROP_IN, "[Unit]\nOnFailure=tell.service\n")
    failing.write("/etc/systemd/system/tell.service", f"[Service]\nExecStart=touch {TOLD}\n")
    failing.systemctl("daemon-reload")
    try:
        result, code, lines = start(failing)
        assert (result, code) == ("exit-code", "2"), lines
        assert lines[0].startswith("VIRTSNAP CRITICAL - policy bad failed on VM diskless: ")
        assert failing.failed() == [CHECK]
        failing.wait(lambda: failing.run(["ls", TOLD]), what="the other unit has run")
    finally:
        failing.run(["rm", "-f", DROP_IN, TOLD, "/etc/systemd/system/tell.service"])
        failing.systemctl("daemon-reload")


def test_stopped_daemon_is_critical_and_stays_stopped(protected: Machine) -> None:
    protected.systemctl("stop", "virtsnapd")
    code, lines = check(protected)
    assert code == 2
    assert lines[0].startswith("VIRTSNAP CRITICAL - virtsnapd is not running on the system bus")
    assert "boot" not in "".join(lines)  # it is enabled
    result, code_of_service, _ = start(protected)
    assert (result, code_of_service) == ("exit-code", "2")
    assert check(protected, "--prometheus")[1][-2:] == [
        "# TYPE virtsnap_enabled_at_boot gauge",
        "virtsnap_enabled_at_boot 1",
    ]
    assert protected.systemctl("is-active", "virtsnapd", check=False) == "inactive"
    protected.virtsnap()  # anything else starts it
    assert protected.systemctl("is-active", "virtsnapd") == "active"


def test_service_that_is_not_enabled_is_said(protected: Machine) -> None:
    protected.systemctl("disable", "virtsnapd")
    code, lines = check(protected)
    said = "virtsnapd.service is disabled: it is not started at boot; systemctl enable virtsnapd"
    assert (code, lines[1:]) == (1, [f"warning: {said}"])
    protected.systemctl("stop", "virtsnapd")
    code, lines = check(protected, user="other")
    assert (code, lines[-1]) == (2, f"warning: {said}")
    found = protected.ran(["virtsnap", "check", "--json"]).stdout
    assert '"UnitFileState": "disabled"' in found and '"AtBoot": false' in found


def test_daemon_that_hangs_is_critical(protected: Machine) -> None:
    protected.systemctl("kill", "--signal=STOP", "virtsnapd")
    try:
        code, lines = check(protected, "--timeout", "2s")
    finally:
        protected.systemctl("kill", "--signal=CONT", "virtsnapd")
    assert code == 2
    assert lines[0].startswith("VIRTSNAP CRITICAL - virtsnapd does not answer")
    assert check(protected)[0] == 0
