"""Hold a guest frozen while its snapshot is taken, and say what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..errors import AgentUnavailable, SnapdError
from ..journal import FREEZE_TOO_LONG, about
from ..model import DomainInfo, State
from .thaw import FrozenGuests

log = logging.getLogger(__name__)
THAW_AFTER_SECONDS = 8.0


@dataclass
class Quiet:
    """What came of it: file systems frozen, and thawed again; -1 = not asked, or no answer.

    refused: why it was not frozen; expired: it was let go before the snapshot was done.
    """

    asked: bool
    frozen: int = -1
    thawed: int = -1
    refused: str = ""
    expired: bool = False
    _thaw: asyncio.Task[int] | None = None

    @property
    def held(self) -> bool:
        """Whether the guest stood frozen from before the snapshot until after it: fewer thawed
        than frozen means that somebody, or the guest itself, let go in between."""
        return not self.expired and self.frozen > 0 and self.thawed >= self.frozen

    @property
    def shortfall(self) -> str:
        """Why what was taken meanwhile is not quiesced; "" = it is, or that wasn't asked for."""
        if self.held or not self.asked:
            return ""
        if self.refused:
            return self.refused
        if self.expired:
            return f"it was thawed after {THAW_AFTER_SECONDS:g} s, before the snapshot was done"
        if self.frozen == 0:
            return "its agent froze no file system"
        if self.thawed < 0:
            return "its agent has not answered that it thawed"
        return f"{self.frozen} file systems were frozen and only {self.thawed} thawed"

    async def thaw(self, guests: FrozenGuests, uuid: str) -> None:
        """Thaw it, once, to the end even if the caller is cancelled meanwhile."""
        if self._thaw is None:
            self._thaw = guests.release(uuid)
        self.thawed = await asyncio.shield(self._thaw)


@asynccontextmanager
async def frozen(guests: FrozenGuests, info: DomainInfo, quiesce: str) -> AsyncIterator[Quiet]:
    """Hold the guest's file systems frozen for the body, at most 8 s.

    quiesce: `require` raises AgentUnavailable where the agent can't; `try` goes on unfrozen.
    """
    quiet = Quiet(asked=quiesce != "no")
    if not quiet.asked:
        yield quiet
        return
    try:
        quiet.frozen = await _freeze(guests, info)
    except SnapdError as e:
        if quiesce == "require":
            raise AgentUnavailable(
                f"VM {info.name} cannot be quiesced: {e.message}",
                reason="agent-unavailable",
                ways=("install-agent", "quiesce-try"),
            ) from e
        quiet.refused = e.message
        yield quiet
        return
    watchdog = asyncio.create_task(_thaw_later(guests, info, quiet), name=f"watchdog {info.uuid}")
    try:
        yield quiet
    finally:
        watchdog.cancel()
        await quiet.thaw(guests, info.uuid)


async def _freeze(guests: FrozenGuests, info: DomainInfo) -> int:
    if info.state is not State.RUNNING:
        raise AgentUnavailable("only a running guest can be quiesced")
    if not info.agent:
        raise AgentUnavailable("no guest agent is connected")
    return await guests.freeze(info)


async def _thaw_later(guests: FrozenGuests, info: DomainInfo, quiet: Quiet) -> None:
    await asyncio.sleep(THAW_AFTER_SECONDS)
    fields = about(info, event=FREEZE_TOO_LONG)
    log.warning(
        "VM %s has been frozen for %g s: thawing it", info.name, THAW_AFTER_SECONDS, extra=fields
    )
    quiet.expired = True
    await quiet.thaw(guests, info.uuid)
