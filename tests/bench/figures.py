"""What a bench measures, and how it is printed: as a table, or as JSON lines for `all`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

from tests.client import TOP


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured once or more; unit: "ms", "s", "MB", "/s", "%", ..."""

    values: Sequence[float]
    unit: str

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        said = f"{_number(self.median)} {self.unit}".rstrip()
        if len(self.values) < 2:
            return said
        return f"{said} ({_number(min(self.values))}-{_number(max(self.values))})"


@dataclass(frozen=True, slots=True)
class Budget:
    """What DESIGN's performance budget has for a row. of: what the limit is of:

    "ratio"   ours is at most `limit` times theirs
    "faster"  ours is at least `limit` times faster than theirs
    "more"    ours is at most `limit` more than theirs, in its unit
    "ours"    ours is at most `limit`, in its unit
    """

    of: str
    limit: float

    def met(self, ours: Figure, theirs: Figure | None) -> bool:
        if self.of == "faster":
            return compared(self.of, ours, theirs) >= self.limit
        return compared(self.of, ours, theirs) <= self.limit

    def __str__(self) -> str:
        limit = f"{self.limit:g}"
        return {
            "ratio": f"at most {limit} x",
            "faster": f"at least {limit} x faster",
            "more": f"at most {limit} more",
            "ours": f"at most {limit}",
        }[self.of]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. peer: what theirs is."""

    what: str
    ours: Figure
    peer: str = ""
    theirs: Figure | None = None
    budget: Budget | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        theirs = f"{self.peer}: {self.theirs}" if self.theirs else self.peer
        comparable = self.theirs and self.theirs.median  # it may have done nothing at all
        ratio = f"{self.ours.median / comparable:.2f}" if comparable else ""
        if self.budget is None:
            return (self.what, str(self.ours), theirs, ratio, "", "")
        verdict = "met" if self.budget.met(self.ours, self.theirs) else "OVER"
        return (self.what, str(self.ours), theirs, ratio, str(self.budget), verdict)


HEADINGS = ("", "virtsnapd", "peer", "ratio", "budget", "")


def compared(of: str, ours: Figure, theirs: Figure | None) -> float:
    """What a budget's limit is held against."""
    if of == "ours":
        return ours.median
    assert theirs is not None, "there is nothing to compare it with"
    if of == "faster":
        return theirs.median / ours.median
    return ours.median - theirs.median if of == "more" else ours.median / theirs.median


def table(rows: Iterable[Row]) -> str:
    cells = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


VERSIONS = (
    ("virtsnapd", "git describe --always --dirty", r"(.+)"),
    ("libvirt", "virsh -c test:///default version", r"Using library: libvirt ([\d.]+)"),
    ("QEMU", "qemu-system-x86_64 --version", r"version ([\d.]+)"),
    ("libvirt-dbus", "dpkg-query -Wf ${Version} libvirt-dbus", r"([\d.]+)"),
    ("dbus-daemon", "dbus-daemon --version", r"Daemon ([\d.]+)"),
)
"""Whose, the command that tells it, and where in its answer."""


def heading() -> str:
    """The versions and the machine that the figures are of."""
    words = [f"{name} {_version(*how)}" for name, *how in VERSIONS]
    words += [f"Python {platform.python_version()}", f"dbus-next {version('dbus-next')}"]
    load = "/".join(f"{one:.1f}" for one in os.getloadavg())
    kvm = "KVM" if os.access("/dev/kvm", os.W_OK) else "no KVM"
    words += [f"kernel {platform.release()}", f"{os.cpu_count()} CPUs ({kvm}), load {load}"]
    return ", ".join(words)


def _version(command: str, pattern: str) -> str:
    try:
        told = subprocess.run(command.split(), capture_output=True, text=True, cwd=TOP).stdout
    except FileNotFoundError:
        return "unknown"
    found = re.search(pattern, told)
    return found[1] if found else "unknown"


def main(measure: Callable[[bool], Iterable[Row]], doc: str | None) -> None:
    """A bench's command line. measure(quick) yields its rows; quick = small and once, to see that
    it works."""
    parser = argparse.ArgumentParser(description=doc)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="small, and once each")
    parser.add_argument("--json", action="store_true", help="a JSON object a row")
    chosen = parser.parse_args()
    if chosen.json:
        for row in measure(chosen.quick):
            print(json.dumps(asdict(row)), flush=True)
        return
    print(heading(), flush=True)
    print(table(measure(chosen.quick)))


def read(line: str) -> Row:
    """A row from what --json has printed."""
    found = json.loads(line)
    figures = {key: Figure(**found[key]) for key in ("ours", "theirs") if found[key]}
    budget = Budget(**found["budget"]) if found["budget"] else None
    return Row(**{**found, **figures, "budget": budget})


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}" if value else "0"
