"""A live backup by an external snapshot: the README's own lines, and the example, on a guest that
writes all the time. What the copy holds is said by a guest that boots from it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.guest import Guest
from tests.bus import PrivateBus
from tests.client import TOP, Client
from tests.external.test_overlays import header, sources
from tests.qemu.conftest import NewGuest, know
from tests.qemu.steps import listed

EXAMPLE = TOP / "packaging/examples/backup.py"
HEADING = "### A live backup"
MIB = 1 << 20


@pytest.fixture
def commands(bus: PrivateBus, tmp_path: Path) -> Path:
    """A folder with `virtsnap`, as the package puts it on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    words = [sys.executable, "-m", "snapd.cli", "--bus-address", bus.address]
    script = folder / "virtsnap"
    script.write_text(f'#!/bin/sh\ncd {shlex.quote(str(TOP))}\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)
    return folder


@pytest.fixture
def busy(client: Client, new_guest: NewGuest) -> Guest:
    """A running guest of a qcow2 and a raw disk that writes numbers to both, and data to one."""
    guest = new_guest("web-1", disks=["qcow2", "raw"]).up()
    know(client, guest)
    guest.cmd("sh", "dd if=/dev/urandom of=/disk/vda/data bs=64k count=64 conv=fsync 2>/dev/null")
    guest.cmd("write", "/disk/vdb/note", "before")
    return guest


@pytest.fixture
def restored(busy: Guest, new_guest: NewGuest, tmp_path: Path) -> Iterator[Guest]:
    """A guest of the same shape, not started, whose images a test replaces by the copies."""
    made = new_guest("restored", disks=["qcow2", "qcow2"])
    yield made


def readme() -> str:
    """The lines that the README has for it."""
    text = (TOP / "README.md").read_text().partition(HEADING)[2]
    (block,) = re.findall(r"\n\n((?:    \S.*\n)+)", text.partition("\n##")[0])[:1]
    return "".join(line.removeprefix("    ") for line in block.splitlines(keepends=True))


def run(commands: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=240, check=False)
    print(done.stdout, done.stderr)
    return done


def counted(guest: Guest, disk: str) -> list[int]:
    """The numbers on a disk, up to the first boot that the guest has had from it since."""
    rows = [row.split() for row in guest.cmd("read", f"/disk/{disk}/counter").split("\n")]
    numbers, before = [], 0.0
    for number, uptime in rows:
        if float(uptime) < before:
            break
        numbers.append(int(number))
        before = float(uptime)
    return numbers


def is_as_before(guest: Guest, files: list[str]) -> None:
    """Merged back: no snapshot, the disks on their own files, nothing left over, images sound."""
    assert listed(guest) == []
    assert sources(guest) == [str(path) for path in guest.images]
    assert sorted(path.name for path in guest.folder.iterdir()) == files
    check = ["qemu-img", "check", "-q", "-U", "-f", "qcow2", str(guest.images[0])]
    assert subprocess.run(check, check=False).returncode == 0


def boots_from(copies: list[Path], restored: Guest) -> None:
    for copy, image in zip(copies, restored.images, strict=True):
        assert "backing-filename" not in header(copy)
        shutil.copyfile(copy, image)
    restored.up()


def holds_the_moment(restored: Guest, busy: Guest, first: int, last: int) -> None:
    """What the guest had on both disks at one instant, between the two numbers."""
    assert restored.cmd("sum", "/disk/vda/data") == busy.cmd("sum", "/disk/vda/data")
    assert restored.cmd("read", "/disk/vdb/note") == "before"
    vda, vdb = counted(restored, "vda"), counted(restored, "vdb")
    assert vda == list(range(1, len(vda) + 1))
    assert vdb == vda[: len(vdb)]
    assert len(vda) - len(vdb) in (0, 1), "one instant: the guest writes to vda, then to vdb"
    assert first <= len(vdb)
    assert len(vda) <= last < len(counted(busy, "vda")), "it wrote on meanwhile"


def test_lines_of_the_readme_copy_a_moment_and_leave_nothing_behind(
    client: Client, busy: Guest, restored: Guest, commands: Path, tmp_path: Path
) -> None:
    files = sorted(path.name for path in busy.folder.iterdir())
    boot = busy.cmd("boot-id")
    first = int(busy.cmd("tick"))
    lines = readme().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["virtsnap", "create"],
        ["virtsnap", "files"],
        ["qemu-img", "convert"],
        ["virtsnap", "delete"],
    ]
    made = run(commands, "sh", "-euc", lines[0])
    assert made.returncode == 0
    last = int(busy.cmd("tick"))
    busy.cmd("write", "/disk/vdb/note", "after")
    shown = run(commands, "sh", "-euc", lines[1])
    rows = [line.split() for line in shown.stdout.splitlines()[1:]]
    assert rows == [
        ["vda", "qcow2", str(busy.images[0])],
        ["vdb", "raw", str(busy.images[1])],
    ]
    copies = []
    for target, form, path in rows:
        copies.append(tmp_path / f"{target}.qcow2")
        line = lines[2].partition("#")[0]
        found = re.search(r"-f (\S+) -O qcow2 (\S+) (\S+)", line)
        assert found
        line = line.replace(f"-f {found[1]} ", f"-f {form} ", 1)
        line = line.replace(found[2], path, 1).replace(found[3], str(copies[-1]), 1)
        assert run(commands, "sh", "-euc", line).returncode == 0
    assert run(commands, "sh", "-euc", lines[3]).returncode == 0
    assert busy.cmd("boot-id") == boot
    assert busy.cmd("read", "/disk/vdb/note") == "after"
    numbers = counted(busy, "vda")
    assert numbers == list(range(1, len(numbers) + 1))
    is_as_before(busy, files)
    assert client.wait(client.call("Audit", "web-1"))["Findings"] == []

    time.sleep(0.5)
    boots_from(copies, restored)
    holds_the_moment(restored, busy, first, last)


@pytest.mark.long
def test_example_makes_a_whole_backup_and_cleans_up(
    busy: Guest, restored: Guest, commands: Path, tmp_path: Path
) -> None:
    files = sorted(path.name for path in busy.folder.iterdir())
    to = tmp_path / "to here"
    to.mkdir()
    (to / "web-1-vda.qcow2").write_text("of an earlier one")
    first = int(busy.cmd("tick"))
    done = run(commands, sys.executable, str(EXAMPLE), "web-1", str(to))
    last = int(busy.cmd("tick"))
    assert done.returncode == 0
    assert sorted(path.name for path in to.iterdir()) == ["web-1-vda.qcow2", "web-1-vdb.qcow2"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in to.iterdir())
    is_as_before(busy, files)
    time.sleep(0.5)
    boots_from([to / "web-1-vda.qcow2", to / "web-1-vdb.qcow2"], restored)
    holds_the_moment(restored, busy, first, last)


@pytest.mark.parametrize("how", [pytest.param("copy-fails", marks=pytest.mark.long), "terminated"])
def test_example_merges_back_whatever_happens(
    busy: Guest, commands: Path, tmp_path: Path, how: str
) -> None:
    files = sorted(path.name for path in busy.folder.iterdir())
    to, begun = tmp_path / "to", tmp_path / "begun"
    to.mkdir()
    (to / "web-1-vda.qcow2").write_text("the last good one")
    tool = commands / "qemu-img"
    wait = "exit 1" if how == "copy-fails" else "exec sleep 60"
    tool.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(begun))}\n{wait}\n")
    tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    job = subprocess.Popen([sys.executable, str(EXAMPLE), "web-1", str(to)], env=env)
    while not begun.exists() and job.poll() is None:
        time.sleep(0.05)
    assert listed(busy), "the snapshot is there while it copies"
    if how == "terminated":
        job.send_signal(signal.SIGTERM)
    assert job.wait(60) == (1 if how == "copy-fails" else 128 + signal.SIGTERM)
    assert [path.name for path in to.iterdir()] == ["web-1-vda.qcow2"]
    assert (to / "web-1-vda.qcow2").read_text() == "the last good one"
    is_as_before(busy, files)
    busy.cmd("write", "/disk/vda/alive", "yes")
