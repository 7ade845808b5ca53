"""A policy's keys as they are typed, the editor that is taken, and the words of retention."""

from __future__ import annotations

import re
from typing import Any

import pytest

from snapd.cli import editor
from snapd.cli.definition import Change, changed, differences, shown
from snapd.cli.output import fates
from snapd.errors import InvalidArgument
from snapd.settings import check_definition
from snapd.settings.keys import POLICY

NIGHTLY = {"domains": ["*"], "schedule": "30 2 * * *", "keep": {"last": 3, "daily": 7}}


# --- keys


@pytest.mark.parametrize(
    ("typed", "made"),
    [
        (["keep.daily=14"], NIGHTLY | {"keep": {"last": 3, "daily": 14}}),
        (["keep.daily="], NIGHTLY | {"keep": {"last": 3}}),
        (["keep.last=", "keep.daily="], {"domains": ["*"], "schedule": "30 2 * * *"}),
        (["limits.min_free=5%"], NIGHTLY | {"limits": {"min_free": "5%"}}),
        (["limits.max_age= "], NIGHTLY),
        (["domains=web-*, db-1"], NIGHTLY | {"domains": ["web-*", "db-1"]}),
        (["schedule=0 3 * * *"], NIGHTLY | {"schedule": "0 3 * * *"}),
        (["on=start,crash"], NIGHTLY | {"on": ["start", "crash"]}),
        (["timezone=a=b"], NIGHTLY | {"timezone": "a=b"}),
        (["keep.last=5", "keep.last=6"], NIGHTLY | {"keep": {"daily": 7, "last": 6}}),
    ],
)
def test_changed_key_has_its_value_and_all_else_stays(
    typed: list[str], made: dict[str, Any]
) -> None:
    assert changed(NIGHTLY, typed) == made
    assert NIGHTLY["keep"] == {"last": 3, "daily": 7}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("keep.dayly=7", "is keep.daily meant"),
        ("daily=7", "is keep.daily meant"),
        ("keep=7", "no key of a policy"),
        ("zzz=7", "there are domains, exclude"),
        ("keep.daily", "write keep.daily=VALUE"),
        ("keep.daily=many", "keep.daily is a whole number, not 'many'"),
        ("limits.max_count=1.5", "whole number"),
    ],
)
def test_changed_what_means_nothing_is_invalid_argument(typed: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(said)):
        changed(NIGHTLY, [typed])


@pytest.mark.parametrize("key", [key.name for key in POLICY])
def test_keys_kind_is_what_the_reader_wants_there(key: str) -> None:
    """The reader is given a table where it wants none, and says what it wants."""
    kind = next(each.kind for each in POLICY if each.name == key)
    table, _, name = key.rpartition(".")
    wrong: dict[str, object] = {table: {name: {}}} if table else {name: {}}
    faults = {f.key: f.message for f in check_definition("p", wrong, "api", "UTC").faults}
    wants = {"list": "a list", "number": "a whole number", "text": "text"}[kind]
    assert re.search(f"must be {wants}", faults[key]), faults[key]


def test_differences_are_the_keys_whose_values_differ() -> None:
    new = {
        "domains": ["*"],
        "keep": {"last": 5, "daily": 7},
        "limits": {"max_age": "90d"},
        "odd": 1,
    }
    assert differences(NIGHTLY, new) == [
        Change("schedule", "30 2 * * *", None),
        Change("keep.last", 3, 5),
        Change("limits.max_age", None, "90d"),
        Change("odd", None, 1),
    ]
    assert differences(NIGHTLY, NIGHTLY) == []


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("keep.last", 3, "3"),
        ("domains", ["web-*", "db-1"], "web-*,db-1"),
        ("limits.min_free", None, "5% (default)"),
        ("keep.weekly", None, "none (default)"),
        ("odd", None, "none"),
    ],
)
def test_shown_is_as_it_is_typed_or_what_holds_without(key: str, value: object, text: str) -> None:
    assert shown(key, value) == text


# --- the editor


def found(*names: str) -> Any:
    return lambda name: f"/usr/bin/{name}" if name in names else None


@pytest.mark.parametrize(
    ("environment", "there", "words"),
    [
        ({"VISUAL": "code --wait", "EDITOR": "ed"}, ["vi"], ["code", "--wait"]),
        ({"VISUAL": " ", "EDITOR": "'/opt/my editor' -x"}, [], ["/opt/my editor", "-x"]),
        ({}, ["vi", "nano"], ["nano"]),
        ({}, ["vi", "sensible-editor"], ["sensible-editor"]),
    ],
)
def test_editor_is_the_persons_own_else_one_that_there_is(
    environment: dict[str, str], there: list[str], words: list[str]
) -> None:
    assert editor.command(environment, found(*there)) == words


@pytest.mark.parametrize("environment", [{}, {"EDITOR": "'open"}])
def test_editor_none_or_one_that_cannot_be_read_is_said(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="EDITOR"):
        editor.command(environment, found())


# --- why


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (["foreign"], "another tool made it"),
        (["state:creating"], "it is creating"),
        (["nightly: no-rule-matches"], "nightly: no rule keeps it"),
        (
            ["a: last 1/3", "a: daily 1/7", "a: newest", "b: held"],
            "a: last 1 of 3, day 1 of 7, the newest, which never goes; "
            "b: held, so that nothing goes",
        ),
        (["gone: no-policy"], "gone: it is not in force"),
        (["no-policy"], "no policy in force made it"),
        (["safety 2/3"], "safety snapshot 2 of 3"),
        (
            ["p: max-age", "deferred: children"],
            "p: older than limits.max_age; libvirt could not merge it yet, children",
        ),
        (["p: of-a-newer-version 1/2"], "p: of-a-newer-version 1/2"),
    ],
)
def test_why_says_each_policy_once_with_its_rules_in_words(reasons: list[str], words: str) -> None:
    assert fates.why(reasons) == words


def test_why_of_one_policy_alone_need_not_name_it() -> None:
    reasons = ["a: weekly 2/4", "b: monthly 1/12"]
    assert fates.why(reasons, alone="a") == "week 2 of 4; b: month 1 of 12"
    assert fates.policies([*reasons, "foreign", "deferred: children"]) == {"a", "b"}
