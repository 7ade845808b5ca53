"""Images and files of the host: real ones, made by qemu-img and by hand."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from snapd.errors import PreflightFailed, TimedOut
from snapd.hypervisor import ImageCheck, images
from snapd.hypervisor.files import Files, metadata_folder
from snapd.hypervisor.images import Images, absolute
from snapd.hypervisor.lanes import Lanes
from tests.unit.apart import Apart


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True, timeout=60)


def made(path: Path, *words: str) -> Path:
    qemu_img("create", "-f", "qcow2", *words, path, "1M")
    return path


@pytest.mark.parametrize(
    ("backing", "path"),
    [
        ("base.qcow2", "/images/base.qcow2"),
        ("../other/base.qcow2", "/other/base.qcow2"),
        ("/elsewhere/base.qcow2", "/elsewhere/base.qcow2"),
        ("sub/a:b.qcow2", "/images/sub/a:b.qcow2"),
        ("file:/elsewhere/base.qcow2", "/elsewhere/base.qcow2"),
        ("file:base.qcow2", "/images/base.qcow2"),
        ('json:{"driver":"qcow2"}', 'json:{"driver":"qcow2"}'),
        ("nbd://host/disk", "nbd://host/disk"),
        ("", ""),
    ],
)
def test_absolute_is_against_the_folder_of_the_image(backing: str, path: str) -> None:
    assert absolute(backing, "/images/top.qcow2") == path


def test_info_of_linked_clone_names_its_base_by_path(tmp_path: Path) -> None:
    made(tmp_path / "base.qcow2")
    top = made(tmp_path / "top.qcow2", "-b", "base.qcow2", "-F", "qcow2")
    found = asyncio.run(Images().info(str(top), "qcow2"))
    assert (found.backing, found.backing_format) == (str(tmp_path / "base.qcow2"), "qcow2")


MIB = 1 << 20


def sized(path: Path, *, mapped: int, slack: int = 2 * MIB) -> bool:
    """Whether so many bytes, and hardly any more, are told to be what its clusters can hold."""
    found = asyncio.run(Images().info(str(path), "qcow2"))
    return mapped <= found.mapped <= mapped + slack


def test_mapped_of_image_whose_metadata_alone_are_written_is_its_whole_disk(tmp_path: Path) -> None:
    """`qemu-img map`, too, tells that each of its clusters is there, and du that none is."""
    new, whole = tmp_path / "new.qcow2", tmp_path / "whole.qcow2"
    qemu_img("create", "-f", "qcow2", new, "4G")
    qemu_img("create", "-f", "qcow2", "-o", "preallocation=metadata", whole, "4G")
    assert sized(new, mapped=0)
    assert sized(whole, mapped=4 << 30, slack=0)
    assert asyncio.run(Images().info(str(whole), "qcow2")).actual_size < 16 * MIB


def test_mapped_goes_up_with_what_is_written_and_not_over_the_disk(tmp_path: Path) -> None:
    """What a discard gave back to the host is counted on: its clusters may be there still. What
    snapshots hold, of the disk or of RAM, isn't the disk's."""
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", image, "32M")

    def work(*commands: str) -> None:
        orders = [word for command in commands for word in ("-c", command)]
        program = ["qemu-io", "-f", "qcow2", "-d", "unmap", *orders, str(image)]
        subprocess.run(program, check=True, capture_output=True, timeout=60)

    work("write 0 4M", "write 20M 4M")
    assert sized(image, mapped=8 * MIB)
    work("discard 0 4M")
    assert sized(image, mapped=8 * MIB)
    for n in range(3):
        qemu_img("snapshot", "-c", f"s{n}", image)
        work("write 0 16M", "write 20M 8M")
    assert image.stat().st_size > 40 * MIB
    assert sized(image, mapped=32 * MIB, slack=0)


def test_check_of_damaged_image_counts_as_qemu_does(tmp_path: Path) -> None:
    image = made(tmp_path / "a.qcow2")
    assert asyncio.run(Images().check(str(image), "qcow2")) == ImageCheck()
    before = image.read_bytes()
    with image.open("r+b") as file:
        file.truncate(6 * 65536)
        # the refcount block (cluster 2 of a new image): one cluster that nobody uses is counted
        file.seek(2 * 65536 + 2 * 5)
        file.write(b"\x00\x01")
    assert asyncio.run(Images().check(str(image), "qcow2")) == ImageCheck(leaks=1)
    image.write_bytes(before)
    with image.open("r+b") as file:
        file.seek(2 * 65536)  # the header's own cluster is counted as free
        file.write(b"\x00\x00")
    found = asyncio.run(Images().check(str(image), "qcow2"))
    assert (found.errors, found.leaks) == (0, 0)
    assert found.corruptions > 0
    qemu_img("check", "-r", "all", image)
    assert asyncio.run(Images().check(str(image), "qcow2")) == ImageCheck()


def test_check_of_raw_image_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    image.write_bytes(bytes(65536))
    with pytest.raises(PreflightFailed, match=r"a\.raw"):
        asyncio.run(Images().check(str(image), "raw"))


UNDEAD = """#!/usr/bin/python3
import ctypes, os, sys, time
ANYBODY, PR_SET_PTRACER, PTRACE_SEIZE, O_TRACEEXIT = -1, 0x59616D61, 0x4206, 0x40
libc = ctypes.CDLL(None, use_errno=True)
if "hangs" not in sys.argv[-1]:
    os.execvp("qemu-img", ["qemu-img", *sys.argv[1:]])
libc.prctl(PR_SET_PTRACER, ctypes.c_long(ANYBODY), 0, 0, 0)
if os.fork() == 0:
    os.closerange(0, 3)
    seized = libc.ptrace(PTRACE_SEIZE, os.getppid(), None, ctypes.c_void_p(O_TRACEEXIT)) == 0
    with open(sys.argv[-1] + ".tracer", "w") as file:
        file.write(f"{os.getpid()} {seized}")
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""
"""A qemu-img that SIGKILL does not end as long as its tracer lives, which leaves it standing at its
exit: as one in a hanging system call is not ended as long as that hangs."""


def test_info_qemu_img_that_cannot_be_killed_holds_up_no_other_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "TIMEOUT", 1.0)
    monkeypatch.setattr(images, "KILLED_SECONDS", 0.2)
    program = tmp_path / "qemu-img"
    program.write_text(UNDEAD)
    program.chmod(0o755)
    dead = tmp_path / "dead"
    dead.mkdir()
    hanging = [str(made(dead / f"hangs{n}")) for n in range(4)]
    spared = made(dead / "spared")
    sound = str(made(tmp_path / "sound"))

    async def look() -> None:
        reader = Images(str(program), Lanes(Apart(dead)))
        try:
            async with asyncio.timeout(10):
                told = await asyncio.gather(
                    *(reader.info(path, "qcow2") for path in hanging), return_exceptions=True
                )
            assert [type(each) for each in told] == [TimedOut] * 4
            assert all(Path(f"{path}.tracer").read_text().endswith("True") for path in hanging)
            async with asyncio.timeout(5):
                assert (await reader.info(sound, "qcow2")).virtual_size == 1 << 20
            assert reader.lanes.hanging() == {str(dead): 4}
            for path in (hanging[0], str(spared)):  # nothing more is run there
                with pytest.raises(TimedOut) as caught:
                    await reader.info(path, "qcow2")
                assert (caught.value.reason, caught.value.item) == (
                    "image-unreadable",
                    Path(path).name,
                )
        finally:
            for path in hanging:
                os.kill(int(Path(f"{path}.tracer").read_text().split()[0]), signal.SIGKILL)
            await asyncio.gather(*reader._undead.values())
        program.write_text('#!/bin/sh\nexec qemu-img "$@"\n')
        await asyncio.sleep(0)
        assert reader.lanes.hanging() == {}
        assert (await reader.info(hanging[0], "qcow2")).virtual_size == 1 << 20
        assert (await reader.info(str(spared), "qcow2")).virtual_size == 1 << 20

    asyncio.run(look())


def test_info_no_turn_in_time_image_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "SLOT_SECONDS", 0.1)

    async def look() -> None:
        reader = Images()
        for _ in range(4):
            await reader._slots.acquire()
        with pytest.raises(TimedOut) as caught:
            await reader.info(str(tmp_path / "a"), "qcow2")
        assert caught.value.reason == "image-unreadable"

    asyncio.run(look())


def test_is_qcow2_only_by_its_magic(tmp_path: Path) -> None:
    image = made(tmp_path / "a.qcow2")
    raw, empty, pipe = tmp_path / "raw", tmp_path / "empty", tmp_path / "pipe"
    raw.write_bytes(bytes(65536))
    empty.touch()
    os.mkfifo(pipe)
    files = Files()

    async def ask() -> list[bool | None]:
        paths = (image, raw, empty, pipe, tmp_path / "none")
        return [await files.is_qcow2(str(path)) for path in paths]

    assert asyncio.run(ask()) == [True, False, False, None, None]


def test_missing_names_those_that_are_not_there(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    files = Files()
    asked = [str(there), f"{tmp_path}/none", f"{there}/below-a-file", "/x\0y"]
    gone, untold = asyncio.run(files.missing(asked))
    assert (gone, set(untold)) == ({asked[1], asked[2]}, {asked[3]})


def test_room_for_folder_not_made_yet_is_that_of_its_parent(tmp_path: Path) -> None:
    files = Files()
    found = asyncio.run(files.room_for(f"{tmp_path}/a/b"))
    told = subprocess.run(
        ["stat", "-f", "-c", "%b %S", tmp_path], check=True, capture_output=True, text=True
    ).stdout.split()
    assert found is not None
    assert found.total == int(told[0]) * int(told[1])
    assert asyncio.run(files.space(f"{tmp_path}/none")) is None


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("qemu:///system", "/var/lib/libvirt/qemu/snapshot"),
        ("qemu:///system?socket=/x", "/var/lib/libvirt/qemu/snapshot"),
        ("qemu:///session", "/home/me/conf/libvirt/qemu/snapshot"),
        ("qemu+ssh://host/system", ""),
        ("test:///default", ""),
    ],
)
def test_metadata_folder_only_where_it_is_known(
    uri: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/conf")
    assert metadata_folder(uri) == folder
