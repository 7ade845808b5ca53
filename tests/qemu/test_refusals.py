"""What is refused before anything is touched: the guest runs on, nothing new is in its images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bed.guest import Guest
from tests.client import Client
from tests.qemu.conftest import know
from tests.qemu.steps import (
    listed,
    qemu_img,
    tag,
    tags,
    untag,
    untouched,
)

RUNNING = {"memory": "no", "quiesce": "no"}


@contextmanager
def attached(guest: Guest, form: str, *made_with: str, config: bool = True) -> Iterator[Path]:
    """A third disk, plugged into the running guest; config: also into its stored configuration."""
    path = guest.folder / "extra.img"
    qemu_img("create", "-f", form, *made_with, path, "1M")
    words = ["--subdriver", form, "--live", *(["--config"] if config else [])]
    guest.virsh("attach-disk", str(path), "vdc", *words)
    try:
        yield path
    finally:
        guest.virsh("detach-disk", "vdc", "--live", *(["--config"] if config else []))
        deadline = time.monotonic() + 20
        while "vdc" in guest.virsh("domblklist"):
            assert time.monotonic() < deadline, "the guest doesn't let go of the disk"
            time.sleep(0.1)
        path.unlink()


def test_names_that_some_libvirt_would_lose_are_refused_at_once(
    client: Client, guest: Guest
) -> None:
    bad = ["123", "a/b", ".dot", "-dash", 'quo"te', "back\\slash", "spa ce", "grün", "x" * 129]
    with untouched(guest):
        for name in bad:
            assert client.refused("CreateSnapshot", "vm", name, **RUNNING) == ("InvalidName", "")


def test_raw_disk_refuses_create_with_and_without_ram(client: Client, guest: Guest) -> None:
    with untouched(guest), attached(guest, "raw"):
        for memory in ("no", "yes"):
            found = client.refused("CreateSnapshot", "vm", "x", memory=memory)
            assert found == ("Unsupported", "raw-disk")


def test_image_with_one_bit_refcounts_refuses_create(client: Client, guest: Guest) -> None:
    with untouched(guest), attached(guest, "qcow2", "-o", "refcount_bits=1"):
        found = client.refused("CreateSnapshot", "vm", "x", **RUNNING)
        assert found == ("Unsupported", "wrong-format")


def test_disk_plugged_in_live_only_refuses_create_and_revert(client: Client, guest: Guest) -> None:
    client.create("vm", "before", **RUNNING)
    with untouched(guest), attached(guest, "qcow2", config=False):
        found = client.refused("CreateSnapshot", "vm", "x", **RUNNING)
        assert found == ("Unsupported", "pending-config")
        found = client.refused("RevertSnapshot", "vm", "before", safety_snapshot=False)
        assert found == ("Unsupported", "pending-config")


def test_disk_unplugged_live_only_refuses_create_and_revert(client: Client, guest: Guest) -> None:
    with untouched(guest):
        with attached(guest, "qcow2", config=False) as path:
            stored = ["--subdriver", "qcow2", "--config"]
            guest.virsh("attach-disk", str(path), "vdc", *stored)
            client.create("vm", "three", **RUNNING)
        try:
            found = client.refused("CreateSnapshot", "vm", "x", **RUNNING)
            assert found == ("Unsupported", "pending-config")
            word = client.refused("RevertSnapshot", "vm", "three", safety_snapshot=False)[0]
            assert word in ("PreflightFailed", "Unsupported")
            assert client.delete("vm", "three")["Deleted"] == ["three"]
        finally:
            guest.virsh("detach-disk", "vdc", "--config")


def test_tag_unknown_to_libvirt_refuses_its_name(client: Client, guest: Guest) -> None:
    tag(guest, "ghost", 1)
    with untouched(guest):
        for memory in ("no", "yes"):
            found = client.refused("CreateSnapshot", "vm", "ghost", memory=memory)
            assert found == ("AlreadyExists", "half-made")


def test_tag_missing_in_one_disk_refuses_revert(client: Client, guest: Guest) -> None:
    client.create("vm", "half", **RUNNING)
    client.create("vm", "ram", memory="yes")
    untag(guest, "half", 1)
    untag(guest, "ram", 0)
    with untouched(guest):
        for name in ("half", "ram"):
            found = client.refused("RevertSnapshot", "vm", name)
            assert found == ("Inconsistent", "half-made")


def test_tag_twice_in_an_image_refuses_revert_and_delete(client: Client, guest: Guest) -> None:
    client.create("vm", "double", **RUNNING)
    guest.virsh("destroy")
    know(client, guest)
    qemu_img("snapshot", "-c", "double", guest.images[0])
    before = tags(guest)
    assert before == [["double", "double"], ["double"]]
    for verb in ("RevertSnapshot", "DeleteSnapshot"):
        assert client.refused(verb, "vm", "double") == ("Inconsistent", "half-made")
    assert (tags(guest), listed(guest), guest.state()) == (before, ["double"], "shut off")


def test_name_that_is_another_snapshots_number_refuses_revert_and_delete(
    client: Client, guest: Guest
) -> None:
    """QEMU takes a name of digits for a number first, and goes back to the wrong snapshot."""
    guest.virsh("snapshot-create-as", "first")
    guest.virsh("snapshot-create-as", "1")
    client.until("it is listed", lambda: "1" in client.snapshots("vm"))
    with untouched(guest):
        found = client.refused("RevertSnapshot", "vm", "1", safety_snapshot=False)
        assert found == ("Inconsistent", "half-made")
        assert client.refused("DeleteSnapshot", "vm", "1") == ("Inconsistent", "half-made")


def test_disc_that_is_gone_refuses_revert(client: Client, guest: Guest) -> None:
    client.create("vm", "with-disc", **RUNNING)
    disc = guest.folder / "disc.iso"
    aside = disc.rename(guest.folder / "aside")
    try:
        with untouched(guest):
            found = client.refused("RevertSnapshot", "vm", "with-disc", safety_snapshot=False)
            assert found == ("PreflightFailed", "missing-file")
    finally:
        aside.rename(disc)


def test_disk_that_is_gone_refuses_create_and_revert_of_guest_that_is_off(
    client: Client, guest: Guest
) -> None:
    client.create("vm", "whole", **RUNNING)
    guest.virsh("destroy")
    know(client, guest)
    aside = guest.images[1].rename(guest.folder / "aside")
    try:
        found = client.refused("CreateSnapshot", "vm", "x")
        assert found == ("PreflightFailed", "missing-disk")
        assert client.refused("RevertSnapshot", "vm", "whole")[0] == "PreflightFailed"
        assert client.refused("DeleteSnapshot", "vm", "whole")[0] == "PreflightFailed"
    finally:
        aside.rename(guest.images[1])
    assert (tags(guest), listed(guest)) == ([["whole"]] * 2, ["whole"])


def test_transient_domain_refuses_create(client: Client, guest: Guest) -> None:
    xml = guest.virsh("dumpxml", "--inactive", "--security-info")
    guest.virsh("undefine")
    try:
        for memory in ("no", "yes"):
            found = client.refused("CreateSnapshot", "vm", "x", memory=memory)
            assert found == ("Unsupported", "transient")
    finally:
        guest.define(xml)
    with untouched(guest):
        pass


def test_managed_save_refuses_create_and_revert(client: Client, guest: Guest) -> None:
    client.create("vm", "before", **RUNNING)
    with untouched(guest):
        guest.virsh("managedsave")
        know(client, guest)
        found = client.refused("CreateSnapshot", "vm", "x")
        assert found == ("Unsupported", "managed-save")
        found = client.refused("RevertSnapshot", "vm", "before", safety_snapshot=False)
        assert found == ("NeedsForce", "managed-save")
        guest.start()
        guest.wait()


def _backup(guest: Guest) -> Path:
    """A pull backup of both disks, which holds the VM until it is ended."""
    xml = guest.folder / "backup.xml"
    disks = "".join(
        f"<disk name='{d.path.stem}' type='file'>"
        f"<scratch file='{guest.folder}/{d.path.stem}.scratch'/></disk>"
        for d in guest.disks
    )
    xml.write_text(
        f"<domainbackup mode='pull'><server transport='unix' socket='{guest.folder}/nbd.sock'/>"
        f"<disks>{disks}<disk name='hda' backup='no'/></disks></domainbackup>"
    )
    return xml


def test_backup_at_work_makes_every_verb_busy_at_once(client: Client, guest: Guest) -> None:
    client.create("vm", "before", **RUNNING)
    guest.virsh("backup-begin", str(_backup(guest)))
    try:
        begun = time.monotonic()
        for name, memory in (("x", "no"), ("y", "yes")):
            found = client.refused("CreateSnapshot", "vm", name, memory=memory, max_wait=0)
            assert found == ("Busy", "backup")
        for verb in ("RevertSnapshot", "DeleteSnapshot"):
            assert client.refused(verb, "vm", "before", max_wait=0) == ("Busy", "backup")
        assert time.monotonic() - begun < 8
        waiting = client.call("CreateSnapshot", "vm", "later", **RUNNING)
        client.until("it waits for the backup", lambda: client.job(waiting)["Phase"] == "waiting")
        found = client.refused("CreateSnapshot", "vm", "never", max_wait=0, **RUNNING)
        assert found[0] == "Busy"  # one job at a time: the waiting one has the VM
    finally:
        guest.virsh("domjobabort")
        client.until("the backup is gone", lambda: "None" in guest.virsh("domjobinfo"))
    begun = time.monotonic()
    assert client.wait(waiting)["Name"] == "later"
    assert time.monotonic() - begun < 3  # libvirt says that the backup ended; nobody polls for it
    assert (tags(guest), listed(guest)) == ([["before", "later"]] * 2, ["before", "later"])


def test_job_that_waits_for_a_backup_can_be_cancelled(client: Client, guest: Guest) -> None:
    guest.virsh("backup-begin", str(_backup(guest)))
    try:
        job = client.call("CreateSnapshot", "vm", "x", **RUNNING)
        client.until("it waits for the backup", lambda: client.job(job)["Phase"] == "waiting")
        assert client.job(job)["Cancellable"] is True
        client.ask(job, "Job", "Cancel")
        client.until("it is cancelled", lambda: client.job(job)["State"] == "cancelled")
    finally:
        guest.virsh("domjobabort")
        client.until("the backup is gone", lambda: "None" in guest.virsh("domjobinfo"))
    with untouched(guest):
        pass


def test_block_job_at_work_makes_create_busy(client: Client, guest: Guest) -> None:
    target = guest.folder / "copy.qcow2"
    slow = ["--transient-job", "--format", "qcow2", "--bandwidth", "1", "--bytes"]
    guest.virsh("blockcopy", "vda", str(target), *slow)
    try:
        found = client.refused("CreateSnapshot", "vm", "x", max_wait=0, **RUNNING)
        assert found == ("Busy", "block-job")
        waiting = client.call("CreateSnapshot", "vm", "y", **RUNNING)
        client.until("it waits for the copy", lambda: client.job(waiting)["Phase"] == "waiting")
    finally:
        guest.virsh("blockjob", "vda", "--abort")
        target.unlink()
    with untouched(guest):
        client.until("the job is gone", lambda: "Copy" not in guest.virsh("blockjob", "vda"))
    assert client.wait(waiting)["Name"] == "y"


def test_checkpoint_refuses_revert_and_not_create(client: Client, guest: Guest) -> None:
    client.create("vm", "before", **RUNNING)
    guest.virsh("checkpoint-create-as", "cp1")
    try:
        client.create("vm", "beside", **RUNNING)
        with untouched(guest):
            found = client.refused("RevertSnapshot", "vm", "before", safety_snapshot=False)
            assert found == ("Unsupported", "checkpoints")
    finally:
        guest.virsh("checkpoint-delete", "cp1")
    assert client.revert("vm", "before", safety_snapshot=False)["FinalState"] == "running"
    guest.wait()


def test_external_snapshot_by_virsh_refuses_all_verbs_and_is_listed(
    client: Client, guest: Guest
) -> None:
    client.create("vm", "ours", **RUNNING)
    overlays = [f"{guest.folder}/{d.path.stem}.ext" for d in guest.disks]
    guest.virsh("snapshot-create-as", "ext", "--disk-only")
    try:
        guest.virsh("suspend")  # the create itself sends no event
        guest.virsh("resume")
        row = client.until("it is listed", lambda: client.snapshots("vm").get("ext"))
        assert (row["Kind"], row["Origin"]) == ("external", "foreign")
        assert (row["RevertBlocker"], row["DeleteBlocker"]) == ("mixed-tree",) * 2
        boot = guest.cmd("boot-id")
        for memory in ("no", "yes"):
            found = client.refused("CreateSnapshot", "vm", "x", memory=memory)
            assert found == ("Unsupported", "mixed-tree")
        for verb in ("RevertSnapshot", "DeleteSnapshot"):
            assert client.refused(verb, "vm", "ext") == ("Unsupported", "mixed-tree")
            assert client.refused(verb, "vm", "ours") == ("Unsupported", "mixed-tree")
        assert (guest.state(), guest.cmd("boot-id")) == ("running", boot)
        assert sorted(listed(guest)) == ["ext", "ours"]
        assert tags(guest) == [["ours"], ["ours"]]
    finally:
        for disk in guest.disks:
            words = ["--active", "--pivot", "--wait", "--timeout", "30"]
            guest.virsh("blockcommit", disk.path.stem, *words)
        guest.virsh("snapshot-delete", "ext", "--metadata")
        for overlay in overlays:
            Path(overlay).unlink()
    assert await_sources(guest) == [str(path) for path in guest.images]


def await_sources(guest: Guest) -> list[str]:
    lines = [line.split() for line in guest.virsh("domblklist").splitlines()]
    return [path for target, path in lines if target.startswith("vd")]
