"""virtsnap where a standard stream is closed, full, or at its end: the exit code stays its own, and
nothing lands on the wrong stream."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.client import TOP
from tests.driver.house import House
from tests.driver.test_cli_slips import in_a_shell
from tests.driver.virtsnap import command, terminal, virtsnap
from tests.schema import documents


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "0<&- 2>&-"])
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("show web-1 nope", 3),
        ("show web-1 nope --json", 3),
        ("delete web-1", 2),
        ("list web-2", 0),
        ("with nope -- true", 125),
    ],
)
def test_no_standard_error_keeps_the_exit_code_and_the_answer(
    line: str, code: int, redirected: str, running: House
) -> None:
    done = in_a_shell(running, line, redirected)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_no_standard_error_keeps_the_answer_of_with(running: House) -> None:
    for options in ("", "--json "):
        line = f"with web-1 --no-memory {options}-- sh -c 'exit 5'"
        typed = " ".join([*command(running.address), line])
        for redirected in ("2>&-", "2>/dev/full"):
            done = subprocess.run(
                f"{typed} {redirected}", shell=True, cwd=TOP, capture_output=True, check=False
            )
            assert (done.returncode, done.stdout) == (5, b""), redirected


def test_no_standard_input_deletes_as_without_a_terminal(running: House) -> None:
    done = in_a_shell(running, "delete web-1 by-hand", "0<&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert virtsnap(running.address, "list", "web-1", "-q").out == ""


def test_end_of_input_at_a_question_leaves_its_line(running: House) -> None:
    with terminal(running.address, "delete", "web-1", "by-hand") as seen:
        seen.until("[y/N] ")
        seen.type("\x04")
        assert seen.end() != 0
    assert "[y/N] \r\n" in seen.screen


@pytest.mark.parametrize(
    "line", ["check --timeout x --json", "check --bogus --json", "check --json --policy"]
)
def test_check_that_was_mistyped_has_the_format_of_check(line: str, running: House) -> None:
    done = virtsnap(running.address, *line.split())
    assert done.code == 3
    assert json.loads(done.out)["format"] == "check/1"
    documents(done.out)
