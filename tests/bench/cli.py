"""How long virtsnap takes, as whole processes, beside virsh on the same libvirt in the same run.
As root, from the top:

    packaging/check --bench cli [--quick] [--runs N]

A private libvirtd has VMs that are off, of 20 snapshots each; virtsnap is laid out as the package
has it: private modules, compiled, `python3 -I`. "cold" is the same without compiled modules. Each
row is measured in turns with the others. Printed are the median, the least and the most of the
clock, the median of the CPU time (of the client alone), and what that is of virsh's.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import libvirt

from tests.bed.private import PrivateLibvirt
from tests.bus import private_bus
from tests.client import TOP, Client, Daemon

SNAPSHOTS = 20
ONE_BUDGET, ALL_BUDGET = 6.0, 10.0
ONE, ALL, LIST_ONE, LIST_ALL = "virsh, one VM", "virsh, a loop", "list VM", "list"
URI = ("-c", "qemu:///system")
LOOP = (
    "virsh -c qemu:///system list --all --name | while read -r vm; do "
    '[ -z "$vm" ] || virsh -c qemu:///system snapshot-list "$vm"; done'
)
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>
<memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os></domain>"""
SNAPSHOT = """<domainsnapshot><name>s-{n}</name><state>shutoff</state>
<creationTime>{time}</creationTime><memory snapshot='no'/>{parent}{domain}</domainsnapshot>"""
BEGUN = 1_790_000_000


@dataclass
class Way:
    """One row: a command line, what it is held against, and what was measured, in seconds."""

    name: str
    command: Sequence[str]
    against: str = ONE
    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self) -> None:
        begun = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        self.clock.append(time.perf_counter() - begun)
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(self.command)}: exit code {process.returncode}")


# --- the host


def define(count: int) -> None:
    """Have that many VMs, off, each with a line of snapshots."""
    conn = libvirt.open(URI[1])
    try:
        for number in range(count):
            xml = DOMAIN.format(name=f"vm-{number}", uuid=uuid.UUID(int=0x4000 << 64 | number + 1))
            domain = conn.defineXML(xml)
            for n in range(SNAPSHOTS):
                _redefine(domain, n)
    finally:
        conn.close()


def _redefine(domain: libvirt.virDomain, n: int) -> None:
    parent = f"<parent><name>s-{n - 1}</name></parent>" if n else ""
    parts = {"parent": parent, "domain": domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)}
    xml = SNAPSHOT.format(n=n, time=BEGUN + 3600 * n, **parts)
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    domain.snapshotCreateXML(xml, flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT)


class Plain(Daemon):
    """The daemon as the package starts it: not in Python's development mode."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "snapd", "--bus-address", self._address]


def installed(folder: Path, *, compiled: bool) -> str:
    """virtsnap as the package has it; its path."""
    shutil.copytree(TOP / "snapd", folder / "snapd", ignore=shutil.ignore_patterns("__pycache__"))
    text = (TOP / "packaging/bin/virtsnap").read_text().replace("/usr/share/virtsnapd", str(folder))
    if compiled:
        compileall.compile_dir(folder, quiet=1)
    else:
        text = text.replace("python3 -I", "python3 -IB")
    script = folder / "virtsnap"
    script.write_text(text)
    script.chmod(0o755)
    return str(script)


def ways(folder: Path, address: str) -> list[Way]:
    warm = installed(folder / "warm", compiled=True)
    cold = installed(folder / "cold", compiled=False)
    bus = ("--bus-address", address)
    one, rest = ("list", "vm-0"), ("list",)
    return [
        Way(ONE, ["virsh", *URI, "snapshot-list", "vm-0"]),
        Way("python3, nothing", ["/usr/bin/python3", "-I", "-c", "pass"]),
        Way("--version", [warm, "--version"]),
        Way("--version, cold", [cold, "--version"]),
        Way(LIST_ONE, [warm, *bus, *one]),
        Way(f"{LIST_ONE}, cold", [cold, *bus, *one]),
        Way("status", [warm, *bus, "status"]),
        Way(ALL, ["sh", "-c", LOOP], ALL),
        Way(LIST_ALL, [warm, *bus, *rest], ALL),
        Way(f"{LIST_ALL}, cold", [cold, *bus, *rest], ALL),
    ]


# --- the table


def table(rows: Sequence[Way]) -> str:
    by_name = {way.name: way for way in rows}
    cells = [["", "clock ms", "CPU ms", "clock to virsh's", "CPU to virsh's"]]
    for way in rows:
        base = by_name[way.against]
        ratios = [
            f"{statistics.median(ours) / statistics.median(theirs):.2f}"
            for ours, theirs in ((way.clock, base.clock), (way.cpu, base.cpu))
        ]
        low, middle, high = (f(way.clock) * 1000 for f in (min, statistics.median, max))
        clock = f"{middle:.0f} ({low:.0f}-{high:.0f})"
        cells.append([way.name, clock, f"{statistics.median(way.cpu) * 1000:.0f}", *ratios])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join([*lines, *budgets(by_name)])


def budgets(rows: dict[str, Way]) -> list[str]:
    """What DESIGN's performance budget is about."""

    def ratio(ours: str, theirs: str) -> float:
        return statistics.median(rows[ours].clock) / statistics.median(rows[theirs].clock)

    one, loop = ratio(LIST_ONE, ONE), 1 / ratio(LIST_ALL, ALL)
    return [
        f"list VM: {one:.2f} x virsh (budget: at most {ONE_BUDGET:g})",
        f"list of all: {loop:.1f} x faster than the loop (budget: at least {ALL_BUDGET:g})",
    ]


def heading(count: int, runs: int) -> str:
    told = subprocess.run(["virsh", *URI, "version"], capture_output=True, text=True, check=True)
    found = re.findall(r"Using library: (libvirt [\d.]+)|hypervisor: (QEMU [\d.]+)", told.stdout)
    words = [a or b for a, b in found]
    words += [f"Python {platform.python_version()}", f"kernel {platform.release()}"]
    load = "/".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"{', '.join(words)}; {os.cpu_count()} CPUs, load {load}; {count} VMs of {SNAPSHOTS} "
        f"snapshots; runs: {runs}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.cli", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=15, metavar="N")
    parser.add_argument("--quick", action="store_true", help="20 VMs, 3 runs")
    chosen = parser.parse_args()
    count, runs = (20, 3) if chosen.quick else (200, chosen.runs)
    bed = PrivateLibvirt()  # first of all: before there is a thread
    try:
        bed.start()
        define(count)
        with tempfile.TemporaryDirectory() as folder, private_bus() as bus:
            daemon = Plain(bus.address, URI[1], Path(folder))
            daemon.start()
            try:
                with Client(bus.address) as client:
                    client.until(
                        "all VMs are read", lambda: not client.properties()["Loading"], 300
                    )
                rows = ways(Path(folder), bus.address)
                for number in range(runs + 1):
                    for way in rows:  # in turns: what else the machine does hits all of them
                        way.run()
                        if not number:  # the first one reads the files
                            way.clock.clear()
                            way.cpu.clear()
                print(heading(count, runs))
                print(table(rows))
            finally:
                daemon.close()
    finally:
        bed.close()


if __name__ == "__main__":
    main()
