"""Missed slots, sleep, clocks that are set, starts that are spread, and from when a policy owes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Busy
from snapd.model import State
from snapd.policy import Engine
from snapd.store import HistoryRow, Store
from tests.unit.engines import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    VM,
    VM2,
    WEB1,
    WEB2,
    Libvirt,
    Stubs,
    look,
    made_engine,
    outcomes,
    owing,
    play,
    tries,
)

# ---- sleep and clocks


def test_host_that_sleeps_through_three_slots_has_one_run_once_it_is_awake(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", last=NOW)
        stubs.pass_(10 * MINUTE)
        await look(stubs, engine)
        stubs.sleep(3 * HOUR)
        assert await tries(stubs, engine, 0) == []
        await look(stubs, engine)
        assert stubs.told == []  # its disks and network come back first
        assert await tries(stubs, engine, MINUTE) == [30]
        assert outcomes(stubs) == [
            ("hourly", "caught-up", NOW + HOUR),
            ("hourly", "made", NOW + 3 * HOUR),
        ]
        assert stubs.told[0].reason.startswith("2 slots")
        assert stubs.made[0].reason.endswith("caught up (2 missed before)")

    play(tmp_path, body)


def test_clock_that_is_set_ahead_over_slots_has_one_run_for_them(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", last=NOW)
        await look(stubs, engine)
        stubs.now += 5 * HOUR + 90
        await look(stubs, engine)
        await look(stubs, engine)
        assert outcomes(stubs) == [
            ("hourly", "caught-up", NOW + HOUR),
            ("hourly", "made", NOW + 5 * HOUR),
        ]

    play(tmp_path, body)


def test_clock_that_is_set_back_runs_no_slot_twice(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        await look(stubs, engine)
        stubs.now -= 3 * HOUR
        assert await tries(stubs, engine, 4 * HOUR) == [4 * HOUR]
        assert outcomes(stubs) == [("hourly", "made", NOW), ("hourly", "made", NOW + HOUR)]

    play(tmp_path, body)


def test_clock_that_is_set_back_does_not_hold_up_a_retry(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [Busy("a backup")]
        await look(stubs, engine)
        (attempt,) = engine._attempts
        stubs.now -= 12 * HOUR
        await look(stubs, engine)
        assert stubs.made == []
        attempt._retry_by -= 61  # so long later by the loop
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


@pytest.mark.parametrize(("ahead", "made"), [(12 * HOUR, 0), (400 * DAY, 1)])
def test_last_slot_far_in_the_future_is_of_a_clock_that_was_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ahead: int, made: int
) -> None:
    """Else the VM would have no snapshot before the clock gets there."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", last=NOW + ahead)
        await look(stubs, engine)
        assert len(await tries(stubs, engine, HOUR)) == made

    play(tmp_path, body)
    assert ("lay in the future" in caplog.text) == bool(made)


def test_time_of_a_clock_that_has_just_jumped_is_not_kept(tmp_path: Path) -> None:
    """Or nothing would be pruned any more until the clock gets there again."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        await look(stubs, engine)
        assert await store.fact("clock") == NOW
        stubs.now += 20 * 365 * DAY
        await look(stubs, engine)
        assert outcomes(stubs)[-1][:2] == ("hourly", "made")
        assert (await store.fact("clock"), engine._guard.last) == (NOW, NOW)

    play(tmp_path, body)


def test_old_history_is_let_go_once_a_day_and_never_by_a_clock_that_has_jumped(
    tmp_path: Path,
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        trimmed: list[int] = []
        trim = store.trim

        async def watched(now: int) -> None:
            trimmed.append(now)
            await trim(now)

        store.trim = watched  # type: ignore[method-assign]
        await store.add_history(HistoryRow(NOW - HOUR, "create", VM, "web-1"))
        await look(stubs, engine)
        await look(stubs, engine)
        assert trimmed == [NOW]
        stubs.now += 70 * 365 * DAY
        await look(stubs, engine)
        stubs.pass_(59 * MINUTE)
        await look(stubs, engine)
        stubs.now -= 70 * 365 * DAY
        await look(stubs, engine)
        assert (await store.history({}, 0, 0, 0, 10))[1] == 1
        await tries(stubs, engine, DAY + HOUR)
        assert [(at - NOW) // DAY for at in trimmed] == [0, 1]

    play(tmp_path, body)


# ---- spread


def test_starts_are_spread_and_named_by_their_slot(tmp_path: Path) -> None:
    infos = [replace(WEB1, uuid=f"{n:08}", name=f"vm-{n}") for n in range(20)]
    stubs = Stubs(libvirt=Libvirt(*infos))

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly", randomized_delay=30 * MINUTE)
        for info in infos:
            owing(engine, "hourly", info.uuid)
        begun = await tries(stubs, engine, 30 * MINUTE)
        assert len(begun) == 20
        assert len(set(begun)) > 10
        assert max(begun) - min(begun) > 15 * MINUTE
        assert {w.at for w in stubs.made} == {NOW}
        later = [uuid for uuid, *_ in stubs.asked]
        stubs.pass_(30 * MINUTE)
        await tries(stubs, engine, 30 * MINUTE)
        assert [uuid for uuid, *_ in stubs.asked[20:]] == later  # every time the same

    play(tmp_path, body, stubs)


def test_next_run_is_when_it_starts_be_it_put_off(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        policy = stubs.add("hourly", randomized_delay=50 * MINUTE)
        owing(engine, "hourly")
        late = engine._slots.put_off(policy, VM)
        assert engine.next_run(policy, VM) == NOW + late
        stubs.pass_(late - 1)
        await look(stubs, engine)
        assert (engine.next_run(policy), stubs.asked) == (NOW + late, [])
        stubs.pass_(5 * HOUR + 1)
        await look(stubs, engine)
        assert (engine.next_run(policy), len(stubs.asked)) == (NOW + late + 6 * HOUR, 1)
        stubs.pass_(HOUR * 2 + 30 * MINUTE)
        await look(stubs, engine)
        starts = engine.next_run(policy)
        assert int(stubs.now) < starts <= stubs.now + HOUR
        stubs.pass_(starts - stubs.now)
        await look(stubs, engine)
        assert len(stubs.asked) == 2

    play(tmp_path, body)


@pytest.mark.parametrize("more", [{"catch_up": False}, {"max_lateness": 1}])
def test_start_that_is_put_off_is_not_late_for_that(tmp_path: Path, more: dict[str, Any]) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly", randomized_delay=50 * MINUTE, **more)
        owing(engine, "hourly")
        await tries(stubs, engine, 51 * MINUTE)
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


def test_delay_longer_than_the_gap_makes_every_slot_late_and_none_lost(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        policy = stubs.add("often", "*/10 * * * *", randomized_delay=10 * HOUR)
        late = engine._slots.put_off(policy, VM)
        assert late > 10 * MINUTE
        owing(engine, "often", last=NOW - late // 600 * 600 - 600)
        await tries(stubs, engine, HOUR)
        slots = [slot for _, outcome, slot in outcomes(stubs) if outcome == "made"]
        assert len(slots) == 6
        assert {b - a for a, b in pairwise(slots)} == {600}

    play(tmp_path, body)


def test_what_was_missed_is_spread_too(tmp_path: Path) -> None:
    """Else all would begin at once when the host is on again."""
    infos = [replace(WEB1, uuid=f"{n:08}", name=f"vm-{n}") for n in range(20)]
    stubs = Stubs(libvirt=Libvirt(*infos))

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("daily", "0 2 * * *", randomized_delay=30 * MINUTE, max_lateness=20 * HOUR)
        for info in infos:
            owing(engine, "daily", info.uuid, NOW - 30 * DAY)
        stubs.now += (22 - (NOW % DAY) // HOUR) * HOUR - MINUTE  # almost too late
        begun = await tries(stubs, engine, 35 * MINUTE)
        assert (len(begun), len(set(begun)) > 10) == (20, True)
        assert {o for r in stubs.told if (o := r.outcome)} == {"made", "caught-up"}

    play(tmp_path, body, stubs)


# ---- from when a policy owes


@pytest.mark.parametrize("how", ["schedule", "timezone", "removed", "renamed", "excluded"])
def test_nothing_is_owed_for_the_time_before_a_policy_covered_the_vm_as_it_does(
    tmp_path: Path, how: str
) -> None:
    """An admin who moves the nightly run by an hour at noon must not have all VMs stand still."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        nightly = replace(stubs.add("nightly", "0 2 * * *"), domains=("web-*",))
        stubs.policies.change("nightly", nightly)
        night = NOW - NOW % DAY + 2 * HOUR
        owing(engine, "nightly", last=night)
        stubs.now = night + HOUR / 2
        await look(stubs, engine)
        match how:
            case "schedule":
                stubs.now = night + 10 * HOUR
                moved = replace(nightly, schedule="0 3 * * *")
                stubs.policies.change("nightly", moved)
            case "timezone":
                stubs.now = night + 10 * HOUR
                moved = replace(nightly, timezone="America/New_York")
                stubs.policies.change("nightly", moved)
            case "removed":
                stubs.policies.change("nightly", None)
                await look(stubs, engine)
                stubs.now = night + 30 * DAY + 10 * HOUR
                stubs.policies.change("nightly", nightly)
            case "renamed":
                stubs.libvirt.change(VM, replace(WEB1, name="old"))
                await look(stubs, engine)
                stubs.now = night + 30 * DAY + 10 * HOUR
                stubs.libvirt.change(VM, WEB1)
            case "excluded":
                stubs.policies.change("nightly", replace(nightly, domains=("db-*",)))
                await look(stubs, engine)
                stubs.now = night + 30 * DAY + 10 * HOUR
                stubs.policies.change("nightly", nightly)
        await look(stubs, engine)
        assert stubs.told == []
        assert engine.slots["nightly", VM].last_ok == stubs.now
        assert len(await tries(stubs, engine, DAY)) == 1
        assert [o for _, o, _ in outcomes(stubs)] == ["made"]

    play(tmp_path, body)


def test_policy_that_comes_before_the_first_look_owes_nothing_for_the_past(tmp_path: Path) -> None:
    """It was in force once: its row is there still. One that the start has found owes."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("found")
        stubs.add("changed", "0 2 * * *")
        for name in ("found", "changed", "comes"):
            owing(engine, name, last=NOW - 30 * HOUR)
        await engine.load()
        stubs.add("comes")
        stubs.add("changed", "0 3 * * *")
        await look(stubs, engine)
        assert {policy for policy, _, _ in outcomes(stubs)} == {"found"}
        assert {name: row.last_slot for (name, _), row in engine.slots.items()} == {
            "found": NOW,
            "changed": NOW,
            "comes": NOW,
        }
        assert len(await tries(stubs, engine, HOUR)) == 1
        assert sorted(outcomes(stubs)[-2:]) == [
            ("comes", "made", NOW + HOUR),
            ("found", "made", NOW + HOUR),
        ]

    play(tmp_path, body)


def test_policy_that_is_another_in_what_is_no_schedule_owes_what_it_owed(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", last=NOW)
        await look(stubs, engine)
        stubs.sleep(3 * HOUR)
        stubs.add("hourly", quiesce="no")
        assert len(await tries(stubs, engine, 2 * MINUTE)) == 1
        assert [o for _, o, _ in outcomes(stubs)] == ["caught-up", "made"]

    play(tmp_path, body)


def test_vm_that_answers_late_is_owed_what_was_missed(tmp_path: Path) -> None:
    """It was there all the time; it has only not been read."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", last=NOW - 3 * HOUR)
        stubs.libvirt.change(VM, None)
        await look(stubs, engine)
        stubs.libvirt.change(VM, WEB1)
        await look(stubs, engine)
        assert [o for _, o, _ in outcomes(stubs)] == ["caught-up", "made"]

    play(tmp_path, body)


def test_daemon_that_was_down_is_owed_what_was_missed(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        await look(stubs, engine)
        await engine.stop()
        stubs.now += 3 * HOUR
        following = made_engine(stubs, store)
        await following.load()
        await look(stubs, following)
        assert outcomes(stubs) == [
            ("hourly", "caught-up", NOW + HOUR),
            ("hourly", "made", NOW + 3 * HOUR),
        ]

    play(tmp_path, body)


def test_vm_that_is_made_anew_under_a_name_begins_anew(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", last=NOW - 5 * HOUR)
        stubs.libvirt.change(VM, None)
        stubs.libvirt.change(VM2, replace(WEB2, name="web-1", state=State.SHUTOFF))
        await look(stubs, engine)
        assert stubs.told == []
        assert engine.slots["hourly", VM2].last_slot == NOW
        assert engine.slots["hourly", VM].last_slot == NOW - 5 * HOUR

    play(tmp_path, body)


def test_vm_that_is_renamed_within_the_policy_keeps_its_slots(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", last=NOW)
        await look(stubs, engine)
        stubs.libvirt.change(VM, replace(WEB1, name="web-9"))
        stubs.pass_(HOUR)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW + HOUR)]
        assert stubs.told[0].domain_name == "web-9"

    play(tmp_path, body)
