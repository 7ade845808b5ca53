"""Schedules against two others: a look at every minute of the clock, and cronsim.

The look at every minute decides. cronsim follows Debian cron, too, but is wrong about some changes
of half an hour, some at midnight and some of two hours: it is asked in zones without those.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from snapd.errors import InvalidArgument
from snapd.planning import schedule
from tests.unit import minutes

DATA = Path(__file__).parents[1] / "data" / "planning"
VECTORS: list[dict[str, Any]] = json.loads((DATA / "cron_dst.json").read_text())["vectors"]
HOUR, DAY = 3600, 86400
FIRST = 40  # slots compared in a row

# zone, years: what is odd about its changes then
ZONES = {
    "Africa/Casablanca": (2024,),  # back for a month, at another hour each year
    "Africa/Monrovia": (1972,),  # 44 minutes and 30 seconds
    "America/Asuncion": (2024,),  # no midnight in spring
    "America/Caracas": (2007, 2016),  # half an hour, for good
    "America/Havana": (2024,),  # no midnight in spring, and two in autumn
    "America/New_York": (2024,),
    "America/Santiago": (2024,),  # the day ends at 23:00, a second time
    "America/Sao_Paulo": (2018,),  # no midnight in spring
    "America/St_Johns": (2006,),  # at a minute past midnight
    "Antarctica/Troll": (2024,),  # two hours
    "Asia/Beirut": (2024,),  # no midnight in spring
    "Asia/Kathmandu": (1985,),  # a quarter of an hour, at midnight
    "Asia/Pyongyang": (2015, 2018),  # half an hour back, years later forward again
    "Asia/Tehran": (2021,),  # no midnight in spring
    "Atlantic/Azores": (2024,),  # midnight twice
    "Australia/Lord_Howe": (2024,),  # half an hour
    "Europe/Amsterdam": (1937,),  # the offset has seconds
    "Europe/Berlin": (2024,),
    "Europe/Dublin": (2024,),  # winter is what is saved there
    "Pacific/Apia": (2011,),  # 30 December is missing
    "Pacific/Chatham": (2024,),  # 45 minutes past the hour
    "Pacific/Kiritimati": (1994,),  # 31 December is missing
    "Pacific/Kwajalein": (1969, 1993),  # nearly all of a day twice; 21 August is missing
}
OLD = ("US/", "Etc", "Bra", "Can", "Chi", "Mex", "GMT")  # other names of zones that are there
CRONSIM_IS_RIGHT = ["UTC", "America/New_York", "Asia/Kathmandu", "Europe/Berlin", "Europe/Dublin"]


@cache
def changes(zone: str) -> list[int]:
    return [change for year in ZONES[zone] for change in minutes.changes(zone, year, year)]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


# --- expressions


def items(low: int, high: int, words: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """A field of the grammar: every form of it."""
    numbers = st.integers(low, high)
    rising = st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1])
    steps = st.integers(1, high - low + 1)
    single = numbers.map(str) | (st.sampled_from(words) if words else st.nothing())
    spans = rising.map(lambda pair: f"{pair[0]}-{pair[1]}")
    stepped = st.tuples(spans, steps).map(lambda pair: f"{pair[0]}/{pair[1]}")
    lists = st.lists(single | spans | stepped, min_size=1, max_size=3).map(",".join)
    return st.just("*") | steps.map(lambda step: f"*/{step}") | lists


MINUTES = st.sampled_from(["0", "30", "*", "*/15", "59", "1", "15,45"]) | items(0, 59)
HOURS = st.sampled_from(["0", "1", "2", "3", "23", "*", "0-3"]) | items(0, 23)
MONTHS = st.just("*") | items(1, 12, minutes.MONTHS)
WEEKDAYS = items(0, 7, minutes.DAYS).filter(lambda text: "/8" not in text)  # as 7 is 0, too
DAYS = items(1, 31) | st.sampled_from(["L", "1,L", "1,15,31", "1,30", "29", "31", "29-31"])
ANY_DAY = st.just(("*", "*", "*"))
SOME_DAYS = st.one_of(
    st.tuples(DAYS, MONTHS, st.just("*")), st.tuples(st.just("*"), MONTHS, WEEKDAYS)
)


def expressions(days: st.SearchStrategy[tuple[str, str, str]]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda minute, hour, day: " ".join([minute, hour, *day]), MINUTES, HOURS, days
    ).filter(fires)


def fires(text: str) -> bool:
    try:
        schedule.parse(text)
    except InvalidArgument as error:
        assert "never fires" in error.message
        return False
    return True


NEAR = st.one_of(
    st.integers(-4 * HOUR, 4 * HOUR),
    st.integers(-30 * HOUR, 30 * HOUR),
    st.sampled_from([-HOUR, -1800, -60, -1, 0, 1, 60, 1799, 1800, HOUR - 1, HOUR, 2 * HOUR]),
)


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int, int]:
    """A zone, one of its changes, and an instant near it."""
    zone = draw(st.sampled_from(sorted(ZONES)))
    change = draw(st.sampled_from(changes(zone)))
    return zone, change, change + draw(NEAR)


SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- the look at every minute


@pytest.mark.parametrize("zone", ZONES)
def test_zone_has_the_changes_that_it_is_here_for(zone: str) -> None:
    for year in ZONES[zone]:
        assert minutes.changes(zone, year, year)


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v["tz"] != "UTC"],
    ids=lambda v: f"{v['tz']}|{v['transition']}|{v['expr']}",
)
def test_look_at_every_minute_finds_what_the_vectors_say(vector: dict[str, Any]) -> None:
    """What judges below is judged here by another's."""
    start, end = at(vector["after"]), at(vector["until"])
    year = datetime.fromtimestamp(start, UTC).year
    near = [c for c in minutes.changes(vector["tz"], year, year) if start <= c <= end]
    middle = near[0] if near else (start + end) // 2
    low, high = max(start, middle - minutes.REACH), min(end, middle + minutes.REACH)
    found = minutes.slots(vector["expr"], vector["tz"], middle)
    expected = [at(text) for text in vector["fires_utc"]]
    assert [s for s in found if start < s <= high] == [s for s in expected if low <= s <= high]


def compare(text: str, zone: str, change: int, after: int) -> None:
    cron = schedule.parse(text)
    found = takewhile(
        lambda slot: slot <= change + minutes.REACH, schedule.fires(cron, after, ZoneInfo(zone))
    )
    expected = [slot for slot in minutes.slots(text, zone, change) if slot > after]
    assert list(islice(found, FIRST)) == expected[:FIRST]


@given(expressions(ANY_DAY | SOME_DAYS), moments())
@settings(SLOW, max_examples=300)
def test_fires_near_odd_changes_equal_every_minute(text: str, moment: tuple[str, int, int]) -> None:
    compare(text, *moment)


@pytest.mark.long
@pytest.mark.parametrize("zone", sorted(z for z in available_timezones() if z[:3] not in OLD))
def test_fires_near_changes_of_every_zone_equal_every_minute(zone: str) -> None:
    found = minutes.changes(zone, 1905, 2037)
    if not found:
        return  # one that never changed

    @given(expressions(ANY_DAY), st.sampled_from(found), NEAR)
    @settings(SLOW, max_examples=4)
    def look(text: str, change: int, near: int) -> None:
        compare(text, zone, change, change + near)

    look()


@given(expressions(ANY_DAY | SOME_DAYS), moments(), st.integers(0, 4 * DAY))
@settings(SLOW, max_examples=150)
def test_due_near_odd_changes_counts_every_minutes_slots(
    text: str, moment: tuple[str, int, int], passed: int
) -> None:
    zone, change, last = moment
    now = min(last + passed, change + minutes.REACH)
    due = schedule.due(schedule.parse(text), last, now, ZoneInfo(zone))
    owed = [slot for slot in minutes.slots(text, zone, change) if last < slot <= now]
    if not owed:
        assert due is None
        return
    assert due is not None
    assert (due.slot, due.oldest, due.lateness) == (owed[-1], owed[0], now - owed[-1])
    assert due.missed == min(len(owed) - 1, schedule.MAX_MISSED)


ANY_TIME = st.integers(at("1999-01-01T00:00:00Z"), at("2040-01-01T00:00:00Z"))
LATE_FEBRUARY = st.builds(  # where lists of days go wrong in libraries
    lambda year, passed: at(f"{year}-02-12T00:00:00Z") + passed,
    st.integers(1999, 2039),
    st.integers(0, 20 * DAY),
)


@given(expressions(SOME_DAYS), ANY_TIME | LATE_FEBRUARY)
@settings(SLOW, max_examples=200)
def test_next_fire_without_changes_equals_a_look_at_every_day(text: str, after: int) -> None:
    cron = schedule.parse(text)
    assert schedule.next_fire(cron, after, ZoneInfo("UTC")) == minutes.next_in_utc(text, after)


# --- cronsim


@given(
    expressions(ANY_DAY | SOME_DAYS),
    st.integers(at("2023-01-01T00:00:00Z"), at("2029-01-01T00:00:00Z"))
    | st.builds(lambda zone, n, near: changes(zone)[n % 2] + near,
                st.sampled_from(["Europe/Berlin", "Europe/Dublin", "America/New_York"]),
                st.integers(0, 1), NEAR),
    st.sampled_from(CRONSIM_IS_RIGHT),
)  # fmt: skip
@settings(SLOW, max_examples=200)
def test_next_fire_equals_cronsim(text: str, after: int, zone: str) -> None:
    """Started in the second pass of an hour cronsim goes back in time."""
    local = datetime.fromtimestamp(after, ZoneInfo(zone))
    assume(not local.fold)
    found = schedule.next_fire(schedule.parse(text), after, ZoneInfo(zone))
    expected: datetime = next(CronSim(text, local))
    assert found == int(expected.timestamp()), datetime.fromtimestamp(found, UTC)


@pytest.mark.parametrize("text", ["0 0 31 2 *", "0 0 30,31 feb *", "0 0 31 4,6,9,11 *"])
def test_parse_refuses_what_cronsim_never_fires(text: str) -> None:
    assert not fires(text)
    with pytest.raises((StopIteration, CronSimError)):
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))


# --- read off tzdata's own lines by a person


@pytest.mark.parametrize(
    ("zone", "text", "after", "expected"),
    [
        # 1986-01-01 00:00 +05:30 -> 00:15 +05:45: midnight is skipped
        ("Asia/Kathmandu", "0 0 * * *", "1985-12-31T12:00+05:30", "1986-01-01T00:15+05:45"),
        ("Asia/Kathmandu", "*/10 0 * * *", "1985-12-31T12:00+05:30", "1986-01-01T00:20+05:45"),
        # 2024-04-07 02:00 +11 -> 01:30 +10:30
        ("Australia/Lord_Howe", "45 1 * * *", "2024-04-06T12:00+11:00", "2024-04-07T01:45+11:00"),
        ("Australia/Lord_Howe", "45 1 * * *", "2024-04-07T01:50+11:00", "2024-04-08T01:45+10:30"),
        ("Australia/Lord_Howe", "45 * * * *", "2024-04-07T01:50+11:00", "2024-04-07T01:45+10:30"),
        # every minute of 23 o'clock on Sunday, asked at half past, in a zone of half hours
        ("Australia/Lord_Howe", "* 23 * * 0", "2024-04-07T23:30+10:30", "2024-04-07T23:31+10:30"),
        # 2024-03-31 00:00 EET -> 01:00 EEST
        ("Asia/Beirut", "0 0 * * *", "2024-03-30T12:00+02:00", "2024-03-31T01:00+03:00"),
        # 2024-04-07 00:00 -03 -> 2024-04-06 23:00 -04
        ("America/Santiago", "30 23 * * *", "2024-04-06T12:00-03:00", "2024-04-06T23:30-03:00"),
        ("America/Santiago", "30 23 * * *", "2024-04-06T23:30-03:00", "2024-04-07T23:30-04:00"),
        ("America/Santiago", "0 0 * * *", "2024-04-06T12:00-03:00", "2024-04-07T00:00-04:00"),
        # 2006-04-02 00:01 NST -> 01:01 NDT
        ("America/St_Johns", "30 0 * * *", "2006-04-01T12:00-03:30", "2006-04-02T01:01-02:30"),
        ("America/St_Johns", "0 0 * * *", "2006-04-01T12:00-03:30", "2006-04-02T00:00-03:30"),
        # 1993-08-21 never was
        ("Pacific/Kwajalein", "0 12 21 8 *", "1993-08-20T12:00-12:00", "1993-08-22T00:00+12:00"),
        ("Pacific/Kwajalein", "0 * * * *", "1993-08-20T23:10-12:00", "1993-08-22T00:00+12:00"),
        # 1972-01-07 00:00 -0:44:30 -> 00:44:30 UTC
        ("Africa/Monrovia", "30 0 * * *", "1972-01-06T12:00Z", "1972-01-07T00:44:30Z"),
        # 2024-03-31 01:00 UTC -> 03:00: two hours at once, one run
        ("Antarctica/Troll", "30 1,2 * * *", "2024-03-31T00:59Z", "2024-03-31T01:00Z"),
        ("Antarctica/Troll", "30 1,2 * * *", "2024-03-31T01:00Z", "2024-03-31T23:30Z"),
    ],
)  # fmt: skip
def test_next_fire_at_a_change_read_off_tzdata(
    zone: str, text: str, after: str, expected: str
) -> None:
    assert schedule.next_fire(schedule.parse(text), at(after), ZoneInfo(zone)) == at(expected)
