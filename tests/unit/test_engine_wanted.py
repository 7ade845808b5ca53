"""Several policies on one VM, conditions, refusals that stand, triggers; what changes meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from snapd.errors import AgentUnavailable, Busy, Unsupported
from snapd.model import Origin
from snapd.policy import Engine
from snapd.store import Store
from tests.unit.engines import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    VM,
    WEB1,
    Libvirt,
    Stubs,
    look,
    outcomes,
    owing,
    play,
    quiet,
    tries,
)

BUSY = "org.virtsnap.Error.Busy"


# ---- several policies


def test_hourly_gives_up_at_its_next_slot_and_daily_goes_along_with_that(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        day = NOW - NOW % DAY
        stubs.pass_(DAY - NOW % DAY)
        stubs.add("hourly")
        stubs.add("daily", "@daily")
        for name in ("hourly", "daily"):
            owing(engine, name, last=day + 23 * HOUR)
        stubs.answers[VM] = [Busy("a backup")] * 6
        await look(stubs, engine)
        await tries(stubs, engine, HOUR - 30)
        assert outcomes(stubs) == [("hourly", "failed", day + DAY)]
        assert await tries(stubs, engine, 30) == [30]
        assert [w.policies for w in stubs.made] == [("daily", "hourly")]
        assert outcomes(stubs)[1:] == [
            ("daily", "made", day + DAY),
            ("hourly", "made", day + DAY + HOUR),
        ]

    play(tmp_path, body)


def test_policy_that_asks_for_more_takes_no_other_one_along_when_it_is_refused(
    tmp_path: Path,
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("plain")
        stubs.add("strict", quiesce="require")
        owing(engine, "plain")
        owing(engine, "strict")
        stubs.answers[VM] = [AgentUnavailable("no agent"), None, AgentUnavailable("no agent")]
        await look(stubs, engine)
        assert [w.policies for _, w, _ in stubs.asked] == [
            ("plain", "strict"),
            ("plain",),
            ("strict",),
        ]
        assert outcomes(stubs) == [("plain", "made", NOW)]
        assert engine.retry_at("strict", VM) == NOW + 60
        assert engine.slots["plain", VM].error_name == ""

    play(tmp_path, body)


def test_what_waits_is_not_tried_at_each_slot_of_a_policy_that_asks_for_less(
    tmp_path: Path,
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("minute", "* * * * *")
        stubs.add("strict", quiesce="require")
        owing(engine, "minute", last=NOW)
        owing(engine, "strict")
        stubs.answers[VM] = [AgentUnavailable("no agent")]
        await look(stubs, engine)
        stubs.answers[VM] = [None, AgentUnavailable("no agent")] * 10
        await tries(stubs, engine, 5 * MINUTE)
        asked = [w.policies for _, w, _ in stubs.asked]
        assert asked.count(("strict",)) == 3  # at 0, 60, 180
        assert asked.count(("minute",)) == 5
        assert ("minute", "strict") not in asked

    play(tmp_path, body)


def test_two_policies_that_ask_for_what_excludes_each_other_have_one_each(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("ram", memory=True)
        stubs.add("strict", quiesce="require")
        owing(engine, "ram")
        owing(engine, "strict")
        await look(stubs, engine)
        assert sorted(outcomes(stubs)) == [("ram", "made", NOW), ("strict", "made", NOW)]

    play(tmp_path, body)


def test_condition_of_one_policy_leaves_the_other_alone(tmp_path: Path) -> None:
    off = replace(WEB1, state=WEB1.state.SHUTOFF)

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("running", only_if="running")
        stubs.add("always")
        owing(engine, "running")
        owing(engine, "always")
        await look(stubs, engine)
        assert [w.policies for w in stubs.made] == [("always",)]
        assert sorted(outcomes(stubs)) == [("always", "made", NOW), ("running", "skipped", NOW)]

    play(tmp_path, body, Stubs(libvirt=Libvirt(off)))


@pytest.mark.parametrize("only_if", ["running", "changed"])
def test_nothing_to_do_is_content(tmp_path: Path, only_if: str) -> None:
    off = replace(WEB1, state=WEB1.state.SHUTOFF)

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("p", only_if=only_if)
        owing(engine, "p")
        slot = engine.slots["p", VM]
        engine.slots["p", VM] = replace(slot, error_name=BUSY, error_message="a backup")
        stubs.changed_answers = [False]
        await look(stubs, engine)
        assert outcomes(stubs) == [("p", "skipped", NOW)]
        (slot,) = await store.slots()
        assert (slot.last_ok, slot.error_name, slot.last_success) == (NOW, "", 0)

    play(tmp_path, body, Stubs(libvirt=Libvirt(off)))


def test_condition_that_cannot_be_judged_is_tried_again_and_settles_once(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("a-running", only_if="running")
        stubs.add("b-changed", only_if="changed")
        owing(engine, "a-running")
        owing(engine, "b-changed")
        stubs.changed_answers = [Busy("the images are in use"), True]
        await look(stubs, engine)
        assert outcomes(stubs) == [("a-running", "skipped", NOW)]
        assert await tries(stubs, engine, 90) == [60]
        assert outcomes(stubs)[1:] == [("b-changed", "made", NOW)]

    play(tmp_path, body, Stubs(libvirt=Libvirt(replace(WEB1, state=WEB1.state.SHUTOFF))))


# ---- refusals that stand

TAP = replace(WEB1, unmigratable="a host device")


@pytest.mark.parametrize("what", ["vm", "policy"])
def test_refusal_that_stands_is_not_tried_again_until_vm_or_policy_changes(
    tmp_path: Path, what: str
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("ram", memory=True)
        owing(engine, "ram")
        refused = Unsupported("VM web-1 has a host device", reason="unmigratable-device")
        stubs.answers[VM] = [refused]
        await look(stubs, engine)
        assert outcomes(stubs) == [("ram", "failed", NOW)]
        assert await tries(stubs, engine, 3 * HOUR) == []
        assert outcomes(stubs)[1:] == [("ram", "skipped", NOW + n * HOUR) for n in (1, 2, 3)]
        assert stubs.told[-1].reason.startswith("VM web-1 has a host device; not tried again")
        assert engine.slots["ram", VM].error_name == refused.name
        if what == "vm":
            stubs.libvirt.change(VM, replace(TAP, unmigratable="", current="s1"))
        else:
            stubs.add("ram", memory=True, max_pause=120)
        assert await tries(stubs, engine, HOUR) == [HOUR]
        assert outcomes(stubs)[-1] == ("ram", "made", NOW + 4 * HOUR)

    play(tmp_path, body, Stubs(libvirt=Libvirt(TAP)))


def test_what_changes_by_itself_lifts_no_refusal(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("ram", memory=True)
        owing(engine, "ram")
        stubs.answers[VM] = [Unsupported("a host device", reason="unmigratable-device")]
        await look(stubs, engine)
        stubs.libvirt.change(VM, replace(TAP, busy_since=5, instance=9, current="s9"))
        assert await tries(stubs, engine, HOUR) == []

    play(tmp_path, body, Stubs(libvirt=Libvirt(TAP)))


# ---- what changes while a try is waited for


def test_policy_that_changes_is_tried_at_once_as_it_is_now(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly", quiesce="require")
        owing(engine, "hourly")
        stubs.answers[VM] = [AgentUnavailable("no agent")]
        await look(stubs, engine)
        stubs.add("hourly", quiesce="no")
        await quiet(stubs, engine)
        assert [w.quiesce for w in stubs.made] == ["no"]
        assert outcomes(stubs) == [("hourly", "made", NOW)]

    play(tmp_path, body)


@pytest.mark.parametrize("what", ["removed", "undefined", "renamed", "held"])
def test_what_is_not_wanted_any_more_is_skipped(tmp_path: Path, what: str) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        policy = stubs.add("hourly")
        stubs.policies.change("hourly", replace(policy, domains=("web-*",)))
        owing(engine, "hourly")
        stubs.answers[VM] = [Busy("a backup")]
        await look(stubs, engine)
        match what:
            case "removed":
                stubs.policies.change("hourly", None)
            case "undefined":
                stubs.libvirt.change(VM, None)
            case "renamed":
                stubs.libvirt.change(VM, replace(WEB1, name="db-1"))
            case "held":
                await engine._holds.hold("", None, reason="moving")
        await tries(stubs, engine, 90)
        assert outcomes(stubs) == [("hourly", "skipped", NOW)]
        assert len(stubs.asked) == 1
        assert await store.open_runs() == []

    play(tmp_path, body)


def test_hold_that_ends_before_the_next_try_costs_nothing(tmp_path: Path) -> None:
    """A hold says that nothing is to be run while it lasts: the slot is skipped when it comes."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly")
        await engine._holds.hold("hourly", None, until=NOW + 1800)
        await look(stubs, engine)
        assert await tries(stubs, engine, HOUR) == [HOUR]
        assert outcomes(stubs) == [("hourly", "skipped", NOW), ("hourly", "made", NOW + HOUR)]

    play(tmp_path, body)


# ---- triggers


def test_trigger_makes_an_event_snapshot_and_is_not_tried_again(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("t", "", on=("shutdown",))
        await look(stubs, engine)
        engine.trigger(VM, "start")
        engine.trigger(VM, "shutdown")
        await quiet(stubs, engine)
        await look(stubs, engine)
        assert outcomes(stubs) == [("t", "made", NOW)]
        assert [(w.origin, w.at, w.reason) for w in stubs.made] == [
            (Origin.EVENT, NOW, "policy t, on shutdown")
        ]
        stubs.answers[VM] = [Busy("a backup")]
        stubs.pass_(2 * HOUR)
        engine.trigger(VM, "shutdown")
        await quiet(stubs, engine)
        await look(stubs, engine)
        assert await tries(stubs, engine, HOUR) == []
        assert outcomes(stubs)[1:] == [("t", "failed", NOW + 2 * HOUR)]

    play(tmp_path, body)


@pytest.mark.parametrize(
    ("ran", "made"), [(-1, 1), (0, 0), (59 * MINUTE, 0), (HOUR, 1), (10 * DAY, 1)]
)
def test_trigger_within_min_gap_of_the_last_run_makes_nothing(
    tmp_path: Path, ran: int, made: int
) -> None:
    """A last run that lies ahead is of a clock that was wrong, and holds up nothing."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("t", "", on=("start",))
        owing(engine, "t")
        slot = engine.slots["t", VM]
        engine.slots["t", VM] = replace(slot, last_run=NOW - ran)
        engine.trigger(VM, "start")
        await quiet(stubs, engine)
        await look(stubs, engine)
        assert len(stubs.made) == made

    play(tmp_path, body)


def test_trigger_while_the_host_is_stopping_makes_nothing_even_if_it_does_not(
    tmp_path: Path,
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("t", "", on=("shutdown",))
        stubs.host_stopping = True
        engine.trigger(VM, "shutdown")
        await quiet(stubs, engine)
        await look(stubs, engine)
        stubs.host_stopping = False
        await look(stubs, engine)
        assert stubs.told == []

    play(tmp_path, body)


def test_trigger_and_slot_at_once_are_one_snapshot_with_a_row_each(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("t", on=("start",), min_gap=0)
        owing(engine, "t")
        engine.trigger(VM, "start")
        engine.trigger(VM, "start")
        await quiet(stubs, engine)
        await look(stubs, engine)
        assert [(w.policies, w.origin) for w in stubs.made] == [(("t",), Origin.POLICY)]
        assert outcomes(stubs) == [("t", "made", NOW)] * 2

    play(tmp_path, body)


def test_slot_beside_a_trigger_of_another_policy_is_tried_again(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("daily", "@daily")
        stubs.add("t", "", on=("start",))
        owing(engine, "daily", last=NOW - NOW % DAY - DAY)
        owing(engine, "t")
        engine.trigger(VM, "start")
        await quiet(stubs, engine)
        stubs.answers[VM] = [Busy("a backup")]
        await look(stubs, engine)
        assert outcomes(stubs) == [("t", "failed", NOW)]
        await tries(stubs, engine, 90)
        assert outcomes(stubs)[1:] == [("daily", "made", NOW - NOW % DAY)]

    play(tmp_path, body)


def test_trigger_of_a_vm_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("t", on=("start",))
        owing(engine, "t")
        stubs.libvirt.refreshes[VM] = answers = asyncio.Event()
        engine.trigger(VM, "start")
        async with asyncio.timeout(1):
            await engine.look()
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert outcomes(stubs) == [("t", "made", NOW)]
        answers.set()

    play(tmp_path, body)
