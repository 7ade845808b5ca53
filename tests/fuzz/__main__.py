"""The long run: `python3 -m tests.fuzz --calls 1000000 --seed 7`, in a checkout.

A daemon of its own in front of libvirt's test driver, on a bus of its own; nothing else is
touched. The exit status is 1 where something is wrong, and each fault names its call.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import snapd.wire  # noqa: F401 - makes dbus_next safe to import
from tests.bus import private_bus
from tests.driver.house import House
from tests.fuzz.run import FAULT, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz")
    parser.add_argument("--calls", type=int, default=20_000, help="how many (20,000)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    args = parser.parse_args()
    with private_bus() as bus, tempfile.TemporaryDirectory() as folder:
        house = House(bus.address, Path(folder))
        house.daemon.env["MALLOC_ARENA_MAX"] = "1"  # as the test has it
        house.daemon.start()
        try:
            work = fuzz(bus.address, house.daemon.pid, args.seed, args.calls)
            report = asyncio.run(work, debug=False)
            print(report)
            log = house.daemon.log
            faults = report.faults + [log[m.start() :][:2000] for m in FAULT.finditer(log)]
            for fault in faults[:50]:
                print(fault)
            print(f"{len(faults)} faults")
            return 1 if faults else 0
        finally:
            house.close()


if __name__ == "__main__":
    sys.exit(main())
