"""The manual pages: made without a word, whole, and true of the code."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd import options
from snapd.bus import contract
from snapd.cli import parser as cli
from snapd.cli import templates
from snapd.errors import SnapdError
from snapd.model import Policy
from snapd.settings import check_definition, load_daemon, load_policy
from snapd.settings.keys import DAEMON, POLICY, Key
from snapd.settings.values import Table

TOP = Path(__file__).parents[2]
SOURCES = TOP / "packaging/man.d"
PAGES = {"virtsnap.1", "virtsnapd.8", "virtsnapd-policy.5", "org.virtsnap.Snapd1.5"}
SERVICE = (TOP / "systemd/system/virtsnapd.service").read_text()
TMPFILES = (TOP / "systemd/virtsnapd.tmpfiles").read_text()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages, made from another one, of whose files Python could take some."""
    folder = tmp_path_factory.mktemp("man")
    (folder / "argparse.py").write_text("raise SystemExit('the caller\\'s own')")
    done = subprocess.run(
        [TOP / "packaging/man", folder / "out"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "out"


def rendered(page: Path, width: int = 80) -> str:
    """The page as man shows it; AssertionError where that warns."""
    done = subprocess.run(
        ["man", "--warnings", "-l", page],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": str(width)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def sections(page: Path) -> dict[str, str]:
    """The text of each section and sub-section, in one line, by its title."""
    parts = re.split(r"^(?: {3})?(\S.*)$", rendered(page, 4000), flags=re.MULTILINE)
    return {
        title: re.sub(r"\s+", " ", text)
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield inner
                yield from commands(inner)


def words_of(parser: argparse.ArgumentParser) -> set[str]:
    """All that can be typed: options and what they and the command take."""
    words: set[str] = set()
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            words |= {*action.option_strings, *map(str, action.choices or ())}
            words |= {str(action.metavar)} if action.metavar else set()
    return words


# --- the pages


def test_man_makes_all_pages(pages: Path) -> None:
    assert {page.name for page in pages.iterdir()} == PAGES


@pytest.mark.parametrize("name", sorted(PAGES))
def test_man_page_fits_a_terminal_and_warns_of_nothing(pages: Path, name: str) -> None:
    text = rendered(pages / name)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert re.search(rf"^NAME\n +{re.escape(name.rpartition('.')[0])} - \w", text, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_man_page_names_no_page_of_ours_that_there_is_not(pages: Path, name: str) -> None:
    named = re.findall(r"\b((?:virtsnap|org\.virtsnap)[\w.-]*)\((\d)\)", rendered(pages / name))
    assert {f"{page}.{section}" for page, section in named} <= PAGES


# --- command lines


def test_virtsnap_page_has_all_of_every_command(pages: Path) -> None:
    parts = sections(pages / "virtsnap.1")
    general = words_of(cli.build())
    assert {word for word in general if word not in parts["GENERAL OPTIONS"]} == set()
    seen = 0
    for command in commands(cli.build()):
        text = parts[command.prog]
        assert {word for word in words_of(command) - general if word not in text} == set()
        lines = re.findall(r"^  (virtsnap\b.*?)(?:   .*)?$", command.epilog or "", re.MULTILINE)
        assert lines
        assert [line for line in lines if line not in text.replace("\\ ", "")] == []
        seen += 1
    assert seen > 20


def test_virtsnapd_page_has_all_options(pages: Path) -> None:
    text = sections(pages / "virtsnapd.8")["OPTIONS"]
    assert {word for word in words_of(options.build()) if word not in text} == set()


def test_virtsnap_page_has_the_exit_code_of_every_error(pages: Path) -> None:
    text = sections(pages / "virtsnap.1")["EXIT STATUS"]
    found = dict(re.findall(r" (\d+) [^()\d]+ \(on the bus: ([^)]*)\)", text))
    said = {name: int(code) for code, names in found.items() for name in names.split(", ")}
    tree = (one for one in SnapdError.__subclasses__() if one.__module__ == SnapdError.__module__)
    assert said == {one.__name__: one.exit_code for one in tree}
    assert said["NotAuthorized"] == 5
    assert " 130 interrupted" in text


def test_commands_that_the_pages_name_can_be_typed() -> None:
    named = [
        words
        for page in SOURCES.glob("*.rst")
        for words in re.findall(r"\*\*virtsnap ([^*\[]+)\*\*", page.read_text())
    ]
    assert "policy validate FILE" in named
    known = [command.prog.removeprefix("virtsnap ") for command in commands(cli.build())]
    assert [one for one in named if not any(f"{one} ".startswith(f"{k} ") for k in known)] == []


# --- files


def minimal() -> dict[str, Any]:
    return {"domains": ["*"], "schedule": "@daily", "keep": {"last": 1}}


def taken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A set that comes to hold every key that a table is asked for."""
    asked: set[str] = set()
    take = Table.take

    def noted(self: Table, key: str, *how: Any) -> Any:
        asked.add(self._prefix + key)
        return take(self, key, *how)

    monkeypatch.setattr(Table, "take", noted)
    return asked


def test_keys_of_policies_are_those_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = taken(monkeypatch)
    check_definition("p", minimal(), "admin", "UTC")
    assert {key.name for key in POLICY} == asked - {"keep", "limits"}


def test_keys_of_the_daemon_are_those_that_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = taken(monkeypatch)
    (tmp_path / "virtsnapd.toml").touch()
    load_daemon(tmp_path / "virtsnapd.toml")
    assert {key.name for key in DAEMON} == asked - {"libvirt", "safety", "limits"}


def toml(key: Key) -> str:
    """The file that says the default, "" where it cannot be written."""
    table, _, name = key.name.rpartition(".")
    text = f"[{table}]\n{name} = {key.default}" if table else f"{name} = {key.default}"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return ""
    return text


def policy(definition: dict[str, Any]) -> Policy:
    found, _ = check_definition("p", definition, "admin", "Europe/Berlin").demand("p")
    return replace(found, definition={}, revision="")


@pytest.mark.parametrize("key", POLICY, ids=lambda key: key.name)
def test_default_of_a_policy_key_is_what_is_read_without_it(key: Key) -> None:
    plain = policy(minimal())
    if key.default == "[]":
        assert getattr(plain, key.name) == ()
    elif text := toml(key):
        written = tomllib.loads(text)
        both = {**minimal(), **written}
        assert policy(both) == plain
    elif key.default == "none":
        bare = policy({"domains": ["*"], "on": ["start"], "keep": {"within": "1h"}})
        if key.name == "keep.within":
            bare = plain
        table, _, name = key.name.rpartition(".")
        assert not getattr(bare.keep if table == "keep" else bare, name)
    else:
        assert key.name in ("domains", "timezone")
        assert plain.timezone == "Europe/Berlin"


@pytest.mark.parametrize("key", DAEMON, ids=lambda key: key.name)
def test_default_of_a_daemon_key_is_what_is_read_without_it(key: Key, tmp_path: Path) -> None:
    default = load_daemon(tmp_path / "none.toml")
    written = tmp_path / "virtsnapd.toml"
    if text := toml(key):
        written.write_text(text)
        assert load_daemon(written) == default
    else:
        assert key.name == "libvirt.uri" and default.uri is None


def test_pages_have_every_key(pages: Path) -> None:
    for page, section, keys in (
        ("virtsnapd-policy.5", "KEYS", POLICY),
        ("virtsnapd.8", "VIRTSNAPD.TOML", DAEMON),
    ):
        text = sections(pages / page)[section]
        assert {key.name for key in keys if f"{key.name} (" not in text} == set()
        assert {key.name for key in keys if key.meaning not in text} == set()


def blocks(source: str) -> list[bytes]:
    """The files that a page shows."""
    text = (SOURCES / source).read_text()
    found = re.findall(r"^::\n\n((?:(?: {4}.*)?\n)+)", text, re.MULTILINE)
    return [re.sub("^    ", "", one, flags=re.MULTILINE).encode() for one in found if "=" in one]


def test_files_that_the_pages_show_are_right(tmp_path: Path) -> None:
    policies = blocks("virtsnapd-policy.rst")
    assert len(policies) == 3
    for content in policies:
        _, warnings = load_policy(content, "shown", "admin", "UTC")
        assert warnings == []
    (settings,) = blocks("virtsnapd.rst")
    (tmp_path / "virtsnapd.toml").write_bytes(settings)
    assert load_daemon(tmp_path / "virtsnapd.toml").safety_last == 5


def test_places_that_the_pages_name_are_those_of_the_code_and_the_unit() -> None:
    text = "".join(page.read_text() for page in SOURCES.glob("*.rst"))
    named = {path.rstrip("/") for path in re.findall(r"\*(/(?:etc|usr|var)/[^*]*)\*", text)}
    assert "StateDirectory=virtsnapd\n" in SERVICE
    assert "d /etc/virtsnapd/policies.d " in TMPFILES
    assert named == {
        "/usr/share/virtsnapd/dbus",
        "/usr/share/virtsnapd/virtsnap.schema.json",
        str(templates.INSTALLED),
        f"{templates.INSTALLED}/nightly.toml",
        "/etc/virtsnapd/policies.d",
        "/etc/virtsnapd/policies.d/NAME.toml",
        "/etc/virtsnapd/virtsnapd.toml",
        "/var/lib/virtsnapd",
    }


# --- the bus


@pytest.mark.parametrize(
    "name", [name for name in contract.load().interfaces if name.startswith("org.virtsnap.")]
)
def test_bus_page_has_every_member(pages: Path, name: str) -> None:
    interface = contract.load()[name]
    parts = sections(pages / "org.virtsnap.Snapd1.5")
    assert name.upper() in (title.upper() for title in parts)
    for method in interface.methods.values():
        text = parts[f"{name}.{method.name}"]
        assert {f"IN {arg.name} {arg.type}" for arg in method.ins if arg.name not in text} == set()
    assert {one for one in interface.signals if f"{name}::{one}" not in parts} == set()
    assert {one for one in interface.properties if f"{name}:{one}" not in parts} == set()
