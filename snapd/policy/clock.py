"""Whether the clock can be believed: it is what ages are told by."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)
DAY = 86400
JUMP_SECONDS = 3600.0
DISTRUST_SECONDS = 3600.0


@dataclass
class ClockGuard:
    """Whether the clock can be trusted to prune by: after a jump nothing is pruned for an hour.

    last: the newest time that an earlier run saw. Wall time is compared with the time since boot,
    which also runs while the host sleeps.
    """

    last: int = 0
    wall: Callable[[], float] = time.time
    boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    _seen: tuple[float, float] = field(init=False)
    _jumped: tuple[float, float] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._seen = (self.wall(), self.boot())

    def watch(self) -> None:
        """Compare the two clocks with what they were at the last call."""
        wall, boot = self.wall(), self.boot()
        jump = (wall - self._seen[0]) - (boot - self._seen[1])
        self._seen = (wall, boot)
        if abs(jump) > JUMP_SECONDS:
            log.warning("the clock jumped by %+.0f s: nothing is pruned for an hour", jump)
            self._jumped = (boot, jump)

    def distrust(self) -> str:
        """Why nothing is to be pruned now; "" = the clock is fine."""
        self.watch()
        if self._jumped and self.boot() - self._jumped[0] < DISTRUST_SECONDS:
            return f"the clock jumped by {self._jumped[1]:+.0f} s within the last hour"
        if self.wall() < self.last - DAY:
            return "the clock is more than a day before a time that it had already"
        return ""
