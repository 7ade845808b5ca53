"""Losses that people reported and that no other module replays, each shown to end well. The VMs
do nothing: images, libvirt's own tool and checksums are the witnesses."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.private import PrivateLibvirt
from tests.client import Client, Daemon
from tests.qemu.conftest import know
from tests.qemu.idle import IdleGuest, left_alone
from tests.qemu.steps import listed, qemu_img, tags


@pytest.fixture
def idle(bed: PrivateLibvirt, client: Client) -> Iterator[IdleGuest]:
    """A VM of two disks that is off and that the daemon knows."""
    guest = IdleGuest.empty("idle", bed.images, disks=("qcow2", "qcow2"))
    guest.define()
    know(client, guest)
    yield guest
    bed.mend_libvirtd()
    guest.remove()


def written(image: Path, byte: int) -> None:
    command = ["qemu-io", "-f", "qcow2", "-c", f"write -P {byte} 0 64k", str(image)]
    subprocess.run(command, check=True, timeout=30, capture_output=True)


def holds(image: Path, byte: int) -> bool:
    """Whether the guest would read that byte, all over the first 64 KiB."""
    command = ["qemu-io", "-r", "-c", f"read -P {byte} 0 64k", str(image)]
    done = subprocess.run(command, check=False, timeout=30, capture_output=True, text=True)
    return done.returncode == 0 and "Pattern verification failed" not in done.stdout


def test_overlay_with_an_internal_snapshot_in_it_is_kept(client: Client, idle: IdleGuest) -> None:
    """Case 4: libvirt merges the overlay, unlinks it, and goes on listing what was in it."""
    idle.virsh("snapshot-create-as", "ext", "--disk-only")
    idle.virsh("snapshot-create-as", "int")
    overlays = [path.with_suffix(".ext") for path in idle.images]
    before = [path.read_bytes() for path in (*idle.images, *overlays)]
    for verb in ("RevertSnapshot", "DeleteSnapshot"):
        for name in ("ext", "int"):
            assert client.refused(verb, "idle", name) == ("Unsupported", "mixed-tree")
    assert [path.read_bytes() for path in (*idle.images, *overlays)] == before
    assert [idle.tags(path) for path in overlays] == [["int"], ["int"]]
    assert sorted(listed(idle)) == ["ext", "int"]


def test_image_that_another_vm_is_backed_by_is_neither_reverted_nor_merged_into(
    bed: PrivateLibvirt, client: Client, idle: IdleGuest
) -> None:
    """Case 5: the other VM would read other data from then on."""
    written(idle.images[0], 1)
    client.create("idle", "s")
    written(idle.images[0], 2)
    clone = IdleGuest.empty("clone", bed.images)
    clone.images[0].unlink()
    qemu_img("create", "-f", "qcow2", "-b", idle.images[0], "-F", "qcow2", clone.images[0])
    clone.define()
    try:
        with left_alone(idle):
            found = client.refused("RevertSnapshot", "idle", "s", safety_snapshot=False)
            assert found == ("Protected", "shared-base")
        assert holds(clone.images[0], 2)
        client.delete("idle", "s")  # takes nothing from what the clone reads
        idle.virsh("snapshot-create-as", "ext", "--disk-only")
        written(idle.images[0].with_suffix(".ext"), 3)
        assert client.refused("DeleteSnapshot", "idle", "ext")[0] in ("Unsupported", "Protected")
        assert holds(clone.images[0], 2)
    finally:
        clone.remove()


def test_revert_rolls_the_configuration_back_and_no_policy_with_it(
    daemon: Daemon, client: Client, idle: IdleGuest
) -> None:
    """Case 13: what stands in the domain's own metadata goes; a disk that came since stays."""
    policy = daemon.config / "policies.d" / "kept.toml"
    policy.write_text('domains = ["idle"]\nschedule = "0 0 1 1 *"\n[keep]\nlast = 3\n')
    client.call("Reload")
    (first,) = client.wait(client.call("RunPolicy", "kept"))["Domains"]
    words = ["--uri", "urn:x", "--key", "x", "--set", "<p keep='3'/>", "--config"]
    name = client.properties(first["Snapshot"], "Snapshot")["Name"]
    idle.virsh("metadata", *words)
    extra = idle.folder / "extra.qcow2"
    qemu_img("create", "-f", "qcow2", extra, "1M")
    idle.virsh("attach-disk", str(extra), "vdc", "--subdriver", "qcow2", "--config")
    with left_alone(idle):
        found = client.refused("RevertSnapshot", "idle", name, safety_snapshot=False)
        assert found == ("Unsupported", "pending-config")
    idle.virsh("detach-disk", "vdc", "--config")
    client.revert("idle", name, safety_snapshot=False)
    assert "<p keep=" not in idle.virsh("dumpxml", "--inactive")
    assert extra.exists()
    row = client.snapshots("idle")[name]
    assert (row["Origin"], row["Policies"]) == ("policy", ["kept"])
    time.sleep(1)  # or the second one has the first one's name
    (again,) = client.wait(client.call("RunPolicy", "kept"))["Domains"]
    assert again["Outcome"] == "made"
    policy.unlink()
    client.call("Reload")


def test_job_that_waited_behind_a_create_in_which_qemu_died_looks_anew(
    client: Client, idle: IdleGuest
) -> None:
    """Case 53: what waited would go on as a snapshot of a VM that is off."""
    idle.start()
    know(client, idle)
    pid = int(Path(f"/run/libvirt/qemu/{idle.name}.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    job = client.call("CreateSnapshot", "idle", "dying", memory="no", quiesce="no")
    client.until("it goes", lambda: client.job(job)["Started"])
    waiting = client.call("CreateSnapshot", "idle", "next", memory="yes")
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)
    row = client.until("it is settled", lambda: (r := client.job(job))["Finished"] and r, 60)
    assert row["State"] == "failed", row
    row = client.until("so is the next", lambda: (r := client.job(waiting))["Finished"] and r, 60)
    assert (row["State"], row["ErrorDetail"]["Reason"]) == ("failed", "no-memory")
    assert (tags(idle), listed(idle), idle.state()) == ([[], []], [], "shut off")
