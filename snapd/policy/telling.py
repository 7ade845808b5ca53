"""When the journal is told of problems: once when one comes and when it goes, seldom between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .. import journal
from ..model import Problem

log = logging.getLogger(__name__)
AGAIN_SECONDS = 86400.0
PATIENCE = {"not-connected": 60.0, "storage-hangs": 30.0, "unread": 60.0}
"""Seconds, by problem word: what restarts of libvirt, disks that spin up and a busy VM bring about
for a while."""
CONNECTION = "not-connected"
CHOSEN = {"no-policy", "held"}
"""What an admin has not done yet, or has done: that is no alarm."""


@dataclass(slots=True)
class _Known:
    """A problem that stands. told: when the journal was told of it last, None = not yet."""

    problem: Problem
    since: float
    told: float | None = None


class Telling:
    """Keeps what was told. clock: seconds that no change of the time moves."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def look(self, problems: Iterable[Problem], *, whole: bool) -> None:
        """Compare with all problems that there are now. whole: whether VMs can be judged; while
        they can't, what is not among the problems is not over."""
        now, here = self._clock(), {p.id: p for p in problems}
        for key, problem in here.items():
            known = self._known.setdefault(key, _Known(problem, now))
            known.problem = problem
            self._stands(known, now)
        for key in self._known.keys() - here.keys():
            if whole or self._known[key].problem.problem == CONNECTION:
                self._gone(self._known.pop(key))

    def _stands(self, known: _Known, now: float) -> None:
        found, again = known.problem, ""
        critical = found.severity == "critical"
        if known.told is None:
            if now - known.since < PATIENCE.get(found.problem, 0.0):
                return
        elif critical and now - known.told >= AGAIN_SECONDS:
            again = "still so: "
        else:
            return
        known.told = now
        level = logging.ERROR if critical else logging.WARNING
        level = journal.NOTICE if found.problem in CHOSEN else level
        log.log(level, "%s%s", again, found.message, extra=journal.of_problem(found))

    def _gone(self, known: _Known) -> None:
        if known.told is not None:
            fields = journal.of_problem(known.problem, journal.PROBLEM_GONE)
            log.log(journal.NOTICE, "no longer so: %s", known.problem.message, extra=fields)
