"""What an admin finds in a real journal: a failing policy by README's line, and what it means."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapd import journal
from tests.system.conftest import know
from tests.system.guests import MachineGuest
from tests.system.machines import Machine, Row

POLICY = 'domains = ["raw"]\nschedule = "@yearly"\n[keep]\nlast = 2\n'
IDLE_SECONDS = 20
QUEUE = 512
"""Lines that wait in journald's socket at most: systemd's value of net.unix.max_dgram_qlen."""
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def failing(module_machine: Machine) -> Iterator[MachineGuest]:
    """A VM whose disk cannot be snapshotted, and the policy nightly, whose run on it has failed."""
    machine = module_machine
    guest = MachineGuest.make(machine, "raw", ["/var/lib/libvirt/images"])
    xml = guest.virsh("dumpxml").replace('type="qcow2"', 'type="raw"')
    xml = xml.replace("type='qcow2'", "type='raw'")
    machine.run(["virsh", "-q", "define", "/dev/stdin"], text=xml)
    machine.write("/etc/virtsnapd/policies.d/nightly.toml", POLICY)
    machine.systemctl("reload", "virtsnapd")
    know(guest)
    try:
        machine.wait(
            lambda: "nightly" in machine.virtsnap("policy", "list"), what="the policy is in force"
        )
        machine.virtsnap("policy", "run", "nightly", check=False)
        yield guest
    finally:
        machine.run(["rm", "/etc/virtsnapd/policies.d/nightly.toml"])
        machine.systemctl("reload", "virtsnapd")
        guest.remove()


def lines(machine: Machine, **fields: str) -> list[Row]:
    """The daemon's lines that have these fields."""
    return machine.journal("-u", "virtsnapd", *(f"{k}={v}" for k, v in fields.items()))


def of_event(machine: Machine, event: journal.Event) -> list[Row]:
    return lines(machine, MESSAGE_ID=event.id)


def test_start_is_told_with_its_id(machine: Machine) -> None:
    started = of_event(machine, journal.STARTED)
    assert started[-1]["MESSAGE"].endswith(" on the system bus")
    assert started[-1]["_TRANSPORT"] == "journal"
    assert started[-1]["SYSLOG_IDENTIFIER"] == "virtsnapd"


def test_lines_have_no_fields_but_those_meant(machine: Machine) -> None:
    """JournalHandler alone sends what a record has, with arguments and half of it twice."""
    (line,) = of_event(machine, journal.STARTED)[-1:]
    assert {key for key in line if not key.startswith("_")} == {
        *("MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER"),
        *("LOGGER", "CODE_FILE", "CODE_LINE", "CODE_FUNC"),
    }


def test_failing_policy_is_found_by_the_line_of_readme(
    machine: Machine, failing: MachineGuest
) -> None:
    (command,) = re.findall(r"^    (journalctl .*)$", README.read_text(), re.MULTILINE)
    machine.run("journalctl --sync")
    said = machine.run([*shlex.split(command), "--no-pager"])
    assert "policy nightly on VM raw: failed: " in said
    # what the catalog has of it, with this line's fields
    assert "Subject: Policy nightly failed on VM raw" in said
    assert "then 'virtsnap policy run nightly'" in said
    assert "@VIRTSNAP_" not in said


def test_failing_run_has_its_fields(machine: Machine, failing: MachineGuest) -> None:
    line = of_event(machine, journal.RUN_FAILED)[-1]
    assert line["PRIORITY"] == "4"
    fields = {key: value for key, value in line.items() if key.startswith("VIRTSNAP_")}
    assert fields == {
        "VIRTSNAP_DOMAIN": "raw",
        "VIRTSNAP_UUID": failing.uuid,
        "VIRTSNAP_POLICY": "nightly",
        "VIRTSNAP_ERROR": "org.virtsnap.Error.Unsupported",
    } | {key: fields[key] for key in ("VIRTSNAP_JOB",) if key in fields}


def test_problem_is_told_once_and_when_it_is_over(machine: Machine, failing: MachineGuest) -> None:
    event = journal.PROBLEMS["cannot-work"]
    told = machine.wait(lambda: of_event(machine, event), what="the problem is told")
    assert [line["VIRTSNAP_POLICY"] for line in told] == ["nightly"]
    machine.virtsnap("policy", "run", "nightly", check=False)
    assert len(of_event(machine, event)) == 1


def test_success_is_one_line_that_says_who_and_what(machine: Machine, guest: MachineGuest) -> None:
    uid = machine.run(["id", "-u", "member"])
    machine.virtsnap("create", "vm", "s1", "--memory", "no", user="member")
    (line,) = [
        line
        for line in lines(machine, VIRTSNAP_DOMAIN="vm", VIRTSNAP_SNAPSHOT="s1")
        if int(line["PRIORITY"]) <= 6
    ]
    assert line["MESSAGE_ID"] == journal.SNAPSHOT_MADE.id
    assert line["PRIORITY"] == "6"
    assert line["MESSAGE"].startswith(f"snapshot s1 of VM vm was made by uid {uid} (job ")
    assert line["VIRTSNAP_UUID"] == guest.uuid


def test_idle_daemon_says_nothing(machine: Machine, guest: MachineGuest) -> None:
    time.sleep(5)  # what the tests before have brought about is told by then
    before = lines(machine, _TRANSPORT="journal")
    time.sleep(IDLE_SECONDS)
    assert lines(machine, _TRANSPORT="journal") == before


def test_journald_that_stands_still_holds_nobody_up(machine: Machine) -> None:
    """A send to it blocks then, once its queue is full: by far more lines than it can hold."""
    call = "busctl call org.virtsnap.Snapd1 /org/virtsnap/Snapd1 org.virtsnap.Snapd1.Manager"
    before = len(lines(machine, _TRANSPORT="journal"))
    machine.systemctl("kill", "--signal=STOP", "systemd-journald")
    try:
        asked = f"for i in $(seq {QUEUE + 50}); do {call} Reload 'a{{sv}}' 0; done"
        machine.run(f"{asked} >/dev/null", timeout=120)
        begun = time.monotonic()
        machine.call("ListDomains", "a{sv}", "0")
        assert time.monotonic() - begun < 5
    finally:
        machine.systemctl("kill", "--signal=CONT", "systemd-journald")
    machine.wait(
        lambda: len(lines(machine, _TRANSPORT="journal")) >= before + QUEUE + 50,
        what="all lines are there",
    )


def test_abort_by_the_watchdog_leaves_the_stacks(machine: Machine) -> None:
    machine.systemctl("kill", "--signal=SIGABRT", "--kill-whom=main", "virtsnapd")
    said = machine.wait(
        lambda: "\n".join(line["MESSAGE"] for line in lines(machine, _TRANSPORT="stdout")),
        what="the stacks are there",
    )
    assert "Fatal Python error: Aborted" in said
    assert "run_and_leave" in said or "in run_forever" in said
    machine.wait(
        lambda: machine.systemctl("is-active", "virtsnapd", check=False) == "active",
        what="it is started again",
    )
