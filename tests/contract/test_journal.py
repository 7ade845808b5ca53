"""The journal's events and the catalog that explains them say the same, and systemd can read it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from snapd import journal
from snapd.cli.parser import build

TOP = Path(__file__).parents[2]
SNAPD = TOP / "snapd"
CATALOG = TOP / "systemd/virtsnapd.catalog"
LOGS = {"info", "warning", "error", "exception", "critical", "log"}
ABOUT = re.compile(r"\b(VM|policy|job) %")


@dataclass(frozen=True)
class Entry:
    headers: dict[str, str]
    text: str


def catalog() -> dict[str, Entry]:
    """The catalog's entries by id; an id that is there twice is a fault of its own."""
    found: dict[str, Entry] = {}
    for part in re.split(r"^-- ", CATALOG.read_text(), flags=re.MULTILINE)[1:]:
        head, _, text = part.partition("\n\n")
        number, *lines = head.splitlines()
        assert number not in found, number
        found[number] = Entry(dict(line.split(": ", 1) for line in lines), text.strip())
    return found


def events() -> dict[str, journal.Event]:
    """All events by a name that a person can find them by."""
    named = {n: e for n, e in vars(journal).items() if isinstance(e, journal.Event)}
    return named | journal.PROBLEMS


def test_catalog_has_each_event_of_the_code_and_no_other() -> None:
    ids = [event.id for event in events().values()]
    assert len(set(ids)) == len(ids) > 30
    assert sorted(catalog()) == sorted(ids)
    assert all(re.fullmatch("[0-9a-f]{32}", number) for number in ids)


@pytest.mark.parametrize("name", events())
def test_catalog_explains_the_event_with_fields_that_it_always_has(name: str) -> None:
    event = events()[name]
    entry = catalog()[event.id]
    assert set(entry.headers) == {"Subject", "Defined-By", "Support", "Documentation"}
    assert len(entry.text) > 60
    used = set(re.findall(r"@(\w+)@", entry.headers["Subject"] + entry.text))
    assert used <= journal.about(event=event).keys()
    assert all(len(line) <= 100 for line in entry.text.splitlines())


def test_catalog_has_an_event_for_each_problem_word_of_the_contract() -> None:
    text = (TOP / "dbus/org.virtsnap.Snapd1.Manager.xml").read_text()
    words = text.partition("Problem words (ListProblems):")[2].partition("Feature words")[0]
    assert sorted(journal.PROBLEMS) == sorted(re.findall(r"^\s+- ([a-z-]+):", words, re.M))
    assert all("PROBLEM" in event.always.split() for event in journal.PROBLEMS.values())


def test_catalog_names_only_commands_that_there_are() -> None:
    text = " ".join(entry.text for entry in catalog().values())
    commands = [" ".join(c.split()) for c in re.findall(r"'(virtsnap\s[^']+)'", text)]
    assert len(commands) > 10
    for command in commands:
        build().parse_args(command.split()[1:])


def test_catalog_is_read_by_systemd(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    (folder / CATALOG.name).write_bytes(CATALOG.read_bytes())
    tool = ("journalctl", f"--root={tmp_path}")
    made = subprocess.run([*tool, "--update-catalog"], capture_output=True, text=True, check=True)
    assert made.stderr == ""
    listed = subprocess.run([*tool, "--list-catalog"], capture_output=True, text=True, check=True)
    subjects = [f"{n} virtsnapd: {e.headers['Subject']}" for n, e in catalog().items()]
    assert sorted(listed.stdout.splitlines()) == sorted(subjects)


def unnamed(text: str) -> Iterator[str]:
    """Log lines about a VM, a policy or a job that have no field which says so."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        of = node.func.value
        if node.func.attr not in LOGS or not (isinstance(of, ast.Name) and of.id == "log"):
            continue
        said = node.args[1 if node.func.attr == "log" else 0]
        assert isinstance(said, ast.Constant) and isinstance(said.value, str)
        if ABOUT.search(said.value) and "extra" not in {k.arg for k in node.keywords}:
            yield f"line {node.lineno}: {said.value}"


def test_unnamed_line_is_found() -> None:
    text = 'log.info("VM %s is odd", vm)\nlog.log(level, "job %d", 1, extra=of_job(row))\n'
    assert list(unnamed(text)) == ["line 1: VM %s is odd"]


@pytest.mark.parametrize(
    "path", sorted(SNAPD.rglob("*.py")), ids=lambda p: str(p.relative_to(SNAPD))
)
def test_lines_about_a_vm_a_policy_or_a_job_have_the_field(path: Path) -> None:
    assert list(unnamed(path.read_text())) == []
