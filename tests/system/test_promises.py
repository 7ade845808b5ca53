"""What the other tests prove of the verbs, policies and checks holds inside the real unit as well:
one guest with an agent, on disks that the service's file systems got after it had started.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.bed.recipe import Hardware
from tests.system.conftest import know
from tests.system.guests import MachineGuest
from tests.system.machines import Failed, Machine, Row
from tests.watched import PAST_THE_ECHO

IMAGES = "/var/lib/libvirt/images"
LATE = "/mnt/late"
POLICIES = "/etc/virtsnapd/policies.d"
MIB = 1 << 20
WARNING = "4"
ODD = [
    "no policy is in force",
    "is covered by no policy",
    "matches no VM",
    "the schedule fires every minute",
    "starts and stops in a loop",
    "no guest agent is connected",  # while the guest boots
    "(min_free)",
    "held: moving",
    "theirs is pinned",
]
"""What may be said louder than `info` here: what these tests themselves bring about."""


@pytest.fixture(scope="module")
def late(module_machine: Machine) -> str:
    """A folder of a file system that was mounted when the service ran already."""
    started = module_machine.show("virtsnapd", "MainPID")
    module_machine.run(f"mkdir {LATE}; mount -t tmpfs -o size=300m tmpfs {LATE}")
    module_machine.run(f"install -d -m 700 -o libvirt-qemu {LATE}/vms")
    assert module_machine.show("virtsnapd", "MainPID") == started != "0"
    return f"{LATE}/vms"


@pytest.fixture(scope="module")
def at_rest(module_machine: Machine) -> list[MachineGuest]:
    """Two VMs that are off, of a policy that fires every minute for those that have run since their
    last snapshot. The second has one, and has not."""
    made = [MachineGuest.make(module_machine, name, [IMAGES]) for name in ("rest-1", "rest-2")]
    know(made[1])
    module_machine.virtsnap("create", "rest-2", "before")
    policy(module_machine, "clock", 'schedule = "* * * * *"\nonly_if = "changed"', vm="rest-*")
    return made


@pytest.fixture(scope="module")
def module_tour(
    module_machine: Machine, late: str, at_rest: list[MachineGuest]
) -> Iterator[MachineGuest]:
    yield (made := MachineGuest.make(module_machine, "tour", [IMAGES, late], Hardware(agent=True)))
    made.remove()


@pytest.fixture
def tour(machine: Machine, module_tour: MachineGuest) -> Iterator[MachineGuest]:
    """The guest, running; what a test makes of snapshots and policies goes with it."""
    if module_tour.state() != "running":
        module_tour.virsh("start")
    ready(module_tour)
    know(module_tour)
    yield module_tour
    machine.run(f"find {POLICIES} -name '*.toml' ! -name clock.toml -delete")
    machine.systemctl("reload", "virtsnapd")
    for row in machine.call("ListSnapshots", "sa{sv}", "tour", "0")[0]:
        if row["Pinned"]:
            machine.virtsnap("unpin", "tour", row["Name"])
        machine.virtsnap("delete", "tour", row["Name"], "--yes")


def policy(machine: Machine, name: str, when: str, *, vm: str = "tour", last: int = 2) -> None:
    """Put a policy in force."""
    text = f'domains = ["{vm}"]\n{when}\n[keep]\nlast = {last}\n'
    machine.write(f"{POLICIES}/{name}.toml", text)
    machine.systemctl("reload", "virtsnapd")
    machine.wait(
        lambda: machine.call("ListCoverage", "sa{sv}", name, "0")[0], what=f"{name} covers {vm}"
    )


def run(machine: Machine, name: str) -> Row:
    """Run a policy; what came of it on the guest."""
    (job,) = machine.call("RunPolicy", "sa{sv}", name, "0")
    (row,) = machine.done(job)["Domains"]
    return dict(row)


def rows(machine: Machine, vm: str = "tour") -> dict[str, Row]:
    listed = machine.call("ListSnapshots", "sa{sv}", vm, "0")[0]
    return {row["Name"]: row for row in listed}


def name_of(machine: Machine, row: Row) -> str:
    """The name of the snapshot that a run has made."""
    assert row["Outcome"] == "made", row
    return next(name for name, each in rows(machine).items() if each["Path"] == row["Snapshot"])


def inside(guest: MachineGuest, names: set[str]) -> None:
    """libvirt and both images hold these snapshots and no others."""
    assert set(guest.snapshots()) == names
    assert [set(guest.tags(image)) for image in guest.images] == [names, names]


def ready(guest: MachineGuest) -> None:
    """Wait until it answers, and its agent, too."""
    ping = '{"execute":"guest-ping"}'
    guest.wait()
    guest.machine.wait(lambda: guest.virsh("qemu-agent-command", ping), what="the agent answers")


def off(guest: MachineGuest) -> None:
    """Have the guest shut itself down."""
    guest.cmd("poweroff")
    guest.machine.wait(lambda: guest.state() == "shut off", what="the guest is off")


# --- policies


def test_policy_makes_quiesced_snapshots_and_lets_go_of_the_oldest(
    machine: Machine, tour: MachineGuest
) -> None:
    policy(machine, "often", 'schedule = "@yearly"\nquiesce = "require"')
    names = []
    for number in ("one", "two", "three"):
        tour.cmd("write", "note", number)
        tour.cmd("write", "/disk/vdb/note", number)
        names.append(name_of(machine, run(machine, "often")))
    inside(tour, set(names[1:]))
    assert {row["Consistency"] for row in rows(machine).values()} == {"quiesced"}
    assert "thawed" in tour.virsh("qemu-agent-command", '{"execute":"guest-fsfreeze-status"}')

    machine.virtsnap("revert", "tour", names[1], "--yes")
    ready(tour)
    assert tour.cmd("read", "note") == tour.cmd("read", "/disk/vdb/note") == "two"


def test_guests_own_shutdown_and_start_are_snapshotted(
    machine: Machine, tour: MachineGuest
) -> None:
    policy(machine, "events", 'on = ["start", "shutdown"]\nmin_gap = "0s"')

    def made(consistency: str) -> list[Row]:
        return [row for row in rows(machine).values() if row["Consistency"] in consistency.split()]

    time.sleep(PAST_THE_ECHO)  # of the job that cleared the guest for this test
    off(tour)
    (down,) = machine.wait(lambda: made("offline"), what="the shutdown is snapshotted")
    time.sleep(PAST_THE_ECHO)
    tour.virsh("start")
    (up,) = machine.wait(lambda: made("quiesced crash"), what="the start is snapshotted")
    assert down["Origin"] == up["Origin"] == "event"
    inside(tour, {down["Name"], up["Name"]})


def test_too_little_room_makes_and_prunes_nothing(machine: Machine, tour: MachineGuest) -> None:
    policy(machine, "tight", 'schedule = "@yearly"\n[limits]\nmin_free = "100MiB"', last=1)
    kept = name_of(machine, run(machine, "tight"))
    used = int(machine.run(f"df -B1 --output=used {LATE} | tail -n 1"))
    machine.run(f"mount -o remount,size={used + 50 * MIB} {LATE}")
    try:
        failed = run(machine, "tight")
        assert failed["Outcome"] == "failed"
        assert "free" in failed["Reason"]
        inside(tour, {kept})
    finally:
        machine.run(f"mount -o remount,size=300m {LATE}")
    assert run(machine, "tight")["Outcome"] == "made"


# --- what others made


def test_foreign_snapshot_is_heard_of_adopted_pinned_and_let_go(
    machine: Machine, tour: MachineGuest
) -> None:
    policy(machine, "often", 'schedule = "@yearly"', last=1)
    tour.virsh("snapshot-create-as", "theirs")
    done = time.monotonic()
    seen = machine.wait(lambda: rows(machine), seconds=5, what="it is heard of")
    assert time.monotonic() - done < 3  # REST + GATHER seconds of watch.py, and busctl's own
    assert seen["theirs"]["Origin"] == "foreign"

    run(machine, "often")
    run(machine, "often")
    assert "theirs" in rows(machine)
    machine.virtsnap("adopt", "tour", "theirs", "--policy", "often", "--yes")
    assert rows(machine)["theirs"]["Policies"] == ["often"]
    machine.virtsnap("pin", "tour", "theirs", "--reason", "for the test")
    run(machine, "often")
    assert rows(machine)["theirs"]["Pinned"]
    with pytest.raises(Failed, match="pinned"):
        machine.virtsnap("delete", "tour", "theirs", "--yes")
    machine.virtsnap("unpin", "tour", "theirs")
    last = name_of(machine, run(machine, "often"))
    inside(tour, {last})


def test_held_policy_makes_nothing_until_it_is_let_go(machine: Machine, tour: MachineGuest) -> None:
    policy(machine, "often", 'schedule = "@yearly"')
    machine.virtsnap("hold", "tour", "--policy", "often", "--reason", "moving")
    assert run(machine, "often")["Outcome"] == "skipped"
    inside(tour, set())
    machine.virtsnap("unhold", "tour", "--policy", "often")
    assert run(machine, "often")["Outcome"] == "made"


@pytest.fixture
def idle(machine: Machine) -> Iterator[MachineGuest]:
    """A VM that is off and has no snapshot."""
    made = MachineGuest.make(machine, "idle", [IMAGES])
    know(made)
    yield made
    made.remove()


def test_audit_finds_a_tag_that_nobody_lists(machine: Machine, idle: MachineGuest) -> None:
    assert machine.ran("virtsnap audit idle").returncode == 0
    machine.run(["qemu-img", "snapshot", "-c", "ghost", *idle.images])
    done = machine.ran("virtsnap audit idle --json")
    assert done.returncode == 1
    assert '"unlisted-tag"' in done.stdout
    assert "ghost" in done.stdout
    machine.run(["qemu-img", "snapshot", "-d", "ghost", *idle.images])
    assert machine.ran("virtsnap audit idle").returncode == 0


# --- the host


def test_host_waits_while_a_job_is_at_work(machine: Machine, tour: MachineGuest) -> None:
    """By a child of the service; the guest's QEMU stands still meanwhile."""
    qemu = machine.run("cat /run/libvirt/qemu/tour.pid")
    inhibitors = "systemd-inhibit --list --no-legend"
    machine.run(["kill", "-STOP", qemu])
    try:
        machine.virtsnap("create", "tour", "slow", "--memory", "yes", "--no-quiesce", "--no-wait")
        line = machine.wait(lambda: machine.run(f"{inhibitors} | grep virtsnapd"), what="it waits")
        assert "a snapshot of VM tour is being made" in line
        assert line.split()[-1] in ("block", "block-weak")  # see snapd/logind.py
    finally:
        machine.run(["kill", "-CONT", qemu])
    machine.wait(lambda: rows(machine).get("slow", {}).get("Status") == "ok", what="it is made")
    machine.wait(lambda: "virtsnapd" not in machine.run(inhibitors), what="it goes on")
    assert rows(machine)["slow"]["Consistency"] == "memory"


@pytest.fixture
def uefi(machine: Machine) -> Iterator[MachineGuest]:
    """A running VM with UEFI variables in a raw file. The firmware is zeros: it never comes up."""
    files = [f"{IMAGES}/{name}.fd" for name in ("code", "vars")]
    machine.run(["truncate", "--size", "4M", *files])
    hardware = Hardware(machine="q35", agent=False)
    made = MachineGuest.make(machine, "uefi", [IMAGES], hardware)
    code, nvram = files
    firmware = f"<loader readonly='yes' type='pflash'>{code}</loader><nvram>{nvram}</nvram>"
    xml = re.sub("<kernel>.*</cmdline>", firmware, made.virsh("dumpxml"), flags=re.DOTALL)
    machine.run(["virsh", "-q", "define", "/dev/stdin"], text=xml)
    made.virsh("start")
    know(made)
    try:
        yield made
    finally:
        made.virsh("destroy", check=False)
        made.virsh("undefine", "--nvram", "--snapshots-metadata")
        machine.run(["rm", "-f", *made.images, *files])


def test_nvram_that_cannot_be_snapshotted_is_said_to_be_left_out(
    machine: Machine, uefi: MachineGuest
) -> None:
    told = machine.virtsnap("create", "uefi", "x", "--no-memory", check=False)
    assert "the UEFI variables of VM uefi are not in the snapshot" in told
    assert rows(machine, "uefi")["x"]["Notes"] == ["nvram-left-out"]
    assert uefi.tags(uefi.images[0]) == ["x"]
    machine.virtsnap("delete", "uefi", "x", "--yes")
    assert uefi.tags(uefi.images[0]) == []


# --- at the end of all that


def test_schedule_has_fired_by_itself_where_a_vm_may_have_changed(
    machine: Machine, at_rest: list[MachineGuest]
) -> None:
    """Which images tell that only their owner and the service may read."""

    def runs(name: str) -> list[Row]:
        return list(machine.call("ListRuns", "sa{sv}", name, "0")[0])

    first = machine.wait(lambda: runs("rest-1"), seconds=70, what="a slot has come")[-1]
    second = machine.wait(lambda: runs("rest-2"), what="for the other one, too")[-1]
    assert first["Slot"] == second["Slot"]
    assert first["Slot"] % 60 == 0
    assert (first["Outcome"], second["Outcome"]) == ("made", "skipped")
    assert "has not run since its last snapshot" in second["Reason"]
    kept = [guest.tags(guest.images[0]) for guest in at_rest]
    assert kept == [[first["SnapshotName"]], ["before"]]


def test_kernel_has_refused_nothing(machine: Machine) -> None:
    """A filter or a folder in the way would have been said, or have ended a process."""
    lines = machine.journal(_SYSTEMD_UNIT="virtsnapd.service")
    denied = re.compile("not permitted|[Pp]ermission denied|[Rr]ead-only|[Bb]ad system call")
    assert [line["MESSAGE"] for line in lines if denied.search(line["MESSAGE"])] == []
    loud = [line["MESSAGE"] for line in lines if line["PRIORITY"] <= WARNING]
    assert "\n".join(line for line in loud if not any(odd in line for odd in ODD)) == ""
    assert machine.show("virtsnapd", "NRestarts") == "0"
    assert machine.show("virtsnapd", "Result") == "success"


def test_memory_stays_small(machine: Machine) -> None:
    pid = machine.show("virtsnapd", "MainPID")
    status = machine.run(["cat", f"/proc/{pid}/status"])
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    print(f"after all that: {kib} KiB")
    assert int(kib) < 100 * 1024
