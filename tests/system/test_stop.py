"""The service is reloaded, stopped, killed or hung while a job is at work: it ends as it should,
comes back as it should, and says what really became of the job."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from snapd import journal
from tests.system.guests import MachineGuest
from tests.system.inflight import in_flight
from tests.system.machines import MANAGER, SERVICE, Machine

POLICY = 'domains = ["{vm}"]\nschedule = "0 3 1 1 *"\n[keep]\nlast = {last}\n'
FILE = "/etc/virtsnapd/policies.d/nightly.toml"
DROP_IN = "/run/systemd/system/virtsnapd.service.d/quick.conf"
STOP_SECONDS = 2
RESTART_SECONDS = 1
WATCHDOG_SECONDS = 3
QUICK = f"""
[Service]
RestartSec={RESTART_SECONDS}s
WatchdogSec={WATCHDOG_SECONDS}s
ExecStart=
ExecStart=/usr/bin/python3 -IB -c 'import sys; sys.path.insert(0, "/usr/share/virtsnapd"); \\
    from snapd import __main__, daemon; import hangs; daemon.STOP_SECONDS = {STOP_SECONDS}; \\
    __main__.main(["--system"])'
"""
HANGS = """
import signal, time

def stuck_here(*_):
    time.sleep(600)

signal.signal(signal.SIGUSR1, stuck_here)
"""


@pytest.fixture
def quick(machine: Machine) -> Iterator[Machine]:
    """The file's machine, whose service is as it is but for shorter times."""
    machine.write(DROP_IN, QUICK)
    machine.write("/usr/share/virtsnapd/hangs.py", HANGS)
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "virtsnapd")
    yield machine
    machine.run(["rm", DROP_IN, "/usr/share/virtsnapd/hangs.py"])
    machine.systemctl("daemon-reload")
    machine.systemctl("reset-failed")
    machine.systemctl("restart", "virtsnapd")


@pytest.fixture
def policy(machine: Machine, guest: MachineGuest) -> Iterator[str]:
    """A policy nightly in force on the guest."""
    machine.write(FILE, POLICY.format(vm=guest.name, last=2))
    machine.systemctl("reload", "virtsnapd")
    yield "nightly"
    machine.run(["rm", FILE])
    machine.systemctl("reload", "virtsnapd")


def cursor(machine: Machine) -> str:
    """Where the journal ends now."""
    machine.run("journalctl --sync")
    return machine.run("journalctl -q -n 0 --show-cursor").partition("cursor: ")[2]


def restarts(machine: Machine) -> int:
    return int(machine.show("virtsnapd", "NRestarts"))


def back(machine: Machine, pid: str) -> None:
    """Wait until systemd has started another one after that of pid."""
    machine.wait(
        lambda: (
            machine.show("virtsnapd", "MainPID") not in ("0", pid)
            and machine.show("virtsnapd", "ActiveState") == "active"
        ),
        what="the service is started again",
    )


# --- reload


def test_broken_file_is_said_and_the_last_good_version_stays_in_force(
    machine: Machine, guest: MachineGuest, policy: str
) -> None:
    machine.write(FILE, "domains = 7\n")
    machine.systemctl("reload", "virtsnapd")
    assert "problem: nightly.toml: " in machine.show("virtsnapd", "StatusText")
    assert machine.show("virtsnapd", "Result") == "success"
    (row,) = machine.call("ListPolicies", "a{sv}", "0")[0]
    assert (row["Name"], row["Definition"]["keep"]["last"]) == (policy, 2)
    machine.write(FILE, POLICY.format(vm=guest.name, last=5))
    machine.systemctl("reload", "virtsnapd")
    assert "problem" not in machine.show("virtsnapd", "StatusText")
    (row,) = machine.call("ListPolicies", "a{sv}", "0")[0]
    assert row["Definition"]["keep"]["last"] == 5


def test_reload_waits_for_no_job_and_disturbs_none(
    machine: Machine, guest: MachineGuest, policy: str
) -> None:
    with in_flight(guest) as flight:
        machine.write(FILE, POLICY.format(vm=guest.name, last=4))
        begun = time.monotonic()
        machine.systemctl("reload", "virtsnapd")
        assert time.monotonic() - begun < 5
        (row,) = machine.call("ListPolicies", "a{sv}", "0")[0]
        assert row["Definition"]["keep"]["last"] == 4
        assert flight.row()["State"] == "running"
        assert "making a snapshot of VM vm" in machine.show("virtsnapd", "StatusText")
        flight.go_on()
        flight.made()


# --- stop and restart


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_job_that_ends_in_time_is_waited_for(
    machine: Machine, guest: MachineGuest, verb: str
) -> None:
    since = cursor(machine)
    with in_flight(guest) as flight:
        flight.go_on_after(3)
        begun = time.monotonic()
        asked = threading.Thread(target=machine.systemctl, args=(verb, "virtsnapd"))
        asked.start()
        machine.wait(
            lambda: machine.show("virtsnapd", "SubState") == "stop-sigterm", 3, "it is stopping"
        )
        assert machine.show("virtsnapd", "StatusText") == "waiting for running jobs"
        assert guest.tags(guest.images[0]) == []
        asked.join()
        assert 2 < time.monotonic() - begun < 15
        assert machine.show("virtsnapd", "Result") == "success"
        if verb == "stop":
            assert machine.systemctl("is-active", "virtsnapd", check=False) == "inactive"
            assert guest.snapshots() == guest.tags(guest.images[0]) == [flight.name]
        flight.made()
    loud = machine.journal("-u", "virtsnapd", "--priority=warning", f"--after-cursor={since}")
    assert [entry["MESSAGE"] for entry in loud] == []


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_job_that_takes_longer_is_left_to_libvirt_and_settled_later(
    quick: Machine, guest: MachineGuest, verb: str
) -> None:
    with in_flight(guest) as flight:
        begun = time.monotonic()
        quick.systemctl(verb, "virtsnapd")
        assert STOP_SECONDS <= time.monotonic() - begun < STOP_SECONDS + 8
        assert quick.show("virtsnapd", "Result") == "success"
        assert guest.tags(guest.images[0]) == []
        assert guest.state() == "paused"  # libvirt is still at it
        if verb == "stop":
            assert quick.systemctl("is-active", "virtsnapd", check=False) == "inactive"
            flight.go_on()
            quick.wait(lambda: guest.snapshots() == [flight.name], what="libvirt has made it")
        else:
            row = flight.row()
            assert (row["State"], row["Finished"]) == ("unknown", 0)
            flight.go_on()
        flight.made()


def test_stop_waits_for_no_libvirtd_that_hangs(quick: Machine, guest: MachineGuest) -> None:
    libvirtd = quick.show("libvirtd", "MainPID")
    with in_flight(guest) as flight:
        quick.run(["kill", "-STOP", libvirtd])
        try:
            begun = time.monotonic()
            quick.systemctl("restart", "virtsnapd")
            assert time.monotonic() - begun < STOP_SECONDS + 10
            assert quick.show("virtsnapd", "Result") == "success"
        finally:
            quick.run(["kill", "-CONT", libvirtd])
        flight.go_on()
        flight.made()


# --- killed


def kill(machine: Machine, signal: str) -> str:
    """Have the service's main process get a signal; its pid."""
    pid = machine.show("virtsnapd", "MainPID")
    machine.run(["kill", f"-{signal}", pid])
    return pid


@pytest.mark.parametrize("signal", ["KILL", "SEGV"])
def test_killed_service_is_started_again_and_settles_its_job(
    quick: Machine, guest: MachineGuest, signal: str
) -> None:
    before = restarts(quick)
    with in_flight(guest) as flight:
        back(quick, kill(quick, signal))
        assert restarts(quick) == before + 1
        assert flight.row()["State"] == "unknown"
        flight.go_on()
        flight.made()


def test_job_whose_guest_dies_after_the_service_was_killed_has_made_nothing(
    quick: Machine, guest: MachineGuest
) -> None:
    with in_flight(guest) as flight:
        back(quick, kill(quick, "KILL"))
        quick.run(["pkill", "-KILL", "-f", f"guest={guest.name},"])
        row = flight.ended()
        assert row["State"] == "failed"
        assert guest.snapshots() == guest.tags(guest.images[0]) == []
        assert quick.call("ListSnapshots", "sa{sv}", guest.name, "0")[0] == []


# --- hung


@pytest.mark.parametrize("signal", ["STOP", "USR1"])
def test_hung_service_is_aborted_with_its_stacks_and_settles_its_job(
    quick: Machine, guest: MachineGuest, signal: str
) -> None:
    """A stopped process (systemd lets it go on, so that it can die of SIGABRT) and a loop that does
    not turn any more."""
    since, before = cursor(quick), restarts(quick)
    with in_flight(guest) as flight:
        begun = time.monotonic()
        back(quick, kill(quick, signal))
        assert WATCHDOG_SECONDS / 2 < time.monotonic() - begun < WATCHDOG_SECONDS + 15
        assert restarts(quick) == before + 1
        flight.go_on()
        flight.made()
    said = [e["MESSAGE"] for e in quick.journal("-u", "virtsnapd", f"--after-cursor={since}")]
    assert "virtsnapd.service: Failed with result 'watchdog'." in said
    assert "Fatal Python error: Aborted" in said
    assert any("in snapshotCreateXML" in line for line in said)  # the thread that waits for libvirt
    hangs = any("in stuck_here" in line for line in said)
    assert hangs == (signal == "USR1")


# --- cannot start


def test_service_whose_name_is_taken_ends_says_so_and_comes_when_it_is_free(quick: Machine) -> None:
    quick.systemctl("stop", "virtsnapd")
    other = "/var/tmp/other"
    words = ["--uid=virtsnapd", "--unit=other", f"--property=ReadWritePaths={other}"]
    quick.run(["install", "-d", "-o", "virtsnapd", other])
    command = ["/usr/bin/virtsnapd", "--system", "--state", other]
    quick.run(["systemd-run", "-q", *words, "--", *command])
    try:
        quick.wait(lambda: SERVICE in quick.busctl("list", "--acquired"), what="the name is taken")
        quick.systemctl("start", "virtsnapd", check=False)
        quick.wait(lambda: restarts(quick) >= 2, what="it was tried again")
        (failure, *_) = quick.journal("-u", "virtsnapd", MESSAGE_ID=journal.FAILED.id)[-1:]
        assert failure["PRIORITY"] == "3"
        assert SERVICE in failure["MESSAGE"]
    finally:
        quick.systemctl("stop", "other")
    quick.wait(lambda: quick.systemctl("is-active", "virtsnapd") == "active", what="it has come")
    assert quick.get(MANAGER, "Manager.LibvirtURI") == "qemu:///system"


def test_second_daemon_on_the_same_state_ends_and_disturbs_nobody(machine: Machine) -> None:
    pid = machine.show("virtsnapd", "MainPID")
    done = machine.ran(["/usr/bin/virtsnapd", "--system"], user="virtsnapd")
    assert done.returncode == 1
    assert "another virtsnapd uses /var/lib/virtsnapd; stop it first" in done.stderr
    assert machine.show("virtsnapd", "MainPID") == pid
    assert machine.get(MANAGER, "Manager.LibvirtURI") == "qemu:///system"
