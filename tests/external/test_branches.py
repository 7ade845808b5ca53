"""A tree of two branches of external snapshots, s1-s2 and s1-s3, with the VM on either or on what
they branch off: back to each, and all of them away in every order, running and off. What libvirt
can't delete yet is refused with the reason, and goes when that is gone; nobody's moment is lost."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import pytest

from tests.bed.guest import Guest
from tests.client import Client
from tests.external.moments import MODES, Moments
from tests.external.test_orders import guest, module_guest
from tests.qemu.steps import note

__all__ = ["guest", "module_guest"]

NAMES = ("s1", "s2", "s3")
REFUSED = {
    ("s3", "s1", "s2 s3"): "branching",
    ("s3", "s3", "s1 s2"): "branching",  # libvirt would do it, and unlink what s2 stands on later
    ("s2", "s1", "s2 s3"): "branching",
    ("s2", "s1", "s3"): "active-non-leaf",
    ("s1", "s1", "s2 s3"): "branching",
    ("s1", "s1", "s2"): "active-non-leaf",
    ("s1", "s1", "s3"): "active-non-leaf",
}
"""The one that the VM went back to last, the one to go, the others that are there: why not."""
SHORT = [("running", "s3", ("s3", "s1", "s2"))]
SHAPES = [*product(("running", "off"), NAMES, permutations(NAMES))]


def _mode(number: int) -> str:
    """Of which mode the snapshots of a case are: each mode meets every order and every place."""
    state, place, order = number // 18, number // 6 % 3, number % 6
    return [*MODES][(place + order + 2 * state) % len(MODES)]


CASES = [
    pytest.param(
        _mode(number),
        *shape,
        id="-".join((_mode(number), shape[0], "on", shape[1], *shape[2])),
        marks=() if shape in SHORT else pytest.mark.long,
    )
    for number, shape in enumerate(SHAPES)
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("mode", "state", "place", "order"), CASES)
def test_back_to_each_and_all_go_as_soon_as_libvirt_can(
    client: Client,
    guest: Guest,
    tmp_path: Path,
    mode: str,
    state: str,
    place: str,
    order: tuple[str, ...],
) -> None:
    moments, left = Moments(client, guest, mode, tmp_path), list(NAMES)
    for name in ("s1", "s2"):
        moments.make(name)
    moments.back("s1")
    moments.make("s3")
    note(guest, "later")
    for name in (*(n for n in order if n != place), place):
        moments.back(name)
        moments.are_right(NAMES)
    note(guest, "now")
    if state == "off":
        moments.off()
    for name in (*order, *order):
        if name not in left:
            continue
        others = " ".join(n for n in left if n != name)
        if word := REFUSED.get((place, name, others)):
            moments.stays(name, word, left)
        else:
            moments.go(name, left)
    assert left == []
    assert guest.state() == ("running" if state == "running" else "shut off")
    moments.end("now")
