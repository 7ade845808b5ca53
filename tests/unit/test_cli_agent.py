"""When polkit's agent for terminals is started, how, and that it never holds anything up."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import time
from pathlib import Path

import pytest

from snapd.cli import agent, failures
from snapd.cli.agent import Agent
from snapd.cli.output.screen import Screen
from snapd.errors import NoSuchDomain, NotAuthorized
from snapd.wire.fault import NO_SERVER, WireError, standard


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pkttyagent that writes its arguments there and never says that it is ready; in a terminal,
    by somebody who is not root."""
    said = tmp_path / "said"
    program = tmp_path / "pkttyagent"
    program.write_text(f'#!/bin/sh\necho "$@" >{said}.new\nmv {said}.new {said}\nexec sleep 60\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(agent, "SECONDS", 0.5)
    monkeypatch.setattr(agent, "SESSIONS", str(tmp_path))
    monkeypatch.setattr(agent, "_in_front_of_somebody", lambda: True)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    return said


def started(bus: str = "system", *, ask: bool = True) -> None:
    """What a command does whose calls may ask; AssertionError where that takes long."""

    async def run() -> None:
        made = Agent(bus, ask=ask)
        try:
            await made.ready()
            await made.ready()
        finally:
            made.close()

    begun = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - begun < 10


def test_agent_that_never_is_ready_is_waited_for_a_while_and_ended(spy: Path) -> None:
    started()
    words = spy.read_text().split()
    assert words[words.index("--process") + 1].split(",")[0] == str(os.getpid())
    assert "--fallback" not in words


def test_agent_of_a_desktop_comes_first_where_the_user_has_a_session(spy: Path) -> None:
    (spy.parent / "4711").touch()
    started()
    assert "--fallback" in spy.read_text().split()


def test_agent_not_where_nobody_asks(spy: Path) -> None:
    started("session")
    started("unix:path=/somewhere")
    started(ask=False)
    assert not spy.exists()


def test_agent_not_for_root(spy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    started()
    assert not spy.exists()


@pytest.mark.parametrize("missing", ["pkttyagent", "setpriv"])
def test_agent_not_installed_is_nothing(
    missing: str, spy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(spy.parent))
    (spy.parent / "pkttyagent").unlink()
    if missing == "pkttyagent":
        (spy.parent / "setpriv").symlink_to("/usr/bin/setpriv")
    started()


def test_agent_not_without_a_terminal_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not agent._in_front_of_somebody()
    master, slave = pty.openpty()
    with os.fdopen(slave) as others, os.fdopen(master):
        monkeypatch.setattr(sys, "stdin", others)  # a terminal, but not the controlling one
        assert not agent._in_front_of_somebody()
    monkeypatch.setattr(sys, "stdin", None)
    assert not agent._in_front_of_somebody()


# --- what is said where nobody could be asked

WANTED = NotAuthorized("x.create needs a password, and no agent is there")
UNASKED = standard("InteractiveAuthorizationRequired", "x.create needs a password; call again")


@pytest.mark.parametrize(
    ("error", "bus", "uid", "ways"),
    [
        (WANTED, "system", 1000, 2),
        (UNASKED, "system", 1000, 2),
        (WANTED, "system", 0, 0),
        (WANTED, "session", 1000, 0),
        (
            NotAuthorized("x.create is not for you, says polkit, or the password was wrong"),
            "system",
            1000,
            0,
        ),
        (standard("AccessDenied", "the bus policy"), "system", 1000, 0),
        (NoSuchDomain("no VM 'password'"), "system", 1000, 0),
    ],
)
def test_report_says_where_a_password_can_be_typed(
    error: Exception,
    bus: str,
    uid: int,
    ways: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    screen = Screen(json=False, quiet=True)
    screen.bus = bus
    failures.report(screen, error)
    _sentence, *told = capsys.readouterr().err.splitlines()
    assert len(told) == ways
    assert not ways or ("sudo virtsnap" in told[0] and "ssh -t" in told[1])


def test_explain_unasked_password_is_told_in_words_for_people() -> None:
    sentence, code = failures.explain(UNASKED, "system")
    assert (sentence, code) == (
        "a password is needed and nobody may be asked (x.create needs a password)",
        5,
    )


def test_explain_no_session_bus_says_when_there_is_one() -> None:
    error = WireError(NO_SERVER, "unix:path=/bus: No such file")
    assert "after su or sudo" in failures.explain(error, "session")[0]
    assert "sudo" not in failures.explain(error, "system")[0]
