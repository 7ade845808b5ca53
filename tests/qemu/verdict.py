"""Whether a verb that was broken off ended as it has to, by what the witnesses say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.client import Row
from tests.qemu import steps

if TYPE_CHECKING:
    from tests.qemu.broken import Case, Fault, Scene, Stage

KEPT, VICTIM = "kept", "victim"
THEN = "then"  # what the guest's disks and RAM held at KEPT


class Verdict:
    """A round: the scene before and after, and the job's row (None = it was never added)."""

    def __init__(
        self,
        stage: Stage,
        case: Case,
        fault: Fault,
        step: str,
        before: Scene,
        after: Scene,
        row: Row | None,
    ) -> None:
        self.stage, self.case, self.before, self.after = stage, case, before, after
        self.killed = fault.who == "qemu" and not fault.seconds and bool(step)
        self.state = row["State"] if row else "never added"
        error = row["ErrorName"].rpartition(".")[2] if row else ""
        self.half = error in ("Partial", "Inconsistent")
        self.message = row["ErrorMessage"] if row else ""
        self.warnings = str(row["Warnings"]) if row else ""
        self.made = row["SnapshotName"] if row else ""

    def check(self) -> None:
        """Raise AssertionError where something is lost, orphaned, frozen or said wrongly; then
        see that the verb works when it's tried again."""
        self._nothing_is_lost()
        self._nothing_is_orphaned()
        self._guest_runs()
        {"create": self._create, "revert": self._revert, "delete": self._delete}[self.case.verb]()

    # --- whatever the verb

    def _audit(self) -> str:
        client = self.stage.client
        return str(client.wait(client.call("Audit", self.stage.guest.name))["Findings"])

    def _nothing_is_lost(self) -> None:
        assert self.stage.content(KEPT) == self.stage.kept
        assert KEPT in self.after.listed
        if self.after.state == "shut off" and (complaint := self.stage.complaint()):
            assert self.killed, complaint
            # QEMU may have ended when the job had seen all that it wanted to see
            told = self.warnings if self.state == "failed" else self.warnings + self._audit()
            assert "qemu-img check -r leaks" in told, complaint
            self.stage.repair()

    def _nothing_is_orphaned(self) -> None:
        """What is in the images, what libvirt lists and what the store has as ours: all the same,
        or an audit names it."""
        after = self.after
        found = self._audit()
        for name in {*after.listed, *(tag for held in after.tags for tag in held)}:
            whole = name in after.listed and all(name in held for held in after.tags)
            assert whole or name in found, f"{name} is half there, and nobody says so"
            assert (name in after.records) == (name in after.listed) or name in found
        assert set(after.records) <= set(after.listed)

    def _guest_runs(self) -> None:
        if self.after.state == "running":
            assert not self.case.off
            assert steps.frozen(self.stage.guest) == "thawed"
        elif not (self.killed or self.case.off):
            left = {"paused": "the VM was left paused", "shut off": "the VM is off now"}
            torn = "was not started" in self.message
            assert self.half and (torn or left[self.after.state] in self.message), self.message

    def _is_untouched(self) -> None:
        assert (self.after.listed, self.after.tags) == (self.before.listed, self.before.tags)
        assert self.after.records == self.before.records

    def _goes_on(self) -> None:
        """The guest has noticed nothing."""
        if self.killed or (self.half and self.after.state != "running"):
            return
        for what in ("state", "boot", "now", "ram"):
            assert getattr(self.after, what) == getattr(self.before, what), what

    # --- each verb

    def _create(self) -> None:
        stage = self.stage
        self._goes_on()
        if self.state == "done":
            assert self.made in self.after.listed and self.made in self.after.records
            assert all(self.made in held for held in self.after.tags)
        elif not self.half:
            self._is_untouched()
        if self.after.state == "paused":
            stage.guest.virsh("resume")
        running = stage.guest.state() == "running"
        stage.client.create(stage.guest.name, "again", **(self.case.options if running else {}))
        assert "again" in steps.listed(stage.guest)
        assert all("again" in held for held in steps.tags(stage.guest))

    def _delete(self) -> None:
        stage = self.stage
        self._goes_on()
        if self.state == "done":
            assert VICTIM not in {*self.after.listed, *self.after.records}
            assert not any(VICTIM in held for held in self.after.tags)
            return
        if not self.half:
            self._is_untouched()
        stage.client.delete(stage.guest.name, VICTIM)
        assert VICTIM not in steps.listed(stage.guest)
        assert not any(VICTIM in held for held in steps.tags(stage.guest))

    def _revert(self) -> None:
        stage, name = self.stage, self.stage.guest.name
        made = set(self.after.listed) - set(self.before.listed)
        safety = next((s for s in made if s.startswith("safety-")), "")
        if self.state == "done":
            assert bool(safety) == self.case.options.get("safety_snapshot", True)
            meant = "shut off" if self.case.off else "running"
            assert self.after.state == meant or self.killed
            if self.case.off:
                assert self.after.now == stage.kept
            elif self.after.state == "running":
                assert {self.after.ram, *self.after.now} == {THEN}
        elif not self.half:
            self._goes_on()
        if safety and (self.state == "done" or self.half or self.killed):
            back = stage.client.revert(name, safety, safety_snapshot=False)
            if back["FinalState"] == "running":
                stage.shows(self.before.ram)
        if self.state != "done":
            stage.client.revert(name, KEPT, safety_snapshot=False)
            stage.shows(THEN)
