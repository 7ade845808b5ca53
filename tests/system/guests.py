"""A guest in a machine: as tests/bed makes them, talked to from outside the machine."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
import time
from pathlib import Path

from tests.bed import recipe, talk
from tests.bed.recipe import Disk, Hardware
from tests.bed.talk import GuestError
from tests.system.machines import Failed, Machine


class MachineGuest:
    """A guest of a machine; its commands are listed in tests/bed/guest-init."""

    def __init__(self, machine: Machine, name: str, images: list[str]) -> None:
        self.machine = machine
        self.name = name
        self.uuid = recipe.domain_uuid(name)
        self.images = images

    @classmethod
    def make(
        cls, machine: Machine, name: str, folders: list[str], hardware: Hardware | None = None
    ) -> MachineGuest:
        """Define a guest with one disk of 64 MiB in each of the folders (of the machine)."""
        images = [f"{folder}/{name}-{index}.qcow2" for index, folder in enumerate(folders)]
        with tempfile.TemporaryDirectory() as scratch:
            blank = recipe.make_disk(Path(scratch) / "blank.qcow2")
            blank.path.chmod(0o600)  # as virt-install leaves them
            machine.copy(blank.path, to="/var/tmp")
        machine.run(["mkdir", "-p", *folders])
        for image in images:
            machine.run(["cp", "-p", "/var/tmp/blank.qcow2", image])
        guest = cls(machine, name, images)
        disks = [Disk(Path(image)) for image in images]
        xml = recipe.domain_xml(name, disks, hardware or Hardware(agent=False))
        machine.run(["virsh", "-q", "define", "/dev/stdin"], text=xml)
        return guest

    def up(self) -> MachineGuest:
        """Start it and wait until it answers."""
        self.virsh("start")
        return self.wait()

    def wait(self, seconds: float = 60) -> MachineGuest:
        """Wait until it answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.cmd("ping", timeout=2)
                return self
            except GuestError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def cmd(self, *words: str, timeout: float = 30) -> str:
        """Have the guest carry out a command; return what it printed. Raises GuestError."""
        request = " ".join(words)
        try:
            status, output = talk.ask(self._port(), request, timeout)
        except (OSError, Failed) as error:
            raise GuestError(f"{self.name}: {request}: no answer ({error})") from error
        if status != 0:
            raise GuestError(f"{self.name}: {request}: status {status}: {output}")
        return output

    def virsh(self, verb: str, *words: str, check: bool = True) -> str:
        return self.machine.run(["virsh", "-q", verb, self.name, *words], check=check).strip()

    def state(self) -> str:
        """libvirt's word: running, paused, 'shut off', ..."""
        return self.virsh("domstate")

    def snapshots(self) -> list[str]:
        """Their names, as libvirt has them, oldest first."""
        return self.virsh("snapshot-list", "--name", "--topological").split()

    def tags(self, image: str) -> list[str]:
        """The internal snapshots that are in an image, by QEMU's own reading."""
        command = f"qemu-img info -U -f qcow2 --output=json {shlex.quote(image)}"
        found = json.loads(self.machine.run(command)).get("snapshots", [])
        return [snapshot["name"] for snapshot in found]

    def remove(self) -> None:
        """Destroy and undefine it with all that libvirt knows of it; delete its images."""
        self.virsh("destroy", check=False)
        self.virsh("undefine", "--managed-save", "--snapshots-metadata", check=False)
        self.machine.run(["rm", "-f", *self.images])

    def _port(self) -> Path:
        port = re.escape(recipe.COMMAND_PORT)
        found = re.search(rf"path='(/[^']*{port})'", self.virsh("dumpxml"))
        if found is None:
            raise GuestError(f"{self.name} isn't running")
        return self.machine.inside(found[1])
