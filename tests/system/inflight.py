"""A job in the middle of libvirt's call, for as long as a test wants: QEMU stands still in it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence

from tests.system.guests import MachineGuest
from tests.system.machines import MANAGER, SERVICE, Machine, Row

FILL_MIB = 30
"""Of RAM that has to be saved."""
CATCH = """
import contextlib, os, signal, subprocess, sys, time
import libvirt

name, *call = sys.argv[1:]
vm = libvirt.openReadOnly("qemu:///system").lookupByName(name)
with open(f"/run/libvirt/qemu/{name}.pid") as file:
    pid = int(file.read())
with contextlib.suppress(OSError):  # or a slice is longer than the save where the host is busy
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
os.kill(pid, signal.SIGSTOP)
if subprocess.run(call).returncode:
    os.kill(pid, signal.SIGCONT)
    sys.exit(1)
until = time.monotonic() + 40
while vm.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
    os.kill(pid, signal.SIGCONT)
    if time.monotonic() > until:
        sys.exit("it was through before it could be caught")
    time.sleep(0.003)
    os.kill(pid, signal.SIGSTOP)
print(pid)
"""
"""QEMU gets time in slices, after each of which it is looked whether libvirt has begun: a save is
over in no time where the host's memory is the disk. libvirt tells a state without asking QEMU."""


class InFlight:
    """A create with RAM that libvirt is at. job: its path."""

    def __init__(self, guest: MachineGuest, name: str, job: str, pid: str) -> None:
        self.guest, self.name, self.job, self._pid = guest, name, job, pid
        self._timer: threading.Timer | None = None

    @property
    def machine(self) -> Machine:
        return self.guest.machine

    def go_on(self) -> None:
        """Let QEMU finish."""
        self.machine.run(["kill", "-CONT", self._pid], check=False)

    def go_on_after(self, seconds: float) -> None:
        """The same, by another thread, while a test waits for what waits for the job."""
        self._timer = threading.Timer(seconds, self.go_on)
        self._timer.start()

    def close(self) -> None:
        if self._timer:
            self._timer.join()
        self.go_on()

    def row(self) -> Row:
        """The job, as the daemon that runs now has it."""
        rows, _ = self.machine.call("ListJobs", "a{sv}", "0")
        return next(row for row in rows if row["Path"] == self.job)

    def ended(self) -> Row:
        """Wait until it has."""
        return self.machine.wait(
            lambda: (row := self.row())["Finished"] and row, what="the job has ended"
        )

    def made(self, had: Sequence[str] = ()) -> None:
        """The call was never broken off: libvirt and the image have it beside what they had, it is
        ours, and the guest runs on."""
        self.stays_made(had)
        self.machine.wait(lambda: self.guest.state() == "running", what="the guest runs on")
        self.guest.wait()

    def stays_made(self, had: Sequence[str] = ()) -> None:
        """The same, whatever the guest does now."""
        guest, row = self.guest, self.ended()
        assert (row["State"], row["ErrorMessage"]) == ("done", "")
        assert guest.snapshots() == guest.tags(guest.images[0]) == [*had, self.name]
        *_, snapshot = self.machine.call("ListSnapshots", "sa{sv}", guest.name, "0")[0]
        told = {key: snapshot[key] for key in ("Name", "Origin", "Status", "Consistency", "State")}
        assert told == {
            "Name": self.name,
            "Origin": "manual",
            "Status": "ok",
            "Consistency": "memory",
            "State": "running",
        }


@contextlib.contextmanager
def in_flight(
    guest: MachineGuest, name: str = "ram", had: Sequence[str] = ()
) -> Iterator[InFlight]:
    """Begin it, and have QEMU stand still before it is through. It goes on at the end. had: the
    snapshots that the guest has."""
    machine = guest.machine
    guest.cmd("fill", str(FILL_MIB))
    call = ["busctl", "--json=short", "call", SERVICE, MANAGER, f"{SERVICE}.Manager"]
    call += ["CreateSnapshot", "ssa{sv}", guest.name, name]
    call += ["2", "memory", "s", "yes", "max_pause", "u", "600"]
    words = ["/usr/bin/python3", "-I", "-", guest.name, *call]
    answer, pid = machine.run(words, text=CATCH).splitlines()
    flight = InFlight(guest, name, json.loads(answer)["data"][0], pid)
    try:
        assert guest.tags(guest.images[0]) == list(had), "it was through before it could be caught"
        yield flight
    finally:
        flight.close()
