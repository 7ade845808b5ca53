"""Whether the clock can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from snapd.policy import ClockGuard

NOW = 1795600800
HOUR, DAY = 3600, 86400


@dataclass
class Host:
    wall: float = NOW
    boot: float = 1e6
    awake: float = 1e6
    synced: bool = True

    def guard(self, last: int = 0) -> ClockGuard:
        return ClockGuard(
            last, lambda: self.wall, lambda: self.boot, lambda: self.awake, lambda: self.synced
        )

    def pass_(self, seconds: float) -> None:
        self.sleep(seconds)
        self.awake += seconds

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


@pytest.mark.parametrize(("step", "believed"), [(7200, False), (-7200, False), (600, True)])
def test_clock_that_jumps_is_not_believed_for_an_hour(step: int, believed: bool) -> None:
    host = Host()
    guard = host.guard()
    host.wall += step
    assert (guard.distrust() == "") == believed
    host.pass_(HOUR - 1)
    assert (guard.distrust() == "") == believed
    host.pass_(1)
    assert guard.distrust() == ""


def test_host_that_slept_is_waking_for_half_a_minute_and_its_clock_is_believed() -> None:
    host = Host()
    guard = host.guard()
    host.sleep(8 * HOUR)
    guard.watch()
    assert (guard.waking(), guard.distrust()) == (True, "")
    host.pass_(29)
    assert guard.waking()
    host.pass_(1)
    assert not guard.waking()


@pytest.mark.parametrize(("synced", "believed"), [(True, True), (False, False)])
def test_start_long_after_the_last_run_is_believed_of_a_clock_known_to_be_right(
    synced: bool, believed: bool
) -> None:
    """Else it may be wrong since the start, and will be set soon."""
    host = Host(synced=synced)
    guard = host.guard(NOW - 2 * DAY)
    assert (guard.distrust() == "") == believed
    host.pass_(HOUR)
    assert guard.distrust() == ""


def test_clock_a_day_before_a_time_that_it_had_is_not_believed() -> None:
    host = Host(synced=False)
    guard = host.guard(NOW + 2 * DAY)
    for _ in range(3):
        assert "a day before" in guard.distrust()
        host.pass_(HOUR)
    host.pass_(DAY)
    assert guard.distrust() == ""


def test_clock_that_has_been_known_to_be_right_for_an_hour_is_believed_for_good() -> None:
    """It was decades ahead once, and a run was made: that must not end all pruning for decades."""
    host = Host(synced=False)
    guard = host.guard(NOW + 20 * 365 * DAY)
    host.pass_(5 * HOUR)
    assert guard.distrust() != ""
    host.synced = True
    assert guard.distrust() != ""
    host.pass_(HOUR - 1)
    assert guard.distrust() != ""
    host.pass_(1)
    assert guard.distrust() == ""
    host.synced = False
    assert guard.distrust() == ""
    assert guard.last == host.wall


def test_clock_that_was_known_to_be_right_only_for_a_while_is_not_believed() -> None:
    host = Host()
    guard = host.guard(NOW + 20 * 365 * DAY)
    guard.distrust()
    host.pass_(HOUR / 2)
    host.synced = False
    guard.distrust()
    host.pass_(HOUR / 2)
    host.synced = True
    assert guard.distrust() != ""
