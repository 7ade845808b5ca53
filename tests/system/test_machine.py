"""The machines themselves: what stays over a reboot, and that nothing stays of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import NewMachine
from tests.system.machines import SCRIPT, STATES, Machine

TOP = Path(__file__).parents[2]
LAYERS = [Path("/var/tmp/virtsnapd-machines"), Path("/dev/shm/virtsnapd-machines")]
UP = "import sys; from pathlib import Path; from tests.system.machines import Machine; "
UP += "Machine(sys.argv[1]).up(Path(sys.argv[2])); print('up', flush=True); input()"


def traces(name: str, namespace: str) -> list[str]:
    """What there is of a machine: folders, cgroups, mounts, processes in its pid namespace."""
    found = [str(place / name) for place in (STATES, *LAYERS) if (place / name).exists()]
    for mount in re.findall(r"^\S+ (\S+) cgroup2", Path("/proc/mounts").read_text(), re.M):
        found += [str(path) for path in Path(mount).glob(f"**/{name}")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if name in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/pid") == namespace:  # noqa: PTH115
                found.append((process / "comm").read_text().strip())
        except OSError:
            continue  # it ended
    return found


def namespace_of(machine: Machine) -> str:
    """Its pid namespace, by which its processes are known."""
    return os.readlink(machine.inside("/").parent / "ns/pid")  # noqa: PTH115


def await_no_trace(name: str, namespace: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := traces(name, namespace):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.fixture
def owner(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with a machine of its own, `owned-PID`, up."""
    name = f"owned-{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-c", UP, name, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=TOP,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()
    subprocess.run([SCRIPT, "down", name], check=True)


def test_machine_boots_without_a_failed_unit(fresh: Machine) -> None:
    assert fresh.systemctl("is-system-running") == "running"
    assert fresh.run(["virsh", "list", "--all", "--name"]) == ""
    assert fresh.show("systemd-logind", "ActiveState") == "active"
    assert fresh.run(["ls", "/sys/class/net"]) == "lo"


def test_reboot_keeps_the_files_and_makes_run_anew(fresh: Machine) -> None:
    for path in ("/etc/kept", "/var/lib/kept", "/srv/kept", "/run/lost", "/tmp/lost"):
        fresh.write(path, "")
    fresh.systemctl("mask", "libvirt-guests")
    ids = "cat /etc/machine-id /proc/sys/kernel/random/boot_id"
    machine_id, boot_id = fresh.run(ids).split()
    fresh.reboot()
    assert fresh.run("ls /etc/kept /var/lib/kept /srv/kept").split() == [
        "/etc/kept",
        "/srv/kept",
        "/var/lib/kept",
    ]
    assert fresh.run("ls /run/lost /tmp/lost 2>/dev/null", check=False) == ""
    assert fresh.systemctl("is-enabled", "libvirt-guests", check=False) == "masked"
    now_machine, now_boot = fresh.run(ids).split()
    assert (now_machine == machine_id, now_boot == boot_id) == (True, False)
    said = [entry["MESSAGE"] for entry in fresh.journal(boot=-1)]
    assert any("Reached target poweroff.target" in line for line in said)


def test_reboot_is_told_by_logind(fresh: Machine) -> None:
    """A delay inhibitor sees PrepareForShutdown before anything is stopped."""
    told, heard = "/var/lib/told", "interface=org.freedesktop.login1.Manager"
    script = f"""dbus-monitor --system {heard},member=PrepareForShutdown >{told} &
        until grep -q 'boolean true' {told}; do sleep 0.1; done"""
    fresh.write("/root/hear", script)
    fresh.run("systemd-run -q systemd-inhibit --mode=delay --what=shutdown sh /root/hear")
    fresh.wait(lambda: "delay" in fresh.run("systemd-inhibit --list --no-legend"))
    fresh.reboot()
    assert "boolean true" in fresh.run(["cat", told])


def test_two_machines_are_up_at_a_time(new_machine: NewMachine) -> None:
    one, two = new_machine("one"), new_machine("two")
    one.write("/etc/mine", "one")
    assert two.ran("cat /etc/mine").returncode != 0
    assert one.run("hostname") != two.run("hostname")


def test_down_leaves_nothing(root: Path) -> None:
    machine = Machine(f"gone-{os.getpid()}")
    machine.up(root)
    namespace = namespace_of(machine)
    machine.run("sleep 1000 >/dev/null 2>&1 & virsh list")
    assert "libvirtd" in traces(machine.name, namespace)
    machine.down()
    assert traces(machine.name, namespace) == []


def test_killed_owner_leaves_nothing(owner: subprocess.Popen[str]) -> None:
    name = f"owned-{os.getpid()}"
    namespace = namespace_of(Machine(name))
    assert "systemd" in traces(name, namespace)
    owner.kill()
    owner.wait()
    await_no_trace(name, namespace, 20)


def test_sweep_takes_down_what_has_lost_its_owner(root: Path) -> None:
    name = f"swept-{os.getpid()}"
    with subprocess.Popen(["sleep", "1000"]) as owner:
        words = ["--root", str(root), "--owner", str(owner.pid)]
        try:
            subprocess.run([SCRIPT, "up", *words, name], check=True)
            namespace = namespace_of(Machine(name))
            subprocess.run([SCRIPT, "sweep"], check=True)
            assert "systemd" in traces(name, namespace)
        finally:
            owner.kill()
    subprocess.run([SCRIPT, "sweep"], check=True)
    assert traces(name, namespace) == []
