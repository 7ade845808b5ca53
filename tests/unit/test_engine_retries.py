"""What becomes of a slot that fails: tried again until the next one, or not before something is
different; and of one that there is nothing to do for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Busy, Changed, LimitExceeded
from snapd.model import JobState
from snapd.policy import Engine
from snapd.store import Store
from tests.unit.engines import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    VM,
    Stubs,
    look,
    outcomes,
    owing,
    play,
    quiet,
    tries,
)

BUSY = "org.virtsnap.Error.Busy"


def test_failed_slot_is_tried_again_with_growing_pauses_until_the_next(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [Busy("a backup")] * 100
        await look(stubs, engine)
        assert engine.retry_at("hourly", VM) == NOW + 60
        slot = engine.slots["hourly", VM]
        assert (slot.error_name, slot.last_slot, stubs.told) == (BUSY, NOW, [])
        assert await tries(stubs, engine, HOUR - 30) == [60, 180, 420, 900, 1860]
        assert outcomes(stubs) == [("hourly", "failed", NOW)]
        assert engine.retry_at("hourly", VM) == 0
        stubs.answers.clear()
        assert await tries(stubs, engine, 30) == [30]
        assert outcomes(stubs)[1:] == [("hourly", "made", NOW + HOUR)]
        assert engine.slots["hourly", VM].error_name == ""

    play(tmp_path, body)


def test_pauses_grow_to_an_hour_and_no_further(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("daily", "0 2 * * *")
        owing(engine, "daily", last=NOW)
        stubs.pass_(DAY - NOW % DAY + 2 * HOUR)
        stubs.answers[VM] = [Busy("a backup")] * 100
        await look(stubs, engine)
        found = await tries(stubs, engine, DAY - 30)
        assert found[5:9] == [3780, 7380, 10980, 14580]
        assert found[-1] > DAY - 2 * HOUR
        assert (len(stubs.told), stubs.told[-1].outcome) == (1 + 0, "failed")

    play(tmp_path, body)


def test_retry_that_works_makes_the_snapshot_of_its_slot(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [Busy("a backup")] * 2
        await look(stubs, engine)
        assert await tries(stubs, engine, 10 * MINUTE) == [60, 180]
        assert [(w.stem, w.at) for w in stubs.made] == [("hourly", NOW)]
        assert outcomes(stubs) == [("hourly", "made", NOW)]
        assert await store.open_runs() == []

    play(tmp_path, body)


def test_seventeenth_request_is_tried_again(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.refuses = True
        await look(stubs, engine)
        (slot,) = await store.slots()
        assert (slot.error_name, slot.last_slot) == (LimitExceeded("").name, NOW)
        stubs.refuses = False
        assert await tries(stubs, engine, 90) == [60]
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


def test_what_waits_when_the_next_slot_comes_has_failed(tmp_path: Path) -> None:
    """The host slept, so that no try came in between."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.refuses = True
        await look(stubs, engine)
        stubs.refuses = False
        stubs.pass_(HOUR)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "failed", NOW), ("hourly", "made", NOW + HOUR)]
        assert "16 requests" in stubs.told[0].reason

    play(tmp_path, body)


@pytest.mark.parametrize("more", [{"catch_up": False}, {"max_lateness": 20 * MINUTE}])
def test_retry_is_not_made_past_the_time_of_its_slot(tmp_path: Path, more: dict[str, Any]) -> None:
    """And not for the next one, which came while the host slept and is too late as well."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly", **more)
        owing(engine, "hourly")
        stubs.answers[VM] = [Busy("a backup")]
        await look(stubs, engine)
        stubs.sleep(HOUR + 30 * MINUTE)
        await look(stubs, engine)
        stubs.pass_(31)
        await look(stubs, engine)
        assert sorted(outcomes(stubs)) == [
            ("hourly", "failed", NOW),
            ("hourly", "skipped", NOW + HOUR),
        ]
        assert len(stubs.asked) == 1

    play(tmp_path, body)


def test_nothing_is_tried_again_while_the_host_is_stopping_or_wakes(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [Busy("a backup")]
        await look(stubs, engine)
        stubs.host_stopping = True
        stubs.pass_(2 * MINUTE)
        await look(stubs, engine)
        stubs.host_stopping = False
        stubs.sleep(2 * MINUTE)
        await look(stubs, engine)
        assert len(stubs.asked) == 1
        stubs.pass_(31)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


def test_what_only_a_fault_can_cause_is_not_tried_again(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [Changed("it is another one")]
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "failed", NOW)]

    play(tmp_path, body)


# ---- cancelled, stopped


def test_job_that_a_person_cancels_is_not_tried_again(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        await look(stubs, engine)
        stubs.cancel(stubs.running[0])
        assert await tries(stubs, engine, HOUR - 30) == []
        assert outcomes(stubs) == [("hourly", "failed", NOW)]
        assert engine.slots["hourly", VM].error_name == "org.virtsnap.Error.Cancelled"
        stubs.slow = False
        assert await tries(stubs, engine, 30) == [30]

    play(tmp_path, body, Stubs(slow=True))


@pytest.mark.parametrize("how", ["cancelled", "failed", "waits"])
def test_daemon_that_stops_leaves_the_run_open_and_soon(tmp_path: Path, how: str) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        await look(stubs, engine)
        (job,) = stubs.running
        if how == "waits":
            stubs.end(job, JobState.FAILED, Busy("a backup"))
            await quiet(stubs, engine)
        stubs.stopping = True
        if how == "cancelled":
            stubs.cancel(job)
        elif how == "failed":
            stubs.end(job, JobState.FAILED, Busy("a backup"))
        await engine.stop()
        assert stubs.told == []
        assert [r.slot for r in await store.open_runs()] == [NOW]

    play(tmp_path, body, Stubs(slow=True))


# ---- a job never waits into the next slot, which would count as an overlap


@pytest.mark.parametrize(
    ("late", "more", "patience"),
    [
        (0, {}, 3595),
        (30 * MINUTE, {}, 1795),
        (59 * MINUTE, {}, 55),
        (HOUR - 2, {}, 1),
        (10, {"max_lateness": 15 * MINUTE}, 15 * MINUTE - 10),
        (50, {"max_lateness": MINUTE}, 30),
    ],
)
def test_job_waits_until_shortly_before_the_next_slot(
    tmp_path: Path, late: int, more: dict[str, Any], patience: int
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly", **more)
        owing(engine, "hourly")
        stubs.pass_(late)
        await look(stubs, engine)
        assert [asker.max_wait for _, _, asker in stubs.asked] == [patience]

    play(tmp_path, body)


def test_slot_that_comes_while_the_last_is_at_work_is_skipped_and_told(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        await look(stubs, engine)
        stubs.pass_(HOUR)
        await look(stubs, engine)
        stubs.let(stubs.running[0])
        await quiet(stubs, engine)
        assert outcomes(stubs) == [("hourly", "skipped", NOW + HOUR), ("hourly", "made", NOW)]
        assert stubs.told[0].reason == "the last run is still at work"

    play(tmp_path, body, Stubs(slow=True))
