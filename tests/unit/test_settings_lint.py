"""Warnings of a definition: what has no effect, what surprises; and silence where all is well."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from snapd.settings import load_policy, matches, policy_from_definition

ROOT = Path(__file__).parents[2]
BASE: dict[str, Any] = {"domains": ["*"], "schedule": "@daily", "keep": {"last": 3}}
ON = {"domains": ["*"], "keep": {"last": 3}}
ONE, OTHER = "11111111-1111-4111-8111-111111111101", "AAAAAAAA-1111-4111-8111-111111111102"


def warned(definition: dict[str, Any]) -> list[tuple[str, str]]:
    """(reason, key) of each warning, in order; all have a sentence."""
    _, warnings = policy_from_definition("p1", definition, "api", "UTC")
    assert all(w.message and w.message.isprintable() for w in warnings)
    assert all(re.fullmatch("[a-z-]+", w.reason) for w in warnings)
    return [(w.reason, w.item) for w in warnings]


def ram_note(definition: dict[str, Any]) -> str:
    _, warnings = policy_from_definition("p1", definition, "api", "UTC")
    (note,) = [w.message for w in warnings if w.reason == "ram-each"]
    return note


@pytest.mark.parametrize(
    ("change", "reason", "key"),
    [
        ({"domains": []}, "matches-none", "domains"),
        ({"exclude": ["*"]}, "matches-none", "exclude"),
        ({"domains": ["web-*"], "exclude": ["web-*"]}, "matches-none", "exclude"),
        ({"domains": ["web-1", "db"], "exclude": ["web-*", "db"]}, "matches-none", "exclude"),
        ({"domains": ["web-*-a"], "exclude": ["web-*"]}, "matches-none", "exclude"),
        ({"domains": ["web-1"], "exclude": ["web-[0-9]"]}, "matches-none", "exclude"),
        ({"domains": [f"uuid:{OTHER}"], "exclude": [f"uuid:{OTHER.lower()}"]}, "matches-none",
         "exclude"),
        ({"domains": ["web-*", "db", "web-*"]}, "needless-glob", "domains"),
        ({"domains": ["*", "db"]}, "needless-glob", "domains"),
        ({"domains": ["db", "d*"]}, "needless-glob", "domains"),
        ({"exclude": ["tmp-*", "tmp-*"]}, "needless-glob", "exclude"),
        ({"domains": [f"uuid:{ONE}", f"uuid:{ONE}"]}, "needless-glob", "domains"),
        ({"schedule": "* * * * *"}, "every-minute", "schedule"),
        ({"min_gap": "2h"}, "no-trigger", "min_gap"),
        ({"on": ["start"], "min_gap": "0s"}, "every-minute", "min_gap"),
        ({"on": ["start", "shutdown"], "only_if": "running"}, "never-running", "only_if"),
        ({"catch_up": "skip", "max_lateness": "1h"}, "no-catch-up", "max_lateness"),
        ({"randomized_delay": "1d"}, "delay-over-gap", "randomized_delay"),
        ({"schedule": "0 2,3 * * *", "randomized_delay": "1h"}, "delay-over-gap",
         "randomized_delay"),
        ({"keep": {"last": 1001}}, "many", "keep.last"),
        ({"schedule": "@hourly", "keep": {"within": "42d"}}, "many", "keep.within"),
        ({"keep": {"last": 1, "weekly": 4}}, "no-daily", "keep"),
        ({"keep": {"hourly": 24}}, "finer-than-schedule", "keep.hourly"),
        ({"schedule": "@weekly", "keep": {"daily": 7}}, "finer-than-schedule", "keep.daily"),
        ({"keep": {"last": 2, "within": "23h"}}, "within-gap", "keep.within"),
        ({"keep": {"last": 2, "within": "1d"}}, "within-gap", "keep.within"),
        ({"limits": {"max_count": 2}}, "over-max-count", "limits.max_count"),
        ({"keep": {"daily": 8}, "limits": {"max_age": "7d"}}, "over-max-age", "keep.daily"),
        ({"kind": "external", "keep": {"last": 49}}, "over-chain-limit", "keep"),
        ({"kind": "external", "schedule": "@hourly", "keep": {"within": "49h"}},
         "over-chain-limit", "keep"),
        ({"keep": {"within": "8d"}, "limits": {"max_age": "1w"}}, "over-max-age", "keep.within"),
        ({"keep": {"last": 9}, "limits": {"max_age": "7d"}}, "over-max-age", "keep.last"),
    ],
    ids=str,
)  # fmt: skip
def test_definition_that_is_odd_warns(change: dict[str, Any], reason: str, key: str) -> None:
    assert warned({**BASE, **change}) == [(reason, key)]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (
            {"catch_up": "once", "max_lateness": "1h", "randomized_delay": "5min"},
            [
                ("no-schedule", "catch_up"),
                ("no-schedule", "max_lateness"),
                ("no-schedule", "randomized_delay"),
            ],
        ),
        ({"timezone": "Europe/Berlin"}, [("no-schedule", "timezone")]),
        ({"timezone": "Europe/Berlin", "keep": {"daily": 7}}, []),
        ({"min_gap": "2h", "keep": {"hourly": 24}}, [("finer-than-schedule", "keep.hourly")]),
        ({"min_gap": "1h", "keep": {"hourly": 24}}, []),
        ({"keep": {"last": 1, "within": "30min"}}, [("within-gap", "keep.within")]),
        ({"on": ["crash"], "only_if": "running"}, []),
        ({"on": ["start"], "only_if": "running"}, []),
        ({"on": ["start"], "only_if": "changed"}, []),
        ({"on": ["shutdown"], "only_if": "changed"}, []),
        (
            {"on": ["shutdown"], "memory": "yes", "quiesce": "try", "max_pause": "5s"},
            [("vm-off", "memory"), ("vm-off", "max_pause"), ("vm-off", "quiesce")],
        ),
        ({"on": ["shutdown", "start"], "quiesce": "require", "max_pause": "5s"}, []),
    ],
    ids=str,
)
def test_definition_without_schedule(
    definition: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert warned({**ON, "on": ["start"], **definition}) == expected


def test_definition_with_schedule_and_triggers_snapshots_may_come_at_any_distance() -> None:
    both = {**BASE, "on": ["start"], "min_gap": "2h"}
    rules = {"hourly": 24, "within": "30min"}
    assert warned({**both, "keep": rules}) == []
    assert warned({**both, "keep": {"last": 9}, "limits": {"max_age": "1d"}}) == []
    assert warned({**both, "max_lateness": "1h", "randomized_delay": "5min"}) == []


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"keep": {"last": 1000}},
        {"schedule": "@hourly", "keep": {"hourly": 24, "daily": 7, "weekly": 4, "monthly": 12}},
        {"schedule": "@weekly", "keep": {"last": 8}, "limits": {"max_age": "49d"}},
        {"limits": {"max_count": 3}},
        {"keep": {"daily": 7}, "limits": {"max_age": "7d"}},
        {"keep": {"last": 8}, "limits": {"max_age": "7d"}},
        {"schedule": "*/2 * * * *"},
        {"schedule": "@hourly", "randomized_delay": "59min"},
        {"schedule": "@hourly", "keep": {"within": "41d"}},
        {"keep": {"within": "25h"}},
        {"catch_up": "skip"},
        {"max_lateness": "1h"},
        {"only_if": "running"},
        {"only_if": "changed"},
        {"kind": "external", "keep": {"last": 48}},
        {"kind": "internal", "quiesce": "require", "max_pause": "5s", "timezone": "Asia/Tokyo"},
        {"limits": {"min_free": "20GiB"}},
        {"on": ["start", "crash"], "min_gap": "61s"},
        {"domains": ["web-*", "db-*"], "exclude": ["*-scratch", "web-9"]},
        {"domains": ["web-1"], "exclude": ["db-*"]},  # so that db-* is no uncovered VM
    ],
    ids=str,
)
def test_definition_that_is_not_odd_does_not_warn(change: dict[str, Any]) -> None:
    assert warned({**BASE, **change}) == []


def test_template_does_not_warn() -> None:
    _, warnings = load_policy(ROOT / "packaging/policies/nightly.toml", "nightly", "api", "UTC")
    assert warnings == []


# ---- globs


@pytest.mark.parametrize(
    ("domains", "exclude", "name"),
    [
        (["*"], ["?"], "web-1"),
        (["web-*"], ["web-?"], "web-12"),
        (["web-*"], ["web-[*]"], "web-1"),
        (["[ab]*"], ["[!a]*"], "a1"),
        (["[ab]*"], ["*ab*"], "b1"),
        (["web-?"], ["web-1*"], "web-2"),
        (["web-*", "db"], ["web-*"], "db"),
        (["Web-*"], ["web-*"], "Web-1"),
        ([f"uuid:{ONE}"], [f"uuid:{OTHER}"], "web-1"),
        ([f"uuid:{ONE}"], ["uuid*", "web-2"], "web-1"),
        (["a*b"], ["a*b*a"], "ab"),
    ],
)
def test_exclude_that_leaves_a_vm_is_no_warning(
    domains: list[str], exclude: list[str], name: str
) -> None:
    definition = {**BASE, "domains": domains, "exclude": exclude}
    policy, warnings = policy_from_definition("p1", definition, "api", "UTC")
    assert matches(policy, name, ONE)
    assert warnings == []


@pytest.mark.parametrize(
    "globs",
    [
        ["a"] * 12_000,
        [f"*{n}*" for n in range(5000)],
        ["*a" * 700 + str(n) for n in range(40)],
        ["a" * 1400 + str(n) for n in range(40)],
    ],
    ids=lambda globs: f"{len(globs)} {globs[0][:5]}",
)
def test_long_lists_of_globs_are_judged_soon(globs: list[str]) -> None:
    """The bus asks on the loop: 64 KiB of globs must not keep it."""
    begun = time.process_time()
    told = warned({**BASE, "domains": globs, "exclude": ["*a" * 15 + "b"]})
    assert time.process_time() - begun < 1
    assert len(told) <= 1


def test_needless_globs_are_counted_in_one_warning() -> None:
    definition = {**BASE, "domains": ["a", "*", "b", "c"]}
    (told,) = policy_from_definition("p1", definition, "api", "UTC")[1]
    assert told.message == "'a' is covered by '*' already, and 2 more are needless"


# ---- RAM


@pytest.mark.parametrize(
    ("change", "times"),
    [
        ({}, "up to 3"),
        ({"keep": {"last": 3, "daily": 7, "weekly": 4}}, "up to 14"),
        ({"keep": {"last": 3, "daily": 7}, "limits": {"max_count": 5}}, "up to 5"),
        ({"keep": {"last": 1, "within": "7d"}}, "up to 8"),
        ({"keep": {"within": "36h"}}, "up to 2"),
        ({"on": ["start"], "min_gap": "12h", "keep": {"last": 1, "within": "1d"}}, "up to 4"),
        ({"on": ["start"], "min_gap": "0s", "keep": {"within": "1w"}}, "any number"),
        ({"on": ["start"], "min_gap": "0s", "keep": {"within": "1w"},
          "limits": {"max_count": 9}}, "up to 9"),
    ],
    ids=str,
)  # fmt: skip
def test_memory_says_how_many_times_the_ram_is_kept(change: dict[str, Any], times: str) -> None:
    assert f"{times} of them are kept" in ram_note({**BASE, "memory": "yes", **change})


def test_memory_with_quiesce_says_that_nothing_is_quiesced() -> None:
    for quiesce in ("try", "no"):
        told = warned({**BASE, "memory": "yes", "quiesce": quiesce})
        assert told == [("with-memory", "quiesce"), ("ram-each", "memory")]
    assert warned({**BASE, "memory": "yes"}) == [("ram-each", "memory")]
