"""Snapshots of moments of a real guest, of every mode: what each holds is told by the guest once it
is back there, and by copies that qemu-img took when it was made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from snapd.cli.actions.files import resting
from tests.bed.guest import Guest
from tests.client import Client
from tests.external.standing import bases_of, chain_of, needed, nothing_else_is_there, targets
from tests.qemu.conftest import know
from tests.qemu.steps import current, frozen, in_ram, listed, note, on_disks, qemu_img

NOTHING = "nothing"
MODES = {
    "crash": {"memory": "no", "quiesce": "no"},
    "quiesced": {"memory": "no", "quiesce": "require"},
    "memory": {"memory": "yes"},
    "offline": {"memory": "no"},
}


def calm(guest: Guest) -> None:
    """Wait for it, and end what writes all the time there: it takes much of an emulated CPU."""
    guest.wait(180)
    guest.cmd("sh", "kill $(cat /run/counter.pid) 2>/dev/null || true")


class Moments:
    """A guest, which is running, and the snapshots of one mode that are made of it."""

    def __init__(self, client: Client, guest: Guest, mode: str, copies: Path) -> None:
        self.client, self.guest, self.mode, self._copies = client, guest, mode, copies
        self._held: dict[str, dict[str, str]] = {}  # name -> target -> format of its copy

    def make(self, name: str) -> None:
        """A snapshot of a moment of that name."""
        guest = self.guest
        note(guest, name)
        if self.mode == "offline":
            self.off()
        made = self.client.create(guest.name, name, kind="external", **MODES[self.mode])
        assert (made["Name"], made["Consistency"]) == (name, self.mode)
        row = self.client.snapshots(guest.name)[name]
        state = "shutoff" if self.mode == "offline" else "running"
        assert (row["Kind"], row["State"], row["Status"]) == ("external", state, "ok")
        assert (row["Disks"], row["DisksLeftOut"]) == (targets(guest), [])
        if self.mode == "offline":
            self.on()
        elif guest.hardware.agent:
            assert frozen(guest) == "thawed"
        held = bases_of(guest, name)
        for target, (file, form) in held.items():
            copy = self._copies / f"{name}-{target}"
            qemu_img("convert", "-U", "-f", form, "-O", form, file, copy)
        self._held[name] = {target: form for target, (_file, form) in held.items()}

    def off(self) -> None:
        self.guest.cmd("sh", "sync")
        self.guest.virsh("destroy")
        know(self.client, self.guest)

    def on(self) -> None:
        self.guest.start()
        calm(self.guest)
        know(self.client, self.guest)

    def back(self, name: str) -> None:
        """Go back to it: the guest runs, and is of that moment."""
        wish = {"after": "running"} if self.mode == "offline" else {}
        done = self.client.revert(self.guest.name, name, safety_snapshot=False, **wish)
        assert (done["FinalState"], current(self.guest)) == ("running", name)
        calm(self.guest)
        assert in_ram(self.guest) == (name if self.mode == "memory" else NOTHING)
        self.shows(name)
        know(self.client, self.guest)

    def shows(self, name: str) -> None:
        assert on_disks(self.guest) == [name] * len(self.guest.disks)

    def are_right(self, names: Iterable[str]) -> None:
        """libvirt and the daemon list these, each holds what it held, what the daemon says of their
        files is so, and nothing else is there."""
        client, guest, names = self.client, self.guest, sorted(names)
        assert sorted(listed(guest)) == names
        rows = client.snapshots(guest.name)
        assert {n: r["Status"] for n, r in rows.items()} == dict.fromkeys(names, "ok")
        assert [n for n, r in rows.items() if r["Current"]] == ([current(guest)] if names else [])
        there = needed(guest)
        for name in names:
            told = resting(client.act(guest.name, name, "GetXML"))
            assert {r["Disk"] for r in told} == set(targets(guest))
            for row in told:
                path, form = Path(row["File"]), row["Format"]
                assert there[path] == form
                copy = self._copies / f"{name}-{row['Disk']}"
                kept = self._held[name][row["Disk"]]
                qemu_img("compare", "-U", "-f", form, "-F", kept, path, copy)
        line = self._line(names)
        for target in targets(guest):
            at = [Path(bases_of(guest, name)[target][0]) for name in line]
            assert chain_of(guest, target)[1:] == at, "each overlay stands on the one before"
        nothing_else_is_there(guest)

    def _line(self, names: list[str]) -> list[str]:
        """The current one and those that it descends from, as the daemon has it."""
        rows = {r["Path"]: r for r in self.client.snapshots(self.guest.name).values()}
        at = next((r for r in rows.values() if r["Current"]), None)
        line: list[str] = []
        while at and len(line) <= len(names):
            line.append(at["Name"])
            at = rows.get(at["Parent"])
        return line

    def go(self, name: str, left: list[str]) -> None:
        """Delete one; the others are right."""
        assert self.client.delete(self.guest.name, name)["Deleted"] == [name]
        left.remove(name)
        self.are_right(left)

    def stays(self, name: str, word: str, left: list[str]) -> None:
        """Its delete is refused, and touches nothing."""
        before = {p: p.stat().st_ino for p in self.guest.folder.iterdir()}
        looked = self.client.call("PreviewDelete", self.guest.name, name)
        assert looked["Verdict"] == word
        assert self.client.refused("DeleteSnapshot", self.guest.name, name) == ("Unsupported", word)
        assert {p: p.stat().st_ino for p in self.guest.folder.iterdir()} == before
        self.are_right(left)

    def end(self, name: str) -> None:
        """No snapshot is left, and the guest has what it had: its own files, as of that moment."""
        guest = self.guest
        assert [chain_of(guest, t) for t in targets(guest)] == [[d.path] for d in guest.disks]
        if guest.state() == "shut off":
            self.on()
        self.shows(name)
        assert self.client.wait(self.client.call("Audit", guest.name))["Findings"] == []
