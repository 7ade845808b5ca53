"""The shipped template, unchanged: a running, a paused and a shut-off guest."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.bed.guest import Guest
from tests.bus import PrivateBus
from tests.client import TOP, Client
from tests.qemu.conftest import know
from tests.qemu.steps import listed, tags


def virtsnap(bus: PrivateBus, *words: str) -> str:
    """What the CLI prints; AssertionError where it fails."""
    command = [sys.executable, "-m", "snapd.cli", "--bus-address", bus.address, *words]
    done = subprocess.run(
        command, cwd=TOP, env=dict(os.environ), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("state", ["running", "paused", "shut off"])
def test_nightly_works_unchanged(bus: PrivateBus, client: Client, guest: Guest, state: str) -> None:
    if state == "paused":
        guest.virsh("suspend")
    elif state == "shut off":
        guest.virsh("destroy")
    know(client, guest)
    virtsnap(bus, "policy", "enable", "nightly", "--yes")
    try:
        virtsnap(bus, "policy", "run", "nightly", "vm")
        (name,) = listed(guest)
        assert name.startswith("nightly-") and tags(guest) == [[name], [name]]
        assert guest.state() == state
        rows = json.loads(virtsnap(bus, "list", "vm", "--json"))["rows"]
        assert [(r["Name"], r["Policies"]) for r in rows] == [(name, ["nightly"])]
        assert rows[0]["State"] == state.replace(" ", "")
        assert guest.virsh("snapshot-info", name).count("internal") == 1
    finally:
        virtsnap(bus, "policy", "remove", "nightly")
