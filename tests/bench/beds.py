"""What the benches run on: libvirts with VMs, the daemon as it is installed, and the peer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import libvirt

from tests import turns
from tests.bed.private import PrivateLibvirt
from tests.client import Client, Daemon

QEMU = "qemu:///system"
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>
<memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os></domain>"""
SNAPSHOT = """<domainsnapshot><name>{name}</name><state>shutoff</state>
<creationTime>{time}</creationTime><memory snapshot='no'/>{parent}{domain}</domainsnapshot>"""
BEGUN = 1_790_000_000
"""The first snapshot's time; the others follow an hour after each other."""


def name_of(number: int) -> str:
    return f"vm-{number}"


def uuid_of(number: int) -> str:
    return str(uuid.UUID(int=0x4000 << 64 | number + 1))


# --- libvirt


@contextmanager
def libvirt_of(count: int, snapshots: int) -> Iterator[PrivateLibvirt]:
    """A private libvirtd behind qemu:///system with VMs vm-0, vm-1, ... that are off, each with a
    line of snapshots s-0, s-1, ..., metadata alone. To be entered before there is a thread."""
    bed = PrivateLibvirt()
    try:
        bed.start()
        define(count, snapshots)
        yield bed
    finally:
        bed.close()


def define(count: int, snapshots: int, first: int = 0) -> None:
    """Have VMs first, first + 1, ... there as well."""
    conn = libvirt.open(QEMU)
    try:
        for number in range(first, first + count):
            xml = DOMAIN.format(name=name_of(number), uuid=uuid_of(number))
            domain = conn.defineXML(xml)
            text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            for n in range(snapshots):
                redefine(domain, n, text)
    finally:
        conn.close()


def redefine(domain: libvirt.virDomain, n: int, text: str) -> None:
    """Have snapshot s-n there as well, a child of s-(n-1). text: the XML of its VM."""
    parent = f"<parent><name>s-{n - 1}</name></parent>" if n else ""
    parts = {"name": f"s-{n}", "time": BEGUN + 3600 * n, "parent": parent, "domain": text}
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    domain.snapshotCreateXML(
        SNAPSHOT.format(**parts), flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
    )


# --- the daemon


class Plain(Daemon):
    """The daemon as the package starts it: not in Python's development mode. Its loop is watched:
    longest_turn() tells of it."""

    def __init__(self, address: str, uri: str, folder: Path) -> None:
        self.turns = folder / "turns"
        super().__init__(address, uri, folder, turns.entry(self.turns))

    def command(self) -> list[str]:
        return [sys.executable, "-m", *self._entry, "--bus-address", self._address]

    def longest_turn(self) -> tuple[float, float]:
        """The longest since the last time; see turns.longest()."""
        return turns.longest(self.pid, self.turns)


@contextmanager
def daemon_on(
    address: str, uri: str, folder: Path, kind: type[Plain] = Plain
) -> Iterator[tuple[Plain, Client]]:
    """A daemon that has read all VMs, and a client of it."""
    daemon = kind(address, uri, folder)
    daemon.start(300)
    try:
        with Client(address) as client:
            client.until_read(600)
            yield daemon, client
    finally:
        daemon.close()


# --- the peer


@contextmanager
def libvirt_dbus(address: str) -> Iterator[int]:
    """Debian's libvirt-dbus as org.libvirt on that bus; its process id. It is connected to
    qemu:///system (object /org/libvirt/QEMU) when that object is first asked."""
    env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
    process = subprocess.Popen(["libvirt-dbus", "--system"], env=env)
    try:
        with Client(address) as client:
            asked = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
            client.until(
                "org.libvirt is on the bus",
                lambda: client.run(client.bus.call(*asked, "NameHasOwner", "s", "org.libvirt"))[0],
            )
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


# --- a process, as the kernel counts it


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu: seconds. memory: MB that are nobody else's (USS). wakeups: how often one of its
    threads was woken."""

    at: float
    cpu: float
    memory: float
    wakeups: int


def usage(pid: int) -> Usage:
    """What a process has used until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    wakeups = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    wakeups += int(line.split()[1])
    private = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            private += int(line.split()[1])
    return Usage(time.monotonic(), cpu, private / 1024, wakeups)
