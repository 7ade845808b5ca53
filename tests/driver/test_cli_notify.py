"""virtsnap watch --notify: what a desktop is asked to show and to close, on a session bus of its
own, for a daemon on another bus."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape

import pytest

from tests.bus import PrivateBus, private_bus
from tests.driver.fake_desktop import FakeDesktop, Shown
from tests.driver.house import HOURLY, NODE, House
from tests.driver.test_cli_watch import problem
from tests.driver.virtsnap import cli
from tests.driver.watcher import Played, Watcher, watching

START = (
    "watching all VMs: problems, those that there are now first (each is shown on the desktop as "
    "well)"
)
HOSTILE = "policy p failed on VM <b>web</b>&amp;\n\x1b[31m\u202eexe: <img src=x>"


@pytest.fixture
def session() -> Iterator[PrivateBus]:
    with private_bus() as made:
        yield made


@pytest.fixture
def desktop(session: PrivateBus) -> Iterator[FakeDesktop]:
    made = FakeDesktop(session.address)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def played(bus: PrivateBus) -> Iterator[Played]:
    made = Played(bus.address)
    try:
        yield made
    finally:
        made.close()


def bodies(desktop: FakeDesktop) -> list[str]:
    return [shown.body.partition("\n")[0] for shown in desktop.shown.values()]


def shows(seen: Watcher, desktop: FakeDesktop, count: int) -> None:
    seen.until(lambda: len(desktop.shown) == count)


def closes(seen: Watcher, desktop: FakeDesktop, count: int) -> None:
    seen.until(lambda: len(desktop.closed) == count)


def test_notify_shows_each_problem_of_the_daemon_and_closes_it_when_it_is_over(
    house: House, desktop: FakeDesktop
) -> None:
    house.serve(f"test://{NODE}")
    house.policy("td", HOURLY.replace('"web-*"', '"tdrun", "tdtransient"'))
    client = house.start()
    client.wait(client.call("RunPolicy", "td"))
    there = {row["Message"]: row for row in client.rows("ListProblems")}
    assert {row["Severity"] for row in there.values()} == {"critical", "warning"}
    with watching(house.address, "--notify", session=desktop.address) as seen:
        shows(seen, desktop, len(there))
        assert {unescape(body) for body in bodies(desktop)} == set(there)
        for shown in desktop.shown.values():
            critical = there[unescape(shown.body.partition("\n")[0])]["Severity"] == "critical"
            assert shown.hints == {"urgency": 2 if critical else 1}
            assert shown.summary == f"VM snapshots: {'critical ' if critical else ''}problem"
        cli(house, "hold", "tdrun", "--reason", "moving")
        shows(seen, desktop, len(there) + 1)
        number, held = list(desktop.shown.items())[-1]
        assert held == Shown(
            app_name="virtsnap",
            replaces_id=0,
            app_icon="dialog-warning",
            summary="VM snapshots: problem",
            body=held.body,
            actions=[],
            hints={"urgency": 1},
            expire_timeout=-1,
        )
        message, way = held.body.split("\n")
        assert message.endswith("there: held: moving")
        assert way.startswith("Way out: when it is over: virtsnap --bus-address ")
        assert desktop.closed == []
        cli(house, "unhold", "tdrun")
        seen.until(lambda: number in desktop.closed)
        assert seen.interrupt() == 130
    assert seen.err == [START]
    assert len(seen.told) == len(desktop.shown) + len(desktop.closed)


def test_notify_once_a_problem_also_when_the_daemon_is_started_again(
    house: House, desktop: FakeDesktop
) -> None:
    house.policy("hourly", HOURLY)
    house.start().rows("ListDomains")
    with watching(house.address, "--notify", session=desktop.address) as seen:
        shows(seen, desktop, 1)
        house.again()
        seen.notes("running again")
        cli(house, "hold", "web-1")
        shows(seen, desktop, 2)
        assert desktop.closed == []
        house.stop()
        house.policy("all", HOURLY.replace('"web-*"', '"*"'))
        house.start()
        seen.until(lambda: desktop.closed == [1])
        assert seen.interrupt() == 130


def test_notify_closes_what_is_over_before_a_new_daemon_has_told_of_it(
    house: House, desktop: FakeDesktop
) -> None:
    house.policy("all", HOURLY.replace('"web-*"', '"*"'))
    client = house.start()

    def held() -> set[int]:
        # a busy machine may have it show for a moment that libvirt is not there yet, too
        return {number for number, shown in desktop.shown.items() if "moving" in shown.body}

    with watching(house.address, "--notify", session=desktop.address) as seen:
        for count in range(1, 4):
            client.call("Hold", "web-1", "", 0, "moving")
            seen.until(lambda count=count: len(held()) == count)  # type: ignore[misc]
            house.again()
            seen.notes("running again", count)
            client.call("Unhold", "web-1", "")
            seen.until(lambda: held() <= set(desktop.closed))
        assert seen.interrupt() == 130


@pytest.mark.parametrize("markup", [True, False])
def test_notify_hostile_texts_are_shown_as_they_are_and_obeyed_by_nobody(
    markup: bool, played: Played, session: PrivateBus
) -> None:
    desktop = FakeDesktop(session.address, able=["body", *(["body-markup"] if markup else [])])
    played.problems = [problem("a", HOSTILE, Severity="critical")]
    with watching(played.address, "--notify", session=session.address) as seen:
        shows(seen, desktop, 1)
        assert seen.interrupt() == 130
    desktop.close()
    plain = r"policy p failed on VM <b>web</b>&amp;\n\x1b[31m\u202eexe: <img src=x>"
    escaped = (
        r"policy p failed on VM &lt;b&gt;web&lt;/b&gt;&amp;amp;\n\x1b[31m\u202eexe: "
        "&lt;img src=x&gt;"
    )
    assert bodies(desktop) == [escaped if markup else plain]
    assert seen.told == [f"critical: {plain}"]


def test_notify_without_a_desktop_says_so_and_shows_what_is_left_when_it_comes(
    played: Played, session: PrivateBus
) -> None:
    played.problems = [problem("a", "first"), problem("b", "second")]
    with watching(played.address, "--notify", session=session.address) as seen:
        seen.notes("the desktop shows no notifications")
        played.problem("ProblemCleared", problem("a", "first"))
        played.problem("ProblemRaised", problem("c", "third"))
        seen.says("third")
        desktop = FakeDesktop(session.address)
        shows(seen, desktop, 2)
        seen.notes("shows notifications again")
        assert seen.interrupt() == 130
    desktop.close()
    assert bodies(desktop) == ["second", "third"]
    assert sum("shows no notifications" in line for line in seen.err) == 1


def test_notify_desktop_that_is_started_again_is_told_nothing_twice(
    played: Played, desktop: FakeDesktop
) -> None:
    played.problems = [problem("a", "first")]
    with watching(played.address, "--notify", session=desktop.address) as seen:
        shows(seen, desktop, 1)
        desktop.close()
        another = FakeDesktop(desktop.address)
        played.problem("ProblemRaised", problem("b", "second"))
        shows(seen, another, 1)
        played.problem("ProblemCleared", problem("a", "first"))
        played.problem("ProblemCleared", problem("b", "second"))
        seen.until(lambda: another.closed)
        assert seen.interrupt() == 130
    another.close()
    assert bodies(another) == ["second"]
    assert another.closed == [1]  # its own, and not what had that number before


def test_notify_closes_nothing_that_was_dismissed_and_shows_what_comes_again(
    played: Played, desktop: FakeDesktop
) -> None:
    played.problems = [problem("a", "first"), problem("b", "second")]
    with watching(played.address, "--notify", session=desktop.address) as seen:
        shows(seen, desktop, 2)
        desktop.dismiss(1)
        played.problem("ProblemCleared", problem("a", "first"))
        played.problem("ProblemCleared", problem("b", "second"))
        seen.until(lambda: desktop.closed)
        played.problem("ProblemRaised", problem("a", "first"))
        shows(seen, desktop, 3)
        assert seen.interrupt() == 130
    assert desktop.closed == [2]
    assert bodies(desktop) == ["first", "second", "first"]


def test_notify_one_that_is_refused_keeps_no_other_from_being_shown(
    played: Played, session: PrivateBus
) -> None:
    desktop = FakeDesktop(session.address, refuses="bad")
    played.problems = [problem("a", "a bad one"), problem("b", "second")]
    with watching(played.address, "--notify", session=session.address) as seen:
        shows(seen, desktop, 1)
        seen.notes("the desktop shows no notifications (too many of them)")
        desktop.refuses = ""
        played.problem("ProblemRaised", problem("c", "third"))
        shows(seen, desktop, 3)
        assert seen.interrupt() == 130
    desktop.close()
    assert sorted(bodies(desktop)) == ["a bad one", "second", "third"]


def test_notify_waits_for_a_daemon_that_cannot_be_started(
    bus: PrivateBus, desktop: FakeDesktop
) -> None:
    with watching(bus.address, "--notify", session=desktop.address) as seen:
        seen.notes("nothing is heard until it is")
        assert seen.err[0].startswith("virtsnap: virtsnapd is not running on that bus")
        played = Played(bus.address)
        played.problem("ProblemRaised", problem("a", "first"))
        shows(seen, desktop, 1)
        played.close()
        assert seen.interrupt() == 130


def test_notify_ends_with_the_session_or_without_one(played: Played, session: PrivateBus) -> None:
    with watching(played.address, "--notify", session=session.address) as seen:
        seen.notes("watching")
        session.process.kill()
        assert seen.end() == 6
    assert "the session's bus is gone" in seen.err[-1]
    with watching(played.address, "--notify") as seen:
        assert seen.end() == 6
    assert "notifications need a session's bus" in seen.err[0]


def test_notify_problems_are_those_of_the_vm_that_was_asked_for(
    played: Played, desktop: FakeDesktop
) -> None:
    other = "22222222-2222-4222-8222-222222222203"
    played.problems = [problem("a", "of another", other), problem("b", "of none")]
    played.problems.append(problem("c", "of web-1", played.domain[1]))
    with watching(played.address, "web-1", "--notify", session=desktop.address) as seen:
        shows(seen, desktop, 2)
        assert seen.interrupt() == 130
    assert bodies(desktop) == ["of none", "of web-1"]
