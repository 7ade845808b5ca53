"""The machine goes down and comes back: what fell due meanwhile is made up for once, what was at
work is settled as what really came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.system.guests import MachineGuest
from tests.system.inflight import in_flight
from tests.system.machines import MANAGER, Machine, Row

FILE = "/etc/virtsnapd/policies.d/web.toml"
AHEAD_SECONDS = 12
"""What a reboot and its preparations may take before the slot."""
LATE = "/etc/systemd/system/late.service"
UNTIL = """
[Unit]
Before=virtsnapd.service libvirtd.service libvirt-guests.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'while [ $(date +%%s) -le {slot} ]; do sleep 0.1; done'
[Install]
WantedBy=multi-user.target
"""
"""A machine that takes its time to boot: until the slot has passed."""


@pytest.fixture
def off(machine: Machine) -> Iterator[MachineGuest]:
    """A VM that is off, and stays so."""
    made = MachineGuest.make(machine, "off", ["/var/lib/libvirt/images"])
    yield made
    made.remove()


@pytest.fixture
def two_policies(machine: Machine, guest: MachineGuest, off: MachineGuest) -> Iterator[int]:
    """One of the API and one of /etc, both for both VMs, and their slot, which is soon."""
    until_slot = 60 - time.time() % 60
    if until_slot < AHEAD_SECONDS:
        time.sleep(until_slot)
    slot = int(time.time()) // 60 * 60 + 60
    schedule = f"{datetime.fromtimestamp(slot, UTC):%M %H} * * *"
    both = [guest.name, off.name]
    values = [
        *("4", "domains", "as", "2", *both, "schedule", "s", schedule, "timezone", "s", "UTC"),
        *("keep", "a{sv}", "1", "last", "u", "3", "0"),
    ]
    machine.call("SetPolicy", "sa{sv}a{sv}", "db", *values)
    text = f'domains = {both}\nschedule = "{schedule}"\ntimezone = "UTC"\n[keep]\nlast = 3\n'
    machine.write(FILE, text.replace("'", '"'))
    machine.systemctl("reload", "virtsnapd")
    machine.wait(
        lambda: len(machine.call("ListCoverage", "sa{sv}", "", "0")[0]) == 4,
        what="both policies cover both VMs",
    )
    yield slot
    machine.run(["rm", "-f", FILE, LATE])
    machine.run(["rm", "-f", "/etc/systemd/system/multi-user.target.wants/late.service"])
    machine.call("RemovePolicy", "sa{sv}", "db", "0")
    machine.systemctl("daemon-reload")
    machine.systemctl("reload", "virtsnapd")


def settled(machine: Machine) -> None:
    """Wait until the daemon has read libvirt and nothing is open."""
    machine.wait(lambda: machine.get(MANAGER, "Manager.Connected"), what="it is connected")
    machine.wait(
        lambda: all(row["Finished"] for row in machine.call("ListJobs", "a{sv}", "0")[0]),
        what="no job is open",
    )


def test_slot_that_fell_while_the_machine_was_down_is_made_up_for_once(
    machine: Machine, guest: MachineGuest, off: MachineGuest, two_policies: int
) -> None:
    slot = two_policies
    guest.virsh("autostart")
    machine.write(LATE, UNTIL.format(slot=slot))
    machine.systemctl("enable", "late.service")
    machine.reboot()

    def runs() -> list[Row]:
        found = machine.call("ListRuns", "sa{sv}", "", "0")[0]
        return found if len(found) >= 4 and all(r["Finished"] for r in found) else []

    made = machine.wait(runs, what="the runs of two policies on two VMs")
    told = {(r["Policy"], r["DomainName"], r["Slot"], r["Outcome"]) for r in made}
    assert told == {
        (policy, vm.name, slot, "made") for policy in ("db", "web") for vm in (guest, off)
    }
    assert len(made) == 4
    settled(machine)
    name = f"db-{datetime.fromtimestamp(slot, UTC):%Y%m%dT%H%M%SZ}"  # of several the first policy
    for vm in (guest, off):
        assert vm.snapshots() == vm.tags(vm.images[0]) == [name]
        (row,) = machine.call("ListSnapshots", "sa{sv}", vm.name, "0")[0]
        assert (row["Origin"], sorted(row["Policies"])) == ("policy", ["db", "web"])
        assert row["Created"] >= slot
    assert guest.state() == "running"


def test_job_at_power_off_is_waited_for_and_made(machine: Machine, guest: MachineGuest) -> None:
    with in_flight(guest) as flight:
        held = machine.wait(
            lambda: [
                line
                for line in machine.run("systemd-inhibit --list --no-legend").splitlines()
                if line.startswith("virtsnapd")
            ],
            what="the host is held up",
        )
        assert f"a snapshot of VM {guest.name} is being made" in held[0]
        flight.go_on_after(3)
        machine.reboot()
        settled(machine)
        flight.stays_made()
    assert machine.failed() == []
    said = [e["MESSAGE"] for e in machine.journal("-u", "virtsnapd", boot=-1)]
    assert "virtsnapd.service: Deactivated successfully." in said


def test_job_at_a_power_cut_has_made_nothing(machine: Machine, guest: MachineGuest) -> None:
    machine.call("Hold", "ssxsa{sv}", guest.name, "", "0", "kept", "0")
    machine.virtsnap("create", guest.name, "before", "--memory", "no")
    machine.virtsnap("pin", guest.name, "before", "--reason", "kept")
    with in_flight(guest, had=["before"]) as flight:
        machine.reboot(cut=True)
        settled(machine)
        row = flight.ended()
    assert row["State"] == "failed"
    assert row["ErrorMessage"].endswith("nothing had been done")
    assert guest.snapshots() == guest.tags(guest.images[0]) == ["before"]
    (snapshot,) = machine.call("ListSnapshots", "sa{sv}", guest.name, "0")[0]
    assert (snapshot["Origin"], snapshot["Pinned"], snapshot["PinReason"]) == (
        "manual",
        True,
        "kept",
    )
    problems = machine.call("ListProblems", "a{sv}", "0")[0]
    assert [p["DomainName"] for p in problems if p["Problem"] == "held"] == [guest.name]
    machine.virtsnap("unpin", guest.name, "before")
    machine.call("Unhold", "ssa{sv}", guest.name, "", "0")


def test_boot_without_libvirt_is_waited_out(machine: Machine) -> None:
    units = [f"libvirtd{which}" for which in (".service", ".socket", "-ro.socket", "-admin.socket")]
    machine.systemctl("mask", *units)
    try:
        machine.reboot()
        assert machine.systemctl("is-active", "virtsnapd") == "active"
        assert "no connection to libvirt" in machine.show("virtsnapd", "StatusText")
        assert machine.get(MANAGER, "Manager.Connected") is False
    finally:
        machine.systemctl("unmask", *units)
    machine.systemctl("start", "libvirtd.socket")
    settled(machine)
    assert machine.show("virtsnapd", "NRestarts") == "0"
    assert machine.failed() == []
