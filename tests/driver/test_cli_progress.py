"""A job that takes its time, drawn on a terminal: on one line, whatever its width and the names,
gone afterwards; and left by Ctrl-C. The job is played as in test_cli_jobs."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator

import pytest

from snapd.cli.parser import parse
from snapd.wire.values import Variant
from tests.bus import PrivateBus
from tests.driver.test_cli_jobs import JOB, Play, until
from tests.driver.virtsnap import Terminal, terminal
from tests.driver.vt import Screen

CREATE = ("create", "web-1", "one")
MADE = "VM web-1: snapshot one is made, internal, with RAM, the VM stood still for 1234 ms"
HOSTILE = "[red]\x1b[31m\u202e:smile:{task}\n[/red]"


@pytest.fixture(autouse=True)
def colourful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal that most people have."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def play(bus: PrivateBus) -> Iterator[Play]:
    made = Play(bus.address)
    try:
        yield made
    finally:
        made.close()


def drawn(seen: Terminal, columns: int = 80) -> Screen:
    """What is on the screen now."""
    shown = Screen(columns)
    shown.write(seen.screen)
    return shown


def test_slow_job_shows_phase_and_time_then_a_bar_then_only_its_result(
    bus: PrivateBus, play: Play
) -> None:
    with terminal(bus.address, *CREATE) as seen:
        seen.until("job 7: create web-1: taking 2 s")
        (line,) = drawn(seen).lines
        assert line[1:] == " job 7: create web-1: taking 2 s"
        play.change(Phase=Variant("s", "verifying"), Progress=Variant("d", 0.5))
        seen.until("50%")
        seen.until(" s")
        (line,) = drawn(seen).lines
        assert line.startswith("job 7: create web-1: verifying ━━━━━━━━━━")
        play.finish()
        assert seen.end() == 0
    shown = drawn(seen, 120)
    assert shown.lines == [MADE, ""]
    assert (shown.most, shown.hidden) == (2, False)


def test_time_is_that_of_the_job_not_of_the_look_at_it(bus: PrivateBus, play: Play) -> None:
    play.change(Started=Variant("x", 1_000_000_000))
    with terminal(bus.address, *CREATE) as seen:
        seen.until("taking ")
        seen.until(":")
        (line,) = drawn(seen).lines
        minutes, _, _ = line.rpartition(" ")[2].partition(":")
        assert int(minutes) > 10_000_000
        play.finish()
        assert seen.end() == 0


@pytest.mark.parametrize("columns", [8, 20, 40, 80, 200])
@pytest.mark.parametrize("share", [-1.0, 0.25])
def test_line_is_one_line_on_any_terminal(
    bus: PrivateBus, play: Play, columns: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    play.change(DomainName=Variant("s", "w" * 60), Progress=Variant("d", share))
    with terminal(bus.address, *CREATE) as seen:
        seen.until("2 s")
        shown = drawn(seen, columns)
        assert shown.most == 1
        assert len(shown.lines[0]) <= columns
        play.finish()
        assert seen.end() == 0


def test_hostile_name_is_text_and_nothing_else(bus: PrivateBus, play: Play) -> None:
    play.change(DomainName=Variant("s", HOSTILE), Phase=Variant("s", "[b]taking"))
    with terminal(bus.address, *CREATE) as seen:
        seen.until("2 s")
        (line,) = drawn(seen).lines
        assert r"create [red]\x1b[31m\u202e:smile:{task}\n[/red]: [b]taking" in line
        assert "\x1b[31m" not in seen.screen and "\u202e" not in seen.screen
        play.finish()
        assert seen.end() == 0


@pytest.mark.parametrize(("no_color", "painted"), [("", True), ("1", False)])
def test_colour_unless_nobody_wants_it(
    bus: PrivateBus,
    play: Play,
    no_color: str,
    painted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    play.change(Progress=Variant("d", 0.5))
    with terminal(bus.address, *CREATE) as seen:
        seen.until("50%")
        play.finish()
        assert seen.end() == 0
    assert ("\x1b[36m" in seen.screen) is painted


def test_dumb_terminal_has_a_line_a_phase(
    bus: PrivateBus, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with terminal(bus.address, *CREATE) as seen:
        seen.until("job 7: create web-1: taking\r\n")
        play.finish()
        assert seen.end() == 0
    assert "\x1b" not in seen.screen


def test_locale_without_the_letters_has_a_bar_all_the_same(
    bus: PrivateBus, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    play.change(DomainName=Variant("s", "w" * 90), Progress=Variant("d", 0.5))
    with terminal(bus.address, *CREATE) as seen:
        seen.until("50%")
        play.finish()
        assert seen.end() == 0
    assert "----------" in seen.screen and "\\u" not in seen.screen


@pytest.mark.parametrize("quiet", ["-q", "--json"])
def test_quiet_and_json_draw_nothing(bus: PrivateBus, play: Play, quiet: str) -> None:
    with terminal(bus.address, *CREATE, quiet) as seen:
        until(lambda: play.count("Wait") == 2)
        play.finish()
        assert seen.end() == 0
    assert "taking" not in seen.screen and "\x1b" not in seen.screen


def test_quick_job_shows_nothing_but_the_result(bus: PrivateBus, play: Play) -> None:
    play.finish()
    with terminal(bus.address, *CREATE) as seen:
        assert seen.end() == 0
    assert seen.screen.count("\n") == 1 and "job 7" not in seen.screen


def test_interrupted_leaves_the_job_and_the_command_that_it_says_follows_it(
    bus: PrivateBus, play: Play
) -> None:
    with terminal(bus.address, *CREATE) as seen:
        seen.until("taking ")
        seen.type("\x03")
        assert seen.end() == 130
    shown = drawn(seen, 200)
    first, second, _ = shown.lines
    assert (first, shown.hidden) == ("virtsnap: job 7 goes on", False)
    assert second == f"  to follow it: virtsnap --bus-address {bus.address} jobs --wait 7"
    assert play.count("Cancel") == 0
    typed = parse(shlex.split(second.partition("virtsnap ")[2]))
    assert (typed.job, typed.wait, typed.bus) == (JOB, True, bus.address)


def test_terminal_that_goes_away_ends_it_and_leaves_the_job(bus: PrivateBus, play: Play) -> None:
    with terminal(bus.address, *CREATE) as seen:
        seen.until("taking ")
        seen.process.send_signal(signal.SIGHUP)
        assert seen.process.wait(20) == -signal.SIGHUP
    assert not drawn(seen).hidden
    assert play.count("Cancel") == 0
