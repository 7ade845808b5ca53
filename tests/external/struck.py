"""A verb on external snapshots that is broken off at a step, and what witnesses outside of the
daemon say then: the guest, libvirt's XML, qemu-img, the folder and the store's file."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snapd.errors import SnapdError
from snapd.wire.fault import WireError
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.recipe import Hardware
from tests.client import Client, Daemon, Row
from tests.qemu import steps
from tests.qemu.conftest import know

KEPT, PLAIN, VICTIM = "kept", "plain", "victim"
DISKS_ONLY = {"kind": "external", "memory": "no", "quiesce": "no"}
WITH_RAM = {"kind": "external", "memory": "yes"}
MOMENTS = (0.1, 0.35, 0.7, 1.5)
"""Seconds after the begin of a call of libvirt's, where it takes so long."""


@dataclass(frozen=True)
class Fault:
    """Who is struck (daemon, qemu, libvirtd): killed, or stopped for some seconds."""

    who: str
    seconds: float = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The steps that count: those at libvirt. (What else a daemon does is the same for
        internal snapshots, see tests/qemu.)"""
        return ("before", "during") if self.seconds else ("before", "during", "after")


@dataclass(frozen=True)
class Case:
    """A verb as it is asked for, of which snapshot. off: of a guest that is off; between: another
    snapshot stands on the one that is deleted."""

    verb: str
    name: str
    off: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    between: bool = False


@dataclass(frozen=True)
class Snap:
    """What libvirt's record of a snapshot names: target -> file, and the RAM, "" = none."""

    bases: Mapping[str, str]
    active: Mapping[str, str]
    memory: str

    @property
    def files(self) -> set[str]:
        return {*self.bases.values(), *([self.memory] if self.memory else [])}


def _sources(disks: Iterable[ET.Element]) -> dict[str, str]:
    """target -> file."""
    found = {}
    for disk in disks:
        target, source = disk.find("target"), disk.find("source")
        name = disk.get("name") or (target.get("dev") if target is not None else None) or ""
        found[name] = source.get("file", "") if source is not None else ""
    return found


class Struck:
    """A guest of a qcow2 and a raw disk, and a daemon that can be struck; KEPT, with RAM, has to
    outlive it all."""

    def __init__(self, bed: PrivateLibvirt, client: Client, daemon: Daemon, plans: Path) -> None:
        self.bed, self.client, self.daemon, self.plans = bed, client, daemon, plans
        self.round, self.qemu_ended = 0, False
        self.renew()

    def renew(self) -> None:
        """Make the guest, which is not there."""
        self.guest = Guest.make(
            "struck",
            self.bed.images,
            disks=["qcow2", "raw"],
            disk_mib=16,
            hardware=Hardware(memory=96, agent=False),
        ).up()
        self.guest.cmd("sh", "kill $(cat /run/counter.pid)")  # it takes much of an emulated CPU
        know(self.client, self.guest)
        self.note(KEPT)
        self.client.create(self.guest.name, KEPT, **WITH_RAM)
        self.kept = self.content(KEPT)

    # --- looking

    def note(self, text: str) -> None:
        """Leave a text in the guest's RAM and on each disk, on disk when this returns."""
        files = " ".join(f"/disk/{disk.path.stem}/note" for disk in self.guest.disks)
        self.guest.cmd("sh", f"echo {text} | tee /run/memory/note {files} >/dev/null; sync")

    def shows(self) -> tuple[str, set[str]]:
        """What the running guest has in its RAM, and on its disks."""
        return steps.in_ram(self.guest), set(steps.on_disks(self.guest))

    def sources(self, *how: str) -> dict[str, str]:
        root = ET.fromstring(self.guest.virsh("dumpxml", *how))
        return _sources(root.iterfind("devices/disk"))

    def snap(self, name: str) -> Snap:
        root = ET.fromstring(self.guest.virsh("snapshot-dumpxml", name))
        memory = root.find("memory")
        active = _sources(root.iterfind("revertDisks/disk")) or _sources(
            root.iterfind("disks/disk")
        )
        bases = _sources(root.iterfind("domain/devices/disk"))
        return Snap(bases, active, (memory.get("file") or "") if memory is not None else "")

    def chain(self, top: str) -> list[str]:
        """The files that an image stands on, its own first, by qemu-img, which finds all there."""
        form = "raw" if top.endswith(".raw") else "qcow2"
        command = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", "-f", form, top]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [layer["filename"] for layer in json.loads(done.stdout)]

    def content(self, name: str) -> dict[str, str]:
        """A checksum of each disk as it was at that snapshot."""
        found = {}
        for target, file in self.snap(name).bases.items():
            form, out = "raw" if file.endswith(".raw") else "qcow2", self.plans / "content.raw"
            steps.qemu_img("convert", "-U", "-f", form, "-O", "raw", file, out)
            found[target] = hashlib.sha256(out.read_bytes()).hexdigest()
        return found

    def complaints(self) -> str:
        """What qemu-img finds wrong with the images of the guest, which is off; "" = nothing."""
        said = ""
        for file in self.files():
            if not file.endswith((".raw", ".ram")):
                command = ["qemu-img", "check", "-f", "qcow2", file]
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
                said += f"{file}: {done.stdout}{done.stderr}" if done.returncode else ""
        return said

    def files(self) -> set[str]:
        return {str(path) for path in self.guest.folder.iterdir()}

    def records(self) -> set[str]:
        """The snapshots of the guest that the store's file has as the daemon's own."""
        with closing(sqlite3.connect(self.daemon.state / "store.sqlite")) as db:
            rows = db.execute("SELECT name FROM snapshots WHERE domain=?", (self.guest.uuid,))
            return {name for (name,) in rows}

    def findings(self) -> str:
        client = self.client
        return str(client.wait(client.call("Audit", self.guest.name))["Findings"])

    # --- setting the scene

    def run(self) -> None:
        """Have the guest running, however it was left."""
        state = self.guest.state()
        if state == "paused":
            self.guest.virsh("resume")
        elif state != "running":
            self.guest.start()
        self.guest.wait()
        know(self.client, self.guest)

    def make(self, name: str, text: str, **options: Any) -> dict[str, str]:
        self.note(text)
        self.client.create(self.guest.name, name, **options)
        return self.content(name)

    def set_scene(self, case: Case) -> dict[str, str]:
        """The guest in the case's state, with a text of this round; what the disks held at the
        snapshot that the case is about."""
        self.round += 1
        self.qemu_ended = False
        self.run()
        held = {}
        if case.name == PLAIN and PLAIN not in steps.listed(self.guest):
            self.make(PLAIN, PLAIN, **DISKS_ONLY)
        if case.name == VICTIM:
            self.make(VICTIM, VICTIM, **DISKS_ONLY)
        if case.between:
            self.make("leaf", "leaf", **DISKS_ONLY)
        if case.name in steps.listed(self.guest):
            held = self.content(case.name)
        self.note(f"round-{self.round}")
        if case.off:
            self.guest.virsh("destroy")
        know(self.client, self.guest)
        return held

    # --- a round

    def strike(self, case: Case, fault: Fault, struck: list[str]) -> tuple[str, Row | None]:
        """Break the verb off at the first step that was not struck yet: that step ("" = none was
        left), and the job's row once no job is open (None = it was never added)."""
        earlier = set(self._jobs(case))
        plan = {
            "verb": case.verb,
            "kinds": fault.kinds,
            "struck": struck,
            "pidfile": {
                "daemon": "",
                "qemu": f"/run/libvirt/qemu/{self.guest.name}.pid",
                "libvirtd": f"{self.bed.scratch}/libvirtd.pid",
            }[fault.who],
            "seconds": fault.seconds,
            "moments": MOMENTS,
        }
        (self.plans / "said").write_text("")
        (self.plans / "plan.json").write_text(json.dumps(plan))
        job = ""
        with suppress(WireError, SnapdError):
            member, name = f"{case.verb.title()}Snapshot", case.name or f"made-{self.round}"
            job = self.client.call(member, self.guest.name, name, **case.options)
        step = self._await_strike(job)
        self._mend(fault, step)
        if fault.who == "libvirtd" and step:
            self._help_libvirtd()
        return step, self._ended(case, earlier)

    def _help_libvirtd(self) -> None:
        """Do what a person has to where libvirtd 11.3, killed in the first moments of a merge, does
        not get over that, and see that the daemon goes on from there: it crashes whenever it is
        started as long as that QEMU is there; or it has a QEMU for starting that there never was,
        in a job that does not end, and refuses to destroy it."""
        time.sleep(3)
        status = Path(f"/run/libvirt/qemu/{self.guest.name}.xml")
        self.qemu_ended = not self.bed.libvirtd_running()
        if self.qemu_ended:
            print("    libvirtd has crashed; its QEMU is ended")
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(status.with_suffix(".pid").read_text()), signal.SIGKILL)
            self.bed.start_libvirtd()
        elif status.exists() and "reason='starting up' pid='0'" in status.read_text():
            print("    libvirtd has a QEMU for starting that there never was")
            self.bed.kill_libvirtd()
            status.unlink()
            self.bed.start_libvirtd()

    def _await_strike(self, job: str) -> str:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            said = (self.plans / "said").read_text()
            if "struck: " in said:
                return said.partition("struck: ")[2].partition("\n")[0]
            with suppress(WireError, SnapdError):
                if job and self.client.job(job)["Finished"]:
                    return ""
            time.sleep(0.05)
        raise AssertionError(f"{job} neither ended nor was struck: {self.daemon.log[-2000:]}")

    def _mend(self, fault: Fault, step: str) -> None:
        """Start again what was killed."""
        (self.plans / "plan.json").unlink(missing_ok=True)
        if step:
            time.sleep(fault.seconds)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and self.daemon.running and self.bed.libvirtd_running():
            if fault.who == "qemu" or fault.seconds or not step:
                break
            time.sleep(0.05)
        with suppress(RuntimeError):  # it may crash, see _help_libvirtd
            self.bed.mend_libvirtd()
        if not self.daemon.running:
            self.daemon.start()

    def _jobs(self, case: Case) -> dict[str, Row]:
        rows = self.client.rows("ListJobs", domain=self.guest.uuid)
        return {str(r["Path"]): r for r in rows if r["Verb"] == case.verb and r["Parent"] == "/"}

    def _ended(self, case: Case, earlier: set[str]) -> Row | None:
        def ended() -> bool:
            with suppress(WireError, SnapdError):
                rows = self.client.rows("ListJobs", domain=self.guest.uuid)
                return all(row["State"] in ("done", "failed", "cancelled") for row in rows)
            return False

        def known() -> bool:
            with suppress(WireError, SnapdError):
                return self.client.domain(self.guest.name) is not None
            return False

        self.client.until("it is read", known, 90)
        self.client.until("no job is open", ended, 180)
        new = [row for path, row in self._jobs(case).items() if path not in earlier]
        assert len(new) <= 1
        return new[0] if new else None
