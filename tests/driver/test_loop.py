"""With 10,000 snapshots: all are told, and nobody waits long for the loop meanwhile."""

from __future__ import annotations

import pytest

from snapd.wire import paths
from tests.bench.loop import SNAPSHOTS, measured
from tests.driver.house import House, uuid_of
from tests.turns import BLOCKED_MS


@pytest.mark.slow
def test_10000_snapshots_are_told_whole_and_block_nobody(house: House) -> None:
    house.host_of(1, SNAPSHOTS)
    client = house.start()
    client.rows("ListSnapshots", "", limit=1)
    begun, _clock = house.longest_turn()
    assert begun < BLOCKED_MS
    every = {paths.snapshot(uuid_of(0), f"s-{n}") for n in range(SNAPSHOTS)}
    for name, cpu, clock, answer in measured(house):
        print(f"{name}: {cpu:.0f} ms of CPU time, {clock:.0f} ms by the clock")
        if isinstance(answer, list):
            listed = [row["Path"] for row in answer]
            assert len(listed) == SNAPSHOTS and set(listed) == every
        if isinstance(answer, dict):
            assert answer.keys() == every
        assert cpu < BLOCKED_MS, name
