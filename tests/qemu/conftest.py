"""Real guests for tests/qemu. The whole pytest process lives where qemu:///system is private."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import pytest

from tests.bed import recipe
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt, leave_the_machine
from tests.bus import PrivateBus, private_bus
from tests.client import Client, Daemon
from tests.qemu import steps

if os.geteuid() == 0:
    leave_the_machine()  # now, before any test has started a thread


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist's own order, most tests first


@pytest.hookimpl(trylast=True)  # when the tests that are not to run are gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few tests first: theirs are the long ones, and two workers end at the same time
    where what is left to the last is short."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: tests[item.path])


class NewGuest(Protocol):
    """Make a guest: its images are there, it isn't defined yet. It is removed after the test."""

    def __call__(
        self,
        name: str,
        *,
        disks: int | list[str] = 1,
        disk_mib: int = 64,
        memory: int = 160,
        vcpus: int = 1,
        machine: str = "pc",
        agent: bool = True,
    ) -> Guest: ...


@pytest.fixture(scope="session")
def session_bed() -> Iterator[PrivateLibvirt]:
    if os.geteuid() != 0:
        pytest.fail(
            "tests/qemu boots real guests and needs root: sudo PYTHON -m pytest tests/qemu",
            pytrace=False,
        )
    recipe.accelerator()
    bed = PrivateLibvirt()
    try:
        bed.start()
        yield bed
    finally:
        bed.close()


@pytest.fixture
def bed(session_bed: PrivateLibvirt) -> Iterator[PrivateLibvirt]:
    """The private libvirt, answering; also after a test that killed or froze it."""
    yield session_bed
    session_bed.mend_libvirtd()


@pytest.fixture
def new_guest(bed: PrivateLibvirt) -> Iterator[NewGuest]:
    made: list[Guest] = []

    def make(
        name: str,
        *,
        disks: int | list[str] = 1,
        disk_mib: int = 64,
        memory: int = 160,
        vcpus: int = 1,
        machine: str = "pc",
        agent: bool = True,
    ) -> Guest:
        hardware = recipe.Hardware(memory, vcpus, machine, agent)
        made.append(Guest.make(name, bed.images, disks=disks, disk_mib=disk_mib, hardware=hardware))
        return made[-1]

    yield make
    bed.mend_libvirtd()
    for guest in made:
        guest.remove()


# --- the daemon under test


@pytest.fixture(scope="session")
def bus() -> Iterator[PrivateBus]:
    with private_bus() as made:
        yield made


@pytest.fixture(scope="module")
def module_daemon(
    session_bed: PrivateLibvirt, bus: PrivateBus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    daemon = Daemon(bus.address, "qemu:///system", tmp_path_factory.mktemp("daemon"))
    daemon.start()
    yield daemon
    daemon.close()


@pytest.fixture
def daemon(bed: PrivateLibvirt, module_daemon: Daemon) -> Iterator[Daemon]:
    """The module's daemon, running; what it says during a test is shown where that fails."""
    if not module_daemon.running:
        module_daemon.start()
    begun = len(module_daemon.log)
    yield module_daemon
    print(module_daemon.log[begun:])
    module_daemon.check()


@pytest.fixture
def client(bus: PrivateBus, daemon: Daemon) -> Iterator[Client]:
    with Client(bus.address) as made:
        yield made


class DiscGuest(Guest):
    """A guest with a disc in its drive hda."""

    @property
    def xml(self) -> str:
        drive = f"""<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>
      <source file='{self.folder}/disc.iso'/><target dev='hda' bus='ide'/><readonly/></disk>"""
        return super().xml.replace("<devices>", f"<devices>{drive}")


@pytest.fixture(scope="session")
def session_guest(session_bed: PrivateLibvirt) -> Iterator[Guest]:
    guest = DiscGuest.make("vm", session_bed.images, disks=2)
    (guest.folder / "disc.iso").write_bytes(bytes(2048 * 16))
    yield guest.up()
    session_bed.mend_libvirtd()
    guest.remove()


@pytest.fixture
def guest(bed: PrivateLibvirt, session_guest: Guest, client: Client) -> Iterator[Guest]:
    """A running guest of two qcow2 disks, a CD and an agent, without a snapshot, which the daemon
    knows. A test may leave it in any state."""
    know(client, session_guest)
    yield session_guest
    bed.mend_libvirtd()
    steps.clean(session_guest)


def have_clock_set(guest: Guest) -> None:
    """Have the guest's agent able to set the time: it looks for hwclock once in its life."""
    guest.cmd("sh", "ln -sf /bin/hwclock /sbin/hwclock; killall qemu-ga")
    guest.cmd("sh", "while pidof qemu-ga >/dev/null; do sleep 0.1; done")
    guest.cmd("agent", "start")
    guest.wait()


def know(client: Client, guest: Guest) -> None:
    """Wait until the daemon shows the guest as libvirt has it."""
    names = {"running": "running", "paused": "paused", "shut off": "shutoff"}
    client.until(
        f"the daemon sees {guest.name} {guest.state()}",
        lambda: (row := client.domain(guest.name)) and row["State"] == names[guest.state()],
    )
