"""The daemon as a session has it: `python3 -m tests.driver.brief SECONDS ARGUMENTS...` ends after
so many seconds without anything to do."""

from __future__ import annotations

import sys
from dataclasses import replace

from snapd import __main__ as program
from snapd import daemon
from tests.driver.house import House

MODULE = "tests.driver.brief"


def main() -> None:
    work = daemon.run

    async def run(place: daemon.Place) -> None:
        await work(replace(place, linger=float(sys.argv[1])))

    daemon.run = run
    program.main(sys.argv[2:])


def brief(house: House, seconds: float) -> House:
    """Have the house's daemon started so."""
    house.serve(house.host, MODULE, str(seconds))
    return house


if __name__ == "__main__":
    main()
