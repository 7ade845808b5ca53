"""A libvirt of our own, behind plain qemu:///system, that the machine's own doesn't know.

libvirtd has no option for its state folder, and a socket of its own isn't enough (the guest's
channels lie elsewhere). So this process leaves the machine's mount namespace for one of its own,
in which libvirt's folders are those of a scratch folder. Children inherit it; libvirtd and its
guests live in it and in no other, which is also how they are found and ended.
"""

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.bed.recipe import cache_folder

_CLONE_NEWNS = 0x00020000
_FOLDERS = (
    "/run/libvirt",
    "/etc/libvirt",
    "/var/lib/libvirt",
    "/var/cache/libvirt",
    "/var/log/libvirt",
)
_QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
"""
_LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
"""

_left_the_machine = False


def leave_the_machine() -> None:
    """Move this process to a mount namespace of its own; later calls do nothing.

    To be called early: only the calling thread moves, and what it starts from then on. The thread
    by which a worker of pytest-xdist reads its pipe stays outside, where it does no harm.
    """
    global _left_the_machine
    if _left_the_machine:
        return
    if os.geteuid() != 0:
        raise PermissionError("a private libvirt needs root (sudo)")
    if threading.active_count() > 1 or threading.current_thread() is not threading.main_thread():
        raise RuntimeError("leave_the_machine() must come before the first thread")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare(CLONE_NEWNS): {os.strerror(number)}")
    _run("mount", "--make-rprivate", "/")
    _left_the_machine = True


class PrivateLibvirt:
    """The private libvirt: started by start(), ended by close() and also if this process dies.

    `scratch` is its folder, where images belong too (`images`). The libvirtd is a child of this
    process and can be killed, stopped and started while its guests run on.
    """

    def __init__(self) -> None:
        leave_the_machine()
        self.scratch = Path(tempfile.mkdtemp(prefix="virtsnapd-bed-", dir="/var/tmp"))
        self.images = self.scratch / "images"
        self.images.mkdir()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.bed.keeper", str(os.getpid()), str(self.scratch)],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        atexit.register(self.close)
        self._bind_folders()

    def start(self) -> None:
        """Start the daemons; return when qemu:///system answers."""
        self._spawn("virtlogd")
        self.start_libvirtd()

    def start_libvirtd(self, timeout: float = 60) -> None:
        """Start libvirtd (again); return when it answers."""
        self._spawn("libvirtd")
        self._await_answer(time.monotonic() + timeout)

    def stop_libvirtd(self) -> None:
        """End libvirtd as systemd would; guests run on."""
        self._end_libvirtd(signal.SIGTERM)

    def kill_libvirtd(self) -> None:
        """End libvirtd with SIGKILL; guests run on."""
        self._end_libvirtd(signal.SIGKILL)

    def freeze_libvirtd(self) -> None:
        """Let libvirtd hang (SIGSTOP) until thaw_libvirtd()."""
        self._daemons["libvirtd"].send_signal(signal.SIGSTOP)

    def thaw_libvirtd(self) -> None:
        self._daemons["libvirtd"].send_signal(signal.SIGCONT)

    def mend_libvirtd(self) -> None:
        """Have a libvirtd that answers, whatever was done to it."""
        daemon = self._daemons["libvirtd"]
        if daemon.poll() is None:
            self.thaw_libvirtd()
            self._await_answer(time.monotonic() + 60)
        else:
            self.start_libvirtd()

    def libvirtd_running(self) -> bool:
        return self._daemons["libvirtd"].poll() is None

    def libvirtd_pid(self) -> int:
        return self._daemons["libvirtd"].pid

    def close(self) -> None:
        """End guests and daemons at once and remove the scratch folder."""
        if self._keeper.stdin is None or self._keeper.stdin.closed:
            return
        self._keep_capabilities()
        self._keeper.stdin.close()
        for daemon in self._daemons.values():
            daemon.wait(timeout=30)
        self._keeper.wait(timeout=30)

    def _bind_folders(self) -> None:
        """Lay the scratch folder's folders over libvirt's.

        cgroups go out of sight in here: else libvirt would make groups beside the machine's own.
        """
        missing = [folder for folder in _FOLDERS if not Path(folder).exists()]
        (self.scratch / "made-folders").write_text("\n".join(missing))
        for folder in _FOLDERS:
            own = self.scratch / folder.replace("/", "-").lstrip("-")
            own.mkdir()
            Path(folder).mkdir(parents=True, exist_ok=True)
            _run("mount", "--bind", own, folder)
        _run("umount", "--recursive", "--lazy", "/sys/fs/cgroup")
        Path("/var/log/libvirt/qemu").mkdir()
        Path("/etc/libvirt/qemu.conf").write_text(_QEMU_CONF + _display_ports())
        Path("/etc/libvirt/libvirtd.conf").write_text(_LIBVIRTD_CONF)
        Path("/etc/libvirt/virtlogd.conf").write_text("")
        kept = cache_folder() / "libvirt"
        if kept.is_dir():
            shutil.copytree(kept, "/var/cache/libvirt", dirs_exist_ok=True)

    def _keep_capabilities(self) -> None:
        """Keep what libvirt found out about QEMU: asking takes seconds."""
        kept = cache_folder() / "libvirt"
        for file in Path("/var/cache/libvirt").rglob("*.xml"):
            target = kept / file.relative_to("/var/cache/libvirt")
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not beside it: another bed may be copying that folder.
            partial = cache_folder() / f"{file.name}.{os.getpid()}"
            shutil.copy2(file, partial)
            partial.rename(target)

    def _spawn(self, name: str) -> None:
        command = [f"/usr/sbin/{name}", "-f", f"/etc/libvirt/{name}.conf"]
        command += ["-p", f"{self.scratch}/{name}.pid"]
        with (self.scratch / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Guests of ours are no business of the machine's machined and logind.
                env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.scratch}/no-bus"},
            )

    def _await_answer(self, deadline: float) -> None:
        command = ["virsh", "-c", "qemu:///system", "list", "--all"]
        while True:
            left = deadline - time.monotonic()
            if self._daemons["libvirtd"].poll() is not None or left <= 0:
                log = (self.scratch / "libvirtd.log").read_text(errors="replace")
                raise RuntimeError(f"libvirtd doesn't answer; its log ends: {log[-2000:]}")
            try:
                done = subprocess.run(command, capture_output=True, timeout=left)
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0:
                return
            time.sleep(0.05)

    def _end_libvirtd(self, how: signal.Signals) -> None:
        daemon = self._daemons["libvirtd"]
        daemon.send_signal(how)
        daemon.wait(timeout=30)


def _display_ports() -> str:
    """A range of its own for each bed, or guests of two would be given the same port."""
    first = 5900 + 100 * (os.getpid() % 500)
    return f"remote_display_port_min = {first}\nremote_display_port_max = {first + 99}\n"


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
