"""virtsnap policy set and policy edit against the real daemon, with an editor that is a script."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client
from tests.driver.house import HOURLY, House
from tests.driver.policies import with_definition
from tests.driver.virtsnap import cli, terminal

HOURLY_API = {"domains": ["web-*"], "schedule": "0 * * * *", "keep": {"last": 2}}


@pytest.fixture
def client(running: House) -> Client:
    """Of a daemon with one policy of the API."""
    with_definition(running.client, "SetPolicy", "hourly", HOURLY_API)
    return running.client


def definition(client: Client) -> dict[str, Any]:
    (row,) = client.rows("ListPolicies")
    return dict(row["Definition"])


@pytest.fixture
def editing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the editor be a shell script, which gets the file as $1."""

    def be(script: str) -> None:
        path = tmp_path / "the editor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setenv("EDITOR", f"'{path}'")
        monkeypatch.setenv("TMPDIR", str(tmp_path))

    return be


def kept(tmp_path: Path, screen: str) -> str:
    """The text that is kept, in the file that is named."""
    found = re.search(r"what you wrote is kept in (\S+/hourly\.toml)", screen)
    assert found, screen
    assert found[1].startswith(str(tmp_path))
    return Path(found[1]).read_text()


def left(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("virtsnap-*"))


# --- set


def test_set_changes_the_keys_that_were_typed_and_shows_them(
    running: House, client: Client
) -> None:
    done = cli(
        running, "policy", "set", "hourly", "keep.last=5", "limits.max_age=30d", "keep.daily=7"
    )
    assert (done.code, done.err) == (0, "")
    first, *lines, last, look = done.out.splitlines()
    assert first == "policy hourly:"
    assert lines == [
        "  keep.last: 2 -> 5",
        "  keep.daily: none (default) -> 7",
        "  limits.max_age: none (default) -> 30d",
    ]
    assert last.startswith("policy hourly is changed, next run 20")
    assert look.endswith("preview --policy hourly VM")
    wanted = HOURLY_API | {"keep": {"last": 5, "daily": 7}, "limits": {"max_age": "30d"}}
    assert definition(client) == wanted
    assert cli(running, "policy", "set", "hourly", "limits.max_age=", "-q").out == "hourly\n"
    assert "limits" not in definition(client)


def test_set_domains_says_who_joins_and_who_leaves(running: House, client: Client) -> None:
    done = cli(running, "policy", "set", "hourly", "domains=web-1,db-*")
    assert "  domains: web-* -> web-1,db-*\n  VM db-1 joins\n  VM web-2 leaves\n" in done.out


def test_set_to_what_it_is_does_nothing(running: House, client: Client) -> None:
    (before,) = client.rows("ListPolicies")
    done = cli(running, "policy", "set", "hourly", "keep.last=2", "--json")
    assert (done.json["Changes"], done.json["Revision"]) == ([], before["Revision"])
    assert [row["Verb"] for row in client.rows("ListHistory", "")] == ["set-policy"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("keep.last=", "keep: needs at least one of"),
        ("keep.last=-1", "keep.last: must be from 1"),
        ("schedule=never", "schedule: "),
        ("keep.lest=1", "is keep.last meant"),
    ],
)
def test_set_what_is_not_valid_changes_nothing_and_says_why(
    running: House, client: Client, typed: str, said: str
) -> None:
    done = cli(running, "policy", "set", "hourly", typed)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert definition(client) == HOURLY_API


def test_set_asks_and_answered_no_does_nothing(running: House, client: Client) -> None:
    with terminal(running.address, "policy", "set", "hourly", "keep.last=1") as seen:
        seen.until("[y/N]")
        assert "keep.last: 2 -> 1" in seen.screen
        seen.type("n\n")
        assert seen.end() == 1
    assert definition(client) == HOURLY_API


@pytest.mark.parametrize("option", ["-q", "--json"])
def test_set_and_edit_show_what_changes_before_they_ask_also_where_the_answer_is_for_a_program(
    running: House, client: Client, editing: Any, option: str
) -> None:
    wide = "domains=*"
    editing("""sed -i 's/"web-\\*"/"*"/' "$1"; grep -q '"\\*"' "$1" """)
    for words in (["set", "hourly", wide], ["edit", "hourly"]):
        with terminal(running.address, "policy", *words, option) as seen:
            seen.until("Change policy hourly? [y/N]")
            before = seen.screen
            seen.type("n\n")
            assert seen.end() == 1
        lines = before.splitlines()
        assert lines[:3] == ["policy hourly:", "  domains: web-* -> *", "  VM db-1 joins"]
    assert definition(client) == HOURLY_API


def test_edit_quiet_says_what_is_not_valid_before_it_asks(
    running: House, client: Client, editing: Any
) -> None:
    editing('sed -i "s/= 2/= -1/" "$1"')
    with terminal(running.address, "policy", "edit", "hourly", "-q") as seen:
        seen.until("again? [y/N]")
        assert "hourly.toml: keep.last: must be from 1" in seen.screen
        seen.type("n\n")
        assert seen.end() == 1


def test_set_overwrites_nobodys_change(running: House, client: Client) -> None:
    with terminal(running.address, "policy", "set", "hourly", "keep.last=1") as seen:
        seen.until("[y/N]")
        with_definition(client, "SetPolicy", "hourly", HOURLY_API | {"keep": {"last": 9}})
        seen.type("y\n")
        assert seen.end() == 4
    assert definition(client)["keep"] == {"last": 9}


@pytest.mark.parametrize("words", [["edit", "hourly"], ["set", "hourly", "keep.last=1"]])
def test_change_of_an_admins_file_is_refused_and_says_where_it_is(
    house: House, words: list[str]
) -> None:
    house.policy("hourly", HOURLY)
    house.start()
    done = cli(house, "policy", *words)
    assert (done.code, done.out) == (4, "")
    assert "policies.d" in done.err and "/hourly.toml" in done.err
    assert "way out: have the files read again: send virtsnapd SIGHUP" in done.err


# --- edit


def test_edit_shows_what_changes_asks_and_sets_it(
    running: House, client: Client, editing: Any, tmp_path: Path
) -> None:
    editing(f'cp "$1" "{tmp_path}/shown.toml"; sed -i "s/last = 2/last = 4/" "$1"')
    with terminal(running.address, "policy", "edit", "hourly") as seen:
        seen.until("[y/N]")
        assert "keep.last: 2 -> 4" in seen.screen
        assert definition(client) == HOURLY_API
        seen.type("y\n")
        assert seen.end() == 0
    assert definition(client) == HOURLY_API | {"keep": {"last": 4}}
    assert tomllib.loads((tmp_path / "shown.toml").read_text()) == HOURLY_API
    assert left(tmp_path) == []


def test_edit_left_as_it_was_does_nothing(
    running: House, client: Client, editing: Any, tmp_path: Path
) -> None:
    editing('echo "# a comment" >> "$1"')
    with terminal(running.address, "policy", "edit", "hourly") as seen:
        assert seen.end() == 0
    assert "left as it was" in seen.screen and "[y/N]" not in seen.screen
    assert left(tmp_path) == []


def test_edit_not_valid_says_why_and_can_be_edited_again(
    running: House, client: Client, editing: Any, tmp_path: Path
) -> None:
    editing(
        'if grep -q zero "$1"; then sed -i "s/\\"zero\\"/3/" "$1";'
        ' elif grep -q "\\[\\[" "$1"; then'
        ' sed -i "s/\\[\\[keep.*/[keep]/; s/= 2/= \\"zero\\"/" "$1";'
        ' else sed -i "s/\\[keep\\]/[[keep/" "$1"; fi'
    )
    with terminal(running.address, "policy", "edit", "hourly") as seen:
        seen.until("again? [y/N]")
        assert "hourly.toml: is not valid TOML" in seen.screen
        seen.screen = ""
        seen.type("y\n")
        seen.until("again? [y/N]")
        assert "hourly.toml: keep.last: must be a whole number, not text" in seen.screen
        seen.screen = ""
        seen.type("y\n")
        seen.until("Change policy hourly? [y/N]")
        seen.type("y\n")
        assert seen.end() == 0
    assert definition(client) == HOURLY_API | {"keep": {"last": 3}}
    assert left(tmp_path) == []


def test_edit_given_up_keeps_the_text_in_a_file_that_is_named(
    running: House, client: Client, editing: Any, tmp_path: Path
) -> None:
    editing('sed -i "s/= 2/= -1/" "$1"')
    with terminal(running.address, "policy", "edit", "hourly") as seen:
        seen.until("again? [y/N]")
        seen.type("\n")
        assert seen.end() == 1
    assert "last = -1" in kept(tmp_path, seen.screen)
    assert definition(client) == HOURLY_API


def test_edit_overwrites_nobodys_change_and_keeps_the_text(
    running: House, client: Client, editing: Any, tmp_path: Path
) -> None:
    editing('sed -i "s/= 2/= 4/" "$1"')
    with terminal(running.address, "policy", "edit", "hourly") as seen:
        seen.until("[y/N]")
        with_definition(client, "SetPolicy", "hourly", HOURLY_API | {"keep": {"last": 9}})
        seen.type("y\n")
        assert seen.end() == 4
    assert "last = 4" in kept(tmp_path, seen.screen)
    assert definition(client)["keep"] == {"last": 9}


def test_edit_interrupted_at_the_question_keeps_the_text(
    running: House, client: Client, editing: Any, tmp_path: Path
) -> None:
    editing('sed -i "s/= 2/= 4/" "$1"')
    with terminal(running.address, "policy", "edit", "hourly") as seen:
        seen.until("[y/N]")
        seen.type("\x03")
        assert seen.end() == 130
    assert "last = 4" in kept(tmp_path, seen.screen)
    assert definition(client) == HOURLY_API


def test_edit_ctrl_c_is_the_editors(running: House, client: Client, editing: Any) -> None:
    editing(
        'trap \'sed -i "s/= 2/= 7/" "$1"; exit 0\' INT; echo ready; while :; do sleep 0.1; done'
    )
    with terminal(running.address, "policy", "edit", "hourly", "--yes") as seen:
        seen.until("ready")
        seen.type("\x03")
        assert seen.end() == 0
    assert definition(client)["keep"] == {"last": 7}


def test_edit_editor_that_fails_or_is_not_there_changes_nothing(
    running: House, client: Client, editing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editing("exit 3")
    with terminal(running.address, "policy", "edit", "hourly") as seen:
        assert seen.end() == 1
    assert "ended with 3" in seen.screen
    monkeypatch.setenv("VISUAL", "/no/such/editor")
    with terminal(running.address, "policy", "edit", "hourly") as seen:
        assert seen.end() == 2
    assert "cannot be started" in seen.screen
    assert left(tmp_path) == []


def test_edit_without_a_terminal_says_what_needs_none(running: House, client: Client) -> None:
    done = cli(running, "policy", "edit", "hourly")
    assert done.code == 2 and "policy set hourly KEY=VALUE" in done.err
