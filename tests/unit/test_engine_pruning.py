"""Retention beside the runs: room that is made once, prunes that had to wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snapd.errors import Busy, NoSpace, Protected, SnapdError, TimedOut
from snapd.model import JobState
from snapd.policy import Engine
from snapd.store import Store
from tests.unit.engines import (
    HOUR,
    MINUTE,
    NOW,
    VM,
    WEB1,
    Stubs,
    delete,
    look,
    made_engine,
    outcomes,
    owing,
    play,
    quiet,
    tries,
)

FULL = NoSpace("4 GiB are missing")

# ---- room


def test_room_is_made_once_and_then_the_run_is_tried_once_more(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [FULL, None]
        await look(stubs, engine)
        assert stubs.room == [(("hourly",), NOW)]
        assert outcomes(stubs) == [("hourly", "made", NOW)]
        assert (await store.slots())[0].short_since == 0

    play(tmp_path, body)


def test_ten_slots_on_a_full_disk_ask_for_the_room_of_the_first(tmp_path: Path) -> None:
    """And so does the next daemon: what is let go then is the same, however often."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [FULL] * 1000
        for _ in range(5):
            await look(stubs, engine)
            await tries(stubs, engine, HOUR - 30)
            stubs.pass_(30)
        await engine.stop()
        following = made_engine(stubs, store)
        await following.load()
        for _ in range(5):
            await look(stubs, following)
            await tries(stubs, following, HOUR - 30)
            stubs.pass_(30)
        assert stubs.room == [(("hourly",), NOW)] * 10
        assert [(o, s) for _, o, s in outcomes(stubs)] == [
            ("failed", NOW + n * HOUR) for n in range(10)
        ]
        stubs.answers[VM] = []
        await look(stubs, following)
        stubs.answers[VM] = [FULL, FULL]
        stubs.pass_(HOUR)
        await look(stubs, following)
        assert stubs.room[10:] == [(("hourly",), NOW + 11 * HOUR)]
        await following.stop()

    play(tmp_path, body)


def test_no_room_is_made_where_since_when_cannot_be_written_down(tmp_path: Path) -> None:
    """The next daemon would take another slot for the first, and let go of something else."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [FULL]

        async def full(*_what: object) -> None:
            raise NoSpace("the disk of the store is full")

        store.write_slot = full  # type: ignore[method-assign, assignment]
        await look(stubs, engine)
        assert stubs.room == []
        assert engine.retry_at("hourly", VM) == NOW + 60

    play(tmp_path, body)


def test_other_failures_make_no_room(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [Busy("a backup")]
        await look(stubs, engine)
        assert (stubs.room, engine.slots["hourly", VM].short_since) == ([], 0)

    play(tmp_path, body)


# ---- prunes that had to wait

BOTH = frozenset({"old", "older"})


async def pruned(stubs: Stubs, engine: Engine, seconds: int) -> list[int]:
    """The seconds after now at which a prune was tried."""
    begun, before = stubs.now, len(stubs.pruned)
    await tries(stubs, engine, seconds)
    return [int(at - begun) for at, *_ in stubs.pruned[before:]]


async def deferred(stubs: Stubs, engine: Engine, *prunes: SnapdError | tuple[str, ...]) -> None:
    """A run is made, and its prune comes to what the first says, the next ones to the rest."""
    stubs.add("daily", "@daily")
    owing(engine, "daily", last=NOW - NOW % 86400 - 86400)
    stubs.going = (delete("old"), delete("older"))
    stubs.prunes = list(prunes)
    await look(stubs, engine)
    assert outcomes(stubs)[-1][1] == "made"
    assert stubs.pruned == [(int(stubs.now), VM, None)]


@pytest.mark.parametrize(
    "why",
    [("old", "older"), Busy("a backup"), TimedOut("no answer"), Protected("", reason="clock")],
)
def test_prune_that_has_to_wait_is_tried_with_growing_pauses_until_it_is_done(
    tmp_path: Path, why: SnapdError | tuple[str, ...]
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        await deferred(stubs, engine, *[why] * 6)
        assert await pruned(stubs, engine, 8 * HOUR) == [
            5 * MINUTE,
            15 * MINUTE,
            35 * MINUTE,
            75 * MINUTE,
            135 * MINUTE,
            195 * MINUTE,
        ]
        assert {only for *_, only in stubs.pruned[1:]} == {BOTH}

    play(tmp_path, body)


def test_deferred_prune_takes_no_other_victim_and_drops_what_may_stay_now(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        await deferred(stubs, engine, ("old",), ("old",))
        stubs.going = (delete("old"), delete("another"))
        await pruned(stubs, engine, 6 * MINUTE)
        assert [only for *_, only in stubs.pruned[1:]] == [frozenset({"old"})]
        stubs.going = (delete("another"),)
        await pruned(stubs, engine, HOUR)
        assert len(stubs.pruned) == 2
        assert engine.pruning.next_due() == 0

    play(tmp_path, body)


def test_vm_that_changes_brings_it_forward_but_at_most_once_a_minute(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        await deferred(stubs, engine, *[("old", "older")] * 1000)
        begun, found = stubs.now, []
        for second in range(1, 200):
            stubs.pass_(1)
            stubs.libvirt.change(VM, replace(WEB1, instance=second))
            before = len(stubs.pruned)
            await look(stubs, engine)
            found += [int(at - begun) for at, *_ in stubs.pruned[before:]]
        assert found == [60, 120, 180]
        before = len(stubs.pruned)
        for second in range(120):
            stubs.pass_(1)
            stubs.libvirt.change(VM, replace(WEB1, instance=second, busy_since=5))
            await look(stubs, engine)
        assert len(stubs.pruned) == before + 1  # the change before it was busy

    play(tmp_path, body)


def test_next_success_takes_the_place_of_a_prune_that_waits(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        await deferred(stubs, engine, ("old", "older"))
        stubs.add("other")
        owing(engine, "other", last=NOW)
        await look(stubs, engine)
        stubs.now = NOW + HOUR
        await look(stubs, engine)
        assert stubs.pruned[-1] == (NOW + HOUR, VM, None)
        assert await pruned(stubs, engine, 50 * MINUTE) == []

    play(tmp_path, body)


@pytest.mark.parametrize(
    "why",
    [
        Protected("look at PreviewRetention, then ConfirmPrune", ways=("confirm-prune",)),
        Protected("virtsnapd.toml is broken"),
        Protected("a revert broke off", reason="half-made"),
    ],
)
def test_plan_that_waits_for_a_person_is_not_tried_again(tmp_path: Path, why: Protected) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        await deferred(stubs, engine, why)
        stubs.libvirt.change(VM, replace(WEB1, instance=8))
        assert await pruned(stubs, engine, 8 * HOUR) == []

    play(tmp_path, body)


def test_prune_that_is_the_seventeenth_request_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("daily", "@daily")
        owing(engine, "daily", last=NOW - NOW % 86400 - 86400)
        stubs.going = (delete("old"),)
        stubs.slow = True
        await look(stubs, engine)
        stubs.refuses = True
        stubs.let(stubs.running[0])
        await quiet(stubs, engine)
        assert outcomes(stubs)[-1][1] == "made"
        assert "is not pruned: VM web-1 has 16 requests waiting" in caplog.text
        assert await pruned(stubs, engine, 6 * MINUTE) == []
        stubs.refuses = False
        assert len(await pruned(stubs, engine, 2 * HOUR)) == 1

    play(tmp_path, body)
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_nothing_is_pruned_after_what_was_not_made(tmp_path: Path, state: JobState) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.going = (delete("old"),)
        await look(stubs, engine)
        error = Busy("a backup") if state is JobState.FAILED else None
        stubs.end(stubs.running[0], state, error)
        await quiet(stubs, engine)
        assert stubs.pruned == []

    play(tmp_path, body, Stubs(slow=True))
