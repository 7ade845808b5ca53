"""All benches, one after the other, and one table of what they measured, with versions and the
machine: what README quotes. As root, from the top:

    packaging/check --bench all [--quick]

Let the machine be idle otherwise. `pause` and `soak` have tables of their own and are run by
themselves.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench import figures
from tests.client import TOP

BENCHES = ("calls", "cli", "create", "stuck", "planning", "loop", "scale", "herd", "idle")


def measured(bench: str, *, quick: bool) -> Iterator[figures.Row]:
    """The rows of a bench, each as soon as it is there. Exits where it fails."""
    command = [sys.executable, "-m", f"tests.bench.{bench}", "--json"]
    if quick:
        command.append("--quick")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TOP) as process:
        assert process.stdout is not None
        yield from map(figures.read, process.stdout)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="small, and once each")
    chosen = parser.parse_args()
    print(figures.heading(), flush=True)
    for bench in BENCHES:
        begun = time.monotonic()
        rows = list(measured(bench, quick=chosen.quick))
        print(f"\n{bench} ({time.monotonic() - begun:.0f} s)", flush=True)
        print(figures.table(rows), flush=True)


if __name__ == "__main__":
    main()
