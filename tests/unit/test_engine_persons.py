"""What people do meanwhile: runs by hand, holds, reverts that break off; and prunes refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

from snapd.errors import Busy
from snapd.model import JobState
from snapd.operations import Asker
from snapd.policy import Engine
from snapd.policy.attempt import Attempt
from snapd.policy.owed import BY_HAND, Owed
from snapd.store import Store
from tests.unit.engines import (
    HOUR,
    NOW,
    VM,
    WEB1,
    Stubs,
    look,
    outcomes,
    owing,
    play,
    quiet,
)


async def by_hand(stubs: Stubs, engine: Engine, policy: str) -> Attempt:
    """A run by hand, begun; its job is asked for."""
    meant, picture, now = stubs.in_force[policy], stubs.libvirt.domains[VM], int(stubs.now)
    owed = await engine.desk.runs.begin(picture.info, [Owed(meant, now, word=BY_HAND)], now)
    attempt = Attempt(engine.desk, picture, owed, by=Asker(1000))
    engine._keep(engine.carry_out(attempt))
    await quiet(stubs, engine)
    return attempt


def test_slot_that_comes_during_a_run_by_hand_is_not_lost_with_it(tmp_path: Path) -> None:
    stubs = Stubs(slow=True)

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        await by_hand(stubs, engine, "hourly")
        await look(stubs, engine)
        hand, slot = stubs.running
        stubs.end(hand, JobState.FAILED, Busy("a backup"))
        stubs.let(slot)
        await quiet(stubs, engine)
        assert sorted(outcomes(stubs)) == [("hourly", "failed", NOW), ("hourly", "made", NOW)]

    play(tmp_path, body, stubs)


def test_run_by_hand_that_the_daemons_end_cancels_is_told_as_failed(tmp_path: Path) -> None:
    stubs = Stubs(slow=True)

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        attempt = await by_hand(stubs, engine, "hourly")
        stubs.stopping = True
        stubs.cancel(stubs.running[0])
        await quiet(stubs, engine)
        assert [r.outcome for r in attempt.settled] == ["failed"]

    play(tmp_path, body, stubs)


# ---- holds, and VMs that a revert has torn


def test_hold_takes_a_waiting_run_out_of_the_queue_and_has_the_others_run(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        for name in ("a", "b"):
            stubs.add(name)
            owing(engine, name)
        await look(stubs, engine)
        await engine._holds.hold("a", WEB1, reason="moving")
        await quiet(stubs, engine)
        assert [wish.policies for _, wish, _ in stubs.asked] == [("a", "b"), ("b",)]
        stubs.let(stubs.running[1])
        await quiet(stubs, engine)
        assert outcomes(stubs) == [("a", "skipped", NOW), ("b", "made", NOW)]
        assert stubs.told[0].reason == "held: moving"

    play(tmp_path, body, Stubs(slow=True))


def test_hold_that_goes_as_fast_as_it_came_costs_no_slot(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("a")
        owing(engine, "a")
        await look(stubs, engine)
        put, drop = (
            engine._holds.hold("a", WEB1),
            engine._holds.unhold("a", WEB1),
        )
        await asyncio.gather(put, drop)
        await quiet(stubs, engine)
        stubs.let(stubs.running[-1])
        await quiet(stubs, engine)
        assert outcomes(stubs) == [("a", "made", NOW)]

    play(tmp_path, body, Stubs(slow=True))


def test_torn_vm_is_left_alone_by_policies_until_a_revert_has_mended_it(tmp_path: Path) -> None:
    """Or the torn state would take the place of the good ones, night after night."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.tear()
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "skipped", NOW)]
        assert "revert to 's2' (job 3) broke off" in stubs.told[0].reason
        await by_hand(stubs, engine, "hourly")
        assert ([r.outcome for r in stubs.told], stubs.asked) == (["skipped"] * 2, [])
        stubs.mend()
        stubs.pass_(HOUR)
        await look(stubs, engine)
        assert len(stubs.made) == 1

    play(tmp_path, body)


def test_revert_that_tears_the_vm_takes_its_run_out_of_the_queue(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("a")
        owing(engine, "a")
        await look(stubs, engine)
        stubs.tear()
        await quiet(stubs, engine)
        assert outcomes(stubs) == [("a", "skipped", NOW)]
        assert stubs.running[0].row.state is JobState.CANCELLED

    play(tmp_path, body, Stubs(slow=True))
