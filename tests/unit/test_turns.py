"""The watch on a daemon's loop, on loops of our own: what it says of the longest turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pytest

from tests import turns
from tests.turns import Turn, Watch

BURNT = 0.05


def burn() -> None:
    """Use up CPU time."""
    until = time.thread_time() + BURNT
    while time.thread_time() < until:
        pass


async def inner() -> None:
    await asyncio.sleep(0.01)
    burn()
    await asyncio.sleep(0.01)


async def outer() -> None:
    await inner()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(asyncio.Handle, "_run", asyncio.Handle._run)  # as it is, afterwards
    made = Watch()
    made.note_parts()
    return made


def run(watch: Watch, work: Coroutine[Any, Any, None]) -> None:
    loop = partial(asyncio.SelectorEventLoop, watch)
    with asyncio.Runner(debug=False, loop_factory=loop) as runner:
        runner.run(work)
    watch.over()


def test_longest_turn_names_the_coroutine_that_took_it(watch: Watch) -> None:
    burn()  # what comes before the loop is no turn
    run(watch, outer())
    assert BURNT <= watch.worst.part <= watch.worst.cpu < 2 * BURNT
    assert watch.worst.what.startswith("outer > inner > sleep, which waits in line")
    assert watch.longest[0] == watch.worst.cpu


def test_longest_turn_names_the_call_that_a_task_is_for(watch: Watch) -> None:
    async def work() -> None:
        await asyncio.create_task(outer(), name="ListDomains")

    run(watch, work())
    assert watch.worst.what.startswith("outer (ListDomains) > inner > sleep")


def test_longest_turn_names_the_callback_that_took_it(watch: Watch) -> None:
    async def work() -> None:
        asyncio.get_running_loop().call_soon(partial(burn))
        await asyncio.sleep(0.01)

    run(watch, work())
    assert watch.worst.what == "burn"


def test_log_that_tells_of_a_long_turn_is_refused_with_its_line() -> None:
    short, long = (Turn(seconds, 1, "burn", seconds) for seconds in (0.2, 0.3))
    turns.check(f"INFO: begun\nloop: the longest turn {short}\nINFO: done\n")
    with pytest.raises(AssertionError, match=r"took 300\.0 ms of CPU time.* in burn"):
        turns.check(f"loop: the longest turn {short}\nloop: the longest turn {long}\n")
