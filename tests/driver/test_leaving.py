"""A session's daemon ends by itself where nobody needs it; see brief.py."""

from __future__ import annotations

import time

from tests.driver.brief import brief
from tests.driver.house import House

SECONDS = 1.5


def ends(house: House, within: float = 20) -> None:
    deadline = time.monotonic() + within
    while house.daemon.running:
        assert time.monotonic() < deadline, house.daemon.log
        time.sleep(0.05)
    assert house.daemon.stop() == 0  # it has ended: its status
    assert "leaving: idle" in house.daemon.log


def test_nobody_calls_and_it_ends_well(house: House) -> None:
    begun = time.monotonic()
    brief(house, SECONDS).daemon.start()
    ends(house)
    assert time.monotonic() - begun >= SECONDS


def test_caller_that_stays_keeps_it_and_one_that_has_left_does_not(house: House) -> None:
    client = brief(house, SECONDS).start()
    assert len(client.rows("ListDomains")) == 3
    time.sleep(3 * SECONDS)
    assert house.daemon.running
    client.__exit__(None, None, None)
    house._clients.clear()
    ends(house)


def test_policy_keeps_it(house: House) -> None:
    house.policy("hourly")
    brief(house, SECONDS).daemon.start()
    time.sleep(3 * SECONDS)
    assert house.daemon.running


def test_others_stay_without_callers(house: House) -> None:
    brief(house, 0).daemon.start()
    time.sleep(2 * SECONDS)
    assert house.daemon.running
