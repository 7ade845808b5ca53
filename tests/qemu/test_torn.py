"""LIBVIRT's reverts that tear disks apart or bring wrong data back and say that all is well: each
is refused before anything is stopped. And deletes that would crash libvirtd 9.0 or leave tags."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.bed.guest import Guest, virsh
from tests.bed.private import PrivateLibvirt
from tests.client import Client
from tests.qemu.conftest import know
from tests.qemu.idle import IdleGuest, left_alone
from tests.qemu.steps import listed, monitor, node, qemu_img, tag, tags, untouched
from tests.qemu.test_refusals import attached, await_sources

PLAIN = {"memory": "no", "quiesce": "no"}
SECRET = "b4a7f7a5-6c11-4b5d-9d1a-60d2a5c0f5aa"
LUKS = f"<encryption format='luks'><secret type='passphrase' uuid='{SECRET}'/></encryption>"
NewIdle = Callable[..., IdleGuest]


@pytest.fixture
def new_idle(bed: PrivateLibvirt, client: Client) -> Iterator[NewIdle]:
    made: list[IdleGuest] = []

    def make(name: str, *, disks: tuple[str, ...] = ("qcow2", "qcow2")) -> IdleGuest:
        made.append(IdleGuest.empty(name, bed.images, disks=disks))
        return made[-1]

    yield make
    bed.mend_libvirtd()
    for guest in made:
        guest.remove()


@pytest.fixture
def secret(bed: PrivateLibvirt) -> Iterator[None]:
    xml = f"<secret ephemeral='yes'><uuid>{SECRET}</uuid></secret>"
    virsh("secret-define", "/dev/stdin", text=xml)
    virsh("secret-set-value", SECRET, "dG9ybg==")
    yield
    virsh("secret-undefine", SECRET)


def encrypted(path: Path) -> None:
    """A qcow2 image whose guest data is encrypted with LUKS, opened by SECRET."""
    key = ["--object", "secret,id=key,data=torn", "-o"]
    how = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    for left in reversed(range(30)):
        path.unlink(missing_ok=True)
        try:
            qemu_img("create", "-f", "qcow2", *key, how, path, "1M")
            return
        except subprocess.CalledProcessError as error:
            # It times a short hash by a clock that may not have moved meanwhile, and gives up.
            if not left or b"accurate CPU usage" not in error.stderr:
                raise


@contextmanager
def started(client: Client, guest: IdleGuest) -> Iterator[None]:
    guest.start()
    know(client, guest)
    try:
        yield
    finally:
        guest.virsh("destroy")
        know(client, guest)


def test_disk_with_a_second_data_file_refuses_create(client: Client, guest: Guest) -> None:
    data = guest.folder / "extra.data"
    with untouched(guest), attached(guest, "qcow2", "-o", f"data_file={data}"):
        for memory in ("no", "yes"):
            found = client.refused("CreateSnapshot", "vm", "x", memory=memory, quiesce="no")
            assert found == ("Unsupported", "data-file")
    data.unlink()


def test_encrypted_disk_refuses_create_and_a_revert_without_ram(
    client: Client, new_idle: NewIdle, secret: None
) -> None:
    """libvirt has qemu-img revert without RAM, and gives it no key: only the other disk goes."""
    guest = new_idle("luks")
    encrypted(guest.images[1])
    guest.inside[1] = LUKS
    guest.define()
    know(client, guest)
    with left_alone(guest):
        found = client.refused("CreateSnapshot", "luks", "x")
        assert found == ("Unsupported", "encrypted-disk")
    with started(client, guest):
        taken_by_others(guest, "disks")
        guest.virsh("snapshot-create-as", "ram")
        with left_alone(guest):
            for memory in ("no", "yes"):
                found = client.refused("CreateSnapshot", "luks", "x", memory=memory)
                assert found == ("Unsupported", "encrypted-disk")
            found = client.refused("RevertSnapshot", "luks", "disks", safety_snapshot=False)
            assert found == ("Unsupported", "encrypted-disk")
        assert client.revert("luks", "ram", safety_snapshot=False)["FinalState"] == "running"
        client.delete("luks", "ram")
    with left_alone(guest):
        found = client.refused("DeleteSnapshot", "luks", "disks")
        assert found == ("Unsupported", "encrypted-disk")


def taken_by_others(guest: IdleGuest, name: str) -> None:
    """What another tool may do by the monitor: tags in all disks, and libvirt's record of them."""
    tag(guest, name, 0, 1)
    disks = "".join(f"<disk name='{d.path.stem}' snapshot='internal'/>" for d in guest.disks)
    domain = guest.virsh("dumpxml", "--inactive", "--security-info")
    text = f"""<domainsnapshot><name>{name}</name><state>shutoff</state>
      <creationTime>1700000000</creationTime><disks>{disks}</disks>{domain}</domainsnapshot>"""
    virsh("snapshot-create", guest.name, "--redefine", "--current", "/dev/stdin", text=text)


def test_transient_disk_refuses_create_and_revert(client: Client, new_idle: NewIdle) -> None:
    """While the VM runs its writes are in a second file, which goes with it."""
    guest = new_idle("odd")
    guest.define()
    guest.virsh("snapshot-create-as", "plain")
    guest.inside[1] = "<transient/>"
    guest.define()
    know(client, guest)
    with left_alone(guest):
        found = client.refused("CreateSnapshot", "odd", "x")
        assert found == ("Unsupported", "transient-disk")
    with started(client, guest), left_alone(guest):
        for memory in ("no", "yes"):
            found = client.refused("CreateSnapshot", "odd", "x", memory=memory)
            assert found == ("Unsupported", "transient-disk")
        found = client.refused("RevertSnapshot", "odd", "plain", safety_snapshot=False)
        assert found[0] == "Inconsistent"
        found = client.refused("DeleteSnapshot", "odd", "plain")
        assert found == ("Unsupported", "transient-disk")  # its tag would stay below


def test_bitmap_refuses_revert_and_not_create(client: Client, new_idle: NewIdle) -> None:
    """Where libvirt knows of none: in QEMU's memory, then in one image, then in both."""
    guest = new_idle("marked")
    guest.define()
    know(client, guest)
    client.create("marked", "before")

    def refused() -> None:
        with left_alone(guest):
            found = client.refused("RevertSnapshot", "marked", "before", safety_snapshot=False)
            assert found == ("Unsupported", "checkpoints")

    with started(client, guest):
        monitor(guest, "block-dirty-bitmap-add", node=node(guest, 1), name="b", persistent=True)
        refused()
    refused()
    qemu_img("bitmap", "--add", guest.images[0], "b")
    refused()
    with started(client, guest):
        refused()
        client.create("marked", "beside", **PLAIN)
    for image in guest.images:
        qemu_img("bitmap", "--remove", image, "b")
    assert client.revert("marked", "before", safety_snapshot=False)["FinalState"] == "shutoff"


def test_tag_twice_in_an_image_refuses_revert_and_delete_while_it_runs(
    client: Client, new_idle: NewIdle
) -> None:
    guest = new_idle("doubled")
    guest.define()
    know(client, guest)
    client.create("doubled", "twice")
    qemu_img("snapshot", "-c", "twice", guest.images[1])
    with started(client, guest), left_alone(guest):
        for verb in ("RevertSnapshot", "DeleteSnapshot"):
            assert client.refused(verb, "doubled", "twice") == ("Inconsistent", "half-made")


def test_file_that_is_gone_under_a_running_guest_refuses_create_and_revert(
    client: Client, guest: Guest
) -> None:
    client.create("vm", "whole", **PLAIN)
    with untouched(guest):
        aside = guest.images[1].rename(guest.folder / "aside")
        try:
            for memory in ("no", "yes"):
                found = client.refused("CreateSnapshot", "vm", "x", memory=memory, quiesce="no")
                assert found == ("PreflightFailed", "missing-disk")
            found = client.refused("RevertSnapshot", "vm", "whole", safety_snapshot=False)
            assert found[0] == "PreflightFailed"
        finally:
            aside.rename(guest.images[1])


def test_disk_on_another_file_in_the_stored_configuration_refuses_create_and_revert(
    client: Client, guest: Guest
) -> None:
    client.create("vm", "before", **PLAIN)
    xml = guest.virsh("dumpxml", "--inactive", "--security-info")
    other = guest.folder / "other.qcow2"
    qemu_img("create", "-f", "qcow2", other, "64M")
    with untouched(guest):
        guest.define(xml.replace(str(guest.images[1]), str(other)))
        try:
            found = client.refused("CreateSnapshot", "vm", "x", **PLAIN)
            assert found == ("Unsupported", "pending-config")
        finally:
            guest.define(xml)
            other.unlink()


def test_revert_after_a_copy_was_pivoted_to_is_refused_and_delete_goes(
    client: Client, guest: Guest
) -> None:
    """libvirt would go back to the file from before the copy, and report success."""
    client.create("vm", "before", **PLAIN)
    copy, words = guest.folder / "copy.qcow2", ["--transient-job", "--format", "qcow2"]
    pivot = ["--wait", "--pivot", "--timeout", "60", *words]
    guest.virsh("blockcopy", "vda", str(copy), *pivot)
    try:
        with untouched(guest):
            found = client.refused("RevertSnapshot", "vm", "before", safety_snapshot=False)
            assert found == ("Inconsistent", "half-made")
            blockers = client.call("PreviewRevert", "vm", "before")["Blockers"]
            assert ("other-file", "vda") in [(b["Reason"], b["Item"]) for b in blockers]
        client.create("vm", "on-the-copy", **PLAIN)
        assert guest.tags(copy) == ["on-the-copy"]
        client.delete("vm", "before")
        client.delete("vm", "on-the-copy")
        assert (listed(guest), guest.tags(copy), guest.tags(guest.images[1])) == ([], [], [])
    finally:
        guest.virsh("blockcopy", "vda", str(guest.images[0]), "--reuse-external", *pivot)
        copy.unlink()
    assert await_sources(guest) == [str(path) for path in guest.images]


def test_delete_after_disks_and_disc_came_and_went_leaves_libvirtd_and_no_tag(
    bed: PrivateLibvirt, client: Client, guest: Guest
) -> None:
    """libvirtd 9.0 crashes in its own delete when a disk of the snapshot has left the VM."""
    started = virsh("version", "--daemon")
    with attached(guest, "qcow2"):
        client.create("vm", "three", **PLAIN)
        client.create("vm", "three-ram", memory="yes")
    client.create("vm", "two", **PLAIN)
    guest.virsh("change-media", "hda", "--eject", "--force")
    boot = guest.cmd("boot-id")
    try:
        with attached(guest, "raw"):
            for name in ("three", "two"):
                assert client.delete("vm", name)["Deleted"] == [name]
            assert (listed(guest), tags(guest)) == (["three-ram"], [["three-ram"]] * 2)
        assert client.delete("vm", "three-ram")["Deleted"] == ["three-ram"]
    finally:
        guest.virsh("change-media", "hda", str(guest.folder / "disc.iso"), "--insert", "--force")
    assert (listed(guest), tags(guest)) == ([], [[], []])
    assert (guest.state(), guest.cmd("boot-id")) == ("running", boot)
    assert virsh("version", "--daemon") == started


def test_quoted_names_that_images_do_hold_are_deleted_while_it_runs(
    client: Client, new_idle: NewIdle
) -> None:
    """Made while the VM was off. libvirt 9.0 would report success, and leave the tag."""
    guest = new_idle("quoted")
    guest.define()
    names = ['quo"te', "back\\slash", "grün"]
    for name in names:
        guest.virsh("snapshot-create-as", name)
    assert tags(guest) == [names, names]
    with started(client, guest):
        for name in names:
            assert client.delete("quoted", name)["Deleted"] == [name]
        assert (tags(guest), listed(guest)) == ([[], []], [])


def test_image_that_somebody_writes_to_makes_verbs_of_a_vm_that_is_off_busy(
    client: Client, new_idle: NewIdle
) -> None:
    """libvirt's own qemu-img goes on though the daemon that asked is gone: nothing is said of what
    came of it, and nothing begun, before it is done."""
    guest = new_idle("off")
    guest.define()
    know(client, guest)
    client.create("off", "before")
    writer = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(guest.images[1])], stdin=PIPE, stdout=PIPE
    )
    assert writer.stdin and writer.stdout
    writer.stdin.write(b"length\n")
    writer.stdin.flush()
    writer.stdout.readline()
    with left_alone(guest):
        verbs = (
            ("CreateSnapshot", "x"),
            ("RevertSnapshot", "before"),
            ("DeleteSnapshot", "before"),
        )
        for verb, name in verbs:
            assert client.refused(verb, "off", name, max_wait=0) == ("Busy", "unfinished-job")
    job = client.call("CreateSnapshot", "off", "x")
    client.until("it waits", lambda: client.job(job)["Phase"] == "waiting")
    writer.communicate(b"quit\n", timeout=20)
    assert client.wait(job)["Name"] == "x"
