"""The guest's clock after a revert: asked for again only where another try may help."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapd.errors import AgentUnavailable, LibvirtError, SnapdError
from snapd.operations import Job, afterwards
from snapd.operations.context import Context


class Agent:
    """A hypervisor whose guest agent answers each try in turn; None = the time is set."""

    def __init__(self, answers: Sequence[SnapdError | None]) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    async def set_time(self, uuid: str, seconds: int) -> None:
        self.asked.append(seconds)
        if error := self.answers.pop(0):
            raise error


AWAY = AgentUnavailable("the agent is not connected")
UNABLE = LibvirtError("guest-set-time is not supported")


@pytest.mark.parametrize(
    ("answers", "agent", "tries", "warned"),
    [
        ([None], True, 1, []),
        ([AWAY, None], True, 2, []),
        ([UNABLE], True, 1, ["guest-time"]),
        ([AWAY], False, 1, []),
    ],
)
def test_set_clock_tries_again_only_where_the_agent_may_still_come(
    answers: list[SnapdError | None],
    agent: bool,
    tries: int,
    warned: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(afterwards, "AGENT_PAUSE", 0)
    told: list[str] = []
    row = SimpleNamespace(domain="uuid", domain_name="web-1")
    job = SimpleNamespace(row=row, enter=lambda _phase: None, warn=lambda w: told.append(w.reason))
    hypervisor = Agent(answers)
    ctx: Any = SimpleNamespace(hypervisor=hypervisor, clock=lambda: 1_700_000_000.5)
    work = afterwards.set_clock(cast("Context", ctx), cast("Job", job), agent=agent)
    done = asyncio.run(work)
    assert done is (answers[tries - 1] is None)
    assert hypervisor.asked == [1_700_000_000] * tries
    assert told == warned
