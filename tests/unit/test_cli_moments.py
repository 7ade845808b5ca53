"""Times as they are typed, at 2026-11-24 14:05:30 of Berlin, which is an hour ahead of UTC."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Self

import pytest

from snapd.cli.output import times
from snapd.cli.parser import moments
from snapd.cli.picking import Wanted

NOW = 1795525530


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class At(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(NOW, tz)

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: NOW + 0.5)
    monkeypatch.setattr("datetime.datetime", At)
    yield
    times.choose(utc=False, iso=False)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("typed", "utc", "wanted"),
    [
        ("today", False, "2026-11-23T23:00:00+00:00"),
        ("today", True, "2026-11-24T00:00:00+00:00"),
        ("yesterday", False, "2026-11-22T23:00:00+00:00"),
        ("10:00", False, "2026-11-24T09:00:00+00:00"),
        ("9:30:15", False, "2026-11-24T08:30:15+00:00"),
        ("10:00", True, "2026-11-24T10:00:00+00:00"),
        ("2 days", False, "2026-11-22T13:05:30+00:00"),
        ("1 day", False, "2026-11-23T13:05:30+00:00"),
        ("2h30min", False, "2026-11-24T10:35:30+00:00"),
        ("1d 12h", False, "2026-11-23T01:05:30+00:00"),
        ("90s", False, "2026-11-24T13:04:00+00:00"),
        ("@1763973300", False, "2025-11-24T08:35:00+00:00"),
        ("1763973300", False, "2025-11-24T08:35:00+00:00"),
        ("20261124", False, "2026-11-23T23:00:00+00:00"),
        ("2026-11-24 02:30", False, "2026-11-24T01:30:00+00:00"),
        ("2026-11-24T02:30Z", False, "2026-11-24T02:30:00+00:00"),
    ],
)
def test_past_takes_what_people_type(typed: str, utc: bool, wanted: str) -> None:
    times.choose(utc=utc, iso=False)
    assert datetime.fromtimestamp(moments.past(typed), UTC).isoformat() == wanted


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("5m", "write 5min for minutes"),
        ("2h5m", "write 5min for minutes"),
        ("3M", "may be minutes or months"),
        ("15:00", "of today is still to come"),
        ("25:00", "10:00 (of today), today, yesterday, @SECONDS, or how long ago: 30min, 2h30min"),
        ("soon", "write 2026-11-24 02:30 (Z behind it for UTC), 10:00"),
        ("tomorrow", "is no time"),
        ("2 moons", "is no time"),
        ("-2d", "is no time"),
        ("@x", "is no time"),
        ("", "is no time"),
        ("1234567d", "too far away"),
        ("@1234567890123", "too far away"),
    ],
)
def test_past_says_what_is_wrong_and_the_forms(typed: str, said: str) -> None:
    with pytest.raises(ArgumentTypeError) as error:
        moments.past(typed)
    assert said in str(error.value)


def test_coming_takes_what_is_to_come() -> None:
    assert moments.coming("2h30min") == NOW + 9000
    assert moments.coming("15:05:30") == NOW + 3600
    assert moments.coming("tomorrow") == 1795561200
    with pytest.raises(ArgumentTypeError, match="of today is over"):
        moments.coming("10:00")
    with pytest.raises(ArgumentTypeError, match="tomorrow, @SECONDS, or how long from now"):
        moments.coming("soon")


def test_instant_takes_no_spans() -> None:
    assert moments.instant("15:05:30") == NOW + 3600
    with pytest.raises(ArgumentTypeError, match="is no time"):
        moments.instant("2d")


def test_wanted_from_before_1970_is_not_never() -> None:
    assert "from before 1970-01-01" in str(Wanted("", 0))
