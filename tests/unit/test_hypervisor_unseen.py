"""What the host does not show: storage that hangs, denies or fails, and devices that are hidden."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import PreflightFailed
from snapd.hypervisor import DomainFacts, FoundFile, files, lanes
from snapd.hypervisor.facts import Gatherer
from snapd.hypervisor.files import Files
from snapd.hypervisor.images import Images
from snapd.hypervisor.lanes import Lanes
from snapd.hypervisor.mounts import Mounts, points, real
from snapd.model import Disk, DomainInfo, State
from snapd.operations.preflight import revert_blockers
from snapd.operations.preflight.disks import backing_blockers, image_blockers
from tests.unit.apart import Apart
from tests.unit.test_hypervisor_images import made
from tests.unit.vms import BEFORE, facts_of

# --- which file system, and the way there

TABLE = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /mnt/nfs rw shared:2 - nfs4 nas:/vms rw
41 22 8:1 /tmp /tmp ro - ext4 /dev/sda1 rw
42 22 0:35 /deep /srv/my\040vms rw - nfs4 nas:/vms rw
43 22 0:40 / /auto rw - autofs auto rw
44 43 0:41 / /auto rw - nfs4 nas:/home rw
"""


def test_points_are_those_that_the_kernel_lists() -> None:
    assert points(TABLE) == {
        "/": "/",
        "/mnt/nfs": "/mnt/nfs",
        "/tmp": "/",  # one file system in two places
        "/srv/my vms": "/mnt/nfs",
        "/auto": "/auto",
    }


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/mnt/nfs/a/b.qcow2", "/mnt/nfs"),
        ("/mnt/nfs", "/mnt/nfs"),
        ("/mnt/nfs2/a", "/"),
        ("/srv/my vms/a", "/mnt/nfs"),
        ("/", "/"),
        ("", "/"),
        ("relative", "/"),
    ],
)
def test_of_is_the_mount_point_above(tmp_path: Path, path: str, mount: str) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    assert Mounts(tmp_path / "mountinfo").of(path) == mount


def test_of_this_machine_agrees_with_its_devices() -> None:
    for path in ("/proc/self/mountinfo", "/sys/class", str(Path.home())):
        assert Path(Mounts().of(path)).stat().st_dev == Path(path).stat().st_dev


def test_real_is_the_kernels_and_tells_each_name_first(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "disk").touch()
    (tmp_path / "up").symlink_to("a/b/../b")
    (tmp_path / "abs").symlink_to(tmp_path / "up" / "disk")
    (tmp_path / "gone").symlink_to("a/none/x")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("abs", "up/disk", "up/./disk", "up/../b/disk", "gone", "a//b/disk"):
        told: list[str] = []
        assert real(f"{tmp_path}/{name}", told.append) == os.path.realpath(tmp_path / name)
        assert f"{tmp_path}/{name.split('/')[0]}" in told
    with pytest.raises(OSError, match="symbolic links"):
        real(f"{tmp_path}/circle", lambda _name: None)


# --- storage that hangs


class Storage:
    """A folder that counts as a file system, whose files hang when they are looked at: opening a
    FIFO that nobody writes to does not return either."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        self.asked: list[str] = []
        self.lanes = Lanes(Apart(folder))
        self.files = Files(self.lanes)
        look = files._gone

        def gone(path: str) -> bool:
            if path.startswith(str(folder)):
                self.asked.append(path)
                os.close(os.open(path, os.O_RDONLY))
            return look(path)

        monkeypatch.setattr(files, "_gone", gone)
        monkeypatch.setattr(files, "SECONDS", 2.0)
        monkeypatch.setattr(lanes, "HANGS_SECONDS", 0.3)

    def hold(self, name: str) -> str:
        path = self.folder / name
        os.mkfifo(path)
        return str(path)

    @contextmanager
    def back(self) -> Iterator[None]:
        """It answers again."""
        with ExitStack() as stack:
            for path in self.folder.iterdir():
                descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
                stack.callback(os.close, descriptor)
            yield


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    return Storage(tmp_path / "dead", monkeypatch)


def test_storage_that_hangs_is_asked_no_more_until_it_answers(
    storage: Storage, tmp_path: Path
) -> None:
    paths = [storage.hold(f"{n}.qcow2") for n in range(20)]

    async def look() -> None:
        gone, untold = await storage.files.missing(paths)
        assert (gone, set(untold)) == (set(), set(paths))
        assert untold[paths[0]].why == "its storage does not answer"
        assert len(storage.asked) == 4  # at a time; the others have not been tried
        assert storage.lanes.hanging() == {str(storage.folder): 4}
        async with asyncio.timeout(0.2):
            _gone, untold = await storage.files.missing([f"{storage.folder}/other"])
        assert untold and len(storage.asked) == 4
        gone, untold = await storage.files.missing([f"{tmp_path}/none", str(tmp_path)])
        assert (gone, untold) == ({f"{tmp_path}/none"}, {})
        with storage.back():
            async with asyncio.timeout(5):
                while storage.lanes.hanging():
                    await asyncio.sleep(0.02)
            assert await storage.files.missing(paths) == (set(), {})

    asyncio.run(look())


def test_link_to_storage_that_hangs_does_not_blame_where_the_link_is(
    storage: Storage, tmp_path: Path
) -> None:
    links = []
    for number in range(12):
        link = tmp_path / f"{number}.link"
        link.symlink_to(storage.hold(str(number)))
        links.append(str(link))
    there = [str(made(tmp_path / "sound.qcow2"))]

    async def look() -> None:
        _gone, untold = await storage.files.missing(links)
        assert set(untold) == set(links)
        assert storage.lanes.hanging() == {str(storage.folder): 4}
        assert await storage.files.missing(there) == (set(), {})
        with storage.back():
            while storage.lanes.hanging():
                await asyncio.sleep(0.02)

    asyncio.run(look())


def test_question_that_is_given_up_early_is_not_one_that_hangs(storage: Storage) -> None:
    path = storage.hold("slow")

    async def look() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await storage.files.missing([path])
        assert storage.lanes.hanging() == {}
        with storage.back():
            while any(t.name.startswith("files") for t in threading.enumerate()):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.4)
        assert storage.lanes.hanging() == {}

    asyncio.run(look())


def test_beside_link_to_storage_that_hangs_keeps_no_other_file_unseen(
    storage: Storage, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    sound = made(images / "sound.qcow2")
    (images / "link.qcow2").symlink_to(storage.hold("x"))

    async def look() -> None:
        await storage.files.missing([storage.hold("y")])
        folders = [str(images), str(storage.folder)]
        found = await storage.files.beside(folders, [str(images / "link.qcow2"), str(sound)], 5)
        assert found.files == (FoundFile(str(sound)),)
        assert set(found.unread) == {str(images / "link.qcow2"), str(storage.folder)}
        with storage.back():
            while storage.lanes.hanging():
                await asyncio.sleep(0.02)

    asyncio.run(look())


# --- devices that a service does not see


DEVICE = "/dev/virtsnap-test/root"


def _facts(*disks: Disk) -> DomainFacts:
    """What is read of a VM that is off."""

    class Nobody:
        async def find(self, *_what: object) -> list[Any]:
            return []

    info = DomainInfo("u", "web-1", State.SHUTOFF, disks=disks)
    facts = DomainFacts(info, (), disks, "", saved=disks)
    gatherer = Gatherer(Images(), Files(), Nobody())  # type: ignore[arg-type]
    asyncio.run(gatherer.add(facts, ()))
    return facts


def test_facts_device_that_is_not_there_for_us_is_unreadable_with_the_way_out(
    tmp_path: Path,
) -> None:
    link = tmp_path / "link.qcow2"
    link.symlink_to(DEVICE)
    for source in (DEVICE, str(link)):
        facts = _facts(Disk("vda", source, "qcow2"))
        assert (facts.missing, facts.unknown) == (set(), {source})
        (blocker,) = image_blockers(facts, "x")
        assert (blocker.error, blocker.reason, blocker.item, blocker.ways) == (
            *(PreflightFailed, "image-unreadable", "vda"),
            ("allow-devices",),
        )
        assert "PrivateDevices=no and DeviceAllow=block-* r" in blocker.message


def test_revert_blockers_disk_on_a_hidden_device_is_not_missing() -> None:
    disc = Disk("sdb", DEVICE, "raw", kind="block", device="cdrom", readonly=True)
    seen = _facts(disc)
    facts = facts_of(saved=(*facts_of().saved, disc), unknown=seen.unknown, whys=seen.whys)
    (blocker,) = revert_blockers(facts, BEFORE)
    assert (blocker.reason, blocker.item) == ("image-unreadable", "sdb")
    assert "PrivateDevices=no" in blocker.message


def test_backing_blockers_hidden_device_below_an_image(tmp_path: Path) -> None:
    top = made(tmp_path / "top.qcow2", "-u", "-b", DEVICE, "-F", "raw")
    (blocker,) = backing_blockers(_facts(Disk("vda", str(top), "qcow2")))
    assert (blocker.reason, blocker.ways) == ("image-unreadable", ("allow-devices",))


def test_missing_block_device_that_sys_has_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/sys is seen where /dev is not."""
    (tmp_path / "sr9").mkdir()
    monkeypatch.setattr(files, "SYS_BLOCK", str(tmp_path))
    assert asyncio.run(Files().missing(["/dev/sr9"])) == (set(), {})
    assert set(asyncio.run(Files().missing(["/dev/sr8"]))[1]) == {"/dev/sr8"}


# --- storage that denies or fails


@pytest.mark.parametrize(
    ("number", "way", "why"),
    [
        (errno.EACCES, "allow-reading", "the server decides"),
        (errno.EIO, "try-again", "its storage fails: Input/output error"),
        (errno.ESTALE, "try-again", "its storage fails: Stale file handle"),
    ],
)
def test_facts_file_that_can_not_be_looked_at_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, way: str, why: str
) -> None:
    """As NFS with root_squash, or a disk that dies."""
    image = made(tmp_path / "root.qcow2")

    def failing(path: str, *_how: Any) -> Any:
        raise OSError(number, os.strerror(number), path)

    for call in ("_gone", "_opens", "_space", "_first_bytes"):
        monkeypatch.setattr(files, call, failing)

    class Failing(Images):
        async def _run(self, *_what: Any) -> bytes:
            raise PreflightFailed("root.qcow2 cannot be read: qemu-img: failed")

    monkeypatch.setattr("tests.unit.test_hypervisor_unseen.Images", Failing)
    facts = _facts(Disk("vda", str(image), "qcow2"))
    assert (facts.missing, facts.misdeclared) == (set(), set())
    (blocker,) = image_blockers(facts, "x")
    assert (blocker.reason, blocker.ways) == ("image-unreadable", (way,))
    assert why in blocker.message
