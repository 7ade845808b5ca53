"""Policy definitions: what is taken, what is refused and how it is said."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapd.errors import InvalidArgument
from snapd.model import Keep, Policy
from snapd.settings import (
    Fault,
    check_definition,
    definition_to_toml,
    load_policy,
    matches,
    policy_from_definition,
    rules_of,
)

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "planning"
VALUES: list[dict[str, str]] = json.loads((DATA / "policy_values.json").read_text())
RETENTION = {c["id"]: c for c in json.loads((DATA / "retention_cases.json").read_text())}
BASE: dict[str, Any] = {"domains": ["*"], "schedule": "@daily", "keep": {"last": 3}}
UUID = "11111111-1111-4111-8111-111111111101"


def read(definition: Mapping[str, object]) -> Policy:
    return policy_from_definition("p1", definition, "api", "UTC")[0]


def refused(definition: Mapping[str, object]) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        read(definition)
    assert caught.value.message.isprintable()
    return caught.value


def warned(**changes: object) -> dict[str, str]:
    _, warnings = policy_from_definition("p1", {**BASE, **changes}, "api", "UTC")
    assert all(w.message for w in warnings)
    return {w.reason: w.item for w in warnings}


def policy_text(value: str) -> bytes:
    """A policy file around one line of policy_values.json; the line's own keys win."""
    lines = value.replace(' with timezone = "', '\ntimezone = "').replace(" and VM has PCI", "#")
    if " twice in one section" in lines:
        line = lines.removesuffix(" twice in one section")
        lines = f"{line}\n{line}"
    base = {"domains": '["*"]', "schedule": '"@daily"', "keep.daily": "7"}
    rest = [f"{k} = {v}" for k, v in base.items() if not lines.startswith(f"{k} ")]
    return "\n".join([lines, *rest]).encode()


LINES = [v for v in VALUES if "=" in v["text"]]


def test_policy_values_only_the_file_that_is_not_text_is_apart() -> None:
    assert [v["text"] for v in VALUES if v not in LINES] == ["file that is not UTF-8"]


@pytest.mark.parametrize("value", LINES, ids=lambda v: v["text"])
def test_load_policy_written_value(value: dict[str, str]) -> None:
    content = policy_text(value["text"])
    if value["verdict"] == "refuse":
        with pytest.raises(InvalidArgument) as caught:
            load_policy(content, "nightly", "admin", "UTC")
        key = value["text"].split(" =")[0] if "twice" not in value["text"] else "is not valid TOML"
        assert caught.value.message.startswith(f"nightly.toml: {key}: ")
        return
    _, warnings = load_policy(content, "nightly", "admin", "UTC")
    assert bool(warnings) == ("warn" in value["why"])


def test_load_policy_not_utf8_names_file_and_byte() -> None:
    with pytest.raises(InvalidArgument, match=r"^nightly\.toml: is not UTF-8 \(byte 12\)$"):
        load_policy(b'domains = ["\xff"]', "nightly", "admin", "UTC")


@pytest.mark.parametrize(
    "case", [c for c in RETENTION.values() if "policy_must_be" in c], ids=lambda c: c["id"]
)
def test_policy_that_keeps_nothing_is_refused(case: dict[str, Any]) -> None:
    keep = {key.removeprefix("keep_"): value for key, value in case["policy"].items()}
    assert refused({**BASE, "keep": keep}).item.startswith("keep.")


@pytest.mark.parametrize(
    ("change", "key", "hint"),
    [
        ({"on": ["start"]}, "on", "not supported by this version"),
        ({"min_gap": "1h"}, "min_gap", "not supported by this version"),
        ({"only_if": "changed"}, "only_if", "not supported by this version"),
        ({"only_if": "running"}, "only_if", "not supported by this version"),
        ({"only_if": "sometimes"}, "only_if", "must be one of"),
        ({"kind": "external"}, "kind", "not supported by this version"),
        ({"limits": {"min_free": "5%"}}, "limits.min_free", "not supported by this version"),
        ({"limits": {"max_size": 1}}, "limits.max_size", "not supported by this version"),
        ({"shedule": "@daily"}, "shedule", "is 'schedule' meant?"),
        ({"keep": {"lsat": 5, "daily": 1}}, "keep.lsat", "is 'last' meant?"),
        ({"keep": {}}, "keep", "needs at least one"),
        ({"keep": 5}, "keep", "must be a table"),
        ({"keep": {"last": True}}, "keep.last", "whole number"),
        ({"keep": {"last": -1}}, "keep.last", "leave the key out"),
        ({"keep": {"last": 1_000_001}}, "keep.last", "1000000"),
        ({"keep": {"last": 10**4000}}, "keep.last", "not that"),
        ({"keep": {"within": 30}}, "keep.within", '"30d"'),
        ({"keep": {"within": "1m"}}, "keep.within", '"1min"'),
        ({"keep": {"within": "5 d"}}, "keep.within", "number and a unit"),
        ({"keep": {"within": "\u0663d"}}, "keep.within", "number and a unit"),
        ({"keep": {"within": "999999999w"}}, "keep.within", "36500d"),
        ({"limits": {"max_age": "0s"}}, "limits.max_age", "1s"),
        ({"limits": {"max_count": 0}}, "limits.max_count", "from 1"),
        ({"domains": "web-*"}, "domains", '["web-*"]'),
        ({"domains": [1]}, "domains", "must be text"),
        ({"domains": [""]}, "domains", "empty"),
        ({"domains": ["a\nb"]}, "domains", "control"),
        ({"domains": ["uuid:123"]}, "domains", "UUID"),
        ({"schedule": 5}, "schedule", "must be text"),
        ({"schedule": "0 0 1 * 1"}, "schedule", "two policies"),
        ({"timezone": "Mars/Olympus"}, "timezone", "not known"),
        ({"timezone": "../../etc/passwd"}, "timezone", "not known"),
        ({"timezone": "America"}, "timezone", "not known"),
        ({"timezone": "Europe/Berl\u0131n"}, "timezone", "not known"),
        ({"catch_up": "twice"}, "catch_up", "once, skip"),
        ({"memory": True}, "memory", '"yes"'),
        ({"memory": "auto"}, "memory", "yes, no"),
        ({"quiesce": "maybe"}, "quiesce", "no, try, require"),
        ({"max_pause": 60}, "max_pause", '"60s"'),
    ],
)
def test_definition_wrong_key_is_named_with_the_reason(
    change: dict[str, object], key: str, hint: str
) -> None:
    error = refused({**BASE, **change})
    assert error.item == key
    assert hint in error.message


@pytest.mark.parametrize("key", ["domains", "schedule", "keep"])
def test_definition_missing_key_is_named(key: str) -> None:
    error = refused({k: v for k, v in BASE.items() if k != key})
    assert error.item == key
    assert key != "schedule" or "schedule or on is required" in error.message


def test_check_definition_tells_all_faults_at_once() -> None:
    checked = check_definition("p1", {"schedule": "daily", "keep": {"last": 0}}, "api", "UTC")
    assert checked.policy is None
    assert {f.key for f in checked.faults} == {"schedule", "keep.last", "domains"}
    assert all(isinstance(f, Fault) and f.message for f in checked.faults)


def test_definition_over_64_kib_is_refused() -> None:
    assert "65536" in refused({**BASE, "domains": ["x" * 1000] * 70}).message


@pytest.mark.parametrize(
    "name", ["", "Nightly", "1st", "a b", "a/b", "../x", "x" * 65, "n\u00e4", "a\n"]
)
def test_policy_bad_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="policy name"):
        policy_from_definition(name, BASE, "api", "UTC")


def test_definition_all_keys_are_read() -> None:
    policy = read(
        {
            "domains": ["web-*", f"uuid:{UUID}"],
            "exclude": ["*-scratch"],
            "schedule": "30 2 * * *",
            "timezone": "Europe/Berlin",
            "catch_up": "skip",
            "max_lateness": "90s",
            "randomized_delay": "5min",
            "kind": "internal",
            "memory": "yes",
            "max_pause": "2h",
            "quiesce": "require",
            "only_if": "always",
            "keep": {"last": 1, "hourly": 2, "daily": 3, "weekly": 4, "monthly": 5, "yearly": 6,
                     "within": "30d"},
            "limits": {"max_age": "2w", "max_count": 9},
        }
    )  # fmt: skip
    assert (policy.domains, policy.exclude) == (("web-*", f"uuid:{UUID}"), ("*-scratch",))
    assert (policy.schedule, policy.timezone) == ("30 2 * * *", "Europe/Berlin")
    assert (policy.catch_up, policy.max_lateness, policy.randomized_delay) == (False, 90, 300)
    assert (policy.kind, policy.memory, policy.max_pause) == ("internal", True, 7200)
    assert (policy.quiesce, policy.only_if) == ("require", "always")
    assert policy.keep == Keep(1, 2, 3, 4, 5, 6, 30 * 86400)
    assert (policy.max_age, policy.max_count) == (14 * 86400, 9)
    rules = rules_of(policy)
    assert (rules.keep, rules.zone.key) == (policy.keep, "Europe/Berlin")
    assert (rules.max_age, rules.max_count) == (14 * 86400, 9)


def test_definition_defaults_are_the_documented_ones() -> None:
    policy, warnings = policy_from_definition("p1", BASE, "admin", "America/New_York")
    assert warnings == []
    assert (policy.name, policy.source, policy.timezone) == ("p1", "admin", "America/New_York")
    assert (policy.exclude, policy.catch_up, policy.max_lateness) == ((), True, None)
    assert (policy.randomized_delay, policy.kind, policy.memory) == (0, "auto", False)
    assert (policy.max_pause, policy.quiesce, policy.only_if) == (60, "try", "always")
    assert (policy.max_age, policy.max_count) == (None, None)


def test_revision_follows_the_definition_not_its_order() -> None:
    again = read(dict(reversed(BASE.items())))
    assert again.revision == read(BASE).revision
    assert read({**BASE, "keep": {"last": 4}}).revision != again.revision


def test_template_nightly_is_all_vms_0230_last_3_daily_7() -> None:
    path = ROOT / "packaging" / "policies" / "nightly.toml"
    policy, warnings = load_policy(path, "nightly", "api", "UTC")
    assert warnings == []
    assert (policy.domains, policy.schedule) == (("*",), "30 2 * * *")
    assert policy.keep == Keep(last=3, daily=7)
    assert policy.memory is False


@pytest.mark.parametrize(
    ("change", "reason", "key"),
    [
        ({"domains": []}, "matches-none", "domains"),
        ({"schedule": "* * * * *"}, "every-minute", "schedule"),
        ({"keep": {"last": 1001}}, "many", "keep.last"),
        ({"keep": {"last": 1, "weekly": 4}}, "no-daily", "keep"),
        ({"keep": {"hourly": 24}}, "finer-than-schedule", "keep.hourly"),
        ({"schedule": "@weekly", "keep": {"daily": 7}}, "finer-than-schedule", "keep.daily"),
        ({"limits": {"max_count": 2}}, "over-max-count", "limits.max_count"),
        ({"keep": {"daily": 8}, "limits": {"max_age": "7d"}}, "over-max-age", "keep.daily"),
        ({"keep": {"within": "8d"}, "limits": {"max_age": "1w"}}, "over-max-age", "keep.within"),
    ],
)
def test_definition_odd_but_allowed_warns(change: dict[str, object], reason: str, key: str) -> None:
    assert warned(**change) == {reason: key}


@pytest.mark.parametrize(
    "change",
    [
        {"keep": {"last": 1000}},
        {"schedule": "@hourly", "keep": {"hourly": 24, "daily": 7, "weekly": 4, "monthly": 12}},
        {"schedule": "@yearly", "keep": {"yearly": 5, "daily": 1}, "limits": {"max_age": "3650d"}},
        {"limits": {"max_count": 3}},
        {"keep": {"daily": 7}, "limits": {"max_age": "7d"}},
        {"schedule": "*/2 * * * *"},
    ],
)
def test_definition_at_the_boundary_has_no_cap_or_size_warning(change: dict[str, object]) -> None:
    assert not warned(**change).keys() - {"finer-than-schedule"}


@pytest.mark.parametrize(
    ("domains", "exclude", "name", "expected"),
    [
        (["web-*"], [], "web-1", True),
        (["web-*"], [], "Web-1", False),
        (["*"], ["*-scratch"], "db-scratch", False),
        (["*"], [f"uuid:{UUID}"], "db", False),
        ([f"uuid:{UUID.upper()}"], [], "anything", True),
        (["(a+)+$"], [], "a" * 40, False),
        (["(a+)+$"], [], "(a+)+$", True),
        (["*a*a*a*a*a*a*b"], [], "a" * 200, False),
        (["[!x]m"], [], "vm", True),
        ([], [], "vm", False),
        (["*"], [], "-rf \u00fc\u8bd5'\"", True),
    ],
)
def test_matches_glob_or_uuid(
    domains: list[str], exclude: list[str], name: str, expected: bool
) -> None:
    policy = read({**BASE, "domains": domains, "exclude": exclude})
    assert matches(policy, name, UUID) is expected


PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20).filter(
    lambda text: not text.startswith("uuid:")
)


@given(st.lists(PRINTABLE, max_size=4), st.integers(1, 10**6), st.sampled_from(["try", "no"]))
@settings(max_examples=60, deadline=None)
def test_definition_to_toml_reads_back_as_the_same_policy(
    globs: list[str], last: int, quiesce: str
) -> None:
    definition = {**BASE, "domains": globs, "quiesce": quiesce, "keep": {"last": last}}
    policy = read(definition)
    content = definition_to_toml(policy.definition)
    assert tomllib.loads(content.decode()) == definition
    assert load_policy(content, "p1", "api", "UTC")[0] == policy
