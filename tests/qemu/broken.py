"""A verb that is broken off at a step, and what witnesses outside of the daemon say of it then:
the guest, libvirt's own tool, qemu-img and the store's file."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snapd.errors import SnapdError
from snapd.wire.fault import WireError
from tests.bed.guest import Guest, virsh
from tests.bed.private import PrivateLibvirt
from tests.bed.talk import GuestError
from tests.client import Client, Daemon, Row
from tests.qemu import steps
from tests.qemu.verdict import KEPT, THEN, VICTIM, Verdict

FINISHED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Fault:
    """Who is struck (daemon, qemu, libvirtd) and how: killed, or stopped for some seconds."""

    who: str
    seconds: float = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The steps that count: what the daemon hasn't stored or done dies with it; to QEMU and
        libvirtd only what is asked of them makes a difference."""
        own = ("asked", "stored", "during", "after", "done")
        return own if self.who == "daemon" else ("before", "during", "after", "done")


@dataclass(frozen=True)
class Case:
    """A verb as it is asked for. off: of a guest that is off."""

    verb: str
    off: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What the witnesses say. now: what is on each disk (a text, of a guest that is off a
    checksum); tags: of each disk; records: what the store has."""

    state: str
    boot: str
    now: tuple[str, ...]
    ram: str
    listed: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    records: tuple[str, ...]


class Stage:
    """A guest, and a daemon that can be struck; KEPT is the snapshot that must outlive it all."""

    def __init__(
        self, bed: PrivateLibvirt, client: Client, guest: Guest, daemon: Daemon, plans: Path
    ) -> None:
        self.bed, self.client, self.guest = bed, client, guest
        self.daemon, self.plans = daemon, plans
        self._round = 0
        guest.cmd("sh", "kill $(cat /run/counter.pid)")  # it takes much of an emulated CPU
        self.note(THEN)
        client.create(guest.name, KEPT, memory="yes")
        self.kept = self.content(KEPT)

    # --- looking

    def content(self, tag: str = "") -> tuple[str, ...]:
        """A checksum of each disk as it was at that tag, or as it is now."""
        found = []
        out = self.plans / "content.raw"
        at = ["-l", f"snapshot.name={tag}"] if tag else []
        for image in self.guest.images:
            steps.qemu_img("convert", "-U", "-f", "qcow2", "-O", "raw", *at, image, out)
            found.append(hashlib.sha256(out.read_bytes()).hexdigest())
        return tuple(found)

    def complaint(self) -> str:
        """What qemu-img finds wrong with the images of the guest, which is off; "" = nothing."""
        checks = [
            subprocess.run(
                ["qemu-img", "check", "-f", "qcow2", image], capture_output=True, text=True
            )
            for image in self.guest.images
        ]
        return "".join(done.stdout + done.stderr for done in checks if done.returncode)

    def repair(self) -> None:
        """The repair that is told, which must be all that is wanted."""
        for image in self.guest.images:
            steps.qemu_img("check", "-r", "leaks", "-f", "qcow2", image)
        assert self.complaint() == ""

    def records(self) -> tuple[str, ...]:
        """The snapshots of the guest that the store's file has as the daemon's own."""
        path = self.daemon.state / "store.sqlite"
        with closing(sqlite3.connect(path)) as db:
            rows = db.execute("SELECT name FROM snapshots WHERE domain=?", (self.guest.uuid,))
            return tuple(sorted(name for (name,) in rows))

    def inside(self) -> tuple[str, str, tuple[str, ...]]:
        """The guest's word: its boot ID, the text in its RAM and on each disk, past its cache."""
        files = " ".join(f"/disk/{disk.path.stem}/note" for disk in self.guest.disks)
        look = "echo 3 >/proc/sys/vm/drop_caches; cat /proc/sys/kernel/random/boot_id"
        boot, ram, *now = self.guest.cmd("sh", f"{look} /run/memory/note {files}").split("\n")
        return boot, ram, tuple(now)

    def note(self, text: str) -> None:
        """Leave a text in the guest's RAM and on each disk, on disk when this returns."""
        files = " ".join(f"/disk/{disk.path.stem}/note" for disk in self.guest.disks)
        self.guest.cmd("sh", f"echo {text} | tee /run/memory/note {files} >/dev/null; sync")

    def scene(self) -> Scene:
        """All that can be seen now; a QEMU that was just killed may still count as running."""
        try:
            return self._scene()
        except GuestError:
            time.sleep(1)
            return self._scene()

    def _scene(self) -> Scene:
        state, *listed = virsh(
            f"domstate {self.guest.name}; snapshot-list {self.guest.name} --name"
        ).split()
        if state == "shut":
            state, listed = "shut off", listed[1:]
        running = state == "running"
        boot, ram, now = self.inside() if running else ("", "", self.content())
        return Scene(
            state,
            boot,
            now,
            ram,
            tuple(sorted(listed)),
            tuple(tuple(sorted(held)) for held in steps.tags(self.guest)),
            self.records(),
        )

    # --- setting the scene

    def set_scene(self, case: Case) -> None:
        """The guest in the case's state, with a text of this round, KEPT and perhaps VICTIM."""
        guest = self.guest
        self._round += 1
        if case.off:
            guest.virsh("destroy", check=False)
        elif guest.state() == "paused":
            guest.virsh("resume")
        elif guest.state() != "running":
            guest.virsh("snapshot-revert", KEPT, "--running")
            self.shows(THEN)
        wanted = {KEPT, VICTIM} if case.verb == "delete" else {KEPT}
        for name in set(steps.listed(guest)) - wanted:
            self.client.delete(guest.name, name)
        self._clear_orphans(case)
        if not case.off:
            self.note(f"round-{self._round}")
        if case.verb == "delete" and VICTIM not in steps.listed(guest):
            self.client.create(guest.name, VICTIM, memory="no", quiesce="no")

    def _clear_orphans(self, case: Case) -> None:
        """Tags that the last round left and named."""
        for index, held in enumerate(steps.tags(self.guest)):
            for tag in set(held) - set(steps.listed(self.guest)):
                if case.off:
                    steps.qemu_img("snapshot", "-d", tag, self.guest.images[index])
                else:
                    steps.untag(self.guest, tag, index)

    def shows(self, text: str) -> None:
        """Assert that the running guest has that text in its RAM and on its disks."""
        _boot, ram, now = self.inside()
        assert {ram, *now} == {text}

    def finish(self) -> None:
        """What is left when all is done: images without a fault, and KEPT as it was."""
        self.guest.virsh("destroy", check=False)
        assert self.complaint() == ""
        self.guest.virsh("snapshot-revert", KEPT, "--running")
        self.shows(THEN)

    # --- a round

    def play(self, case: Case, fault: Fault, struck: list[str]) -> str:
        """Break the verb off at the first step that was not struck yet; return it, "" = none was
        left. Whatever is not as it has to be is an AssertionError."""
        self.set_scene(case)
        before = self.scene()
        earlier = set(self._jobs(case))
        self._plan(case, fault, struck)
        job = self._ask(case)
        step = self._await_strike(job, fault)
        self._mend(fault)
        row = self._ended(case, earlier)
        if step:
            said = row and (row["State"], row["ErrorMessage"])
            print(f"{self._round}: {case.verb}, {fault.who} at {step}: {said}")
        Verdict(self, case, fault, step, before, self.scene(), row).check()
        (self.plans / "plan.json").unlink(missing_ok=True)
        return step

    def _plan(self, case: Case, fault: Fault, struck: list[str]) -> None:
        pidfile = {
            "daemon": "",
            "qemu": f"/run/libvirt/qemu/{self.guest.name}.pid",
            "libvirtd": f"{self.bed.scratch}/libvirtd.pid",
        }[fault.who]
        plan = {
            "verb": case.verb,
            "kinds": fault.kinds,
            "struck": struck,
            "pidfile": pidfile,
            "seconds": fault.seconds,
        }
        (self.plans / "said").write_text("")
        (self.plans / "plan.json").write_text(json.dumps(plan))

    def _ask(self, case: Case) -> str:
        """The job's path, "" where the daemon was gone before it could say it."""
        name = {"create": f"made-{self._round}", "revert": KEPT, "delete": VICTIM}[case.verb]
        member = f"{case.verb.title()}Snapshot"
        try:
            return str(self.client.call(member, self.guest.name, name, **case.options))
        except (WireError, SnapdError):
            return ""

    def _await_strike(self, job: str, fault: Fault) -> str:
        """The step that was struck at, "" where the job ended without one."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if (
                step := (self.plans / "said")
                .read_text()
                .partition("struck: ")[2]
                .partition("\n")[0]
            ):
                return step
            with suppress(WireError, SnapdError):
                if job and self.client.job(job)["Finished"]:
                    return ""
            time.sleep(0.02)
        raise AssertionError(f"{job} neither ended nor was struck: {self.daemon.log[-2000:]}")

    def _mend(self, fault: Fault) -> None:
        """Start again what was killed."""
        if fault.who == "libvirtd" and not fault.seconds:
            deadline = time.monotonic() + 5
            while self.bed.libvirtd_running() and time.monotonic() < deadline:
                time.sleep(0.02)
            self.bed.mend_libvirtd()
        if fault.who == "daemon" and not fault.seconds:
            deadline = time.monotonic() + 5
            while self.daemon.running and time.monotonic() < deadline:
                time.sleep(0.01)
            if not self.daemon.running:
                self.daemon.start()

    def _jobs(self, case: Case) -> dict[str, Row]:
        rows = self.client.rows("ListJobs", domain=self.guest.uuid)
        return {str(r["Path"]): r for r in rows if r["Verb"] == case.verb and r["Parent"] == "/"}

    def _ended(self, case: Case, earlier: set[str]) -> Row | None:
        """The job's row once no job is open; None where there is none."""

        def ended() -> bool:
            rows = self.client.rows("ListJobs", domain=self.guest.uuid)
            return all(row["State"] in FINISHED for row in rows)

        self.client.until("it is read", lambda: self.client.domain(self.guest.name), 60)
        self.client.until("no job is open", ended, 60)
        new = [row for path, row in self._jobs(case).items() if path not in earlier]
        assert len(new) <= 1
        if not new:
            return None
        rows = self.client.rows("ListJobs", domain=self.guest.uuid)
        nested = [row["Warnings"] for row in rows if row["Parent"] == new[0]["Path"]]
        return {**new[0], "Warnings": [*new[0]["Warnings"], *nested]}
