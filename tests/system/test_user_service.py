"""The user's own service, for their own libvirt: started by a call, ended when nobody needs it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.system.machines import MANAGER, SERVICE, Failed, Machine

LINGER_SECONDS = 60
DOMAIN = """
<domain type='qemu'>
  <name>mine</name><memory unit='MiB'>64</memory>
  <os><type machine='pc'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{home}/mine.qcow2'/><target dev='vda'/>
    </disk>
  </devices>
</domain>
"""


class Person:
    """A user of the machine with a manager of their own, as after a login."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name
        self.uid = machine.run(["id", "-u", name])
        self.home = f"/home/{name}"
        machine.run(["loginctl", "enable-linger", name])
        machine.wait(
            lambda: machine.show(f"user@{self.uid}.service", "ActiveState") == "active",
            what="the user's manager runs",
        )

    def run(self, *words: str, text: str | None = None, check: bool = True) -> str:
        runtime = f"/run/user/{self.uid}"
        env = (f"XDG_RUNTIME_DIR={runtime}", f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus")
        words = ("env", "-C", self.home, f"HOME={self.home}", *env, *words)
        return self.machine.run(words, user=self.name, text=text, check=check)

    def virsh(self, *words: str) -> str:
        """From outside of any unit of the user's manager, as from a terminal; it starts libvirt."""
        return self.run("virsh", "-q", "-c", "qemu:///session", *words).strip()

    def define(self) -> None:
        """Have a VM `mine`."""
        self.run("qemu-img", "create", "-q", "-f", "qcow2", "mine.qcow2", "16M")
        self.run("tee", "mine.xml", text=DOMAIN.format(home=self.home))
        self.virsh("define", "mine.xml")

    def service(self, key: str) -> str:
        words = ("show", "--value", "--property", key, "virtsnapd")
        return self.run("systemctl", "--user", *words)

    def list_domains(self) -> list[str]:
        """By a call of somebody who leaves at once."""
        call = ("call", SERVICE, MANAGER, f"{SERVICE}.Manager", "ListDomains", "a{sv}", "0")
        rows = json.loads(self.run("busctl", "--user", "--json=short", *call))["data"][0]
        return [row["Name"]["data"] for row in rows]

    def libvirts(self) -> list[str]:
        """The pids of the libvirt daemons that run as the user."""
        return [pid for pid, name in self.processes() if name in ("libvirtd", "virtqemud")]

    def processes(self) -> list[tuple[str, str]]:
        """(pid, name) of all that runs as the user."""
        found = self.machine.run(f"ps -u {self.name} -o pid=,comm=", check=False).splitlines()
        return [(words[0], words[1]) for words in map(str.split, found)]

    def group_of(self, *pids: str) -> str:
        return self.machine.run(["cat", *(f"/proc/{pid}/cgroup" for pid in pids)])


@pytest.fixture
def person(machine: Machine) -> Iterator[Person]:
    """One whose libvirt does not run, nor the service."""
    made = Person(machine, "other")
    yield made
    machine.run(["loginctl", "disable-linger", "other"])
    machine.run(["loginctl", "terminate-user", "other"], check=False)
    machine.run("ps -u other -o pid= | xargs -r kill -9", check=False)  # libvirt and its VM
    machine.wait(lambda: not made.processes(), what="all that ran as the user has ended")
    machine.run("cd /home/other && rm -rf mine.* .config .local .cache")


@pytest.fixture
def vm(person: Person) -> Person:
    """The same with a libvirt, that a terminal has started, and a VM in it."""
    person.define()
    person.virsh("start", "mine")
    return person


def test_service_is_for_those_who_call_it_and_starts_no_libvirt(person: Person) -> None:
    said = person.machine.run("systemctl --global is-enabled virtsnapd", check=False)
    assert said == "disabled"
    assert person.service("ActiveState") == "inactive"
    assert person.list_domains() == []
    assert person.service("ActiveState") == "active"
    with pytest.raises(Failed, match="start virt-manager, or virsh -c qemu:///session, once"):
        person.run("virtsnap", "--session", "create", "mine", "s1")
    person.machine.wait(
        lambda: "start virt-manager" in person.service("StatusText"), 5, "the status says so"
    )
    time.sleep(6)  # it has tried again
    assert person.libvirts() == []


def test_libvirt_that_was_started_elsewhere_is_joined_and_lives_on(vm: Person) -> None:
    assert len(vm.libvirts()) == 1
    vm.run("virtsnap", "--session", "create", "mine", "s1")
    assert vm.virsh("snapshot-list", "mine", "--name").split() == ["s1"]
    group = vm.service("ControlGroup")
    assert group in vm.group_of(vm.service("MainPID"))
    assert group not in vm.group_of(*vm.libvirts())
    vm.run("systemctl", "--user", "stop", "virtsnapd")
    assert vm.service("ActiveState") == "inactive"
    assert len(vm.libvirts()) == 1
    assert vm.virsh("domstate", "mine") == "running"


def test_libvirt_that_comes_later_is_joined(person: Person) -> None:
    assert person.list_domains() == []
    person.define()
    person.machine.wait(lambda: person.list_domains() == ["mine"], 15, "the VM is seen")


@pytest.mark.long
def test_service_ends_after_a_minute_alone_and_the_next_call_starts_it(vm: Person) -> None:
    begun = time.monotonic()
    assert vm.list_domains() == ["mine"]
    vm.machine.wait(
        lambda: vm.service("ActiveState") == "inactive", LINGER_SECONDS + 30, "it has ended"
    )
    assert time.monotonic() - begun >= LINGER_SECONDS
    assert (vm.service("Result"), vm.service("NRestarts")) == ("success", "0")
    assert vm.virsh("domstate", "mine") == "running"
    assert vm.list_domains() == ["mine"]
    assert vm.service("ActiveState") == "active"


IMPATIENT = """
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -IB -c 'import sys; sys.path.insert(0, "/usr/share/virtsnapd"); \\
    from snapd import __main__ as m; m.SESSION_LINGER = 0.9; m.main(["--session"])'
"""


@pytest.mark.long
def test_call_that_comes_while_it_is_leaving_is_answered(person: Person) -> None:
    """Calls at all times around that of its end: each is answered, by it or by the next one."""
    drop_in = f"{person.home}/.config/systemd/user/virtsnapd.service.d"
    person.run("mkdir", "-p", drop_in)
    person.run("tee", f"{drop_in}/impatient.conf", text=IMPATIENT)
    person.run("systemctl", "--user", "daemon-reload")
    pids = set()
    for n in range(40):
        assert person.list_domains() == []
        pids.add(person.service("MainPID"))
        time.sleep(0.7 + 0.012 * n)
    assert len(pids) > 10
    assert person.service("NRestarts") == "0"


@pytest.mark.long
def test_service_with_a_policy_stays(vm: Person) -> None:
    policies = f"{vm.home}/.config/virtsnapd/policies.d"
    vm.run("mkdir", "-p", policies)
    text = 'domains = ["mine"]\nschedule = "@daily"\n[keep]\nlast = 2\n'
    vm.run("tee", f"{policies}/nightly.toml", text=text)
    try:
        assert vm.list_domains() == ["mine"]
        time.sleep(LINGER_SECONDS + 15)
        assert vm.service("ActiveState") == "active"
        assert vm.service("StatusText").startswith("1 VM, 1 policy; next: policy nightly on ")
    finally:
        vm.run("rm", "-r", policies)
