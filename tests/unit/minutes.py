"""When a schedule fires, found by looking at the clock of a zone minute by minute.

Slow, without a cron library and without our own code: what decides where others disagree. The rule
is Debian cron's. A job whose minute or hour field starts with `*` runs at every minute that the
clock shows and that matches. Any other runs at the first of two minutes that the clock shows twice,
and once at the change for all that the clock skips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from math import gcd
from zoneinfo import ZoneInfo

DAY = 86400
REACH = 2 * DAY  # seconds looked at before and after a change

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True)
class Spec:
    """An expression of five fields as sets of numbers."""

    interval: bool
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    last_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]

    def day_matches(self, wall: datetime) -> bool:
        last = self.last_day and (wall + timedelta(days=1)).day == 1
        return (
            (last or wall.day in self.days)
            and wall.month in self.months
            and wall.isoweekday() % 7 in self.weekdays
        )

    def matches(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and self.day_matches(wall)


@cache
def spec(text: str) -> Spec:
    """Read an expression that is known to be right."""
    minute, hour, day, month, weekday = text.lower().split()
    plain = [item for item in day.split(",") if item != "l"]
    return Spec(
        interval=minute.startswith("*") or hour.startswith("*"),
        minutes=_numbers(minute, 0, 59),
        hours=_numbers(hour, 0, 23),
        days=_numbers(",".join(plain), 1, 31) if plain else frozenset(),
        last_day="l" in day.split(","),
        months=_numbers(month, 1, 12, MONTHS),
        weekdays=frozenset(n % 7 for n in _numbers(weekday, 0, 7, DAYS)),
    )


def _numbers(text: str, low: int, high: int, words: tuple[str, ...] = ()) -> frozenset[int]:
    def number(word: str) -> int:
        return words.index(word) + low if word in words else int(word)

    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, end = span.partition("-")
        start = low if first == "*" else number(first)
        stop = high if first == "*" else number(end) if end else start
        found.update(range(start, stop + 1, int(step or 1)))
    return frozenset(found)


def changes(zone: str, first_year: int, last_year: int) -> list[int]:
    """The instants at which the offset of a zone changes, both years included."""
    info = ZoneInfo(zone)
    start = int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(last_year + 1, 1, 1, tzinfo=UTC).timestamp())
    return [
        second + 1
        for day in _differing(start, end, DAY, info)
        for hour in _differing(day, day + DAY, 3600, info)
        for second in _differing(hour, hour + 3600, 1, info)
    ]


def _differing(start: int, end: int, step: int, zone: ZoneInfo) -> list[int]:
    """Where the offset is another one a step later."""
    found = range(start, end, step)
    return [at for at in found if _offset(at, zone) != _offset(at + step, zone)]


def _offset(at: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


@dataclass(frozen=True)
class _Shown:
    """A minute that begins on the clock, or a change that skips some (then those)."""

    at: int
    wall: datetime
    again: bool = False
    skipped: tuple[datetime, ...] = ()


@lru_cache(maxsize=64)
def _clock(zone: str, change: int) -> tuple[_Shown, ...]:
    return tuple(_look(ZoneInfo(zone), change))


def _look(zone: ZoneInfo, change: int) -> Iterator[_Shown]:
    """What the clock shows from REACH before a change to REACH after it."""
    # so fine that a look falls on every full minute of the clock, before the change and after it
    step = gcd(60, change, _offset(change - 1, zone), _offset(change, zone))
    seen: set[datetime] = set()
    before: datetime | None = None
    for at in range(change - REACH, change + REACH + 1, step):
        wall = datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)
        expected = before + timedelta(seconds=step) if before else wall
        if wall > expected:
            yield _Shown(at, wall, skipped=tuple(_minutes(expected, wall)))
        if wall.second == 0:
            yield _Shown(at, wall, again=wall in seen)
            seen.add(wall)
        before = wall


def _minutes(start: datetime, end: datetime) -> Iterator[datetime]:
    wall = start if not start.second else start.replace(second=0) + timedelta(minutes=1)
    while wall < end:
        yield wall
        wall += timedelta(minutes=1)


def slots(text: str, zone: str, change: int) -> list[int]:
    """All slots of an expression from REACH before a change to REACH after it, seconds UTC."""
    wanted, found = spec(text), set()
    for shown in _clock(zone, change):
        if shown.skipped:
            if not wanted.interval and any(wanted.matches(wall) for wall in shown.skipped):
                found.add(shown.at)
        elif wanted.matches(shown.wall) and (wanted.interval or not shown.again):
            found.add(shown.at)
    return sorted(found)


def next_in_utc(text: str, after: int, years: int = 9) -> int:
    """The first slot later than `after` where the clock never changes."""
    wanted = spec(text)
    wall = datetime.fromtimestamp(after - after % 60 + 60, UTC).replace(tzinfo=None)
    for _ in range(years * 366):
        if wanted.day_matches(wall):
            day = wall.date()
            while wall.date() == day:
                if wanted.matches(wall):
                    return int(wall.replace(tzinfo=UTC).timestamp())
                wall += timedelta(minutes=1)
        else:
            wall = (wall + timedelta(days=1)).replace(hour=0, minute=0)
    raise AssertionError(f"{text} fires in none of {years} years")
