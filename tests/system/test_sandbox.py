"""The walls of the real unit: what gets through that has to, and nothing else does.

What virtsnapd does within them is in test_promises.py and test_verbs.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machines import Machine

UNIT = "/lib/systemd/system/virtsnapd.service"
PROBE = Path(__file__).with_name("probe.py")
NEEDED = [
    *("read root's file", "read an image of libvirt's", "write its state", "copy_file_range"),
    *("SQLite's temporary files", "limited child that reads", "own limits", "the bus"),
    *("watch libvirt's records", "boot id"),
]
CODE = "code in writable memory"
REFUSED = {
    "write root's file": "EROFS",
    "write an image of libvirt's": "EACCES",
    "write everybody's file": "EROFS",
    "write /etc/virtsnapd": "EROFS",
    **dict.fromkeys([f"write {d}" for d in ("/home", "/etc", "/tmp", "/var/tmp")], "EROFS"),
    **dict.fromkeys(
        [f"write {d}" for d in ("/usr", "/srv", "/dev/shm", "/var/lib/libvirt")], "EROFS"
    ),
    **dict.fromkeys(["TCP", "TCP6", "netlink"], "EAFNOSUPPORT"),
    "signal another's process": "EPERM",
    "see another's process": "ENOENT",
    **dict.fromkeys(["a namespace", "mount", "mknod", "setuid file", "realtime", "root"], "EPERM"),
    "a device": "ENOENT",
    CODE: "EPERM",
}


def status(machine: Machine) -> dict[str, str]:
    """What the kernel has of the daemon's process."""
    pid = machine.show("virtsnapd", "MainPID")
    lines = machine.run(["cat", f"/proc/{pid}/status"]).splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_process_is_its_user_with_one_capability(machine: Machine) -> None:
    found = status(machine)
    uid = machine.run(["id", "-u", "virtsnapd"])
    assert found["Uid"].split() == [uid] * 4
    groups = machine.run(["id", "-G", "virtsnapd"]).split()
    assert sorted(found["Groups"].split()) == sorted(groups)
    read_search = f"{1 << 2:016x}"  # CAP_DAC_READ_SEARCH, linux/capability.h
    for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert found[each] == read_search
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_process_has_no_socket_but_of_the_host_itself(machine: Machine) -> None:
    """Those of libvirt, the bus, the journal."""
    machine.call("ListDomains", "a{sv}", "0")
    pid = machine.show("virtsnapd", "MainPID")
    held = set(re.findall(r"socket:\[(\d+)\]", machine.run(f"ls -l /proc/{pid}/fd")))
    local = {line.split()[6] for line in machine.run("cat /proc/net/unix").splitlines()[1:]}
    assert held
    assert held <= local


@pytest.fixture(scope="module")
def probed(module_machine: Machine) -> Iterator[dict[str, str]]:
    """What the probe has met in place of the daemon, all else of the unit being the same."""
    machine = module_machine
    text = machine.run(["cat", UNIT])
    for line in ("Type=oneshot", "ExecStart=/usr/bin/python3 -I /opt/probe.py"):
        text, count = re.subn(rf"^{line.partition('=')[0]}=.*$", line, text, flags=re.MULTILINE)
        assert count == 1
    text = re.sub(r"^(BusName|WatchdogSec|Restart)=.*$", "", text, flags=re.MULTILINE)
    machine.copy(PROBE, to="/opt")
    machine.run("echo secret >/root/secret; chmod 600 /root/secret")
    machine.run("install -m 600 -o libvirt-qemu /dev/null /var/lib/libvirt/images/x")
    machine.run("install -m 666 /dev/null /srv/everybody; mknod /dev/loop0 b 7 0")
    machine.run("mkdir -p /var/lib/libvirt/qemu/snapshot")
    machine.write("/run/systemd/system/probe.service", text)
    machine.systemctl("daemon-reload")
    try:
        machine.systemctl("start", "probe")
        said = [line["MESSAGE"] for line in machine.journal(_SYSTEMD_UNIT="probe.service")]
        (found,) = [json.loads(line) for line in said if line.startswith("{")]
        yield found
    finally:
        machine.run("rm -f /run/systemd/system/probe.service /srv/everybody /root/secret")
        machine.run("rm -f /var/lib/virtsnapd/written /var/lib/libvirt/images/x /dev/loop0")
        machine.systemctl("daemon-reload")


def test_unit_lets_through_what_is_needed(probed: dict[str, str]) -> None:
    assert {what: probed[what] for what in NEEDED} == dict.fromkeys(NEEDED, "")


def test_unit_lets_nothing_else_through(probed: dict[str, str]) -> None:
    found = {what: said for what, said in probed.items() if what not in NEEDED}
    by_kernel = {"EACCES": "EPERM"}  # newer systemds leave it to the kernel, not to a filter
    found[CODE] = by_kernel.get(found[CODE], found[CODE])
    assert found == REFUSED
