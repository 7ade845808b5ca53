"""The one snapshot that serves several policies: its kind, and which of them it can serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.model import Keep, Policy
from snapd.policy import Engine
from snapd.policy.owed import Owed, together, wish_of
from snapd.store import Store
from tests.unit.engines import HOUR, NOW, VM, Stubs, look, outcomes, owing, play


def owed(name: str, kind: str, *, memory: bool = False) -> Owed:
    policy = Policy(
        name, "admin", name, ("*",), Keep(last=2), "UTC", "0 * * * *", kind=kind, memory=memory
    )
    return Owed(policy, NOW)


@pytest.mark.parametrize(
    ("several", "groups"),
    [
        ([("a", "auto"), ("b", "auto")], [(("a", "b"), "auto")]),
        ([("a", "auto"), ("b", "external")], [(("a", "b"), "external")]),
        ([("a", "internal"), ("b", "auto")], [(("a", "b"), "internal")]),
        (
            [("a", "auto"), ("b", "internal"), ("c", "external")],
            [(("a", "b"), "internal"), (("c",), "external")],
        ),
        (
            [("a", "auto"), ("b", "external"), ("c", "internal")],
            [(("a", "b"), "external"), (("c",), "internal")],
        ),
    ],
)
def test_one_snapshot_is_of_one_kind_and_serves_whom_that_suits(
    several: list[tuple[str, str]], groups: list[tuple[tuple[str, ...], str]]
) -> None:
    found = [wish_of(g) for g in together([owed(*o) for o in several])]
    assert [(w.policies, w.kind) for w in found] == groups


def test_policy_that_saves_ram_has_an_internal_one_and_goes_along_with_no_external_one() -> None:
    saves = owed("ram", "auto", memory=True)
    assert (wish_of([saves]).kind, wish_of([saves]).memory) == ("internal", "yes")
    found = [wish_of(g) for g in together([owed("a", "external"), saves])]
    assert [(w.kind, w.memory) for w in found] == [("external", "no"), ("internal", "yes")]


@pytest.mark.parametrize(
    ("keep", "changes", "many"),
    [
        (Keep(last=3, daily=7, weekly=4, monthly=12, yearly=5), {}, False),
        (Keep(last=48), {}, False),
        (Keep(last=49), {}, True),
        (Keep(last=49), {"max_count": 20}, False),
        (Keep(within=2 * 86400), {}, False),  # of each hour one
        (Keep(within=3 * 86400), {}, True),
        (Keep(within=86400), {"schedule": "", "on": ("start",), "min_gap": 0}, True),
    ],
)
def test_wish_says_whether_more_may_be_kept_than_a_chain_holds(
    keep: Keep, changes: dict[str, Any], many: bool
) -> None:
    few = owed("few", "auto")
    other = replace(few, policy=replace(few.policy, name="other", keep=keep, **changes))
    assert wish_of([other]).many is many
    assert wish_of([few, other]).many is many


@pytest.mark.parametrize(
    ("schedule", "keep", "many"),
    [
        ("30 2 * * *", Keep(last=24), False),
        ("30 2 * * *", Keep(last=25), True),
        ("0 * * * *", Keep(last=40), False),  # they have the same ones
    ],
)
def test_wish_says_whether_all_policies_of_the_vm_keep_more_than_a_chain_holds(
    schedule: str, keep: Keep, many: bool
) -> None:
    """Each has its own snapshots on the one chain, be it due now or not."""
    due = owed("due", "auto")
    due = replace(due, policy=replace(due.policy, keep=Keep(last=24)))
    later = replace(due.policy, name="later", schedule=schedule, keep=keep)
    assert wish_of([due], [due.policy, later]).many is many


def test_attempt_looks_at_all_policies_of_the_vm(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        stubs.add("due")
        later = replace(stubs.add("later", "30 2 * * *"), keep=Keep(last=47))
        for domains, many in ((("other",), False), (("web-*",), True)):
            stubs.policies.change("later", replace(later, domains=domains))
            owing(engine, "due")
            await look(stubs, engine)
            wish = stubs.asked[-1][1]
            assert (wish.policies, wish.many) == (("due",), many)
            stubs.now += HOUR

    play(tmp_path, body)


def test_policies_of_different_kinds_have_an_attempt_each(tmp_path: Path) -> None:
    async def body(stubs: Stubs, engine: Engine, store: Store) -> None:
        for name, kind in (("any", "auto"), ("inside", "internal"), ("outside", "external")):
            stubs.add(name, kind=kind)
            owing(engine, name)
        await look(stubs, engine)
        assert [(u, w.kind, w.policies) for u, w, _ in stubs.asked] == [
            (VM, "internal", ("any", "inside")),
            (VM, "external", ("outside",)),
        ]
        assert {(p, o) for p, o, _ in outcomes(stubs)} == {
            ("any", "made"),
            ("inside", "made"),
            ("outside", "made"),
        }

    play(tmp_path, body)
