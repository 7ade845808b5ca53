"""The engine's loop: what it begins, what it survives, what wakes it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import Busy, NoSpace
from snapd.policy import Engine
from snapd.store import RunRow, SlotRow, Store
from tests.unit.engines import (
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
    outcomes,
    owing,
    play,
    quiet,
    running,
)


def full(
    store: Store, times: int, method: str = "write_runs", *, settled: bool = False
) -> list[int]:
    """Have the store refuse that many writes of a kind; what is refused so far."""
    write = getattr(store, method)
    refused: list[int] = []

    async def write_or_not(*what: Any) -> Any:
        fits = not settled or what[0][0].finished
        if fits and len(refused) < times:
            refused.append(1)
            raise NoSpace("the disk is full")
        return await write(*what)

    setattr(store, method, write_or_not)
    return refused


# ---- the store cannot be written


def test_slot_that_cannot_be_written_is_owed_until_it_can(tmp_path: Path) -> None:
    """The disk of the store is full for a while: the engine lives on, and no slot is lost."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        refused = full(store, 2)
        await running(engine, lambda: stubs.wake() or stubs.made)  # type: ignore[func-returns-value]
        assert (len(refused), stubs.made[0].at) == (2, NOW)

    play(tmp_path, body)


def test_end_of_a_run_that_cannot_be_written_is_told_and_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        stubs.add("other")
        owing(engine, "hourly")
        owing(engine, "other")
        refused = full(store, 2, settled=True)
        await look(stubs, engine)
        assert sorted(outcomes(stubs)) == [("hourly", "made", NOW), ("other", "made", NOW)]
        assert len(refused) == 2
        assert "could not be noted" in caplog.text
        assert len(await store.open_runs()) == 2
        await look(stubs, engine)
        assert await store.open_runs() == []
        rows, _ = await store.runs({}, 0, 0, 0, 10)
        assert {(r.policy, r.outcome, r.slot) for r in rows} == set(outcomes(stubs))
        assert {s.last_success for s in await store.slots()} == {NOW}

    play(tmp_path, body)
    assert "never retrieved" not in caplog.text


def test_retry_that_cannot_be_noted_is_made_all_the_same(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.answers[VM] = [Busy("a backup")]
        full(store, 5, "write_slot")
        await look(stubs, engine)
        stubs.pass_(MINUTE)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


def test_hold_that_cannot_be_let_go_does_not_have_the_engine_spin(tmp_path: Path) -> None:
    """What fails wakes the engine itself: it has told all that listen to holds."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        await engine._holds.hold("", None, until=NOW + 1)
        stubs.pass_(2)
        refused = full(store, 10_000, "change_holds")
        task = asyncio.create_task(engine.run())
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert 0 < len(refused) < 10

    play(tmp_path, body)


def test_what_was_taken_up_is_not_lost_where_the_next_cannot_be_written(tmp_path: Path) -> None:
    stubs = Stubs(libvirt=Libvirt(WEB1, WEB2))

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        row = RunRow(0, "hourly", VM2, "web-2", NOW, NOW, 0, "", "", "", 0)
        owing(engine, "hourly", VM)
        owing(engine, "hourly", VM2, NOW)
        await store.write_runs([row])
        engine.trigger(VM, "start")
        await engine._begun.load()
        full(store, 1)
        with pytest.raises(NoSpace):
            await engine.look()
        await look(stubs, engine)
        assert outcomes(stubs, VM2) == [("hourly", "made", NOW)]
        assert outcomes(stubs, VM) == [("hourly", "made", NOW)]
        assert await store.open_runs() == []

    play(tmp_path, body, stubs)


# ---- one look


def test_policy_that_comes_while_it_looks_is_looked_at_at_once(tmp_path: Path) -> None:
    """Else it would be new at its first slot only, half a minute late, and owe nothing for it."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("first")
        write = store.write_slot

        async def slow(slot: SlotRow) -> None:
            await write(slot)
            if "second" not in stubs.in_force:
                stubs.add("second")

        store.write_slot = slow  # type: ignore[method-assign]
        await running(engine, lambda: ("second", VM) in engine.slots)

    play(tmp_path, body)


def test_slot_is_run_once_however_often_it_looks(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        for _ in range(5):
            await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW)]
        stubs.pass_(HOUR)
        await look(stubs, engine)
        assert outcomes(stubs)[1:] == [("hourly", "made", NOW + HOUR)]
        assert [(wish.stem, wish.at) for wish in stubs.made] == [
            ("hourly", NOW),
            ("hourly", NOW + HOUR),
        ]

    play(tmp_path, body)


@pytest.mark.parametrize("what", ["connected", "loading"])
def test_nothing_is_run_while_libvirt_is_not_read(tmp_path: Path, what: str) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        setattr(stubs.libvirt, what, not getattr(stubs.libvirt, what))
        await look(stubs, engine)
        assert stubs.asked == []
        setattr(stubs.libvirt, what, not getattr(stubs.libvirt, what))
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


def test_vm_that_goes_during_a_look_takes_nobody_along(tmp_path: Path) -> None:
    stubs = Stubs(libvirt=Libvirt(WEB1, WEB2))

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", VM)
        owing(engine, "hourly", VM2)
        join = engine._slots.join

        async def slow(policy: str, info: Any, *given: Any, **named: Any) -> None:
            await join(policy, info, *given, **named)
            if info.uuid == VM2:  # web-1 was looked at before
                stubs.libvirt.change(VM, None)

        engine._slots.join = slow  # type: ignore[method-assign]
        await look(stubs, engine)
        assert outcomes(stubs, VM2) == [("hourly", "made", NOW)]
        assert (outcomes(stubs, VM), await store.open_runs()) == ([], [])

    play(tmp_path, body, stubs)


def test_fault_of_ours_with_one_vm_fails_its_run_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stubs = Stubs(libvirt=Libvirt(WEB1, WEB2), answers={VM: [ValueError("a fault of ours")]})

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", VM)
        owing(engine, "hourly", VM2)
        await look(stubs, engine)
        assert outcomes(stubs, VM2) == [("hourly", "made", NOW)]
        assert outcomes(stubs, VM) == [("hourly", "failed", NOW)]
        slot = engine.slots["hourly", VM]
        assert slot.error_name == "org.virtsnap.Error.Internal"
        assert await store.open_runs() == []

    play(tmp_path, body, stubs)
    assert "a fault of ours" in caplog.text


def test_fault_of_ours_in_a_look_does_not_end_the_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        join = engine._slots.join
        failed: list[int] = []

        async def broken(*given: Any, **named: Any) -> None:
            if not failed:
                failed.append(1)
                raise ValueError("a fault of ours")
            await join(*given, **named)

        engine._slots.join = broken  # type: ignore[method-assign]
        await running(engine, lambda: stubs.made)

    play(tmp_path, body)
    assert "a fault of ours" in caplog.text


def test_forty_vms_due_together_have_one_snapshot_each(tmp_path: Path) -> None:
    infos = [WEB1.__class__(f"{n:08}", f"vm-{n}", WEB1.state) for n in range(40)]
    stubs = Stubs(libvirt=Libvirt(*infos), slow=True)

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        for info in infos:
            owing(engine, "hourly", info.uuid)
        await look(stubs, engine)
        assert len(stubs.running) == 40
        for job in stubs.running:
            await look(stubs, engine)
            stubs.let(job)
        await quiet(stubs, engine)
        assert sorted(uuid for uuid, *_ in stubs.asked) == [i.uuid for i in infos]
        assert {r.domain: r.outcome for r in stubs.told} == {i.uuid: "made" for i in infos}

    play(tmp_path, body, stubs)


def test_engine_that_is_stopped_before_a_task_has_begun_says_nothing_of_it(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        write = store.write_runs

        async def cut(*what: Any) -> Any:
            rows = await write(*what)
            asyncio.get_running_loop().call_soon(lambda: [t.cancel() for t in engine._tasks])
            return rows

        store.write_runs = cut  # type: ignore[method-assign, assignment]
        await engine.look()
        await asyncio.gather(*engine._tasks, return_exceptions=True)
        assert [r.slot for r in await store.open_runs()] == [NOW]

    play(tmp_path, body)
