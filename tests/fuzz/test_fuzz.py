"""20,000 random calls: nothing dies, hangs, tells of its source or grows.

A fault names its call, and `python3 -m tests.fuzz --seed N` makes the same ones again.
"""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from snapd.bus import contract
from tests.driver.house import House
from tests.fuzz.calls import Call, Generator
from tests.fuzz.run import FAULT, fuzz

SEED = 20261129
CALLS = 20_000
GROWTH_KIB = 16 * 1024
"""Of the second half; jobs linger, up to a thousand, and caches fill."""


def test_calls_of_a_seed_are_the_same_again_and_reach_every_method() -> None:
    def made(seed: int) -> list[Call]:
        return list(islice(Generator(contract.load(), seed), 3000))

    calls = made(1)
    assert [str(each) for each in made(1)] == [str(each) for each in calls]
    assert [str(each) for each in made(2)] != [str(each) for each in calls]
    interfaces = contract.load().interfaces.values()
    every = {(each.name, name) for each in interfaces for name in each.methods}
    assert every <= {(call.interface, call.member) for call in calls}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_random_calls_are_answered_by_results_or_named_errors(house: House) -> None:
    house.daemon.env["MALLOC_ARENA_MAX"] = "1"  # what glibc keeps for threads is no leak
    house.start()
    work = fuzz(house.address, house.daemon.pid, SEED, CALLS)
    report = asyncio.run(work, debug=False)  # this end is not what is looked at
    print(report)
    assert house.daemon.running
    assert sum(report.outcomes.values()) == CALLS
    assert report.faults == []
    assert FAULT.search(house.daemon.log) is None
    assert report.grown < GROWTH_KIB, report.sizes
    assert report.outcomes["answered"] > CALLS / 5
    cpu, clock = house.longest_turn()
    print(f"longest turn {cpu:.0f} ms of CPU time, {clock:.0f} ms by the clock")
