"""Real guests for tests/qemu. The whole pytest process lives where qemu:///system is private."""

import os
from collections.abc import Iterator
from typing import Protocol

import pytest

from tests.bed import recipe
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt, leave_the_machine

if os.geteuid() == 0:
    leave_the_machine()  # now, before any test has started a thread


class NewGuest(Protocol):
    """Make a guest: its images are there, it isn't defined yet. It is removed after the test."""

    def __call__(
        self,
        name: str,
        *,
        disks: int | list[str] = 1,
        disk_mib: int = 64,
        memory: int = 128,
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
        memory: int = 128,
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
