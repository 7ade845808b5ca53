"""Runs in place of virtsnapd under its own unit: tries what the unit is to allow and what not, and
prints a line of JSON, what is tried -> "" where it worked, else the error's name.

It is told, in the words of its command line: a port that is listened on, a process of another user.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, IN_CREATE = 0x10000000, 0x100


def libc(function: str, *words: object) -> None:
    """Call it; raises OSError for -1."""
    if getattr(LIBC, function)(*words) == -1:
        raise OSError(ctypes.get_errno(), function)


def write(folder: str) -> Callable[[], object]:
    return lambda: Path(folder, "written").write_text("x")


def bus() -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/run/dbus/system_bus_socket")


def temporary() -> None:
    """A table that SQLite has to put into a file of its own, beside those of the state."""
    store = sqlite3.connect("")
    store.execute("PRAGMA temp_store = FILE")
    store.execute("PRAGMA cache_size = 1")
    store.execute("CREATE TABLE t AS SELECT randomblob(1 << 20) AS c")
    store.execute("SELECT c FROM t ORDER BY c").fetchall()
    store.close()


def copy() -> None:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(b"x" * 4096)
        source.flush()
        assert os.copy_file_range(source.fileno(), target.fileno(), 4096, 0, 0) == 4096


def limited() -> None:
    """As qemu-img is started: with a limit on its memory, and the capability."""
    code = "print(open('/root/secret').read(), end='')"
    command = ["prlimit", "--as=1000000000", "--", sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"secret\n"


def watch() -> None:
    fd = LIBC.inotify_init1(os.O_CLOEXEC)
    libc("inotify_add_watch", fd, b"/var/lib/libvirt/qemu/snapshot", IN_CREATE)


def own_limits() -> None:
    resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (4096, 4096))


TRIED: dict[str, Callable[[], object]] = {
    # what virtsnapd needs
    "read root's file": lambda: Path("/root/secret").read_bytes(),
    "read an image of libvirt's": lambda: Path("/var/lib/libvirt/images/x").read_bytes(),
    "write its state": write("/var/lib/virtsnapd"),
    "SQLite's temporary files": temporary,
    "copy_file_range": copy,
    "limited child that reads": limited,
    "own limits": own_limits,
    "watch libvirt's records": watch,
    "the bus": bus,
    "boot id": lambda: Path("/proc/sys/kernel/random/boot_id").read_text(),
    # what nobody needs it to
    "write root's file": lambda: Path("/root/secret").write_text("x"),
    "write an image of libvirt's": lambda: os.open("/var/lib/libvirt/images/x", os.O_WRONLY),
    "write everybody's file": lambda: os.open("/srv/everybody", os.O_WRONLY),
    "write /etc/virtsnapd": write("/etc/virtsnapd"),
    **{
        f"write {d}": write(d)
        for d in ("/home", "/etc", "/tmp", "/var/tmp", "/usr", "/srv", "/dev/shm")
    },
    "write /var/lib/libvirt": write("/var/lib/libvirt"),
    "TCP": lambda: socket.socket(socket.AF_INET),
    "TCP6": lambda: socket.socket(socket.AF_INET6),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "signal another's process": lambda: os.kill(1, 0),
    "see another's process": lambda: Path("/proc/1").stat(),
    "a namespace": lambda: libc("unshare", CLONE_NEWUSER),
    "mount": lambda: libc("mount", b"tmpfs", b"/srv", b"tmpfs", 0, None),
    "mknod": lambda: os.mknod("/var/lib/virtsnapd/node", 0o60666, os.makedev(7, 0)),
    "a device": lambda: Path("/dev/loop0").stat(),
    "setuid file": lambda: Path("/var/lib/virtsnapd/written").chmod(0o4755),
    "code in writable memory": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
    "realtime": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "root": lambda: os.setuid(0),
}


def outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except OSError as e:
        return errno.errorcode.get(e.errno or 0, str(e))
    except (AssertionError, sqlite3.Error, subprocess.SubprocessError) as e:
        return repr(e)
    return ""


print(json.dumps({what: outcome(work) for what, work in TRIED.items()}))
