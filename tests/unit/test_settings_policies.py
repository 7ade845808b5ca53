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
from snapd.model import Floor, Keep, Policy
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
    told = [w for w in warnings if w.reason != "ram-each"]  # what memory = "yes" always costs
    assert bool(told) == ("warn" in value["why"])


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
        ({"on": "start"}, "on", '["start"]'),
        ({"on": True}, "on", "must be a list"),
        ({"on": {"start": True}}, "on", "must be a list"),
        ({"on": []}, "on", "at least one"),
        ({"on": ["start", "crash", "start"]}, "on", "twice"),
        ({"on": ["boot"]}, "on", "start, shutdown, crash"),
        ({"on": ["Start"]}, "on", "start, shutdown, crash"),
        ({"on": ["start", 1]}, "on", "must be text"),
        ({"on": ["start", ["crash"]]}, "on", "must be text"),
        ({"on": [""]}, "on", "empty"),
        ({"min_gap": 3600}, "min_gap", '"3600s"'),
        ({"min_gap": "60"}, "min_gap", '"60min"'),
        ({"min_gap": "5m"}, "min_gap", '"5min"'),
        ({"min_gap": "-1h"}, "min_gap", "number and a unit"),
        ({"min_gap": "1.5h"}, "min_gap", "number and a unit"),
        ({"min_gap": "36501d"}, "min_gap", "36500d"),
        ({"only_if": "sometimes"}, "only_if", "always, running, changed"),
        ({"only_if": "Running"}, "only_if", "always, running, changed"),
        ({"only_if": ["running"]}, "only_if", "must be text"),
        ({"only_if": True}, "only_if", "must be text"),
        ({"kind": "both"}, "kind", "auto, internal, external"),
        ({"kind": "external", "memory": "yes"}, "memory", "by hand only"),
        ({"limits": {"min_free": "5"}}, "limits.min_free", '"5%"'),
        ({"limits": {"min_free": 5}}, "limits.min_free", '"5%"'),
        ({"limits": {"min_free": 0.05}}, "limits.min_free", "must be text"),
        ({"limits": {"min_free": "-5%"}}, "limits.min_free", '"5%"'),
        ({"limits": {"min_free": "5.5%"}}, "limits.min_free", '"5%"'),
        ({"limits": {"min_free": "5 %"}}, "limits.min_free", '"5%"'),
        ({"limits": {"min_free": "\u0665%"}}, "limits.min_free", '"5%"'),
        ({"limits": {"min_free": "91%"}}, "limits.min_free", 'at most "90%"'),
        ({"limits": {"min_free": "100%"}}, "limits.min_free", 'at most "90%"'),
        ({"limits": {"min_free": "20GB"}}, "limits.min_free", "MiB, GiB, TiB"),
        ({"limits": {"min_free": "20G"}}, "limits.min_free", "MiB, GiB, TiB"),
        ({"limits": {"min_free": "20gib"}}, "limits.min_free", "MiB, GiB, TiB"),
        ({"limits": {"min_free": "0GiB"}}, "limits.min_free", "MiB, GiB, TiB"),
        ({"limits": {"min_free": "1.5GiB"}}, "limits.min_free", "MiB, GiB, TiB"),
        ({"limits": {"min_free": "9999999TiB"}}, "limits.min_free", "MiB, GiB, TiB"),
        ({"limits": {"min_free": ""}}, "limits.min_free", "empty"),
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
        ({"schedule": "0 " + "0," * 127 + "0 * * *"}, "schedule", "over 256"),
        ({"timezone": "localtime"}, "timezone", "not known"),
        ({"timezone": "right/Europe/Berlin"}, "timezone", "not known"),
        ({"timezone": ""}, "timezone", "empty"),
        ({"name": "{policy.__class__}"}, "name", "unknown key"),
        ({"memory": "yes", "quiesce": "require"}, "quiesce", 'memory = "yes"'),
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
            "quiesce": "no",
            "on": ["crash", "start"],
            "min_gap": "30min",
            "only_if": "changed",
            "keep": {"last": 1, "hourly": 2, "daily": 3, "weekly": 4, "monthly": 5, "yearly": 6,
                     "within": "30d"},
            "limits": {"max_age": "2w", "max_count": 9, "min_free": "20GiB"},
        }
    )  # fmt: skip
    assert (policy.domains, policy.exclude) == (("web-*", f"uuid:{UUID}"), ("*-scratch",))
    assert (policy.schedule, policy.timezone) == ("30 2 * * *", "Europe/Berlin")
    assert (policy.catch_up, policy.max_lateness, policy.randomized_delay) == (False, 90, 300)
    assert (policy.kind, policy.memory, policy.max_pause) == ("internal", True, 7200)
    assert (policy.quiesce, policy.only_if) == ("no", "changed")
    assert (policy.on, policy.min_gap) == (("crash", "start"), 1800)
    assert policy.min_free == Floor(size=20 * 1024**3)
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
    assert (policy.on, policy.min_gap, policy.min_free) == ((), 3600, Floor(percent=5))


def test_definition_with_triggers_alone_needs_no_schedule() -> None:
    policy = read({"domains": ["*"], "on": ["shutdown"], "keep": {"last": 3}})
    assert (policy.schedule, policy.on, policy.min_gap) == ("", ("shutdown",), 3600)


def test_definition_schedule_of_256_characters_is_taken() -> None:
    expression = "0 " + "0," * 120 + "0 * * *"
    assert read({**BASE, "schedule": expression.ljust(256)}).schedule.rstrip() == expression


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5%", Floor(percent=5)),
        ("0%", Floor()),
        ("90%", Floor(percent=90)),
        ("1MiB", Floor(size=1048576)),
        ("20GiB", Floor(size=21474836480)),
        ("2TiB", Floor(size=2199023255552)),
    ],
)
def test_min_free_is_a_part_or_a_size(written: str, meant: Floor) -> None:
    assert read({**BASE, "limits": {"min_free": written}}).min_free == meant


@pytest.mark.parametrize(("written", "seconds"), [("0s", 0), ("90s", 90), ("2w", 1209600)])
def test_min_gap_is_a_duration(written: str, seconds: int) -> None:
    assert read({**BASE, "on": ["start"], "min_gap": written}).min_gap == seconds


@pytest.mark.parametrize("word", ["always", "running", "changed"])
def test_only_if_words_are_taken(word: str) -> None:
    assert read({**BASE, "only_if": word}).only_if == word


KEYS = {
    "domains", "exclude", "schedule", "timezone", "catch_up", "max_lateness", "randomized_delay",
    "on", "min_gap", "kind", "memory", "max_pause", "quiesce", "only_if", "keep", "keep.last",
    "keep.hourly", "keep.daily", "keep.weekly", "keep.monthly", "keep.yearly", "keep.within",
    "limits", "limits.max_age", "limits.max_count", "limits.min_free",
}  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        "true",
        "1.5",
        "nan",
        "-inf",
        "2026-11-24",
        "02:30:00",
        "[1]",
        "[[]]",
        "[{a = 1}]",
        '"\\u0000"',
    ],
)
@pytest.mark.parametrize("key", sorted(KEYS))
def test_each_key_refuses_what_is_of_another_type(key: str, value: str) -> None:
    base = {"domains": '["*"]', "schedule": '"@daily"'}
    lines = [f"{k} = {v}" for k, v in base.items() if k != key]
    lines += [] if key.startswith("keep") else ["keep.last = 3"]
    content = "\n".join([*lines, f"{key} = {value}"]).encode()
    with pytest.raises(InvalidArgument) as caught:
        load_policy(content, "nightly", "admin", "UTC")
    assert caught.value.message.startswith(f"nightly.toml: {key}: ")
    assert caught.value.item == key


TEMPLATES = ["{policy.__class__}", "{0.__init__.__globals__}", "%(name)s", "%s%n", "${HOME}", "{"]


@pytest.mark.parametrize("glob", TEMPLATES)
def test_template_in_a_glob_is_a_plain_glob(glob: str) -> None:
    policy = read({**BASE, "domains": [glob], "exclude": ["{x}"]})
    assert policy.domains == (glob,)
    assert matches(policy, glob, UUID)
    assert not matches(policy, "web-1", UUID)


@pytest.mark.parametrize("key", ["schedule", "timezone", "kind", "only_if", "min_gap", "quiesce"])
@pytest.mark.parametrize("text", TEMPLATES)
def test_template_elsewhere_is_refused_and_shown_as_it_is(key: str, text: str) -> None:
    error = refused({**BASE, key: text})
    assert error.item == key
    assert text in error.message


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
