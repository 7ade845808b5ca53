"""A test guest as an object: define, start, ask, time, remove."""

import json
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.bed import recipe, talk
from tests.bed.recipe import Disk, Hardware
from tests.bed.talk import GuestError, Pulse


def virsh(*words: str, check: bool = True, timeout: float = 60, text: str | None = None) -> str:
    """Run virsh on qemu:///system and return its output, stripped.

    `text` goes to its standard input. With `check`, a failure is a GuestError with virsh's words;
    without, its error text is returned after its output.
    """
    command = ["virsh", "-c", "qemu:///system", "-q", *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise GuestError(f"virsh {' '.join(words)}: {done.stderr.strip()}")
    return (done.stdout if check else done.stdout + done.stderr).strip()


class Guest:
    """A guest with images of its own in `folder`/NAME. Its commands are listed in guest-init."""

    def __init__(self, name: str, folder: Path, disks: Sequence[Disk], hardware: Hardware) -> None:
        self.name = name
        self.uuid = recipe.domain_uuid(name)
        self.folder = folder
        self.disks = tuple(disks)
        self.images = tuple(disk.path for disk in disks)
        self.hardware = hardware

    @classmethod
    def make(
        cls,
        name: str,
        images: Path,
        *,
        disks: int | Sequence[str] = 1,
        disk_mib: int = 64,
        hardware: Hardware = Hardware(),  # noqa: B008
    ) -> Self:
        """Make the images of a guest below `images`; `disks` is their number or their formats."""
        formats = ("qcow2",) * disks if isinstance(disks, int) else tuple(disks)
        folder = images / name
        folder.mkdir()
        made = [
            recipe.make_disk(folder / f"vd{chr(ord('a') + index)}.{kind}", disk_mib, kind)
            for index, kind in enumerate(formats)
        ]
        return cls(name, folder, made, hardware)

    @property
    def xml(self) -> str:
        """The XML that define() hands to libvirt (not what libvirt makes of it)."""
        return recipe.domain_xml(self.name, self.disks, self.hardware)

    def define(self, xml: str | None = None) -> None:
        """Define the domain, with its own XML unless told."""
        virsh("define", "/dev/stdin", text=xml or self.xml)

    def start(self) -> None:
        """Start the domain; wait() says when the guest answers."""
        virsh("start", self.name)

    def up(self) -> Self:
        """Define, start and wait."""
        self.define()
        self.start()
        self.wait()
        return self

    def wait(self, timeout: float = 60) -> None:
        """Wait until the guest and, if it has one, its agent answer."""
        deadline = time.monotonic() + timeout
        while not self._answers():
            if time.monotonic() > deadline:
                raise GuestError(f"{self.name}: no answer after {timeout:g} s: {self.console()}")
            time.sleep(0.05)

    def cmd(self, *words: str, timeout: float = 30) -> str:
        """Have the guest carry out a command; return what it printed.

        Raises GuestError if it failed or gave no answer in `timeout` seconds.
        """
        request = " ".join(words)
        try:
            status, output = talk.ask(self._port(recipe.COMMAND_PORT), request, timeout)
        except OSError as error:
            raise GuestError(f"{self.name}: {request}: no answer ({error})") from error
        if status != 0:
            raise GuestError(f"{self.name}: {request}: status {status}: {output}")
        return output

    def pulse(self) -> Pulse:
        """Time the guest by the host's clock, see Pulse."""
        return Pulse(self._port(recipe.PULSE_PORT))

    def virsh(self, verb: str, *words: str, check: bool = True, timeout: float = 60) -> str:
        """Run `virsh VERB NAME WORDS`, see virsh()."""
        return virsh(verb, self.name, *words, check=check, timeout=timeout)

    def agent(self, command: str) -> object:
        """Have the guest agent carry out a command; return its answer's `return`."""
        answer = self.virsh("qemu-agent-command", "--timeout", "10", f'{{"execute":"{command}"}}')
        return json.loads(answer)["return"]

    def state(self) -> str:
        """libvirt's word: running, paused, 'shut off', ..."""
        return self.virsh("domstate")

    def tags(self, image: Path) -> list[str]:
        """The internal snapshots that are in a qcow2 image, by QEMU's own reading."""
        command = ["qemu-img", "info", "--force-share", "-f", "qcow2", "--output=json", str(image)]
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
        return [snapshot["name"] for snapshot in json.loads(done.stdout).get("snapshots", [])]

    def console(self) -> str:
        """What the guest printed on its serial console."""
        log = Path(f"/var/log/libvirt/qemu/{self.name}-console.log")
        return log.read_text(errors="replace") if log.exists() else ""

    def remove(self) -> None:
        """Destroy and undefine the domain with all that libvirt knows of it; delete its images."""
        if self.name in virsh("list", "--all", "--name").split("\n"):
            self.virsh("destroy", check=False)
            self.virsh(
                "undefine", "--managed-save", "--snapshots-metadata", "--checkpoints-metadata"
            )
        shutil.rmtree(self.folder)

    def _port(self, name: str) -> Path:
        root = ET.fromstring(self.virsh("dumpxml"))
        for channel in root.iterfind("devices/channel"):
            target, source = channel.find("target"), channel.find("source")
            if target is not None and target.get("name") == name and source is not None:
                return Path(source.get("path", ""))
        raise GuestError(f"{self.name} isn't running, or has no port {name}")

    def _answers(self) -> bool:
        try:
            self.cmd("ping", timeout=2)
            if self.hardware.agent:
                self.agent("guest-ping")
        except GuestError:
            return False
        return True
