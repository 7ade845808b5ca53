"""Whether an image is being written to, by the locks that QEMU's own programs take; whether it has
been since, by its stamp."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.hypervisor import files
from snapd.hypervisor.files import Files
from snapd.model import Disk, DomainInfo
from tests.unit.vms import CD, OFF


def _is_written(path: Path) -> bool | None:
    return asyncio.run(Files().is_written(str(path)))


@contextmanager
def _opened(path: Path, *how: str) -> Iterator[None]:
    """qemu-io has it open, as qemu-img has while it works."""
    command = ["qemu-io", *how, "-f", "qcow2", str(path)]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin and program.stdout
    program.stdin.write(b"length\n")
    program.stdin.flush()
    deadline = time.monotonic() + 20
    while b"MiB" not in program.stdout.readline():
        assert time.monotonic() < deadline
    yield
    program.communicate(b"quit\n", timeout=20)


def test_is_written_only_while_a_writer_has_it(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "8M"], check=True)
    assert _is_written(image) is False
    with _opened(image):
        assert _is_written(image) is True
    with _opened(image, "-r"):
        assert _is_written(image) is False
    assert _is_written(image) is False


def test_is_written_file_that_is_not_there_not_known(tmp_path: Path) -> None:
    assert _is_written(tmp_path / "gone.qcow2") is None


def _vm(*disks: Disk, **changes: Any) -> DomainInfo:
    return replace(OFF, disks=disks, **changes)


def _stamp(info: DomainInfo) -> str:
    return asyncio.run(Files().stamp(info))


def _image(path: Path) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> DomainInfo:
    """A VM of two disks and a disc; vdb is a link."""
    vda, vdb = (_image(tmp_path / f"{name}.qcow2") for name in ("root", "data"))
    link = tmp_path / "link.qcow2"
    link.symlink_to(vdb)
    return _vm(Disk("vda", str(vda), "qcow2"), Disk("vdb", str(link), "qcow2"), CD)


def test_stamp_stays_when_an_image_is_only_read(pair: DomainInfo) -> None:
    before = _stamp(pair)
    assert before
    for disk in pair.disks[:2]:
        subprocess.run(["qemu-img", "check", "-q", disk.source], check=True)
        Path(disk.source).read_bytes()
        Path(disk.source).chmod(0o600)  # as libvirt gives it to QEMU and takes it back
    assert _stamp(pair) == before


@pytest.mark.parametrize("disk", [0, 1])
def test_stamp_changes_with_every_write(pair: DomainInfo, disk: int) -> None:
    path = Path(pair.disks[disk].source)
    seen = [_stamp(pair)]
    for command in ("write 0 64k", "write 0 64k", "discard 0 64k"):
        time.sleep(0.02)  # the file system's clock ticks more coarsely than time.time()
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path], check=True, timeout=20)
        seen.append(_stamp(pair))
    for word, name in (("-c", "s"), ("-d", "s")):
        time.sleep(0.02)
        subprocess.run(["qemu-img", "snapshot", word, name, path], check=True, timeout=20)
        seen.append(_stamp(pair))
    assert "" not in seen
    assert len(set(seen)) == len(seen)


def test_stamp_of_another_file_in_the_same_place(pair: DomainInfo, tmp_path: Path) -> None:
    """A copy that was put back, with the time of the old one."""
    before = _stamp(pair)
    path = Path(pair.disks[0].source)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "--preserve", path, copy], check=True)
    copy.rename(path)
    assert _stamp(pair) not in ("", before)


def test_stamp_of_another_list_of_disks(pair: DomainInfo, tmp_path: Path) -> None:
    vda, vdb, _ = pair.disks
    nvram = Disk("nvram", str(_image(tmp_path / "vars.qcow2")), "qcow2")
    stamps = [
        _stamp(info)
        for info in (
            pair,
            _vm(vda),
            _vm(vdb, vda),
            _vm(replace(vda, target="vdc"), vdb),
            _vm(vda, replace(vdb, source=vdb.source.replace("link", "data"))),
            replace(pair, nvram=nvram),
        )
    ]
    assert "" not in stamps
    assert len(set(stamps)) == len(stamps)


@pytest.mark.parametrize(
    "disk",
    [
        Disk("vdb", "/dev/null", "raw", kind="block"),
        Disk("vdb", "/dev/null", "raw"),
        Disk("vdb", "pool/image", "raw", kind="network"),
        Disk("vdb", "volume", "qcow2", kind="volume"),
        Disk("vdb", "/gone/disk.qcow2", "qcow2"),
    ],
)
def test_stamp_unknown_where_one_disk_is_no_plain_file(pair: DomainInfo, disk: Disk) -> None:
    assert _stamp(_vm(pair.disks[0], disk)) == ""


def test_stamp_unknown_without_what_can_be_written(pair: DomainInfo) -> None:
    assert _stamp(_vm(CD)) == ""
    assert _stamp(_vm(replace(pair.disks[0], data_file=True))) == ""


def test_stamp_unknown_where_the_host_does_not_answer(
    pair: DomainInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a dead mount: nobody waits for it longer than the deadline."""
    dead = os.path.realpath(pair.disks[1].source)
    look = os.stat

    def hang(path: str, **how: Any) -> os.stat_result:
        time.sleep(3 if path == dead else 0)
        return look(path, **how)

    monkeypatch.setattr("os.stat", hang)
    monkeypatch.setattr(files, "SECONDS", 0.2)

    async def timed() -> float:
        begun = time.monotonic()
        assert await Files().stamp(pair) == ""
        return time.monotonic() - begun

    assert asyncio.run(timed()) < 2
