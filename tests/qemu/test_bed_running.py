"""The bed itself, on one guest that each test leaves running as it was."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.guest import Guest, virsh
from tests.bed.private import PrivateLibvirt
from tests.bed.talk import GuestError


@pytest.fixture(scope="module")
def guest(session_bed: PrivateLibvirt) -> Iterator[Guest]:
    """A guest with two disks for tests that leave it running as it was: a boot takes seconds."""
    guest = Guest.make("shared", session_bed.images, disks=["qcow2", "raw"]).up()
    yield guest
    guest.remove()


def test_guest_started_answers_and_counts_on_every_disk(guest: Guest) -> None:
    before = {disk: int(guest.cmd("last", disk)) for disk in ("vda", "vdb")}
    time.sleep(1)
    after = {disk: int(guest.cmd("last", disk)) for disk in ("vda", "vdb")}
    assert all(after[disk] - before[disk] >= 5 for disk in before)
    with pytest.raises(GuestError, match="status 1"):
        guest.cmd("read", "nothing")


def test_freeze_by_agent_stops_the_disk_counter_until_thaw(guest: Guest) -> None:
    guest.cmd("gap", "reset")
    guest.virsh("domfsfreeze")
    assert guest.agent("guest-fsfreeze-status") == "frozen"
    tick = guest.cmd("tick")
    with guest.pulse() as pulse:
        time.sleep(1)
    assert guest.cmd("tick") == tick
    assert pulse.standstill() < 0.5
    assert pulse.write_stall() >= 1
    guest.virsh("domfsthaw")
    time.sleep(0.5)
    assert int(guest.cmd("tick")) > int(tick)
    assert int(guest.cmd("gap")) >= 100


def test_freeze_without_agent_fails(guest: Guest) -> None:
    guest.cmd("agent", "stop")
    with pytest.raises(GuestError, match="agent"):
        guest.virsh("domfsfreeze")
    guest.cmd("agent", "start")
    guest.wait()
    assert guest.agent("guest-fsfreeze-status") == "thawed"


def test_pulse_of_suspended_guest_measures_the_time_of_suspension(guest: Guest) -> None:
    with guest.pulse() as calm:
        time.sleep(2)
    with guest.pulse() as pulse:
        guest.virsh("suspend")
        suspended = time.monotonic()
        time.sleep(1.5)
        stood = time.monotonic() - suspended
        guest.virsh("resume")
    assert calm.standstill() < 0.5
    assert stood - 0.1 <= pulse.standstill() <= stood + 0.5
    assert len(calm.beats) > 50


def test_libvirtd_killed_and_started_again_finds_the_guest_running(
    bed: PrivateLibvirt, guest: Guest
) -> None:
    boot_id, tick = guest.cmd("boot-id"), int(guest.cmd("tick"))
    running = virsh("list", "--name").split()
    bed.kill_libvirtd()
    assert "Failed to connect" in virsh("list", check=False)
    bed.start_libvirtd()
    assert virsh("list", "--name").split() == running
    assert guest.name in running
    assert guest.state() == "running"
    assert guest.cmd("boot-id") == boot_id
    assert int(guest.cmd("tick")) > tick


def test_libvirtd_frozen_answers_after_thaw_only(bed: PrivateLibvirt) -> None:
    bed.freeze_libvirtd()
    with pytest.raises(subprocess.TimeoutExpired):
        virsh("list", timeout=1)
    bed.thaw_libvirtd()
    virsh("list")


def test_machine_sees_no_mount_of_ours(bed: PrivateLibvirt) -> None:
    assert Path("/run/libvirt").samefile(bed.scratch / "run-libvirt")
    assert bed.scratch.name in Path("/proc/self/mountinfo").read_text()
    assert bed.scratch.name not in Path("/proc/1/mountinfo").read_text()
