"""A chain of three external snapshots of each mode: back to one of them, and all of them away, in
every order, running and off. The guest tells that each was of its moment; qemu-img that the others
stay what they are, that images are sound, and that the daemon says of chains what is so."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.client import Client
from tests.external.moments import MODES, Moments, calm
from tests.qemu.conftest import know
from tests.qemu.steps import listed, note

NAMES = ("s1", "s2", "s3")
SHORT = {("quiesced", "running", ("s2", "s3", "s1")), ("memory", "off", ("s1", "s3", "s2"))}
CASES = [
    pytest.param(
        mode,
        state,
        order,
        id=f"{mode}-{state}-{'-'.join(order)}",
        marks=() if (mode, state, order) in SHORT else pytest.mark.long,
    )
    for mode in MODES
    for state in ("running", "off")
    for order in permutations(NAMES)
]


@pytest.fixture(scope="module")
def module_guest(session_bed: PrivateLibvirt) -> Iterator[Guest]:
    hardware, disks = Hardware(memory=128), ["qcow2", "raw"]
    guest = Guest.make("orders", session_bed.images, disks=disks, disk_mib=16, hardware=hardware)
    yield guest.up()
    session_bed.mend_libvirtd()
    guest.remove()


@pytest.fixture
def guest(module_guest: Guest, client: Client) -> Guest:
    """A running guest of a qcow2 and a raw disk without a snapshot."""
    if module_guest.state() != "running":
        module_guest.start()
    calm(module_guest)
    assert listed(module_guest) == []
    know(client, module_guest)
    return module_guest


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("mode", "state", "order"), CASES)
def test_first_goes_second_is_gone_back_to_and_all_go(
    client: Client, guest: Guest, tmp_path: Path, mode: str, state: str, order: tuple[str, ...]
) -> None:
    first, second, third = order
    moments, left = Moments(client, guest, mode, tmp_path), list(NAMES)
    for name in NAMES:
        moments.make(name)
    note(guest, "now")
    moments.are_right(NAMES)
    if state == "off":
        moments.off()
    moments.go(first, left)
    moments.back(second)
    moments.are_right(left)
    if state == "off":
        moments.off()
    moments.go(third, left)
    moments.go(second, left)
    assert guest.state() == ("running" if state == "running" else "shut off")
    moments.end(second)
