"""Freeze and thaw: a guest is never left frozen (DESIGN.md rule 12)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..errors import AgentUnavailable, SnapdError
from ..hypervisor import Hypervisor
from ..model import DomainInfo, State

log = logging.getLogger(__name__)
AGENT_SECONDS = 10
THAW_AFTER_SECONDS = 8.0
THAW_TRIES = 3


@dataclass
class Frozen:
    """What came of a freeze: file systems frozen, and thawed again; -1 = not asked for."""

    frozen: int = -1
    thawed: int = -1

    @property
    def held(self) -> bool:
        """Whether the guest stood frozen from before the snapshot until after it: fewer thawed
        than frozen means that somebody, or the guest itself, let go in between."""
        return self.frozen > 0 and self.thawed >= self.frozen


@asynccontextmanager
async def frozen(hypervisor: Hypervisor, info: DomainInfo, quiesce: str) -> AsyncIterator[Frozen]:
    """Hold the guest's file systems frozen for the body, at most 8 s.

    quiesce: `require` raises AgentUnavailable where the agent can't; `try` goes on unfrozen.
    """
    state = Frozen()
    if quiesce == "no" or info.state is not State.RUNNING or not (info.agent or _must(quiesce)):
        if _must(quiesce):
            raise _unavailable(info, "only a running guest can be quiesced")
        yield state
        return
    try:
        state.frozen = await hypervisor.freeze(info.uuid, AGENT_SECONDS)
    except SnapdError as e:
        # A freeze that timed out may still come: the agent carries it out when it wakes.
        await _thaw(hypervisor, info, state)
        if _must(quiesce):
            raise _unavailable(info, e.message) from e
        log.warning("VM %s is not quiesced: %s", info.name, e.message)
        yield state
        return
    watchdog = asyncio.create_task(_thaw_later(hypervisor, info, state))
    try:
        yield state
    finally:
        watchdog.cancel()
        if state.thawed < 0:
            await asyncio.shield(_thaw(hypervisor, info, state))


def _must(quiesce: str) -> bool:
    return quiesce == "require"


def _unavailable(info: DomainInfo, why: str) -> AgentUnavailable:
    return AgentUnavailable(
        f"VM {info.name} cannot be quiesced: {why}", ways=("install-agent", "quiesce-try")
    )


async def _thaw_later(hypervisor: Hypervisor, info: DomainInfo, state: Frozen) -> None:
    await asyncio.sleep(THAW_AFTER_SECONDS)
    log.warning("VM %s has been frozen for %g s: thawing it", info.name, THAW_AFTER_SECONDS)
    await _thaw(hypervisor, info, state)
    state.frozen = -1  # whatever was taken meanwhile, it wasn't taken from a frozen guest for sure


async def _thaw(hypervisor: Hypervisor, info: DomainInfo, state: Frozen) -> None:
    for tries_left in reversed(range(THAW_TRIES)):
        try:
            state.thawed = await hypervisor.thaw(info.uuid)
            return
        except SnapdError as e:
            log.error("VM %s could not be thawed: %s", info.name, e.message)
            if tries_left:
                await asyncio.sleep(1)


async def thaw_left_behind(hypervisor: Hypervisor, info: DomainInfo, quiesce: str) -> None:
    """Thaw a guest that a freeze, by a daemon that is gone, may have left; no harm where not."""
    if quiesce == "no" or info.state is not State.RUNNING:
        return
    try:
        await hypervisor.thaw(info.uuid)
    except SnapdError as e:
        log.debug("VM %s: nothing to thaw, or no agent: %s", info.name, e.message)
