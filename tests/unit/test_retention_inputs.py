"""Retention of what breaks simple planners: ends of time, odd calendars, names, huge numbers."""

from __future__ import annotations

import time
from zoneinfo import ZoneInfo

import pytest

from snapd.model import Keep
from snapd.planning.retention import Candidate, Rules, plan, plan_labels, plan_safety
from tests.unit.histories import DAY, HOUR, NOW, ids, kept, seconds

UTC_ZONE = ZoneInfo("UTC")
YEAR = 366 * DAY
EVERYTHING = Keep(last=3, hourly=24, daily=7, weekly=4, monthly=12, yearly=5)


def at(*times: str) -> list[Candidate]:
    """Snapshots that are called as the times that they are of."""
    return [Candidate(text, seconds(text)) for text in times]


def stays(made: list[Candidate], keep: Keep, zone: str = "UTC", now: float = 0) -> set[str]:
    newest = max(c.created for c in made)
    return ids(plan(made, keep, now or newest, ZoneInfo(zone)))


# --- times


def test_plan_of_one_second_the_name_decides_whatever_the_order() -> None:
    twins = [Candidate(name, NOW) for name in ("b", "c", "a")]
    for made in (twins, twins[::-1]):
        assert [d.candidate.id for d in plan(made, Keep(last=2), NOW, UTC_ZONE)] == ["c", "b", "a"]
        assert stays(made, Keep(last=2)) == {"c", "b"}


def test_plan_max_age_boundary_is_the_very_second() -> None:
    made = [Candidate(f"{age}", NOW - age) for age in (0, DAY - 1, DAY, DAY + 1)]
    decisions = plan(made, Keep(last=9), NOW, UTC_ZONE, max_age=DAY)
    assert ids(decisions) == {"0", str(DAY - 1)}


def test_plan_future_by_a_second_counts_by_a_day_or_70_years_does_not() -> None:
    made = [Candidate("second", NOW + 1), Candidate("old", NOW - 1), Candidate("older", NOW - 2)]
    ahead = [Candidate("day", NOW + DAY), Candidate("life", NOW + 70 * YEAR)]
    decisions = plan([*made, *ahead], Keep(last=2), NOW, UTC_ZONE)
    assert ids(decisions, keep=False) == {"older"}
    assert [d.reasons for d in decisions[:2]] == [("future",), ("future",)]


@pytest.mark.parametrize(
    "now", ["1970-01-01T00:00:00Z", "2001-09-09T01:46:40Z", "2026-10-01T00:00:00Z"]
)
def test_plan_clock_before_all_snapshots_keeps_all(now: str) -> None:
    made = [Candidate(f"s{n}", NOW - n * HOUR) for n in range(50)]
    decisions = plan(made, Keep(last=1), seconds(now), UTC_ZONE, max_age=1, max_count=1)
    assert {d.reasons for d in decisions} == {("future",)}
    assert all(d.keep for d in decisions)


@pytest.mark.parametrize("now", ["2038-01-19T03:14:08Z", "2099-01-01T00:00:00Z"])
def test_plan_clock_far_ahead_deletes_only_what_age_lets_go_and_never_the_newest(now: str) -> None:
    made = [Candidate(f"s{n}", NOW - n * HOUR) for n in range(5)]
    keep = Keep(last=3, within=HOUR)
    assert ids(plan(made, keep, seconds(now), UTC_ZONE)) == {"s0", "s1", "s2"}
    assert ids(plan(made, keep, seconds(now), UTC_ZONE, max_age=14 * DAY)) == {"s0"}


def test_plan_snapshots_over_2038_and_2100_are_of_their_days() -> None:
    made = at("2038-01-19T03:14:07Z", "2038-01-19T03:14:08Z", "2038-01-20T00:00:00Z",
              "2099-12-31T23:59:59Z", "2100-02-28T12:00:00Z", "2100-03-01T12:00:00Z")  # fmt: skip
    assert stays(made, Keep(daily=9)) == {c.id for c in made} - {"2038-01-19T03:14:07Z"}
    assert stays(made, Keep(monthly=9)) == {c.id for c in made[2:]}


def test_plan_within_longer_than_there_were_years_keeps_all() -> None:
    made = [Candidate(f"s{n}", NOW - n * YEAR) for n in range(50)]
    assert len(stays(made, Keep(within=9999 * YEAR))) == 50


@pytest.mark.parametrize("created", [0, -5, 253370764800, 1.7e12, 2.0**62, float("inf")])
def test_plan_time_that_is_none_is_kept_as_unknown(created: float) -> None:
    made = [Candidate("odd", created), Candidate("new", NOW), Candidate("old", NOW - 1)]
    decisions = plan(made, Keep(last=1), NOW, UTC_ZONE)
    assert {d.candidate.id: d.reasons for d in decisions} == {
        "odd": ("time-unknown",),
        "new": ("last 1/1", "newest"),
        "old": ("no-rule-matches",),
    }


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "America/Los_Angeles"])
def test_plan_first_and_last_second_of_the_calendar_have_buckets(zone: str) -> None:
    made = [Candidate("first", 1), Candidate("last", 253370764799)]
    assert len(stays(made, EVERYTHING, zone)) == 2


# --- calendars


def test_plan_29_february_is_a_day_of_its_month_and_year() -> None:
    made = at("2024-02-28T12:00Z", "2024-02-29T12:00Z", "2024-03-01T12:00Z", "2025-02-28T12:00Z",
              "2025-03-01T12:00Z", "2028-02-29T12:00Z")  # fmt: skip
    assert stays(made, Keep(daily=9)) == {c.id for c in made}
    assert stays(made, Keep(monthly=9)) == {c.id for c in made[1:]}
    assert stays(made, Keep(yearly=9)) == {"2024-03-01T12:00Z", "2025-03-01T12:00Z",
                                           "2028-02-29T12:00Z"}  # fmt: skip


@pytest.mark.parametrize(
    ("times", "kept_ones"),
    [
        # cal -w: Monday 2024-12-30 begins week 1 of 2025, and 2024 had a week 1 of its own
        (["2024-01-01", "2024-01-03", "2024-12-29", "2024-12-30", "2025-01-02"],
         {"2024-01-03", "2024-12-29", "2025-01-02"}),
        # Sunday 2023-01-01 ends week 52 of 2022, and 2023 had a week 52 of its own
        (["2022-12-26", "2023-01-01", "2023-12-25", "2023-12-31", "2024-01-01"],
         {"2023-01-01", "2023-12-31", "2024-01-01"}),
    ],
)  # fmt: skip
def test_plan_week_belongs_to_the_year_that_has_most_of_it(
    times: list[str], kept_ones: set[str]
) -> None:
    assert stays(at(*(f"{day}T12:00:00Z" for day in times)), Keep(weekly=9)) == {
        f"{day}T12:00:00Z" for day in kept_ones
    }


def test_plan_hour_that_comes_twice_is_two_hours() -> None:
    hours = [Candidate(f"{n}", seconds("2026-10-24T23:00Z") + n * HOUR) for n in range(6)]
    assert len(stays(hours, Keep(hourly=24), "Europe/Berlin")) == 6


def test_plan_half_hour_that_comes_twice_is_apart_from_the_first() -> None:
    # 2026-04-05 02:00 +11 -> 01:30 +10:30
    made = at("2026-04-05T01:10+11:00", "2026-04-05T01:50+11:00", "2026-04-05T01:35+10:30",
              "2026-04-05T01:55+10:30", "2026-04-05T02:05+10:30")  # fmt: skip
    assert stays(made, Keep(hourly=24), "Australia/Lord_Howe") == {
        "2026-04-05T01:50+11:00", "2026-04-05T01:55+10:30", "2026-04-05T02:05+10:30"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "one_day", "following"),
    [
        ("Asia/Kathmandu", ["2026-11-24T18:14:59Z"], ["2026-11-24T18:15:00Z"]),  # +05:45
        # no midnight: 2018-11-03 23:59:59 -03 -> 2018-11-04 01:00 -02
        ("America/Sao_Paulo", ["2018-11-04T02:59:59Z"], ["2018-11-04T03:00:00Z"]),
        # 2011-12-30 never was
        ("Pacific/Apia", ["2011-12-30T09:59:59Z"], ["2011-12-30T10:00:00Z"]),
        # 2024-04-07 00:00 -03 -> 2024-04-06 23:00 -04: 23 o'clock twice, one day
        ("America/Santiago", ["2024-04-07T02:30:00Z", "2024-04-07T03:30:00Z"],
         ["2024-04-07T04:00:00Z"]),
    ],
)  # fmt: skip
def test_plan_day_ends_where_the_zone_has_it_end(
    zone: str, one_day: list[str], following: list[str]
) -> None:
    assert stays(at(*one_day, *following), Keep(daily=9), zone) == {one_day[-1], following[-1]}


# --- counts


def test_plan_counts_of_a_thousand_million_keep_one_of_each_bucket() -> None:
    made = [Candidate(f"s{n:02}", NOW - n * 1800) for n in range(49)]
    huge = 10**9
    assert len(stays(made, Keep(last=huge))) == 49
    assert len(stays(made, Keep(hourly=huge))) == 25
    assert len(stays(made, Keep(daily=huge, yearly=huge))) == 2
    assert len(stays(made, Keep(daily=1, hourly=-1))) == 25
    assert stays(made, Keep(daily=-1, last=2)) == stays(made, Keep(daily=huge, last=2))


@pytest.mark.parametrize("caps", [{"max_count": 0}, {"max_count": 3}, {"max_age": 1}])
def test_plan_caps_alone_delete_nothing(caps: dict[str, int]) -> None:
    made = [Candidate(f"s{n}", NOW - n * YEAR) for n in range(9)]
    decisions = plan(made, Keep(), NOW, UTC_ZONE, **caps)
    assert {(d.keep, d.reasons) for d in decisions} == {(True, ("no-keep-rule",))}


def test_plan_max_count_of_zero_leaves_the_newest() -> None:
    made = [Candidate(f"s{n}", NOW - n) for n in range(9)]
    decisions = plan(made, Keep(last=5), NOW, UTC_ZONE, max_count=0)
    assert ids(decisions) == {"s0"}
    assert [d.reasons for d in decisions[1:]] == [("max-count",)] * 4 + [("no-rule-matches",)] * 4


# --- few and many


def test_plan_of_none_or_of_one_is_that() -> None:
    one = [Candidate("only", NOW - 9 * YEAR)]
    for made in ([], one):
        assert kept(plan(made, Keep(last=1), NOW, UTC_ZONE, max_age=1, max_count=0)) == made
        assert kept(plan_labels(made, {"p": Rules(Keep(last=1), UTC_ZONE)}, NOW)) == made
        assert kept(plan_safety(made, NOW)) == made


@pytest.mark.parametrize(
    ("odd", "left"),
    [
        ({}, 1),
        ({"owned": False}, 100_000),
        ({"pinned": True}, 100_000),
        ({"state": "creating"}, 100_000),
        ({"time_known": False}, 100_000),
    ],
    ids=["in-one-second", "foreign", "pinned", "creating", "unknown"],
)
def test_plan_100000_alike(odd: dict[str, bool], left: int) -> None:
    made = [Candidate(f"s{n:05}", NOW, **odd) for n in range(100_000)]  # type: ignore[arg-type]
    found = ids(plan(made, Keep(daily=7, yearly=2), NOW, UTC_ZONE))
    assert len(found) == left
    assert "s99999" in found


def test_plan_labels_100000_of_three_policies_takes_about_a_second() -> None:
    labels = [("p1",), ("p2",), ("p1", "p2", "p3")]
    made = [Candidate(f"s{n}", NOW - n * HOUR, labels=labels[n % 3]) for n in range(100_000)]
    policies = {name: Rules(EVERYTHING, ZoneInfo("Europe/Berlin")) for name in ("p1", "p2", "p3")}
    start = time.process_time()
    decisions = plan_labels(made, policies, NOW)
    assert time.process_time() - start < 4  # of a processor, whatever else it has to do
    assert 55 <= len(kept(decisions)) <= 165


# --- names

NAMES = ["caf\u00e9", "cafe\u0301", "\u05d0\u05d1", "a\nb", "a/b", "..", "-rf", "<a&b>", "", " ",
         "x" * 300, "nightly-20261124T013000Z", "\U0001f4be"]  # fmt: skip


def test_plan_names_are_only_names() -> None:
    """Twins that look alike are two, and a name like ours proves nothing."""
    made = [Candidate(name, NOW - n) for n, name in enumerate(NAMES)]
    decisions = plan(made[::-1], Keep(last=3), NOW, UTC_ZONE)
    assert [d.candidate.id for d in decisions] == NAMES
    assert [d.keep for d in decisions] == [True] * 3 + [False] * (len(NAMES) - 3)
    foreign = [Candidate(name, NOW - n, owned=False) for n, name in enumerate(NAMES)]
    assert len(stays(foreign, Keep(last=1))) == len(NAMES)
