"""virtsnap's command line: what each way of typing it means."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from snapd.cli.parser import build, command_of, parse
from snapd.errors import InvalidArgument

TOP = Path(__file__).parents[2]


def commands(parser: ArgumentParser | None = None) -> Iterator[ArgumentParser]:
    """All parsers of commands that can be typed."""
    for action in (parser or build())._actions:
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                yield from commands(inner)
            return
    assert parser is not None
    yield parser


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("", "action", "status.status"),
        ("", "bus", "system"),
        ("--session list", "bus", "session"),
        ("list --session", "bus", "session"),
        ("list", "bus", "system"),
        ("--bus-address unix:path=/x list web", "bus", "unix:path=/x"),
        ("--json list", "json", True),
        ("list --json", "json", True),
        ("list", "json", False),
        ("policy --json list", "json", True),
        ("create web --memory", "memory", "yes"),
        ("create --memory web", "vm", "web"),
        ("create --memory web", "memory", "yes"),
        ("create --memory no web", "memory", "no"),
        ("create web --memory=auto", "memory", "auto"),
        ("create web --no-memory", "memory", "no"),
        ("create web", "memory", None),
        ("create --quiesce web name", "quiesce", "require"),
        ("create --quiesce try web", "quiesce", "try"),
        ("create web --max-pause 90", "max_pause", 90),
        ("create web --max-pause 2min", "max_pause", 120),
        ("revert -- -rf --metadata", "vm", "-rf"),
        ("revert -- -rf --metadata", "snapshot", "--metadata"),
        ("delete web -- --metadata", "snapshots", ["--metadata"]),
        ("delete web --yes one two", "snapshots", ["one", "two"]),
        ("delete web --bus-address unix:path=/x", "snapshots", []),
        ("create web --no-memory name", "snapshot", "name"),
        ("revert web --after running s", "snapshot", "s"),
        ("revert --latest web", "snapshot", None),
        ("revert web --before 1774695600 --policy p", "before", 1774695600),
        ("undo web --yes", "yes", True),
        ("list -- --memory", "vm", "--memory"),
        ("adopt web a b --policy p", "names", ["a", "b"]),
        ("hold", "vm", ""),
        ("hold web --policy p", "policy", "p"),
        ("hold web", "until", 0),
        ("hold --until 2026-03-28T11:00", "until", 1774695600),
        ("check", "timeout", 30),
        ("check --timeout 5", "timeout", 5),
        ("check --timeout 2min", "timeout", 120),
        ("check web --policy p", "vm", "web"),
        ("check web --policy p", "policy", "p"),
        ("policy run nightly", "vm", ""),
        ("policy run nightly web", "vm", "web"),
        ("policy validate f.toml --after 2026-03-28T11:00:00+00:00", "after", 1774695600),
        ("policy validate f.toml --after 2026-03-28T12:00+01:00", "after", 1774695600),
        ("policy validate f.toml --after 2026-03-28T11:00", "after", 1774695600),
        ("policy validate f.toml --after 1774695600", "after", 1774695600),
    ],
)
def test_parse_command_line_gives_value(typed: str, key: str, value: object) -> None:
    assert getattr(parse(typed.split()), key) == value


@pytest.mark.parametrize(
    "typed",
    [
        "crate",
        "list --al",
        "list a b",
        "create",
        "revert web",
        "policy",
        "create web --memory=maybe",
        "create web --max-pause long",
        "create web --max-pause 1d2",
        "check --timeout 0",
        "check --timeout -5",
        "check a b",
        "policy validate f --count 0",
        "policy validate f --count 1001",
        "policy validate f --after tomorrow",
        "revert web s --after dead",
        "revert web s --latest",
        "revert web --latest --before 2h",
        "revert web --before soon",
        "revert web --policy p",
        "undo web s",
        "hold web --until soon",
    ],
)
def test_parse_what_means_nothing_is_invalid_argument(typed: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(typed.split())


@pytest.mark.parametrize("words", ["", "list", "policy", "policy list", "with"])
def test_help_does_what_its_option_does(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for typed in (f"help {words}", f"{words} --help"):
        with pytest.raises(SystemExit) as ended:
            parse(typed.split())
        assert ended.value.code == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and shown[0].startswith(f"usage: virtsnap {words}".rstrip())


def test_help_of_no_command_says_so() -> None:
    with pytest.raises(InvalidArgument, match="there is no command 'lst'") as error:
        parse(["help", "lst"])
    assert "list" in error.value.near


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("", ""),
        ("--json", ""),
        ("check --nope", "check"),
        ("--nope check", "check"),
        ("--session --json check", "check"),
        ("--bus-address check create", "create"),
        ("--bus-address=check create", "create"),
        ("--bus-address", ""),
        ("create check", "create"),
    ],
)
def test_command_of_finds_it_also_where_the_rest_means_nothing(typed: str, command: str) -> None:
    assert command_of(typed.split()) == command


@pytest.mark.parametrize(
    ("typed", "program", "near"),
    [
        ("list --tre", "virtsnap list", ("--tree",)),
        ("policy list --utcc", "virtsnap policy list", ("--utc",)),
        ("list a b", "virtsnap list", ()),
        ("--foo", "virtsnap", ()),
    ],
)
def test_parse_unknown_argument_names_the_help_of_its_command(
    typed: str, program: str, near: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse(typed.split())
    assert f"'{program} --help'" in str(raised.value)
    assert raised.value.near == near


@pytest.mark.parametrize(
    "typed",
    [
        ["list", ""],
        ["hold", "", "--reason", "an unset variable"],
        ["hold", "web", "--policy", ""],
        ["policy", "run", "nightly", ""],
        ["list", "--policy", ""],
        ["discard", "web", ""],
        ["delete", "web", "one", ""],
        ["jobs", "--vm", ""],
    ],
)
def test_parse_empty_name_is_invalid_never_all_of_them(typed: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        parse(typed)


def test_parse_name_left_out_is_empty_and_free_text_may_be() -> None:
    args = parse(["hold", "--reason", ""])
    assert (type(args.vm), args.vm, args.policy, args.reason) == (str, "", "", "")


def test_parse_columns_as_the_table_has_them() -> None:
    assert parse(["list", "--columns", "VM,Snapshot"]).columns == ["vm", "snapshot"]


def test_parse_time_to_come_is_counted_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    assert parse(["hold", "web", "--until", "3h"]).until == 1_800_010_800
    assert parse(["preview", "web", "--at", "2d"]).at == 1_800_172_800


def test_help_fits_its_lines_in_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for parser in commands():
        prose = parser.format_help().partition("\n\n")[2].partition("examples:")[0]
        assert max(map(len, prose.splitlines())) <= 80, prose


def test_parse_argument_that_is_not_utf8_is_invalid_argument() -> None:
    for typed in (["list", "\udcff"], ["delete", "web", "one", "\udcff"]):
        with pytest.raises(InvalidArgument, match="UTF-8"):
            parse(typed)


def test_build_every_command_has_examples_that_parse() -> None:
    seen = 0
    for parser in commands():
        lines = re.findall(r"^  virtsnap\b(.*)$", parser.epilog or "", re.MULTILINE)
        assert lines, f"{parser.prog} has no example"
        for line in lines:
            typed = re.sub("'[^']*'", "text", line.split("   ")[0])
            parse(typed.split())
            seen += 1
    assert seen > 20


def test_build_every_action_exists_and_is_async_where_it_needs_the_daemon() -> None:
    for parser in commands():
        module, _, name = parser.get_default("action").partition(".")
        action = getattr(import_module(f"snapd.cli.actions.{module}"), name)
        assert inspect.iscoroutinefunction(action) == parser.get_default("daemon"), parser.prog


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["create", "--help"], ["crate"]])
def test_main_without_daemon_imports_neither_dbus_next_nor_asyncio(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom snapd.cli.__main__ import run\n"
        "try: run(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'dbus_next', 'asyncio', 'libvirt', 'croniter', 'tabulate', 'dataclasses'}\n"
        "heavy |= {'argcomplete', 'snapd.cli.complete'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=TOP,
        check=False,
    )
    assert done.returncode == 0, done.stderr
