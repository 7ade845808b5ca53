"""Times as virtsnap shows them, those in the daemon's sentences too."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from snapd.cli.output import times
from snapd.model import told_time


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_minute_is_local(berlin: None) -> None:
    assert times.minute(1774744200) == "2026-03-29 01:30"  # 00:30 UTC, before the change
    assert times.minute(1774747800) == "2026-03-29 03:30"  # 01:30 UTC, after it


def test_minute_before_1970_and_beyond_the_calendar_are_no_error(berlin: None) -> None:
    assert times.minute(-86400) == "1969-12-31 01:00"
    assert times.minute(2**62) == f"{2**62} s"


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (-2, "now"),
        (-59, "59 s ago"),
        (-61, "1 min ago"),
        (-7199, "119 min ago"),
        (-7200, "2 h ago"),
        (-26 * 3600, "26 h ago"),
        (-3 * 86400, "3 d ago"),
        (-15 * 86400, "2 w ago"),
        (-800 * 86400, "2 y ago"),
        (3600 * 5, "in 5 h"),
    ],
)
def test_age_is_told_in_the_largest_unit_that_says_enough(seconds: int, age: str) -> None:
    assert times.age(1_800_000_000 + seconds, 1_800_000_000) == age


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("held until 2026-11-30 08:21 UTC: the move", "held until 2026-11-30 09:21: the move"),
        ("since 2026-07-01 22:45:05 UTC", "since 2026-07-02 00:45:05"),
        ("open (2026-11-30 08:21 UTC)", "open (2026-11-30 09:21)"),
        ("removed after 2026-11-30 08:21 UTC and before 2026-11-30 08:22 UTC",
         "removed after 2026-11-30 09:21 and before 2026-11-30 09:22"),
        ("no snapshot '2026-11-30 08:21 UTC'", "no snapshot '2026-11-30 08:21 UTC'"),
        ("before 2026-11-30T08:21:00Z was described", "before 2026-11-30T08:21:00Z was described"),
        ("at 2026-13-30 08:21 UTC", "at 2026-13-30 08:21 UTC"),
    ],
)  # fmt: skip
def test_local_shows_the_times_of_a_sentence_as_all_others(
    sentence: str, shown: str, berlin: None
) -> None:
    assert times.local(sentence) == shown


def test_local_finds_what_the_daemon_calls_a_time(berlin: None) -> None:
    assert times.local(f"since {told_time(1774744200)}") == "since 2026-03-29 01:30"
    assert times.local(f"since {told_time(1774744205)}") == "since 2026-03-29 01:30:05"
    assert told_time(1 << 60) == f"{1 << 60} s"
    times.choose(utc=True, iso=False)
    try:
        assert times.local(f"until {told_time(1774744200)}") == "until 2026-03-29 00:30Z"
    finally:
        times.choose(utc=False, iso=False)


def test_moment_never_has_no_age() -> None:
    assert times.moment(0, 1_800_000_000) == "never"
