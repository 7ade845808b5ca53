"""Whether a verb on external snapshots that was broken off ended as it has to."""

from __future__ import annotations

import time

from snapd.errors import SnapdError
from tests.bed.talk import GuestError
from tests.client import Row
from tests.external.struck import KEPT, PLAIN, VICTIM, WITH_RAM, Case, Fault, Struck
from tests.qemu import steps
from tests.qemu.conftest import know

TORN = "the VM is left as it is"


class Verdict:
    """A round. held: what the disks were at the case's snapshot; boot: the guest's boot ID then;
    row: the job's (None = it was never added)."""

    def __init__(
        self,
        stage: Struck,
        case: Case,
        fault: Fault,
        held: dict[str, str],
        boot: str,
        step: str,
        row: Row | None,
    ) -> None:
        self.stage, self.case, self.held, self.boot = stage, case, held, boot
        self.client, self.guest = stage.client, stage.guest
        self.killed = (fault.who == "qemu" and bool(step)) or stage.qemu_ended
        self.text = f"round-{stage.round}"
        self.state = row["State"] if row else "never added"
        error = row["ErrorName"].rpartition(".")[2] if row else ""
        self.half = error in ("Partial", "Inconsistent")
        self.message = row["ErrorMessage"] if row else ""
        self.ways = list(row["ErrorDetail"].get("Ways", [])) if row else []
        self.made = row["SnapshotName"] if row else ""
        self.ended_as = row["Result"].get("FinalState", "") if row else ""

    @property
    def by_hand(self) -> bool:
        """Whether the way out that is told is a person's with virsh: also where a merge is done,
        but libvirt would start the VM on the file that is gone."""
        return self.half and not {"virsh", "define-overlay"}.isdisjoint(self.ways)

    def check(self) -> None:
        """Raise AssertionError where something is lost, left over or said wrongly; then see that
        the guest's next snapshots can be made, gone back to and deleted, unless by_hand."""
        if self.killed:
            time.sleep(1)  # it may still count as running
        know(self.client, self.guest)
        self.found = self.stage.findings()
        self._is_whole()
        self._kept()
        {"create": self._create, "revert": self._revert, "delete": self._delete}[self.case.verb]()
        if not self.by_hand:
            self._works()

    # --- whatever the verb

    def _is_whole(self) -> None:
        """libvirt's XML, the images' headers, libvirt's list and the store agree, and nothing is
        left over; or an audit names what is amiss."""
        stage, guest = self.stage, self.guest
        live, stored = stage.sources(), stage.sources("--inactive")
        assert live == stored
        standing = {target: stage.chain(top) for target, top in live.items()}
        used = {file for files in standing.values() for file in files}
        listed = steps.listed(guest)
        rows = self.client.snapshots(guest.name)
        assert sorted(rows) == sorted(listed)
        assert stage.records() <= {*listed, *([VICTIM] if self.by_hand else [])}
        for name in listed:
            assert name in stage.records() or name in self.found, f"{name}: not ours, unsaid"
            snap = stage.snap(name)
            used |= snap.files
            for file in snap.bases.values():
                if self.by_hand and file not in stage.files():
                    assert file in self.found, f"{name} needs {file}, and nobody says so"
                    used.remove(file)
                else:
                    used |= set(stage.chain(file))
            if rows[name]["Status"] == "ok":
                assert snap.files <= stage.files(), f"{name} is no way back, and nobody says so"
        mark = steps.current(guest)
        if mark in listed and stage.snap(mark).active != live:
            assert self.found != "[]", f"the next revert unlinks {stage.snap(mark).active}"
        for file in stage.files() - used:
            assert file.rpartition("/")[2] in self.found, f"{file} is left over, and nobody says so"
        assert used <= stage.files()
        if guest.state() == "shut off" and (said := stage.complaints()):
            assert self.killed, said
            assert "ERROR" not in said and "corruptions" not in said, said

    def _kept(self) -> None:
        assert KEPT in steps.listed(self.guest)
        assert self.stage.content(KEPT) == self.stage.kept

    def _goes_on(self, text: str) -> None:
        """The guest has noticed nothing, or has been ended by who was to; its disks hold that."""
        guest, state = self.guest, self.guest.state()
        meant = "shut off" if self.case.off else "running"
        if state != meant and not self.killed:
            left = {"paused": "the VM was left paused", "shut off": "is off"}
            assert self.half, self.message
            assert left.get(state, state) in self.message or f"is {state.replace(' ', '')}" in (
                self.message
            ), self.message
        self.stage.run()
        ram, on = self.stage.shows()
        assert on == {text}
        if not self.case.off and state != "shut off" and not self.killed:
            assert (ram, guest.cmd("boot-id")) == (text, self.boot)

    # --- each verb

    def _create(self) -> None:
        listed = steps.listed(self.guest)
        if self.state == "done":
            assert self.made in listed and self.made in self.stage.records()
            assert self.client.snapshots(self.guest.name)[self.made]["Status"] == "ok"
            assert self.stage.sources() == self.stage.snap(self.made).active
        elif not self.half:
            assert listed == [KEPT], listed
        self._goes_on(self.text)
        if self.state != "done":
            return
        self.stage.note("later")
        ram = self.case.options.get("memory") == "yes"
        self.client.revert(self.guest.name, self.made, safety_snapshot=False, after="running")
        self.guest.wait()
        assert self.stage.shows() == (self.text if ram else "nothing", {self.text})

    def _revert(self) -> None:
        listed, target = steps.listed(self.guest), self.case.name
        assert target in listed
        assert self.held == self.stage.content(target)
        if self.state == "done":
            assert steps.current(self.guest) == target
            state = self.guest.state().replace(" ", "")
            assert state == self.ended_as or (self.killed and state == "shutoff")
            self.stage.run()
            ram, on = self.stage.shows()
            assert on == {target}
            if state == "running" and target == KEPT:
                assert ram == KEPT
        elif not self.half or "as they were" in self.message:
            self._goes_on(self.text)
        elif "is reverted" in self.message:
            self._goes_on(target)
        else:
            print(f"    {TORN}: {self.guest.state()}, {self.stage.sources()}")
        self.client.revert(self.guest.name, target, safety_snapshot=False, after="running")
        self.guest.wait()
        ram, on = self.stage.shows()
        assert (ram, on) == (KEPT if target == KEPT else "nothing", {target})

    def _delete(self) -> None:
        listed = steps.listed(self.guest)
        if "define-overlay" in self.ways:
            assert VICTIM not in listed and "before that is mended" in self.message
            return  # it is not to be started
        if self.state == "done":
            assert VICTIM not in listed
        else:
            assert VICTIM in listed
            if not self.half:
                assert self.stage.content(VICTIM) == self.held
                assert self.client.snapshots(self.guest.name)[VICTIM]["Status"] == "ok"
            elif self.by_hand or self.stage.content(VICTIM) != self.held:
                assert self.client.snapshots(self.guest.name)[VICTIM]["Status"] == "broken"
        self._goes_on(self.text)
        if self.state != "done" and not self.by_hand:
            self.client.delete(self.guest.name, VICTIM)
            assert self.stage.shows()[1] == {self.text}

    # --- and then

    def _works(self) -> None:
        """A snapshot can be made, gone back to and deleted; so can what the round has left."""
        name = self.guest.name
        self._again()
        self.client.revert(name, KEPT, safety_snapshot=False)
        assert self.stage.shows() == (KEPT, {KEPT})
        keep = {KEPT, *([PLAIN] if self.case.name == PLAIN else [])}
        rows = self.client.snapshots(name)
        for made in reversed([n for n in rows if n not in keep]):
            self.client.delete(name, made)
        assert set(steps.listed(self.guest)) == keep
        self.found = self.stage.findings()
        self._is_whole()

    def _again(self) -> None:
        self.stage.note("again")
        try:
            self.client.create(self.guest.name, "again", **WITH_RAM)
        except SnapdError as e:
            # 11.3 gives a node's name twice when it died as it made one, and not a third time
            assert "Duplicate nodes" in e.message, e.message
            print(f"    {e.message}")
            self.client.create(self.guest.name, "again", **WITH_RAM)


def boot_of(stage: Struck) -> str:
    try:
        return stage.guest.cmd("boot-id")
    except GuestError:
        return ""
