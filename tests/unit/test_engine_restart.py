"""What an earlier daemon has begun and not settled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import NoSpace
from snapd.model import JobState, Verb
from snapd.operations import Request
from snapd.operations.ending import last_row
from snapd.operations.job import Outcome
from snapd.policy import Engine
from snapd.store import JobRow, RunRow, Store
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
    made_engine,
    outcomes,
    owing,
    play,
    tries,
)


async def left(
    store: Store, policy: str = "hourly", uuid: str = VM, slot: int = NOW, word: str = ""
) -> None:
    """An open run."""
    await store.write_runs([RunRow(0, policy, uuid, "web", slot, NOW + 1, 0, "", word, "", 0)])


async def job_of(
    store: Store, state: JobState, policies: tuple[str, ...] = ("hourly",), uuid: str = VM
) -> JobRow:
    """The job that was to make its snapshot."""
    request = Request(Verb.CREATE, uuid, "web", policy=policies[0], options={"policies": policies})
    row = request.row(JobState.QUEUED, NOW + 1)
    row = replace(row, id=await store.add_job(row), state=state)
    if state.finished:
        error = None if state is JobState.DONE else NoSpace("4 GiB are missing")
        row = last_row(row, state, NOW + 2, Outcome(snapshot="the-one"), error)
    await store.update_job(row)
    return row


async def again(stubs: Stubs, engine: Engine, last: int = NOW, uuid: str = VM) -> None:
    """The next daemon's engine takes up what there is."""
    for name in stubs.in_force:
        owing(engine, name, uuid, last)
    await engine._begun.load()


def test_run_whose_snapshot_is_there_was_made_with_all_that_it_makes_up_for(
    tmp_path: Path,
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        missed = RunRow(
            0,
            "hourly",
            VM,
            "web-1",
            NOW - 2 * HOUR,
            NOW,
            0,
            "caught-up",
            "2 slots",
            "",
            0,
        )
        await store.write_runs([missed, replace(missed, slot=NOW, outcome="", reason="")])
        job = await job_of(store, JobState.DONE)
        stubs.pass_(3 * HOUR)
        await again(stubs, engine, NOW + 3 * HOUR)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "caught-up", NOW - 2 * HOUR), ("hourly", "made", NOW)]
        assert {(r.job, r.snapshot) for r in stubs.told} == {(job.id, "the-one")}
        assert stubs.told[0].reason == "2 slots, covered by one run"
        assert (stubs.asked, await store.open_runs()) == ([], [])
        (slot,) = await store.slots()
        assert slot.last_success == stubs.now

    play(tmp_path, body)


@pytest.mark.parametrize("state", [None, JobState.CANCELLED, JobState.FAILED])
def test_run_that_made_nothing_is_tried_again_while_there_is_time(
    tmp_path: Path, state: JobState | None
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        await left(store)
        if state:
            await job_of(store, state)
        stubs.pass_(59 * MINUTE)
        await again(stubs, engine)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW)]
        assert [w.at for w in stubs.made] == [NOW]
        assert await store.open_runs() == []

    play(tmp_path, body)


@pytest.mark.parametrize(
    ("minutes", "more"),
    [(60, {}), (2, {"catch_up": False}), (11, {"max_lateness": 10 * MINUTE})],
)
def test_run_that_made_nothing_has_failed_when_its_time_is_over(
    tmp_path: Path, minutes: int, more: dict[str, Any]
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly", **more)
        await left(store)
        stubs.pass_(minutes * MINUTE)
        await again(stubs, engine, NOW + HOUR)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "failed", NOW)]
        assert "the daemon ended before the snapshot was made" in stubs.told[0].reason
        assert stubs.asked == []
        assert engine.slots["hourly", VM].error_name == "org.virtsnap.Error.OutcomeUnknown"

    play(tmp_path, body)


def test_run_that_had_failed_already_fails_for_its_own_reason(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        await left(store)
        job = await job_of(store, JobState.FAILED)
        stubs.pass_(HOUR)
        await again(stubs, engine, NOW + HOUR)
        await look(stubs, engine)
        assert [(r.outcome, r.reason, r.job) for r in stubs.told] == [
            ("failed", "4 GiB are missing", job.id)
        ]
        assert engine.slots["hourly", VM].error_name == "org.virtsnap.Error.NoSpace"

    play(tmp_path, body)


@pytest.mark.parametrize("word", ["shutdown", "by hand"])
def test_run_of_no_slot_is_not_tried_again(tmp_path: Path, word: str) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly", on=("shutdown",))
        await left(store, word=word)
        await again(stubs, engine)
        await look(stubs, engine)
        assert (outcomes(stubs), stubs.asked) == ([("hourly", "failed", NOW)], [])

    play(tmp_path, body)


@pytest.mark.parametrize("what", ["policy", "vm", "name"])
def test_run_of_what_is_gone_has_failed(tmp_path: Path, what: str) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        policy = stubs.add("hourly")
        await left(store)
        await again(stubs, engine)
        match what:
            case "policy":
                stubs.policies.change("hourly", None)
            case "vm":
                stubs.libvirt.change(VM, None)
            case "name":
                stubs.policies.change("hourly", replace(policy, domains=("db-*",)))
        await look(stubs, engine)
        assert (outcomes(stubs), stubs.asked) == ([("hourly", "failed", NOW)], [])
        assert await store.open_runs() == []

    play(tmp_path, body)


def test_job_that_is_being_settled_is_waited_for_and_holds_up_no_other_vm(tmp_path: Path) -> None:
    stubs = Stubs(libvirt=Libvirt(WEB1, WEB2))

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        await left(store)
        await left(store, uuid=VM2)
        job = await job_of(store, JobState.UNKNOWN)
        await again(stubs, engine, uuid=VM2)
        await again(stubs, engine)
        await look(stubs, engine)
        assert (outcomes(stubs), outcomes(stubs, VM2)) == ([], [("hourly", "made", NOW)])
        done = last_row(job, JobState.DONE, NOW + 9, Outcome(snapshot="the-one"), None)
        await store.update_job(done)
        await look(stubs, engine)
        assert [(r.outcome, r.job) for r in stubs.told if r.domain == VM] == [("made", job.id)]

    play(tmp_path, body, stubs)


def test_run_of_a_vm_that_is_not_read_yet_waits_for_it(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        await left(store)
        await again(stubs, engine)
        stubs.libvirt.change(VM, None)
        stubs.libvirt.unread[VM] = "web-1"
        await look(stubs, engine)
        assert stubs.told == []
        del stubs.libvirt.unread[VM]
        stubs.libvirt.change(VM, WEB1)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


def test_what_is_taken_up_and_the_next_slot_have_a_row_each(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        await left(store)
        await again(stubs, engine)
        stubs.pass_(HOUR)
        await look(stubs, engine)
        assert outcomes(stubs) == [("hourly", "failed", NOW), ("hourly", "made", NOW + HOUR)]

    play(tmp_path, body)


def test_what_waits_at_the_end_of_a_daemon_is_tried_by_the_next(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        stubs.refuses = True
        await look(stubs, engine)
        stubs.stopping = True
        await engine.stop()
        stubs.stopping = stubs.refuses = False
        following = made_engine(stubs, store)
        await following.load()
        assert await tries(stubs, following, HOUR) == [30, HOUR]
        assert outcomes(stubs) == [("hourly", "made", NOW), ("hourly", "made", NOW + HOUR)]
        await following.stop()

    play(tmp_path, body)
