"""Tests of the packages on a real systemd, with real dbus, polkitd, logind, libvirtd and guests.

As root: `.venv/bin/python -m pytest tests/system/test_x.py`, or packaging/check tests/system. How a
test uses it:

    def test_x(machine: Machine, guest: MachineGuest) -> None:
        machine.systemctl("restart", "virtsnapd")
        guest.cmd("write", "note", "before")                    # see tests/bed/guest-init
        machine.virtsnap("create", guest.name, "s1", user="member")
        (job,) = machine.call("RevertSnapshot", "ssa{sv}", guest.name, "s1", "0")
        machine.done(job)
        assert guest.cmd("read", "note") == "before"
        (entry,) = machine.journal(_SYSTEMD_UNIT="virtsnapd.service", PRIORITY="3")
        machine.reboot()

- `machine`: one for all tests of a file, with the packages installed by apt, the service running,
  and the users of USERS. What a test changes in it the next one sees: put it back, or use `fresh`.
- `fresh`: a machine of the test's own without the packages; install(fresh, debs) brings them.
- `new_machine`: call it for one more: new_machine("name"), at the same time as the others.
- `guest`: a running guest `vm` of the file's machine, one disk, no agent, no snapshot; the daemon
  knows it. For others MachineGuest.make(machine, "name", ["/folder", ...]).up(), then remove().
- A boot takes 0.6 s, a reboot with a guest some 3 s, an install some 3 s, a guest 4 s.

The machines are on an overlay of this machine's own root, or of VIRTSNAPD_TEST_ROOT; the packages
are made by packaging/deb, or are those in VIRTSNAPD_TEST_DEBS. The journal of a failed test is
printed. All is gone at the end, however it comes: see `machine`, the script.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.bed import recipe
from tests.system.guests import MachineGuest
from tests.system.machines import SCRIPT, Failed, Machine

TOP = Path(__file__).parents[2]
# No Debian has libvirt's modular daemons: packaging/debian13 makes them in its root, and no other
# root has them.
collect_ignore = [] if os.environ.get("VIRTSNAPD_TEST_ROOT") else ["test_modular.py"]
JOURNAL = ["journalctl", "-q", "--no-pager"]
USERS = {"member": ["--groups", "libvirt"], "other": []}
"""Users of every machine with the packages, beside root, and what useradd is told of them."""
APT = [
    *("apt-get", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"),
    *("-o", "Dir::Etc::SourceList=/dev/null", "-o", "Dir::Etc::SourceParts=/dev/null"),
]
"""apt with no source but what is there, so that it needs no time for reading lists."""


class NewMachine(Protocol):
    """Boot a machine; it is taken down after the test (or the file's tests)."""

    def __call__(self, name: str) -> Machine: ...


def install(machine: Machine, debs: list[Path]) -> str:
    """Install (or upgrade to) the packages as an admin does with files; return apt's output. Fails
    where a dependency isn't installed: it could come from nowhere."""
    machine.run("rm -rf /var/cache/debs")
    machine.copy(*debs, to="/var/cache/debs")
    files = [f"/var/cache/debs/{deb.name}" for deb in debs]
    return machine.run(["env", "DEBIAN_FRONTEND=noninteractive", *APT, "install", *files])


def add_users(machine: Machine) -> None:
    for user, words in USERS.items():
        machine.run(["useradd", "--create-home", *words, user])


@pytest.fixture(scope="session")
def debs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The three packages, in copies: another run may build new ones meanwhile."""
    if folder := os.environ.get("VIRTSNAPD_TEST_DEBS"):
        found = sorted(Path(folder).glob("*.deb"))
    else:
        done = subprocess.run([TOP / "packaging/deb"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found = [Path(line) for line in done.stdout.splitlines()]
    assert sorted(deb.name.partition("_")[0] for deb in found) == [
        "virtsnap",
        "virtsnap-common",
        "virtsnapd",
    ]
    kept = tmp_path_factory.mktemp("debs")
    return [Path(shutil.copy(deb, kept)) for deb in found]


@pytest.fixture(scope="session")
def root() -> Path:
    """What the machines are made from."""
    if os.geteuid() != 0:
        pytest.fail("tests/system boots machines, as root: sudo PYTHON -m pytest tests/system")
    recipe.accelerator()
    subprocess.run([SCRIPT, "sweep"], check=True, timeout=120)
    return Path(os.environ.get("VIRTSNAPD_TEST_ROOT", "/"))


@contextlib.contextmanager
def _machines(root: Path, *, tell: bool = False) -> Iterator[NewMachine]:
    """tell: print their journals at the end."""
    made: list[Machine] = []

    def make(name: str) -> Machine:
        machine = Machine(f"{name}-{os.getpid()}")
        made.append(machine)
        machine.up(root)
        return machine

    try:
        yield make
    finally:
        for machine in made:
            if tell:
                print(machine.run(JOURNAL, check=False))
            machine.down()


@pytest.fixture
def new_machine(root: Path) -> Iterator[NewMachine]:
    with _machines(root, tell=True) as new:
        yield new


@pytest.fixture
def fresh(new_machine: NewMachine) -> Machine:
    return new_machine("fresh")


@pytest.fixture(scope="module")
def module_machine(root: Path, debs: list[Path]) -> Iterator[Machine]:
    with _machines(root) as new:
        made = new("module")
        try:
            add_users(made)
            install(made, debs)
        except Failed:
            print(made.run(JOURNAL, check=False))
            raise
        yield made


@pytest.fixture
def machine(module_machine: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """See above; what its journal has of a test is printed, for where that fails."""
    cursor = module_machine.run("journalctl -q -n 0 --show-cursor").partition("cursor: ")[2]
    yield module_machine
    print(module_machine.run([*JOURNAL, f"--after-cursor={cursor}"], check=False))


@pytest.fixture(scope="module")
def module_guest(module_machine: Machine) -> Iterator[MachineGuest]:
    yield MachineGuest.make(module_machine, "vm", ["/var/lib/libvirt/images"])


@pytest.fixture
def guest(machine: Machine, module_guest: MachineGuest) -> MachineGuest:
    """See above. What a test leaves (another state, snapshots) is cleared before the next."""
    if module_guest.state() != "running":
        module_guest.virsh("destroy", check=False)
        module_guest.up()
    module_guest.wait()
    for name in reversed(module_guest.snapshots()):
        module_guest.virsh("snapshot-delete", name)
    know(module_guest)
    return module_guest


def know(guest: MachineGuest) -> None:
    """Wait until the daemon shows a guest in its state and with its snapshots."""
    machine = guest.machine

    def seen() -> bool:
        rows = machine.call("ListDomains", "a{sv}", "0")[0]
        states = {row["Name"]: row["State"] for row in rows}
        listed = machine.call("ListSnapshots", "sa{sv}", guest.name, "0")[0]
        return states.get(guest.name) == guest.state().replace("shut off", "shutoff") and {
            row["Name"] for row in listed
        } == set(guest.snapshots())

    machine.wait(seen, what=f"the daemon knows {guest.name} as libvirt does")
