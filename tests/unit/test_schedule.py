"""Schedules against brute-forced instants and written cases; more oracles are next door."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapd.errors import InvalidArgument
from snapd.planning import schedule

DATA = Path(__file__).parents[1] / "data" / "planning"
VECTORS: list[dict[str, Any]] = json.loads((DATA / "cron_dst.json").read_text())["vectors"]
CASES = {c["id"]: c for c in json.loads((DATA / "schedule_cases.json").read_text())}
RULES = {
    "daily at 02:30": "30 2 * * *",
    "hourly": "@hourly",
    "daily at 00:00": "0 0 * * *",
    "daily at 01:45": "45 1 * * *",
}
UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())


def until(slots: Iterable[int], end: int) -> list[int]:
    return list(takewhile(lambda slot: slot <= end, slots))


def label(vector: dict[str, Any]) -> str:
    return f"{vector['tz']}|{vector['transition']}|{vector['expr']}"


@pytest.mark.parametrize("vector", VECTORS, ids=label)
def test_fires_around_clock_change_equal_brute_force(vector: dict[str, Any]) -> None:
    cron, zone = schedule.parse(vector["expr"]), ZoneInfo(vector["tz"])
    expected = [at(fire) for fire in vector["fires_utc"]]
    assert cron.interval == (vector["kind"] == "interval")
    assert until(schedule.fires(cron, at(vector["after"]), zone), at(vector["until"])) == expected


@pytest.mark.parametrize("vector", VECTORS, ids=label)
def test_next_fire_from_any_instant_between_is_the_same(vector: dict[str, Any]) -> None:
    cron, zone = schedule.parse(vector["expr"]), ZoneInfo(vector["tz"])
    previous = at(vector["after"])
    for expected in (at(fire) for fire in vector["fires_utc"]):
        for after in {previous, (previous + expected) // 2, expected - 1}:
            assert schedule.next_fire(cron, after, zone) == expected
        previous = expected


@pytest.mark.parametrize(
    "case", [c for c in CASES.values() if "vms" not in c], ids=lambda c: c["id"]
)
def test_fires_and_due_written_case(case: dict[str, Any]) -> None:
    """A daemon that looks at its schedules each minute and at the end of every pause."""
    cron, zone = schedule.parse(RULES[case["rule"]]), ZoneInfo(case["tz"])
    pauses = [(at(start), at(end)) for start, end in case.get("off", [])]
    start, end = at(case["from_utc"]), at(case["to_utc"])
    last, runs = start - 1, []
    for now in range(start, end + 1, 60):
        if any(first <= now < back for first, back in pauses):
            continue
        due = schedule.due(cron, last, now, zone)
        if due:
            assert due.run
            runs.append(now)
            last = due.slot
    assert runs == [at(fire) for fire in case["expect_utc"]]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", "2026-10-26T01:30:00Z"),  # had its turn in the first pass
        ("30 2,3 * * *", "2026-10-25T02:30:00Z"),
        ("0 3 * * *", "2026-10-25T02:00:00Z"),  # where the second pass ends
        ("*/30 2 * * *", "2026-10-25T01:30:00Z"),
    ],
)
def test_next_fire_from_the_second_pass_of_an_hour(expression: str, expected: str) -> None:
    # Berlin, 2026-10-25: 02:00 to 03:00 comes again from 01:00Z to 02:00Z
    cron = schedule.parse(expression)
    assert schedule.next_fire(cron, at("2026-10-25T01:10:00Z"), BERLIN) == at(expected)


def test_next_fire_last_day_of_month_is_each_months_last() -> None:
    cron = schedule.parse("0 0 15,L * *")
    found = list(islice(schedule.fires(cron, at("2028-01-20T00:00:00Z"), UTC_ZONE), 6))
    days = ["01-31", "02-15", "02-29", "03-15", "03-31", "04-15"]
    assert found == [at(f"2028-{day}T00:00:00Z") for day in days]


def test_next_fire_29_february_waits_for_a_leap_year_and_over_2100() -> None:
    cron = schedule.parse("0 0 29 2 *")
    assert schedule.next_fire(cron, at("2026-01-01T00:00:00Z"), UTC_ZONE) == at(
        "2028-02-29T00:00:00Z"
    )
    assert schedule.next_fire(cron, at("2096-03-01T00:00:00Z"), UTC_ZONE) == at(
        "2104-02-29T00:00:00Z"
    )


@pytest.mark.parametrize("after", [-(2**63), 2**63 - 1])
def test_next_fire_beyond_the_calendar_raises_invalid_argument(after: int) -> None:
    with pytest.raises(InvalidArgument):
        schedule.next_fire(schedule.parse("@daily"), after, BERLIN)


@pytest.mark.parametrize(
    ("macro", "fields"),
    [("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@midnight", "0 0 * * *"),
     ("@weekly", "0 0 * * 0"), ("@monthly", "0 0 1 * *"), ("@yearly", "0 0 1 1 *"),
     ("@annually", "0 0 1 1 *")],
)  # fmt: skip
def test_parse_macro_is_what_crontab_5_says(macro: str, fields: str) -> None:
    after = at("2026-03-28T11:00:00Z")
    one, other = (schedule.fires(schedule.parse(text), after, BERLIN) for text in (macro, fields))
    assert list(islice(one, 20)) == list(islice(other, 20))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "'30 2 * * *'"), (" \t", "'30 2 * * *'"), ("daily", "'@daily'"),
        ("Hourly", "'@hourly'"), ("@reboot", "@hourly"), ("@every 5m", "@hourly"),
        ("*-*-* 02:30", "systemd"), ("Mon *-*-* 02:30:00", "systemd"), ("02:30", "systemd"),
        ("30 2 * *", "4 fields"), ("0 30 2 * * *", "6 fields"), ("0 0 0 1 1 * 2027", "7 fields"),
        ("0 0 1 * 1", "two policies"), ("0 0 */2 * 1", "two policies"),
        ("0 0 31 2 *", "never"), ("0 0 30,31 feb *", "never"), ("0 0 31 4,6,9,11 *", "never"),
        ("60 * * * *", "0 to 59"), ("0 24 * * *", "0 to 23"), ("0 0 0 * *", "1 to 31"),
        ("0 0 * 13 *", "1 to 12"), ("0 0 * * 8", "0 to 7"), ("0 0 * foo *", "1 to 12"),
        ("59/15 * * * *", "'59-59/15'"), ("5-5 * * * *", "'5'"), ("0 0 * jan-jan *", "rise"),
        ("0 22-2 * * *", "'22-23,0-2'"), ("0 0 * * fri-sun", "'5-7'"),
        ("*/0 * * * *", "step"), ("*/61 * * * *", "step"), ("0 */25 * * *", "step"),
        ("*,5 * * * *", "beside"), ("1,,2 * * * *", "allowed"), ("1-2-3 * * * *", "allowed"),
        ("-5 * * * *", "allowed"), ("H * * * *", "not supported"), ("R * * * *", "not supported"),
        ("? * * * *", "not supported"), ("0 0 15W * *", "not supported"),
        ("0 0 * * 5#5", "not supported"), ("0 0 * * 5L", "not supported"),
        ("0 0 L-1 * *", "not supported"), ("0 0 L5 * *", "not supported"),
        ("\u0663 * * * *", "ASCII"), ("0 \uff12 * * *", "ASCII"), ("0 0 * * *\n0", "ASCII"),
        ("0\u00a00 * * *", "ASCII"), ("1," * 200 + "1 * * * *", "256"),
    ],
)  # fmt: skip
def test_parse_refused_expression_says_why_in_one_line(text: str, hint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        schedule.parse(text)
    assert hint in caught.value.message
    assert caught.value.message.isprintable()


@given(st.text(alphabet="0123456789*/-,@ LHRW?#sunjan\t", max_size=40))
@settings(max_examples=300, deadline=None)
def test_parse_any_text_raises_nothing_else_and_what_it_takes_fires(text: str) -> None:
    try:
        cron = schedule.parse(text)
    except InvalidArgument:
        return
    now = at("2026-11-24T12:00:00Z")
    assert now < schedule.next_fire(cron, now, BERLIN) <= now + 5 * 366 * 86400


HOURLY = schedule.parse("@hourly")
NIGHTLY = schedule.parse("30 2 * * *")
NOON = at("2026-11-24T12:00:00Z")


def test_due_before_the_next_slot_is_nothing() -> None:
    assert schedule.due(HOURLY, NOON, NOON + 3599, UTC_ZONE) is None


def test_due_at_the_slot_is_on_time() -> None:
    due = schedule.due(HOURLY, NOON - 3600, NOON, UTC_ZONE)
    assert due == schedule.Due(NOON, 0, NOON, 0, late=False, run=True)


def test_due_after_three_missed_slots_is_one_late_run() -> None:
    due = schedule.due(HOURLY, NOON - 4 * 3600, NOON + 600, UTC_ZONE)
    assert due == schedule.Due(NOON, 3, NOON - 3 * 3600, 600, late=True, run=True)


def test_due_skip_leaves_a_late_slot_out_and_runs_one_on_time() -> None:
    late = schedule.due(HOURLY, NOON - 7200, NOON + 61, UTC_ZONE, catch_up=False)
    timely = schedule.due(HOURLY, NOON - 7200, NOON + 60, UTC_ZONE, catch_up=False)
    assert late is not None
    assert timely is not None
    assert (late.slot, late.missed, late.run) == (NOON, 1, False)
    assert (timely.slot, timely.missed, timely.run) == (NOON, 1, True)


def test_due_max_lateness_is_inclusive() -> None:
    runs = [
        schedule.due(NIGHTLY, NOON - 5 * 86400, NOON, UTC_ZONE, max_lateness=lateness)
        for lateness in (9 * 3600 + 1800, 9 * 3600 + 1799)  # 02:30 to 12:00
    ]
    assert [due.run for due in runs if due] == [True, False]


def test_due_after_years_counts_to_the_cap_and_finds_the_newest() -> None:
    due = schedule.due(schedule.parse("* 2 * * *"), at("2020-01-01T00:00:00Z"), NOON, UTC_ZONE)
    assert due is not None
    assert due.slot == at("2026-11-24T02:59:00Z")
    assert due.oldest == at("2020-01-01T02:00:00Z")
    assert due.missed == schedule.MAX_MISSED


def test_due_clock_set_back_fires_nothing_again() -> None:
    assert schedule.due(HOURLY, NOON, NOON - 600, UTC_ZONE) is None


def test_due_last_slot_far_ahead_does_not_block_for_years() -> None:
    ahead = at("2045-01-01T00:00:00Z")
    assert schedule.clamp(ahead, NOON) == NOON
    assert schedule.clamp(NOON + 86400, NOON) == NOON + 86400
    assert schedule.clamp(NOON + 86401, NOON) == NOON
    assert schedule.due(HOURLY, ahead, NOON, UTC_ZONE) is None
    assert schedule.due(HOURLY, schedule.clamp(ahead, NOON), NOON + 3600, UTC_ZONE) is not None


@pytest.mark.parametrize(
    ("text", "gap"),
    [("* * * * *", 60), ("0,59 * * * *", 60), ("@hourly", 3600), ("0 6,22 * * *", 8 * 3600),
     ("@daily", 86400), ("0 0 * * 1,3", 2 * 86400), ("@monthly", 28 * 86400)],
)  # fmt: skip
def test_shortest_gap_of_schedule_is_seconds_between_slots(text: str, gap: int) -> None:
    assert schedule.shortest_gap(schedule.parse(text)) == gap


def test_spread_known_input_is_sha256_modulo_delay() -> None:
    # printf 'm\nu\np\n' | sha256sum, then bc: the number modulo 3600
    assert schedule.spread("m", "u", "p", 3600) == 2660


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.integers(1, 10**6))
def test_spread_stays_below_the_delay(machine: str, uuid: str, policy: str, delay: int) -> None:
    assert 0 <= schedule.spread(machine, uuid, policy, delay) < delay


def test_spread_40_vms_differ_and_zero_delay_is_zero() -> None:
    starts = {schedule.spread("m", f"uuid-{n}", "hourly", 3600) for n in range(40)}
    assert len(starts) > 30
    assert schedule.spread("m", "u", "p", 0) == 0


def test_fires_missing_day_in_apia_runs_once_at_the_change() -> None:
    # tzdata: Pacific/Apia had no 2011-12-30; the change is at 2011-12-30T10:00Z
    found = until(
        schedule.fires(NIGHTLY, at("2011-12-29T00:00:00Z"), ZoneInfo("Pacific/Apia")),
        at("2011-12-31T00:00:00Z"),
    )
    change = datetime(2011, 12, 30, 10, tzinfo=UTC)
    expected = [change - timedelta(hours=21, minutes=30), change, change + timedelta(hours=2.5)]
    assert found == [int(moment.timestamp()) for moment in expected]


@pytest.mark.parametrize(
    ("text", "plain"),
    [("30\t2\t*\t*\t*", "30 2 * * *"), ("  30 2  * *\t* ", "30 2 * * *"),
     ("0 0 * * MON-Fri", "0 0 * * 1-5"), ("0 0 1 JAN,Jul *", "0 0 1 1,7 *"),
     ("0 0 * * 7", "0 0 * * sun"), ("0 0 l * *", "0 0 L * *"), ("@DAILY", "@daily"),
     ("05 02 * * *", "5 2 * * *")],
)  # fmt: skip
def test_parse_other_spelling_means_the_same(text: str, plain: str) -> None:
    one, other = (schedule.fires(schedule.parse(t), NOON, BERLIN) for t in (text, plain))
    assert list(islice(one, 12)) == list(islice(other, 12))


@pytest.mark.parametrize("text", ["0 0 * * 0-5,7", "0 0 * * sun-fri,7", "0 0 * * 7,0,1-5"])
def test_parse_sunday_by_both_its_numbers_makes_no_saturday(text: str) -> None:
    # cal: 2026-11-28 is a Saturday
    found = list(islice(schedule.fires(schedule.parse(text), NOON, UTC_ZONE), 4))
    assert found == [at(f"2026-11-{day}T00:00:00Z") for day in (25, 26, 27, 29)]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("1970-01-01T00:00:00Z", "1970-01-01T01:30:00Z"),  # no battery, no clock
        ("2038-01-19T03:14:07Z", "2038-01-20T01:30:00Z"),
        ("2099-03-28T12:00:00Z", "2099-03-29T01:00:00Z"),  # a change that no table lists
        ("2099-12-31T23:59:59Z", "2100-01-01T01:30:00Z"),
    ],
)
def test_next_fire_clock_far_off_is_what_the_calendar_says(after: str, expected: str) -> None:
    assert schedule.next_fire(NIGHTLY, at(after), BERLIN) == at(expected)


@pytest.mark.parametrize("seconds", [-600, -1, 0, 1, 30, 59])
def test_due_looked_again_around_a_slot_that_was_dealt_with_is_nothing(seconds: int) -> None:
    """A restart within its minute, a clock that is set back or kept slow."""
    assert schedule.due(HOURLY, NOON, NOON + seconds, UTC_ZONE) is None


def test_due_asleep_through_three_slots_is_one_late_run_and_then_the_next_in_time() -> None:
    woken = schedule.due(HOURLY, NOON, NOON + 3 * 3600 + 1200, UTC_ZONE)
    assert woken == schedule.Due(NOON + 3 * 3600, 2, NOON + 3600, 1200, late=True, run=True)
    following = schedule.due(HOURLY, woken.slot, NOON + 4 * 3600, UTC_ZONE)
    assert following == schedule.Due(NOON + 4 * 3600, 0, NOON + 4 * 3600, 0, late=False, run=True)


@pytest.mark.parametrize("now", ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
def test_due_clock_years_off_is_one_run_at_most_and_comes_back(now: str) -> None:
    """No clock until the time is fetched, or one that jumps ahead: no storm, no VM forgotten."""
    wrong = at(now)
    last = NOON
    if due := schedule.due(NIGHTLY, last, wrong, UTC_ZONE):
        assert due.missed == schedule.MAX_MISSED
        last = due.slot
    last = schedule.clamp(last, NOON + 3600)  # the clock is right again
    back = schedule.due(NIGHTLY, last, NOON + 86400, UTC_ZONE)
    assert back is not None
    assert (back.slot, back.run) == (at("2026-11-25T02:30:00Z"), True)
