"""The packages are upgraded, put back, removed and purged on a machine with VMs at work."""

from __future__ import annotations

import difflib
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from snapd import __version__
from tests.system.conftest import APT, install, know
from tests.system.guests import MachineGuest
from tests.system.inflight import in_flight
from tests.system.machines import MANAGER, Machine, Row

OLD = "0.0.9"
WAITED_SECONDS = 20
"""For a job, at most, when the service ends: README says so."""
MINE = "/etc/virtsnapd/policies.d/mine.toml"
MINE_TEXT = 'domains = ["vm"]\nschedule = "0 3 1 1 *"\n[keep]\nlast = 2\n'
WORDS = ["env", "DEBIAN_FRONTEND=noninteractive", *APT]
TIMER = "virtsnap-check.timer"
PACKAGES = ["virtsnapd", "virtsnap", "virtsnap-common"]


@pytest.fixture(scope="session")
def old_debs(debs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same packages with another version."""
    folder = tmp_path_factory.mktemp("old")
    return [_older(deb, folder) for deb in debs]


def _older(deb: Path, folder: Path) -> Path:
    tree = folder / deb.name.partition("_")[0]
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    assert f"\nVersion: {__version__}\n" in text
    control.write_text(text.replace(__version__, OLD))
    for module in tree.glob("usr/share/virtsnapd/snapd/__init__.py"):
        text = module.read_text()
        assert f'__version__ = "{__version__}"' in text
        module.write_text(text.replace(__version__, OLD))
    made = folder / deb.name.replace(__version__, OLD)
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, made], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def vm(module_machine: Machine) -> MachineGuest:
    """A running guest whose policies, hold, pins, runs and history are there to be lost."""
    machine = module_machine
    guest = MachineGuest.make(machine, "vm", ["/var/lib/libvirt/images"]).up()
    know(guest)
    machine.write(MINE, MINE_TEXT)
    machine.systemctl("reload", "virtsnapd")
    definition = [
        *("3", "domains", "as", "1", "vm", "schedule", "s", "0 4 1 1 *"),
        *("keep", "a{sv}", "1", "last", "u", "3", "0"),
    ]
    machine.call("SetPolicy", "sa{sv}a{sv}", "api", *definition)
    machine.wait(
        lambda: len(machine.call("ListCoverage", "sa{sv}", "", "0")[0]) == 2,
        what="both policies cover the VM",
    )
    machine.virtsnap("policy", "run", "mine")
    machine.virtsnap("create", "vm", "byhand", "--memory", "no")
    machine.virtsnap("pin", "vm", "byhand", "--reason", "kept")
    machine.call("Hold", "ssxsa{sv}", "vm", "api", "0", "kept", "0")
    return guest


@pytest.fixture
def old(machine: Machine, vm: MachineGuest, old_debs: list[Path]) -> Machine:
    """The file's machine with the older packages."""
    if version(machine) != OLD:
        go_back(machine, old_debs)
    return machine


def put(machine: Machine, debs: list[Path], *options: str) -> str:
    """Install files over what is there; what apt says."""
    machine.run(["rm", "-rf", "/var/cache/debs"])
    machine.copy(*debs, to="/var/cache/debs")
    files = [f"/var/cache/debs/{deb.name}" for deb in debs]
    return machine.run([*WORDS, *options, "install", *files], timeout=180)


def go_back(machine: Machine, debs: list[Path]) -> None:
    put(machine, debs, "--allow-downgrades")


def version(machine: Machine) -> str:
    return str(machine.get(MANAGER, "Manager.Version"))


def known(machine: Machine, without: str = "") -> dict[str, list[Row]]:
    """All that it would be a loss to lose, but what is of one snapshot."""
    machine.wait(lambda: machine.get(MANAGER, "Manager.Connected"), what="it is connected")

    def rows(method: str, *words: str) -> list[Row]:
        found = machine.call(method, "sa{sv}" if words else "a{sv}", *words, "0")[0]
        return [row for row in found if without not in row.values() or not without]

    volatile = ("RevertBlocker", "DeleteBlocker", "Current", "Parent")
    return {
        "snapshots": [
            {k: v for k, v in row.items() if k not in volatile} for row in rows("ListSnapshots", "")
        ],
        "policies": rows("ListPolicies"),
        "history": rows("ListHistory", ""),
        "runs": rows("ListRuns", ""),
        "problems": [
            {k: row[k] for k in ("ID", "Problem", "Message")} for row in rows("ListProblems")
        ],
    }


class Apt(threading.Thread):
    """An upgrade, by another thread."""

    def __init__(self, machine: Machine, debs: list[Path]) -> None:
        super().__init__()
        self._machine, self._debs = machine, debs
        self.said = ""
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        self.said = put(self._machine, self._debs)
        self.seconds = time.monotonic() - begun


def stopping(machine: Machine) -> None:
    machine.wait(
        lambda: machine.show("virtsnapd", "SubState") == "stop-sigterm", 30, "it is stopping"
    )


@pytest.mark.parametrize("longer", [False, pytest.param(True, marks=pytest.mark.long)])
def test_upgrade_with_a_job_in_flight(
    old: Machine, vm: MachineGuest, debs: list[Path], longer: bool
) -> None:
    """longer: than the service waits for a job."""
    machine, had = old, vm.snapshots()
    before = known(machine)
    assert version(machine) == OLD
    assert [len(before[what]) for what in ("policies", "runs")] == [2, 1]
    assert {row["Name"] for row in before["snapshots"]} == set(had)
    assert any(row["PinReason"] == "kept" for row in before["snapshots"])
    assert any(row["Problem"] == "held" for row in before["problems"])
    name = f"ram-{longer}"
    with in_flight(vm, name, had) as flight:
        apt = Apt(machine, debs)
        stopping(machine)
        if longer:
            apt.join()
            assert WAITED_SECONDS <= apt.seconds < WAITED_SECONDS + 25
            row = flight.row()
            assert (row["State"], row["Finished"]) == ("unknown", 0)
        else:
            time.sleep(2)
            assert apt.is_alive()
        assert vm.tags(vm.images[0]) == had
        assert vm.state() == "paused"  # libvirt is at it, and nobody has broken that off
        flight.go_on()
        apt.join()
        flight.made(had)
    assert version(machine) == __version__
    assert f"Setting up virtsnapd ({__version__})" in apt.said
    assert known(machine, name) == before
    assert machine.show("virtsnapd", "NRestarts") == "0"
    assert machine.failed() == []
    vm.virsh("snapshot-delete", name)
    machine.wait(
        lambda: len(machine.call("ListSnapshots", "sa{sv}", "vm", "0")[0]) == len(had),
        what="the deletion is seen",
    )


def test_upgrade_with_broken_files_succeeds_and_says_so(
    old: Machine, vm: MachineGuest, debs: list[Path]
) -> None:
    machine = old
    machine.write("/etc/virtsnapd/virtsnapd.toml", "nonsense\n")
    machine.write("/etc/virtsnapd/policies.d/wrong.toml", "domains = 7\n")
    try:
        install(machine, debs)
        assert version(machine) == __version__
        rows = machine.call("ListProblems", "a{sv}", "0")[0]
        assert {"settings-file", "policy-file"} <= {row["Problem"] for row in rows}
        assert machine.failed() == []
        policies = machine.call("ListPolicies", "a{sv}", "0")[0]
        assert [row["Name"] for row in policies] == ["api", "mine"]
    finally:
        machine.run("rm /etc/virtsnapd/virtsnapd.toml /etc/virtsnapd/policies.d/wrong.toml")
        machine.systemctl("restart", "virtsnapd")


def test_upgrade_leaves_the_units_as_the_admin_has_them(
    old: Machine, vm: MachineGuest, debs: list[Path]
) -> None:
    def state(unit: str) -> list[str]:
        return [old.systemctl(f"is-{what}", unit, check=False) for what in ("enabled", "active")]

    old.systemctl("disable", "--now", "virtsnapd")
    old.systemctl("enable", "--now", TIMER)
    try:
        install(old, debs)
        assert state("virtsnapd") == ["disabled", "inactive"]
        assert state(TIMER) == ["enabled", "active"]
    finally:
        old.systemctl("disable", "--now", TIMER)
        old.systemctl("enable", "--now", "virtsnapd")


def test_older_packages_put_back_find_all(
    machine: Machine, vm: MachineGuest, debs: list[Path], old_debs: list[Path]
) -> None:
    install(machine, debs)
    before = known(machine)
    go_back(machine, old_debs)
    assert version(machine) == OLD
    assert known(machine) == before


def test_removed_and_installed_again_finds_all(
    machine: Machine, vm: MachineGuest, debs: list[Path]
) -> None:
    before, had = known(machine), vm.snapshots()
    machine.run([*WORDS, "remove", *PACKAGES])
    assert machine.run("ls /var/lib/virtsnapd/store.sqlite") != ""
    assert machine.run(["cat", MINE]) == MINE_TEXT.strip()
    assert machine.run("pgrep -u virtsnapd", check=False) == ""
    assert vm.snapshots() == vm.tags(vm.images[0]) == had
    assert vm.state() == "running"
    install(machine, debs)
    assert machine.systemctl("is-enabled", "virtsnapd") == "enabled"
    assert machine.systemctl("is-active", "virtsnapd") == "active"
    assert known(machine) == before


# --- purge

LISTED = "/etc /usr /lib /bin /sbin /opt /root /home /srv /mnt /var"
OTHERS = re.compile(
    r"/var/(log|cache|tmp)(/|$)"  # dpkg's, apt's, the journal's
    r"|/var/lib/(dpkg|apt|libvirt|systemd/timers$|systemd/catalog)(/|$)"
    r"|/etc/(libvirt|ld\.so\.cache|[a-z]+-$)"  # what libvirtd makes when it starts
    r"|/etc/systemd/system/[a-z-]+\.target\.wants$"  # empty ones, gone with any package's
)


def files(machine: Machine) -> list[str]:
    """What there is that packages and services may have made."""
    found = machine.run(f"find -P {LISTED} -xdev 2>/dev/null", check=False).splitlines()
    return sorted(path for path in found if not OTHERS.match(path))


def test_purge_leaves_what_the_admin_made_and_the_snapshots(
    fresh: Machine, debs: list[Path]
) -> None:
    guest = MachineGuest.make(fresh, "off", ["/var/lib/libvirt/images"])
    before = files(fresh)
    accounts = fresh.run("cat /etc/passwd /etc/group").splitlines()
    install(fresh, debs)
    fresh.write(MINE, MINE_TEXT.replace("vm", "off"))
    fresh.systemctl("enable", "--now", TIMER)
    fresh.systemctl("reload", "virtsnapd")
    know(guest)
    fresh.virtsnap("create", "off", "s1")
    fresh.run([*WORDS, "purge", *PACKAGES])

    assert set(files(fresh)) ^ set(before) == {
        "/etc/virtsnapd",
        "/etc/virtsnapd/policies.d",
        MINE,
    }
    assert fresh.run(["cat", MINE]) == MINE_TEXT.replace("vm", "off").strip()
    assert guest.snapshots() == guest.tags(guest.images[0]) == ["s1"]
    assert fresh.run("dpkg-query -W 'virtsnap*' 2>/dev/null", check=False) == ""
    # Its user stays, so that what it owned never becomes another's; nobody is it any more.
    now = fresh.run("cat /etc/passwd /etc/group").splitlines()
    changes = [line for line in difflib.ndiff(accounts, now) if line[0] in "+-"]
    assert [line for line in changes if "virtsnapd" not in line and "libvirt:" not in line] == []
    assert fresh.run("pgrep -u virtsnapd", check=False) == ""
    assert fresh.run("find /run /tmp -name '*virtsnap*'", check=False) == ""
    assert "virtsnap" not in fresh.run("journalctl --list-catalog")
    assert fresh.run("systemctl list-unit-files --no-legend 'virtsnap*'", check=False) == ""
    assert "Snapd1" not in fresh.busctl("list")
    assert fresh.failed() == []

    # Once more: to another installation the snapshot is foreign, and its policy is in force.
    install(fresh, debs)
    know(guest)
    (row,) = fresh.call("ListSnapshots", "sa{sv}", "off", "0")[0]
    assert (row["Name"], row["Origin"]) == ("s1", "foreign")
    assert [row["Name"] for row in fresh.call("ListPolicies", "a{sv}", "0")[0]] == ["mine"]
    fresh.run(["rm", MINE])
    fresh.run([*WORDS, "purge", *PACKAGES])
    assert set(files(fresh)) ^ set(before) == set()
    assert guest.snapshots() == guest.tags(guest.images[0]) == ["s1"]
