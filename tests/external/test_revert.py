"""Reverts to external snapshots of real guests (libvirt 9.9 and newer): what the guest has on its
disks and in its RAM says which moment it is, and the files say that nobody else's has gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from snapd.errors import Partial
from tests.bed.guest import Guest, virsh
from tests.bed.private import PrivateLibvirt
from tests.client import Client, Daemon, Row
from tests.qemu import steps
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import current, in_ram, listed, note, on_disks

VM = "outside"


@pytest.fixture
def guest(client: Client, new_guest: NewGuest) -> Iterator[Guest]:
    """A running guest of a qcow2 disk and a raw one, which the daemon knows."""
    made = new_guest(VM, disks=["qcow2", "raw"], disk_mib=16, memory=128).up()
    made.cmd("sh", "kill $(cat /run/counter.pid)")  # it takes much of an emulated CPU
    know(client, made)
    yield made


def snap(client: Client, guest: Guest, name: str, memory: str = "no") -> None:
    """A snapshot of a moment of that name."""
    if guest.state() == "running":
        note(guest, name)
    made = client.create(VM, name, kind="external", memory=memory, quiesce="no")
    assert made["Name"] == name


def back(client: Client, name: str, **opts: object) -> Row:
    return client.revert(VM, name, **opts)


def shows(guest: Guest, text: str, ram: str = "nothing") -> None:
    """The running guest is of that moment."""
    guest.wait()
    assert (on_disks(guest), in_ram(guest)) == ([text, text], ram)


def files(guest: Guest) -> dict[str, tuple[int, int]]:
    """Name -> what tells a file that was written."""
    found = {p.name: p.stat() for p in guest.folder.iterdir()}
    return {name: (s.st_ino, s.st_mtime_ns) for name, s in found.items()}


def sources(guest: Guest) -> list[Path]:
    return [Path(line.split()[-1]) for line in guest.virsh("domblklist").splitlines()]


def sound(guest: Guest) -> None:
    """Every image of the guest, which is off, is sound and stands on files that are there."""
    for image in guest.folder.iterdir():
        if image.suffix not in (".raw", ".ram"):
            steps.qemu_img("check", "-f", "qcow2", image)
            steps.qemu_img("info", "--backing-chain", "-f", "qcow2", image)


@pytest.mark.timeout(600)
def test_revert_in_chain_and_branches_of_running_guest_is_right_and_can_be_undone(
    client: Client, guest: Guest
) -> None:
    boot = guest.cmd("boot-id")
    for name in ("one", "two", "three"):
        snap(client, guest, name)
    note(guest, "now")
    done = back(client, "one")
    assert (done["FinalState"], guest.state(), current(guest)) == ("running", "running", "one")
    shows(guest, "one")
    assert guest.cmd("boot-id") != boot
    safety = next(r for r in client.snapshots(VM).values() if r["Path"] == done["SafetySnapshot"])
    assert (safety["Kind"], safety["Origin"]) == ("external", "safety")
    assert safety["Consistency"] == "memory"
    snap(client, guest, "branch")
    note(guest, "later")
    for name in ("three", "branch"):
        back(client, name, safety_snapshot=False)
        shows(guest, name)
        note(guest, f"after {name}")
    back(client, safety["Name"], safety_snapshot=False)
    guest.wait()
    assert (on_disks(guest), in_ram(guest)) == (["now", "now"], "now")
    assert guest.cmd("boot-id") == boot
    assert set(listed(guest)) == {"one", "two", "three", "branch", safety["Name"]}
    guest.virsh("destroy")
    sound(guest)


def test_revert_with_ram_brings_it_back_and_the_present_too(client: Client, guest: Guest) -> None:
    boot = guest.cmd("boot-id")
    snap(client, guest, "ram", memory="yes")
    snap(client, guest, "disks")
    note(guest, "now")
    told = client.call("PreviewRevert", VM, "ram")
    assert (told["Verdict"], told["Kind"], told["FinalState"]) == ("yes", "external", "running")
    done = back(client, "ram")
    assert done["FinalState"] == "running"
    assert (on_disks(guest), in_ram(guest)) == (["ram", "ram"], "ram")
    assert guest.cmd("boot-id") == boot
    note(guest, "other")
    done = back(client, "ram", after="stopped", safety_snapshot=False)
    assert (done["FinalState"], guest.state()) == ("shutoff", "shut off")
    done = back(client, "disks", after="paused", safety_snapshot=False)
    assert (done["FinalState"], guest.state()) == ("paused", "paused")
    guest.virsh("resume")
    shows(guest, "disks")


def test_revert_of_guest_that_is_off_stays_off(client: Client, guest: Guest) -> None:
    for name in ("one", "two"):
        note(guest, name)
        guest.cmd("sh", "sync")
        guest.virsh("destroy")
        know(client, guest)
        snap(client, guest, name)
        guest.start()
        guest.wait()
        know(client, guest)
    note(guest, "now")
    guest.cmd("sh", "sync")
    guest.virsh("destroy")
    know(client, guest)
    done = back(client, "one")
    assert (done["FinalState"], guest.state()) == ("shutoff", "shut off")
    (safety,) = set(listed(guest)) - {"one", "two"}
    sound(guest)
    for name, text in (("two", "two"), (safety, "now"), ("one", "one")):
        done = back(client, name, safety_snapshot=False, after="running")
        assert done["FinalState"] == "running"
        shows(guest, text)


@pytest.mark.parametrize("how", ["marked", "redefined"])
def test_revert_of_tree_that_libvirt_would_destroy_is_refused_and_touches_nothing(
    client: Client, guest: Guest, how: str, tmp_path: Path
) -> None:
    """LIBVIRT.md 9.7 and 9.8: libvirt itself unlinks what the VM stands on, or a sibling's base."""
    for name in ("one", "two"):
        snap(client, guest, name)
    if how == "marked":
        virsh("snapshot-current", VM, "one")
    else:
        back(client, "one", safety_snapshot=False)
        guest.wait()
        record = tmp_path / "one.xml"
        record.write_text(guest.virsh("snapshot-dumpxml", "one", "--security-info"))
        guest.virsh("snapshot-create", str(record), "--redefine", "--current")
    note(guest, "now")
    boot, before, on, names = guest.cmd("boot-id"), files(guest), sources(guest), listed(guest)
    for target in ("one", "two"):
        assert client.refused("RevertSnapshot", VM, target) == ("Inconsistent", "not-in-chain")
    assert (guest.cmd("boot-id"), sources(guest), listed(guest)) == (boot, on, names)
    assert files(guest).keys() == before.keys()
    assert (on_disks(guest), in_ram(guest)) == (["now", "now"], "now")


def test_revert_whose_ram_cannot_be_loaded_leaves_the_vm_on_its_own_disks(
    client: Client, guest: Guest
) -> None:
    """libvirt leaves it defined on the files that all its snapshots stand on."""
    snap(client, guest, "ram", memory="yes")
    snap(client, guest, "disks")
    note(guest, "now")
    (memory,) = guest.folder.glob("*.ram")
    whole = memory.read_bytes()
    memory.write_bytes(whole[: len(whole) // 3])
    on = sources(guest)
    with pytest.raises(Partial, match="as they were"):
        back(client, "ram", safety_snapshot=False)
    assert guest.state() == "shut off"
    assert (sources(guest), current(guest)) == (on, "disks")
    guest.start()
    shows(guest, "now")
    memory.write_bytes(whole)
    know(client, guest)
    back(client, "ram", safety_snapshot=False)
    assert (on_disks(guest), in_ram(guest)) == (["ram", "ram"], "ram")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("who", ["libvirtd", "qemu", "daemon"])
@pytest.mark.parametrize("seconds", [0.15, 0.6])
def test_revert_broken_off_loses_no_moment(
    bed: PrivateLibvirt, daemon: Daemon, client: Client, guest: Guest, who: str, seconds: float
) -> None:
    snap(client, guest, "ram", memory="yes")
    snap(client, guest, "disks")
    note(guest, "now")
    job = client.call("RevertSnapshot", VM, "ram", safety_snapshot=False)
    client.until("it acts", lambda: client.job(job)["Phase"] == "reverting")
    time.sleep(seconds)
    if who == "libvirtd":
        bed.kill_libvirtd()
        bed.mend_libvirtd()
    elif who == "daemon":
        daemon.kill()
        daemon.start()
    else:
        with suppress(FileNotFoundError, ProcessLookupError):  # it may be between two
            os.kill(int(Path(f"/run/libvirt/qemu/{VM}.pid").read_text()), signal.SIGKILL)
    client.until("it is settled", lambda: client.job(job)["Finished"], 60)
    row = client.job(job)
    know(client, guest)
    if row["State"] == "done":
        assert (on_disks(guest), in_ram(guest)) == (["ram", "ram"], "ram")
    elif guest.state() == "shut off":
        guest.start()
        shows(guest, "now")
    know(client, guest)
    for name, ram in (("disks", "nothing"), ("ram", "ram")):
        back(client, name, safety_snapshot=False)
        shows(guest, name, ram)
