"""What is said of a command line with a slip in it, and that no slip becomes a name."""

from __future__ import annotations

import pytest

from snapd.cli.parser import parse
from snapd.errors import InvalidArgument

DASHED = "a name that begins with a dash stands after --"


def refused(*typed: str) -> str:
    with pytest.raises(InvalidArgument) as raised:
        parse(list(typed))
    return raised.value.message


@pytest.mark.parametrize(
    "typed",
    [
        ["create", "web", ""],
        ["try", "web", ""],
        ["with", "web", "--name", "", "--", "true"],
        ["with", "web", "--name=", "--", "true"],
    ],
)
def test_empty_name_of_a_new_snapshot_is_refused_not_made_up(typed: list[str]) -> None:
    assert "the name is empty" in refused(*typed)


@pytest.mark.parametrize("typed", [["create", "web"], ["try", "web"], ["with", "web", "--", "x"]])
def test_name_of_a_new_snapshot_that_is_left_out_is_made_up(typed: list[str]) -> None:
    assert parse(typed).snapshot == ""


@pytest.mark.parametrize(
    ("typed", "vm", "command"),
    [
        ("with -- --all-ours -- true", "--all-ours", ["true"]),
        ("with --keep -- -vm -- printf -- x", "-vm", ["printf", "--", "x"]),
        ("with web -- -a -- b", "web", ["-a", "--", "b"]),
        ("with web -- sh -- -- b", "web", ["sh", "--", "--", "b"]),
        ("with --name n web -- true", "web", ["true"]),
    ],
)
def test_with_vm_that_begins_with_a_dash(typed: str, vm: str, command: list[str]) -> None:
    args = parse(typed.split())
    assert (args.vm, args.command) == (vm, command)


@pytest.mark.parametrize(
    "typed", ["with -- true", "with -- a b -- c", "with --max-pause x -- a -- b"]
)
def test_with_no_vm_or_a_slip_runs_nothing(typed: str) -> None:
    refused(*typed.split())


@pytest.mark.parametrize(
    "typed",
    [
        "show web-1 --yes",
        "show -x",
        "revert web-1 -snap",
        "delete web --latest",
        "with web --nope -- true",
    ],
)
def test_name_with_a_dash_is_told_how_it_is_typed(typed: str) -> None:
    assert DASHED in refused(*typed.split())


@pytest.mark.parametrize("typed", ["list --tre", "list a b", "show --json", "show -q", "--foo"])
def test_slip_that_is_no_name_is_not_told_of_dashes(typed: str) -> None:
    assert DASHED not in refused(*typed.split())


@pytest.mark.parametrize(
    ("typed", "most"),
    [
        ("create web --max-pause 99999999999", "999999h"),
        ("check --timeout 99999999999999", "999999h"),
        ("check --timeout 1000000s", "999999h"),
        ("revert web --before 999999999999d", "999999w"),
        ("hold web --until 999999999999d", "999999w"),
        ("revert web --before 9999999999999", "12 digits"),
    ],
)
def test_too_much_is_told_the_most_that_is_allowed(typed: str, most: str) -> None:
    said = refused(*typed.split())
    assert "too " in said and most in said
    assert "is no " not in said


@pytest.mark.parametrize("option", ["--memory", "--quiesce"])
@pytest.mark.parametrize("slip", ["yse", "YES", "Yes", "ye", "noo", "n", "atuo", "aut", "yas"])
def test_slip_behind_a_bare_option_is_no_name(option: str, slip: str) -> None:
    for typed in (["create", option, slip, "web"], ["create", "web", option, slip]):
        said = refused(*typed)
        assert f"{option}: there is no {slip!r}" in said
        way = said.rpartition(": ")[2].split()
        args = parse(["create", "web", *way])
        assert args.snapshot == slip


@pytest.mark.parametrize(
    ("typed", "snapshot", "memory"),
    [
        ("create web --memory before", "before", "yes"),
        ("create web --memory db", "db", "yes"),
        ("create web --memory -- yse", "yse", "yes"),
        ("create web --memory --json", "", "yes"),
        ("create web --memory no yse", "yse", "no"),
        ("create web yse --memory", "yse", "yes"),
    ],
)
def test_names_that_are_no_slip_stay_names(typed: str, snapshot: str, memory: str) -> None:
    args = parse(typed.split())
    assert (args.snapshot, args.memory) == (snapshot, memory)


def test_value_of_the_other_option_is_no_name() -> None:
    assert "only try, require, no" in refused("create", "web", "--quiesce", "yes")
