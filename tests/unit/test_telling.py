"""When the journal is told of problems."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from snapd import journal
from snapd.model import Problem
from snapd.policy import Telling

LATE = Problem(
    "late-1", "overdue", "policy nightly is overdue", "critical", "u", "web-1", "nightly"
)
BARE = Problem("bare-1", "uncovered", "VM db1 is covered by no policy", "warning", "v", "db1")
LOST = Problem("lost-1", "not-connected", "no connection", "critical")


class Bench:
    """A telling with a clock of its own, and the lines that came since they were asked for."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.now = 1000.0
        self.telling = Telling(lambda: self.now)
        self._caplog = caplog

    def look(self, *problems: Problem, whole: bool = True, after: float = 0) -> list[str]:
        self.now += after
        self._caplog.clear()
        self.telling.look(problems, whole=whole)
        return [f"{r.levelname}: {r.getMessage()}" for r in self._caplog.records]


@pytest.fixture
def bench(caplog: pytest.LogCaptureFixture) -> Bench:
    return Bench(caplog)


def test_problem_is_told_when_it_comes_and_when_it_goes(bench: Bench) -> None:
    assert bench.look(LATE, BARE) == [
        "ERROR: policy nightly is overdue",
        "WARNING: VM db1 is covered by no policy",
    ]
    assert bench.look(replace(LATE, message="policy nightly is overdue for 3 d"), BARE) == []
    assert bench.look(BARE) == ["NOTICE: no longer so: policy nightly is overdue for 3 d"]
    assert bench.look(BARE, LATE) == ["ERROR: policy nightly is overdue"]


def test_problem_has_its_event_and_its_end_another(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.look(LATE)
    (came,) = caplog.records
    bench.look()
    (went,) = caplog.records
    overdue = journal.PROBLEMS["overdue"].id
    assert vars(came).items() >= {"MESSAGE_ID": overdue, "VIRTSNAP_POLICY": "nightly"}.items()
    assert vars(went).items() >= {"VIRTSNAP_DOMAIN": "web-1", "VIRTSNAP_PROBLEM": "overdue"}.items()
    assert vars(went)["MESSAGE_ID"] == "e19d7d8c0714416fa28a262b53ad5a25"


def test_problem_that_stays_is_told_once_a_day_where_it_is_critical(bench: Bench) -> None:
    bench.look(LATE, BARE)
    assert bench.look(LATE, BARE, after=86399) == []
    assert bench.look(LATE, BARE, after=1) == ["ERROR: still so: policy nightly is overdue"]
    assert bench.look(LATE, BARE, after=86399) == []


def test_lost_connection_is_told_when_it_lasts(bench: Bench) -> None:
    assert bench.look(LOST, whole=False) == []
    assert bench.look(LOST, whole=False, after=59) == []
    assert bench.look(LOST, whole=False, after=1) == ["ERROR: no connection"]
    assert bench.look(whole=False) == ["NOTICE: no longer so: no connection"]


def test_restart_of_libvirt_is_not_told(bench: Bench) -> None:
    bench.look(BARE)
    assert bench.look(LOST, whole=False) == []  # what of VMs stands can't be seen meanwhile
    assert bench.look(whole=False, after=30) == []
    assert bench.look(BARE, after=1) == []
