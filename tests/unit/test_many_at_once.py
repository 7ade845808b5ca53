"""Many VMs that are due in one minute: what is work for each VM is not done for each of them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapd import status as status_module
from snapd.bus import publisher as publisher_module
from snapd.bus.known import Known
from snapd.bus.publisher import Publisher
from snapd.model import DomainInfo, Problem, State
from snapd.policy import Engine, Health, problem
from snapd.policy import engine as engine_module
from snapd.policy import health as health_module
from snapd.policy.attempt import Attempt
from snapd.settings import policies as matching
from snapd.store import RunRow, Store
from tests.unit.engines import HOUR, Libvirt, Stubs, look, owing, play, quiet, running

MANY = 30
INFOS = [
    DomainInfo(f"22222222-2222-4222-8222-{n:012d}", f"web-{n:02d}", State.RUNNING)
    for n in range(MANY)
]


class Calls:
    """Counts the calls of a function that it lets through."""

    def __init__(self, patch: pytest.MonkeyPatch, where: Any, name: str) -> None:
        self.count, self._work = 0, getattr(where, name)
        patch.setattr(where, name, self)

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.count += 1
        return self._work(*given, **named)

    def take(self) -> int:
        count, self.count = self.count, 0
        return count


def herd(slow: bool = True) -> Stubs:
    return Stubs(libvirt=Libvirt(*INFOS), slow=slow)


def all_due(stubs: Stubs, engine: Engine) -> None:
    stubs.add("hourly")
    for info in INFOS:
        owing(engine, "hourly", info.uuid)


def health_of(stubs: Stubs, engine: Engine) -> Health:
    rooms = cast(Any, stubs)
    policies = SimpleNamespace(in_force=stubs.in_force, errors=(), shadowed=())
    pruner = SimpleNamespace(held={})
    return Health(
        rooms.libvirt,
        cast(Any, policies),
        engine,
        cast(Any, pruner),
        rooms,
        engine._holds,
        engine._guard,
        lambda _uuid: [],
        lambda: stubs.now,
    )


# ---- the engine


def test_runs_that_end_close_together_make_one_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        all_due(stubs, engine)
        looks = Calls(monkeypatch, engine, "look")
        begun = time.monotonic()

        def ends_one_by_one() -> bool:
            if stubs.running:
                stubs.let(stubs.running.pop())
            return len(stubs.told) == MANY

        await running(engine, ends_one_by_one)
        assert len(stubs.made) == MANY
        room = (time.monotonic() - begun) / engine_module.JOIN_SECONDS
        assert 1 <= looks.count <= 2 + room

    play(tmp_path, body, herd())


def test_what_wakes_the_engine_soon_after_a_look_is_not_lost(tmp_path: Path) -> None:
    """A policy comes, a VM comes, a slot comes: between two looks, each alone."""

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("hourly")
        owing(engine, "hourly", INFOS[0].uuid)

        def then_comes_a_vm() -> bool:
            if len(stubs.told) == 1 and len(stubs.libvirt.domains) == 1:
                owing_later = INFOS[1]
                stubs.libvirt.change(owing_later.uuid, owing_later)
                owing(engine, "hourly", owing_later.uuid)
            return len(stubs.told) == 2

        await running(engine, then_comes_a_vm)
        assert [w.at for w in stubs.made] == [int(stubs.now)] * 2

    play(tmp_path, body, Stubs(libvirt=Libvirt(INFOS[0])))


def test_policy_that_comes_soon_after_a_look_is_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has set it asks for its next run, and a daemon that ends leaves it to the next one."""
    monkeypatch.setattr(engine_module, "JOIN_SECONDS", 60)

    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        looks = Calls(monkeypatch, engine, "look")

        def then_comes_a_policy() -> bool:
            if looks.count and not stubs.in_force:
                stubs.add("hourly")
            return len(engine.slots) == MANY

        await running(engine, then_comes_a_policy)
        assert looks.count == 2

    play(tmp_path, body, herd())


def test_globs_are_matched_once_for_each_name_until_one_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        globs = Calls(monkeypatch, matching, "fnmatchcase")
        matching._any.cache_clear()
        policy = stubs.add("hourly")
        for _ in range(3):
            assert len(engine.domains_of(policy)) == MANY
            await look(stubs, engine)
        assert globs.take() == MANY
        first = INFOS[0]
        stubs.libvirt.change(first.uuid, replace(first, name="db"))
        assert engine.domains_of(policy)[0].info.name == "db"
        assert globs.take() == 1
        only = replace(policy, domains=("web-*",))
        assert len(engine.domains_of(only)) == MANY - 1
        assert globs.take() == MANY

    play(tmp_path, body, herd())


def test_change_of_a_vm_is_looked_at_by_its_own_attempt_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        all_due(stubs, engine)
        await look(stubs, engine)
        assert len(engine._attempts) == len(list(engine._attempts)) == MANY
        seen: list[str] = []
        monkeypatch.setattr(Attempt, "drop_held", lambda self: seen.append(self.uuid))
        one = INFOS[3]
        stubs.libvirt.change(one.uuid, replace(one, memory=1))
        assert seen == [one.uuid]
        seen.clear()
        stubs.wake()  # a policy is another one: that is all attempts' matter
        assert sorted(seen) == [i.uuid for i in INFOS]
        for job in stubs.running:
            stubs.let(job)
        await quiet(stubs, engine)
        assert not list(engine._attempts) and len(engine._attempts) == 0

    play(tmp_path, body, herd())


def test_runs_that_begin_together_are_each_begun_once(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        all_due(stubs, engine)
        for _ in range(3):
            await look(stubs, engine)
        assert sorted(uuid for uuid, _wish, _by in stubs.asked) == [i.uuid for i in INFOS]
        for job in stubs.running:
            stubs.let(job)
        await quiet(stubs, engine)
        stubs.pass_(HOUR)
        await look(stubs, engine)
        assert len(stubs.asked) == 2 * MANY

    play(tmp_path, body, herd())


# ---- problems and health


def test_look_works_out_each_vm_once_and_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        all_due(stubs, engine)
        await look(stubs, engine)
        health = health_of(stubs, engine)
        rows = Calls(monkeypatch, health_module, "coverage")
        found = health.look()
        assert (rows.take(), found.problems, found.overall) == (MANY, [], "ok")
        of_policy = found.of_policy("hourly")
        assert health.latest() is found and rows.take() == 0
        assert of_policy == health.of_policy(stubs.in_force["hourly"])
        rows.take()
        rooms = SimpleNamespace(
            inventory=stubs.libvirt, policies=stubs, engine=engine, jobs=SimpleNamespace(all={})
        )
        rooms.health, rooms.hypervisor = health, SimpleNamespace(uri="test:///", error="")
        told = status_module.status(cast(Any, rooms))
        assert (told.startswith(f"{MANY} VMs, 1 policy; next: "), rows.count) == (True, 0)
        for job in stubs.running:
            stubs.let(job)
        await quiet(stubs, engine)

    play(tmp_path, body, herd())


class Ears:
    """Hears the signals, and is every room that the publisher asks; has only one policy."""

    connected, loading, next_run, path = True, False, 7, "/"

    def __init__(self, health: Any) -> None:
        self.health, self.known = health, Known()
        self.domains: dict[str, Any] = {}
        self.in_force = {"hourly": "the policy"}
        self.changes: list[tuple[Any, tuple[str, ...]]] = []
        self.signals: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return self

    def on_anything(self, *_given: Any, **_named: Any) -> None: ...

    on_change = on_status = on_event = on_load = on_run = listen = on_anything

    def domain(self, uuid: str) -> Any:
        return SimpleNamespace(path=uuid)

    def changed(self, obj: Any, *names: str) -> None:
        self.changes.append((obj, names))

    def signal(self, *given: Any) -> None:
        self.signals.append(given[2])


def run_of(info: DomainInfo) -> RunRow:
    return RunRow(1, "hourly", info.uuid, info.name, 1, 1, 1, "made", "", "", 0)


def test_runs_that_end_together_make_one_health_computation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Looks:
        count = of_policy = 0
        problems: tuple[Problem, ...] = ()
        fares = "well"

        def look(self) -> Any:
            self.count += 1
            return SimpleNamespace(problems=self.problems, overall="ok", of_policy=self._of)

        def _of(self, name: str) -> str:
            self.of_policy += 1
            return f"{name}: {self.fares}"

    monkeypatch.setattr(
        publisher_module, "PolicyObject", lambda _r, policy, health: (policy, health)
    )
    health, news = Looks(), []

    async def main() -> None:
        ears = Ears(health)
        rooms = cast(Any, ears)
        publisher = Publisher(rooms, rooms, rooms, lambda: news.append(1))
        publisher._compare_problems()
        assert (health.count, health.of_policy, ears.changes) == (1, 1, [])
        health.fares, ears.next_run = "better", 8
        for info in INFOS:
            publisher._on_run(run_of(info))
        assert ears.signals == ["PolicyRunFinished"] * MANY  # each at once
        assert [o.path for o, _names in ears.changes] == [i.uuid for i in INFOS]
        assert (health.count, health.of_policy) == (1, 1)
        ears.changes.clear()
        begun = time.monotonic()
        while not ears.changes:
            await asyncio.sleep(0.01)
        assert time.monotonic() - begun < 1
        assert (health.count, health.of_policy) == (2, 2)
        (policy, names), (manager, _) = ears.changes
        assert policy == ("the policy", "hourly: better")
        results = {"LastSuccess", "LastErrorName", "LastErrorMessage"}
        assert set(names) == {"NextRun", "LastRun", "Health"} | results
        assert (manager.health, manager.next_run, manager.path) == ("ok", 8, "/")
        ears.changes.clear()
        publisher._review()
        await asyncio.sleep(0.3)
        assert (health.count, ears.changes, news) == (3, [], [])
        health.problems = (problem("clock", "it is late"),)
        publisher._review()
        await asyncio.sleep(0.3)
        assert (health.count, news, ears.signals[-1]) == (4, [1], "ProblemRaised")

    asyncio.run(main())
