"""virtsnap where people slip, and where nobody can take its answer."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.client import TOP
from tests.driver.house import House
from tests.driver.virtsnap import command, virtsnap
from tests.schema import documents


def in_a_shell(house: House, line: str, redirected: str) -> subprocess.CompletedProcess[str]:
    typed = f"{shlex.join(command(house.address, *line.split()))} {redirected}"
    return subprocess.run(
        typed, shell=True, cwd=TOP, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("line", ["list", "list -q", "--version", "list --help"])
def test_run_disk_full_is_said_in_one_line(line: str, running: House) -> None:
    done = in_a_shell(running, line, ">/dev/full")
    assert done.returncode == 1
    assert done.stderr == "virtsnap: the answer cannot be written: No space left on device\n"


def test_run_disk_full_is_a_document_with_json(running: House) -> None:
    done = in_a_shell(running, "list --json", ">/dev/full")
    (document,) = documents(done.stderr)
    assert document["message"] == "the answer cannot be written: No space left on device"


def test_run_closed_output_is_no_failure(running: House) -> None:
    done = in_a_shell(running, "create web-2 unseen", ">&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert virtsnap(running.address, "list", "web-2", "-q").out == "unseen\n"


@pytest.mark.parametrize("verb", ["undo", "accept", "discard", "revert --latest"])
def test_nothing_to_go_back_to_says_once_what_to_type(verb: str, running: House) -> None:
    done = virtsnap(running.address, *verb.split(), "web-2")
    assert done.code == 3
    commands = [each for each in done.err.split("virtsnap --bus-address")[1:] if " list " in each]
    assert len(commands) == 1, done.err


def test_delete_pinned_shows_the_unpin_to_type(running: House) -> None:
    address = running.address
    virtsnap(address, "create", "web-1", "kept")
    virtsnap(address, "pin", "web-1", "kept")
    done = virtsnap(address, "delete", "web-1", "kept")
    (way,) = [line for line in done.err.splitlines() if "take the pin off: " in line]
    typed = shlex.split(way.partition("take the pin off: ")[2])
    assert virtsnap(address, *typed[3:]).code == 0
    assert virtsnap(address, "delete", "web-1", "kept").code == 0


def test_unhold_of_a_part_names_the_hold_to_take_back(running: House) -> None:
    virtsnap(running.address, "hold")
    done = virtsnap(running.address, "unhold", "web-1")
    assert done.code == 2
    assert done.err.endswith("take that one back: virtsnap unhold\n")


@pytest.mark.parametrize(
    "words",
    [("list", "--policy"), ("history", "--policy"), ("revert", "web-1", "--latest", "--policy")],
)
def test_policy_that_there_is_not_is_told_with_the_near_one(
    house: House, words: tuple[str, ...]
) -> None:
    house.policy("hourly")
    house.start()
    done = virtsnap(house.address, *words, "hourli")
    assert done.code == 3
    assert "'hourli'" in done.err and "hourly" in done.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("* --dry-run", "--dry-run goes with --all-ours; for snapshots by name: --preview"),
        ("by-hand --manual", "--manual goes with --all-ours"),
        ("", "give snapshots, or --all-ours"),
    ],
)
def test_delete_option_that_is_for_all_ours_names_what_is_for_names(
    typed: str, said: str, running: House
) -> None:
    done = virtsnap(running.address, "delete", "web-1", *typed.split())
    assert done.code == 2
    assert said in done.err
    assert virtsnap(running.address, "list", "web-1", "-q").out == "by-hand\n"


def test_with_vm_that_begins_with_a_dash_is_a_vm(running: House) -> None:
    done = virtsnap(running.address, "with", "--", "--all-ours", "--", "true")
    assert done.code == 125
    assert "--all-ours" in done.err and "required" not in done.err
