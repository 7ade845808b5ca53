"""Disks whose storage hangs for real, in the kernel: only the VMs on it are held up, and it is
said; disks on devices that cannot be seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.dead import dead_storage
from tests.bed.private import PrivateLibvirt
from tests.bus import private_bus
from tests.client import Client, Daemon, Row
from tests.qemu.conftest import know
from tests.qemu.idle import IdleGuest
from tests.qemu.steps import listed, qemu_img, tags

COUNT = 12
PLAIN = {"memory": "no", "quiesce": "no"}


class FarGuest(IdleGuest):
    """A VM whose disk is elsewhere than its folder; it can only be defined."""

    far: Path

    @property
    def xml(self) -> str:
        return super().xml.replace(str(self.images[0]), str(self.far))


@contextmanager
def far_guests(bed: PrivateLibvirt, places: dict[str, Path]) -> Iterator[list[FarGuest]]:
    made = []
    try:
        for name, place in places.items():
            guest = FarGuest.empty(name, bed.images)
            guest.far = place
            guest.define()
            made.append(guest)
        yield made
    finally:
        for guest in made:
            guest.remove()


@pytest.fixture
def sound(bed: PrivateLibvirt, client: Client) -> Iterator[IdleGuest]:
    guest = IdleGuest.empty("sound", bed.images)
    guest.define()
    know(client, guest)
    yield guest
    guest.remove()


def ended(client: Client, job: str) -> Row:
    client.until("the job has ended", lambda: client.job(job)["Finished"])
    return client.job(job)


def problems(client: Client) -> list[str]:
    return [r["Message"] for r in client.rows("ListProblems") if r["Problem"] == "storage-hangs"]


def hanging(daemon: Daemon) -> list[str]:
    """The daemon's threads, and its children, that are in a system call which does not return."""
    found = []
    for status in Path("/proc").glob("[0-9]*/task/*/status"):
        try:
            text = status.read_text()
            ours = str(daemon.pid) in (status.parts[2], _field(text, "PPid"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if ours and _field(text, "State").startswith("D"):
            found.append(_field(text, "Name"))
    return found


def _field(status: str, name: str) -> str:
    return next(row.split(":")[1].strip() for row in status.splitlines() if row.startswith(name))


def test_storage_that_hangs_holds_up_its_own_vms_alone_and_is_told(
    bed: PrivateLibvirt, client: Client, daemon: Daemon, sound: IdleGuest
) -> None:
    """Twelve VMs there, every other one by a link beside the sound ones."""
    place = bed.scratch / "nas"
    place.mkdir()
    places = {}
    for number in range(COUNT):
        places[f"far{number}"] = place / f"{number}.qcow2"
        if number % 2:
            link = bed.images / f"{number}.qcow2"
            link.symlink_to(place / f"{number}.qcow2")
            places[f"far{number}"] = link
    with far_guests(bed, places) as guests:
        for guest in guests:
            know(client, guest)
        with dead_storage(place):
            begun = time.monotonic()
            jobs = [client.call("CreateSnapshot", g.name, "late", **PLAIN) for g in guests]
            client.create("sound", "meanwhile", **PLAIN)
            made = time.monotonic() - begun
            for job, guest in zip(jobs, guests, strict=True):
                row = ended(client, job)
                assert row["ErrorDetail"]["Reason"] == "image-unreadable"
                assert guest.name in row["ErrorMessage"]
            print(f"12 VMs on dead storage: told after {time.monotonic() - begun:.1f} s", end="; ")
            print(f"create beside them {made:.1f} s; {hanging(daemon)} hang")
            assert 1 <= len(hanging(daemon)) <= 8
            (message,) = problems(client)
            assert "storage nas does not answer" in message

            begun = time.monotonic()  # nothing is tried there again
            preview = client.call("PreviewCreate", "far0", "x", **PLAIN)
            assert preview["Verdict"] == "image-unreadable"
            assert "its storage does not answer" in preview["Blockers"][0]["Message"]
            client.delete("sound", "meanwhile")
            client.create("sound", "again", **PLAIN)
            assert time.monotonic() - begun < 10
            assert 1 <= len(hanging(daemon)) <= 8
            found = client.wait(client.call("Audit", ""))["Findings"]
            assert {f["Reason"] for f in found} <= {"unchecked"}
        client.until("the storage is back", lambda: not problems(client))
        assert hanging(daemon) == []
    assert (tags(sound), listed(sound)) == ([["again"]], ["again"])


def test_disk_on_a_device_that_cannot_be_seen_is_not_missing(
    bed: PrivateLibvirt, client: Client
) -> None:
    """As for a service with PrivateDevices."""
    with far_guests(bed, {"far": Path("/dev/virtsnap-test/root")}) as (guest,):
        know(client, guest)
        preview = client.call("PreviewCreate", "far", "x", **PLAIN)
        assert preview["Verdict"] == "image-unreadable"
        (blocker,) = preview["Blockers"]
        assert "PrivateDevices=no" in blocker["Message"]
        assert blocker["Ways"] == ["allow-devices"]


class Narrow(Daemon):
    """A daemon that sees a folder as empty, as its service may by a drop-in."""

    hidden: Path

    def command(self) -> list[str]:
        hide = f'mount -t tmpfs none "{self.hidden}" && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", hide, "sh", *super().command()]


def test_disk_that_only_libvirt_sees_is_not_missing(bed: PrivateLibvirt, tmp_path: Path) -> None:
    place = bed.scratch / "hidden"
    place.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", place / "there.qcow2", "1M")
    places = {"there": place / "there.qcow2", "gone": place / "gone.qcow2"}
    with private_bus() as own, far_guests(bed, places) as guests:
        daemon = Narrow(own.address, "qemu:///system", tmp_path)
        daemon.hidden = place
        daemon.start()
        try:
            with Client(own.address) as client:
                for guest in guests:
                    know(client, guest)
                there, gone = (
                    client.call("PreviewCreate", g.name, "x", **PLAIN)["Blockers"][0]
                    for g in guests
                )
                assert (there["Reason"], gone["Reason"]) == ("image-unreadable", "missing-disk")
                assert "libvirt sees it" in there["Message"]
        finally:
            daemon.close()
        print(daemon.log)
