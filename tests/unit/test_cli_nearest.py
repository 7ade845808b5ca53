"""Names that may have been meant, VMs in Flatpaks, and how both are told."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from snapd.cli import failures
from snapd.cli.alike import near, told
from snapd.cli.nearest import in_flatpak
from snapd.cli.output.screen import Screen
from snapd.errors import NoSuchDomain

VMS = ["web-1", "web-2", "db-1", "mail", "build-debian-12", "Windows 11"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("web1", ["web-1", "web-2"]),
        ("WEB-1", ["web-1", "web-2"]),
        ("ddb-1", ["db-1"]),
        ("wbe-2", ["web-2", "web-1"]),
        ("mial", ["mail"]),
        ("build", ["build-debian-12"]),  # so much begins a name that it is meant
        ("windows11", ["Windows 11"]),
        ("qqqq", []),
        ("", []),
    ],
)
def test_near_is_what_a_person_would_have_meant(typed: str, meant: list[str]) -> None:
    assert near(typed, VMS) == meant


def test_near_is_never_the_word_itself_nor_one_twice() -> None:
    assert near("web-1", ["web-1", "web-2", "web-2"]) == ["web-2"]


def test_near_is_at_most_three() -> None:
    assert len(near("web-", [f"web-{n}" for n in range(1000)])) == 3


@pytest.mark.parametrize("name", ["[red]x\x1b[31m", "two\nrows", "\u202egnp.exe", "é", "%s{}"])
def test_near_takes_hostile_names_as_they_are(name: str) -> None:
    assert near(name + "y", [name, "other"])[:1] == [name]


def test_near_takes_no_time_for_names_made_to_take_much() -> None:
    begun = time.monotonic()
    near("ab" * 64, [f"{n}{'ba' * 5000}" for n in range(5000)])
    near("a" * 100_000, ["a" * 100_000])
    assert time.monotonic() - begun < 10  # minutes where all are compared closely


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], ""),
        (["a"], "did you mean a?"),
        (["a", "b"], "did you mean a or b?"),
        (["a", "b", "c"], "did you mean a, b or c?"),
        (["x\x1b[31m\n"], r"did you mean x\x1b[31m\n?"),
        ([" a"], "did you mean ' a'?"),
    ],
)
def test_told_is_a_question_whose_names_are_safe(names: list[str], says: str) -> None:
    assert told(names) == says


def boxes(home: Path, app: str, name: str) -> None:
    folder = home / ".var" / "app" / app / "config" / "libvirt" / "qemu"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.xml").touch()


def test_in_flatpak_is_found_by_the_file_of_that_name(tmp_path: Path) -> None:
    assert in_flatpak("win11", tmp_path) == ""
    boxes(tmp_path, "org.gnome.Boxes", "win11")
    boxes(tmp_path, "org.virt_manager.virt-manager", "fedora.42")
    boxes(tmp_path, "com.example.Other", "third")
    assert in_flatpak("win11", tmp_path) == "GNOME Boxes"
    assert in_flatpak("fedora.42", tmp_path) == "virt-manager"
    assert in_flatpak("third", tmp_path) == "com.example.Other"
    for other in ("win", "*", "../win11", "", "win11.xml", "/etc/passwd"):
        assert in_flatpak(other, tmp_path) == ""


def error() -> NoSuchDomain:
    made = NoSuchDomain("no VM 'wbe'")
    made.near = ("web", "two\nrows")
    made.add_note("it is elsewhere\x1b[2J")
    return made


def test_report_tells_what_was_meant_also_where_it_is_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for quiet in (False, True):
        assert failures.report(Screen(json=False, quiet=quiet), error()) == 3
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines() == [
            "virtsnap: no VM 'wbe'",
            r"  did you mean web or two\nrows?",
            r"  it is elsewhere\x1b[2J",
        ]


def test_report_has_the_names_as_they_are_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    failures.report(Screen(json=True), error())
    assert json.loads(capsys.readouterr().err)["detail"] == {"Near": ["web", "two\nrows"]}
