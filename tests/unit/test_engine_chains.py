"""Retention on chains beside the runs: what waits is not tried again and again, a pile has an end,
and merges of one storage come one after the other."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import NoSpace
from snapd.operations import Job, Outcome
from snapd.policy import Engine
from snapd.store import Store
from tests.unit.engines import (
    DAY,
    HOUR,
    NOW,
    VM,
    VM2,
    WEB1,
    WEB2,
    Libvirt,
    Stubs,
    delete,
    look,
    outcomes,
    owing,
    play,
    quiet,
)

TWELVE = tuple(f"s{n}" for n in range(12))


def on_chain(stubs: Stubs, engine: Engine, going: int, *policies: str) -> None:
    """A VM whose disks stand on twelve snapshots, of which the oldest are let go."""
    stubs.libvirt.stand_on(VM, TWELVE)
    stubs.going = tuple(delete(name) for name in TWELVE[:going])
    for name in policies:
        stubs.add(name)
        owing(engine, name)


@pytest.mark.parametrize(("word", "tries"), [("branching", 0), ("backup", 5)])
def test_what_no_wait_changes_is_not_tried_again_before_the_next_success(
    tmp_path: Path, word: str, tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        on_chain(stubs, engine, 2, "hourly")
        stubs.prunes = [{"s0": word}] * 100
        await look(stubs, engine)
        first = len(stubs.pruned)
        caplog.clear()
        stubs.policies.change("hourly", None)
        for _ in range(6 * 60):
            stubs.pass_(60)
            await look(stubs, engine)
        assert first == 1
        assert len(stubs.pruned) - first >= tries
        assert tries or len(stubs.pruned) == first
        assert bool(engine.pruning.waits(VM)) is not tries
        assert tries or [r for r in caplog.records if r.levelno >= logging.WARNING] == []

    play(tmp_path, body)


def test_pile_that_is_full_has_no_other_snapshot_put_on_it_until_it_is_merged(
    tmp_path: Path,
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        on_chain(stubs, engine, 10, "hourly")
        stubs.prunes = [dict.fromkeys(TWELVE[:10], "branching")] * 2
        await look(stubs, engine)
        assert stubs.made == []
        assert outcomes(stubs) == [("hourly", "failed", NOW)]
        said = engine.slots["hourly", VM].error_message
        assert "10 branching" in said and "no other is put on top" in said
        assert [only for _, _, only in stubs.pruned] == [frozenset(TWELVE[:10])]
        assert (full := engine.pruning.full(VM)) and full.reason == "chain-limit"
        stubs.pass_(HOUR)
        stubs.going = ()
        await look(stubs, engine)
        assert [w.policies for w in stubs.made] == [("hourly",)]

    play(tmp_path, body)


def test_pile_that_can_be_merged_after_all_is_merged_first(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        on_chain(stubs, engine, 10, "hourly")

        async def prune(_job: Job, **_how: Any) -> Outcome:
            stubs.going = ()
            return Outcome(result={"Deleted": list(TWELVE[:10]), "Stays": []})

        stubs.prune = prune  # type: ignore[assignment,method-assign]
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


def test_full_disk_on_which_merges_find_no_room_either_is_told(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        on_chain(stubs, engine, 2, "hourly")
        stubs.answers[VM] = [NoSpace("4 GiB are missing")]

        async def make_room(*_about: Any) -> Outcome:
            stays = [{"Name": name, "Reason": "no-space"} for name in ("s0", "s1")]
            return Outcome(result={"Deleted": [], "Stays": stays})

        stubs.make_room = make_room  # type: ignore[assignment,method-assign]
        await look(stubs, engine)
        said = engine.slots["hourly", VM].error_message
        assert said.startswith("4 GiB are missing; 2 snapshots may go for it")
        assert said.endswith("merging one needs room itself")

    play(tmp_path, body)


def test_merges_of_one_storage_come_one_after_the_other_and_hold_up_no_other_job(
    tmp_path: Path,
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.going = (delete("s0"),)
        stubs.add("hourly")
        for uuid in (VM, VM2):
            stubs.libvirt.stand_on(uuid, TWELVE)
            owing(engine, "hourly", uuid)
        begun: list[str] = []
        go_on = asyncio.Event()

        async def prune(job: Job, **_how: Any) -> Outcome:
            begun.append(job.row.domain)
            await go_on.wait()
            return Outcome(result={"Deleted": ["s0"], "Stays": []})

        stubs.prune = prune  # type: ignore[method-assign]
        await engine.look()
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert len(begun) == 1
        assert {o for _, o, _ in [*outcomes(stubs, VM), *outcomes(stubs, VM2)]} == {"made"}
        go_on.set()
        await quiet(stubs, engine)
        assert sorted(begun) == sorted([VM, VM2])

    play(tmp_path, body, Stubs(libvirt=Libvirt(WEB1, WEB2)))


def test_since_when_it_waits_is_kept_from_prune_to_prune(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        on_chain(stubs, engine, 2, "hourly")
        stubs.prunes = [{"s0": "branching"}, {"s0": "branching", "s1": "not-in-chain"}]
        await look(stubs, engine)
        stubs.pass_(HOUR)
        await look(stubs, engine)
        found = engine.pruning.waits(VM)
        assert {n: (s.word, s.since) for n, s in found.items()} == {
            "s0": ("branching", NOW),
            "s1": ("not-in-chain", NOW + HOUR),
        }
        stubs.pass_(DAY)
        stubs.going = ()
        stubs.libvirt.stand_on(VM, TWELVE[1:])
        assert set(engine.pruning.waits(VM)) == {"s1"}

    play(tmp_path, body)
