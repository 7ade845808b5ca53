"""What virsh does to snapshots is heard within seconds, by its doing and not by the poll (60 s)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bed.private import PrivateLibvirt
from tests.client import Client
from tests.qemu.conftest import know
from tests.qemu.idle import IdleGuest
from tests.qemu.steps import listed, tags

SECONDS = 10.0  # 2 are promised; this machine may be busy, and the poll is far


class Ears:
    """Hears the signals about one VM, each once."""

    def __init__(self, client: Client, guest: IdleGuest) -> None:
        self._client, self._guest = client, guest
        self._heard: set[tuple[str, int]] = set()
        client.listen()

    def names(self, member: str) -> list[str]:
        """The snapshots that signals of the Manager were about so far."""
        found = [args for args in self._client.signals(member) if args[0] == self._guest.uuid]
        return [detail["Name"] for _uuid, _path, detail in found]

    def changed(self, name: str) -> list[Any]:
        """The values that a property was said to have."""
        found = (args[1] for args in self._client.signals("PropertiesChanged"))
        return [values[name] for values in found if name in values]

    def soon(self, what: str, heard: Callable[[], bool]) -> None:
        begun = time.monotonic()
        self._client.until(what, heard, SECONDS, 0.02)
        print(f"{what}: heard {time.monotonic() - begun:.2f} s after virsh was done")


@contextmanager
def quiet_vm(bed: PrivateLibvirt, client: Client, name: str) -> Iterator[tuple[IdleGuest, Ears]]:
    """A VM that is off, and nothing of it is to be told any more."""
    guest = IdleGuest.empty(name, bed.images)
    guest.define()
    try:
        know(client, guest)
        ears = Ears(client, guest)
        time.sleep(2)  # what defining it caused is read by now
        yield guest, ears
    finally:
        guest.remove()


def edit(guest: IdleGuest, snapshot: str, description: str, folder: Path) -> None:
    """virsh snapshot-edit, with a person who gives it another description."""
    editor = folder / "editor"
    editor.write_text(f"#!/bin/sh\nexec sed -i 's/>before</>{description}</' \"$1\"\n")
    editor.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUAL", str(editor))
        guest.virsh("snapshot-edit", snapshot)


def test_snapshots_of_a_vm_that_is_off_made_edited_chosen_and_deleted_by_virsh(
    bed: PrivateLibvirt, client: Client, tmp_path: Path
) -> None:
    with quiet_vm(bed, client, "others-off") as (guest, ears):
        guest.virsh("snapshot-create-as", "one", "before")
        ears.soon("SnapshotCreated", lambda: ears.names("SnapshotCreated") == ["one"])
        assert client.snapshots(guest.name)["one"]["Origin"] == "foreign"
        guest.virsh("snapshot-create-as", "two")
        ears.soon("the second's", lambda: ears.names("SnapshotCreated") == ["one", "two"])

        edit(guest, "one", "after", tmp_path)
        ears.soon("another Description", lambda: "after" in ears.changed("Description"))
        before = len(ears.changed("CurrentSnapshot"))
        guest.virsh("snapshot-current", "one")
        ears.soon("another CurrentSnapshot", lambda: len(ears.changed("CurrentSnapshot")) > before)
        assert ears.changed("CurrentSnapshot")[-1].endswith("/one")

        guest.virsh("snapshot-delete", "one")
        ears.soon("SnapshotDeleted", lambda: ears.names("SnapshotDeleted") == ["one"])
        guest.virsh("snapshot-delete", "two")
        ears.soon("the second's", lambda: ears.names("SnapshotDeleted") == ["one", "two"])
        guest.virsh("snapshot-create-as", "again")  # after its last the folder may have gone
        ears.soon("one more", lambda: ears.names("SnapshotCreated")[2:] == ["again"])
        assert client.snapshots(guest.name).keys() == {"again"}


def test_external_snapshot_made_and_forgotten_by_virsh(bed: PrivateLibvirt, client: Client) -> None:
    with quiet_vm(bed, client, "others-disk") as (guest, ears):
        guest.start()
        know(client, guest)
        guest.virsh("snapshot-create-as", "outside", "--disk-only")
        ears.soon("SnapshotCreated", lambda: ears.names("SnapshotCreated") == ["outside"])
        assert client.snapshots(guest.name)["outside"]["Kind"] == "external"
        guest.virsh("snapshot-delete", "outside", "--metadata")
        ears.soon("SnapshotDeleted", lambda: ears.names("SnapshotDeleted") == ["outside"])


def test_libvirtd_started_anew_and_a_vm_renamed_in_between(
    bed: PrivateLibvirt, client: Client
) -> None:
    with quiet_vm(bed, client, "others-name") as (guest, ears):
        guest.virsh("snapshot-create-as", "one")
        ears.soon("SnapshotCreated", lambda: ears.names("SnapshotCreated") == ["one"])
        guest.virsh("snapshot-delete", "one")
        ears.soon("SnapshotDeleted", lambda: ears.names("SnapshotDeleted") == ["one"])
        bed.stop_libvirtd()
        bed.start_libvirtd()
        client.until(
            "all is read again", lambda: client.properties()["Loading"] is False, timeout=60
        )
        guest.virsh("domrename", "others-renamed")
        guest.name = "others-renamed"
        client.until("it is renamed", lambda: client.domain(guest.name))
        time.sleep(2)
        guest.virsh("snapshot-create-as", "two")
        ears.soon("the second's", lambda: ears.names("SnapshotCreated") == ["one", "two"])


def test_snapshot_of_a_running_vm_is_told_when_it_is_made_and_not_before(
    bed: PrivateLibvirt, client: Client
) -> None:
    """libvirt lists it from the beginning on (LIBVIRT.md 9)."""
    with quiet_vm(bed, client, "others-ram") as (guest, ears):
        guest.start()
        know(client, guest)
        pid = int(Path(f"/run/libvirt/qemu/{guest.name}.pid").read_text())
        records = Path("/var/lib/libvirt/qemu/snapshot") / guest.name
        os.kill(pid, signal.SIGSTOP)
        command = ["virsh", "-c", "qemu:///system", "snapshot-create-as", guest.name, "late"]
        making = subprocess.Popen(command)
        try:
            client.until("libvirt lists it", lambda: listed(guest) == ["late"])
            records.mkdir(exist_ok=True)
            for n in range(3):  # as if another record had changed
                (records / f"stray{n}").write_text("")
                time.sleep(1)
            assert making.poll() is None
            assert ears.names("SnapshotCreated") == []
        finally:
            os.kill(pid, signal.SIGCONT)
        assert making.wait(60) == 0
        ears.soon("SnapshotCreated", lambda: ears.names("SnapshotCreated") == ["late"])
        assert tags(guest) == [["late"]]
        guest.virsh("snapshot-delete", "late")
        ears.soon("SnapshotDeleted", lambda: ears.names("SnapshotDeleted") == ["late"])
