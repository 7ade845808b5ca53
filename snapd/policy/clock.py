"""Whether the clock can be believed: it is what ages are told by."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..journal import CLOCK_JUMPED, about

log = logging.getLogger(__name__)
DAY = 86400
JUMP_SECONDS = 3600.0
DISTRUST_SECONDS = 3600.0
STEP_SECONDS = 5.0
SLEPT_SECONDS = 5.0
WAKING_SECONDS = 30.0
"""After the host has slept: its disks and network come back first."""
SYNCED = Path("/run/systemd/timesync/synchronized")


@dataclass
class ClockGuard:
    """Whether the clock can be trusted to prune by: after a jump nothing is pruned for an hour.

    last: the newest time that an earlier run saw. boot: seconds since the host's start, which also
    run while it sleeps; awake: those that don't. synced: whether the clock is known to be right.
    """

    last: int = 0
    wall: Callable[[], float] = time.time
    boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    awake: Callable[[], float] = time.monotonic
    synced: Callable[[], bool] = SYNCED.exists
    _seen: tuple[float, float, float] = field(init=False)
    _jumped: tuple[float, float] | None = field(init=False, default=None)
    _woken: float | None = field(init=False, default=None)
    _behind: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._seen = (self.wall(), self.boot(), self.awake())
        ahead = self.wall() - self.last
        if self.last and ahead > DAY and not self.synced():
            # down for long, or started with a wrong clock, which will be set soon
            self._jumped = (self.boot(), ahead)

    def watch(self) -> None:
        """Compare the clocks with what they were at the last call."""
        wall, boot, awake = self.wall(), self.boot(), self.awake()
        jump = (wall - self._seen[0]) - (boot - self._seen[1])
        slept = (boot - self._seen[1]) - (awake - self._seen[2])
        self._seen = (wall, boot, awake)
        if abs(jump) > JUMP_SECONDS:
            log.warning(
                "the clock jumped by %+.0f s: nothing is pruned for an hour",
                jump,
                extra=about(event=CLOCK_JUMPED),
            )
            self._jumped = (boot, jump)
        elif abs(jump) > STEP_SECONDS:
            log.info("the clock was set by %+.0f s", jump)
        if slept > SLEPT_SECONDS:
            log.info("the host slept for %.0f s", slept)
            self._woken = boot

    def waking(self) -> bool:
        """Whether the host has just woken from sleep: no VM is to be touched yet."""
        return self._woken is not None and self.boot() - self._woken < WAKING_SECONDS

    def distrust(self) -> str:
        """Why nothing is to be pruned now; "" = the clock is fine."""
        self.watch()
        if self._jumped and self.boot() - self._jumped[0] < DISTRUST_SECONDS:
            return f"the clock jumped by {self._jumped[1]:+.0f} s within the last hour"
        if self.wall() >= self.last - DAY or self._last_was_wrong():
            self._behind = None
            return ""
        return "the clock is more than a day before a time that it had already"

    def _last_was_wrong(self) -> bool:
        """Whether the time that it had already was not the right one: the clock has been known to
        be right for an hour. Else nothing would be pruned until it gets there again."""
        if not self.synced():
            self._behind = None
            return False
        self._behind = self.boot() if self._behind is None else self._behind
        if self.boot() - self._behind < DISTRUST_SECONDS:
            return False
        log.warning("the clock was %.0f s ahead once; it is right now", self.last - self.wall())
        self.last = int(self.wall())
        return True
