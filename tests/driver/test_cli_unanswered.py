"""virtsnap in front of a daemon that stands still: what a person is told, and after Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.client import TOP
from tests.driver.house import House
from tests.driver.virtsnap import command, terminal, virtsnap
from tests.schema import documents


@pytest.fixture
def still(running: House) -> Iterator[House]:
    """A daemon that is stopped as by a debugger."""
    os.kill(running.daemon.pid, signal.SIGSTOP)
    try:
        yield running
    finally:
        if running.daemon.running:
            os.kill(running.daemon.pid, signal.SIGCONT)


def go_on(house: House) -> None:
    os.kill(house.daemon.pid, signal.SIGCONT)


@pytest.mark.parametrize("line", ["list", "jobs", "watch", "create web-1 one", "list --json"])
def test_wait_for_an_answer_is_told_on_a_terminal(line: str, still: House) -> None:
    with terminal(still.address, *line.split()) as seen:
        seen.until("virtsnapd has not answered yet (2 s); Ctrl-C gives up", timeout=8)
        seen.type("\x03")
        assert seen.end() == 130


def test_wait_that_ends_leaves_the_answer_alone(still: House) -> None:
    with terminal(still.address, "create", "web-1", "one") as seen:
        seen.until("has not answered yet (3 s)")
        go_on(still)
        assert seen.end() == 0
    last = seen.screen.rpartition("\r\x1b[K")[2]
    assert last.startswith("VM web-1: snapshot one is made")


def test_ctrl_c_at_an_act_says_that_it_may_have_been_begun(still: House) -> None:
    with terminal(still.address, "create", "web-1", "one") as seen:
        seen.until("Ctrl-C gives up")
        seen.type("\x03")
        assert seen.end() == 130
    assert "may have been begun all the same" in seen.screen
    shown = seen.screen.replace("\r\n", "")
    assert f"to see it: virtsnap --bus-address {still.address} jobs" in shown
    go_on(still)
    assert virtsnap(still.address, "jobs").code == 0


@pytest.mark.parametrize("line", ["revert web-1 by-hand --yes", "delete web-1 by-hand --yes"])
def test_ctrl_c_before_an_act_says_that_nothing_was_begun(line: str, still: House) -> None:
    with terminal(still.address, *line.split()) as seen:
        seen.until("Ctrl-C gives up")
        seen.type("\x03")
        assert seen.end() == 130
    assert "virtsnap: nothing was begun" in seen.screen


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("create web-1 one --json", "may have been begun all the same"),
        ("hold web-1 --json", "may have been begun all the same"),
        ("list --json", ""),
    ],
)
def test_daemon_that_is_killed_before_it_answers(line: str, said: str, still: House) -> None:
    process = subprocess.Popen(
        command(still.address, *line.split()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=TOP,
    )
    with process:
        time.sleep(3)
        still.daemon.kill()
        out, err = process.communicate(timeout=20)
    (document,) = documents(err.decode())
    assert (process.returncode, out) == (6, b"")
    message = document["message"]
    assert message.startswith("virtsnapd on that bus did not answer (")
    assert said in message
    assert ("jobs shows it" in message) == line.startswith("create")
    assert "history" not in message and "GetAll" not in message
    if not said:
        assert "begun" not in message and "done" not in message
