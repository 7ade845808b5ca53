"""How long virtsnap takes, as whole processes, beside virsh on the same libvirt in the same run.
As root, from the top:

    packaging/check --bench cli [--quick]

A private libvirtd has 200 VMs that are off, of 20 snapshots each; virtsnap is laid out as the
package has it: private modules, compiled, `python3 -I`. "cold" is the same without compiled
modules. Each command is run 15 times in turns with the others. By the clock; the rows that say so
are the CPU time of the client alone. Takes 4 minutes.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import beds, figures
from tests.bench.figures import Budget, Figure, Row
from tests.bus import private_bus
from tests.client import TOP

VMS, SNAPSHOTS, RUNS = 200, 20, 15
ONE, ALL = "virsh snapshot-list vm-0", "a loop of virsh snapshot-list"
URI = ("-c", beds.QEMU)
LOOP = (
    f"virsh -c {beds.QEMU} list --all --name | while read -r vm; do "
    f'[ -z "$vm" ] || virsh -c {beds.QEMU} snapshot-list "$vm"; done'
)


@dataclass
class Way:
    """A command line, and what it took, in milliseconds."""

    command: Sequence[str]
    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self) -> None:
        begun = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        self.clock.append((time.perf_counter() - begun) * 1000)
        self.cpu.append((usage.ru_utime + usage.ru_stime) * 1000)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(self.command)}: exit code {process.returncode}")


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


def ways(folder: Path, address: str) -> dict[str, Way]:
    warm = installed(folder / "warm", compiled=True)
    cold = installed(folder / "cold", compiled=False)
    bus = ("--bus-address", address)
    commands = {
        ONE: ["virsh", *URI, "snapshot-list", "vm-0"],
        ALL: ["sh", "-c", LOOP],
        "python3, nothing": ["/usr/bin/python3", "-I", "-c", "pass"],
        "--version": [warm, "--version"],
        "--version, cold": [cold, "--version"],
        "list VM": [warm, *bus, "list", "vm-0"],
        "list VM, cold": [cold, *bus, "list", "vm-0"],
        "status": [warm, *bus, "status"],
        "list": [warm, *bus, "list"],
        "list, cold": [cold, *bus, "list"],
    }
    return {name: Way(command) for name, command in commands.items()}


def rows(ways: dict[str, Way]) -> Iterator[Row]:
    one, loop = (Figure(ways[name].clock, "ms") for name in (ONE, ALL))
    for name in ("python3, nothing", "--version", "--version, cold", "status"):
        yield Row(_named(name), Figure(ways[name].clock, "ms"), ONE, one)
    for name in ("list VM", "list VM, cold"):
        yield Row(_named(name), Figure(ways[name].clock, "ms"), ONE, one, Budget("ratio", 6))
    cpu = Figure(ways[ONE].cpu, "ms")
    yield Row(f"{_named('list VM')}, CPU", Figure(ways["list VM"].cpu, "ms"), ONE, cpu)
    for name in ("list", "list, cold"):
        what = f"{_named(name)}, all VMs"
        yield Row(what, Figure(ways[name].clock, "ms"), ALL, loop, Budget("faster", 10))


def _named(name: str) -> str:
    return name if name.startswith("python3") else f"virtsnap {name}"


def measure(quick: bool) -> Iterator[Row]:
    count, runs = (20, 3) if quick else (VMS, RUNS)
    with (
        beds.libvirt_of(count, SNAPSHOTS),
        tempfile.TemporaryDirectory() as folder,
        private_bus() as bus,
        beds.daemon_on(bus.address, beds.QEMU, Path(folder)),
    ):
        found = ways(Path(folder), bus.address)
        for number in range(runs + 1):
            for way in found.values():  # in turns: what else the machine does hits all of them
                way.run()
                if not number:  # the first one reads the files
                    way.clock.clear()
                    way.cpu.clear()
        yield from rows(found)


if __name__ == "__main__":
    figures.main(measure, __doc__)
