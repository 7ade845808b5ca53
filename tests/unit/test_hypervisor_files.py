"""Whether an image is being written to, by the locks that QEMU's own programs take."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snapd.hypervisor.files import Files


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
