"""The daemon with a watch on its polls, each of which begins PAUSE seconds after the one before has
ended: `python3 -m tests.bench.polls FILE ARGUMENTS...`.

A poll is one reading of all VMs. Each adds a line to FILE: its milliseconds of the clock, and of
CPU time of the whole process meanwhile.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from snapd import __main__ as program
from snapd import inventory

MODULE = "tests.bench.polls"
PAUSE = 3.0


def main() -> None:
    file = Path(sys.argv[1])
    read = inventory.Inventory.refresh_all

    async def refresh_all(self: inventory.Inventory) -> None:
        clock, cpu = time.monotonic(), time.process_time()
        await read(self)
        took = (time.monotonic() - clock, time.process_time() - cpu)
        with file.open("a") as to:
            to.write(" ".join(f"{seconds * 1000:.1f}" for seconds in took) + "\n")

    inventory.Inventory.refresh_all = refresh_all  # type: ignore[method-assign]
    inventory.POLL_SECONDS, inventory.REST_TIMES = PAUSE, 0
    program.main(sys.argv[2:])


def read(file: Path) -> list[tuple[float, float]]:
    """(clock, CPU) of each so far."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [(float(clock), float(cpu)) for clock, cpu in map(str.split, lines)]


if __name__ == "__main__":
    main()
