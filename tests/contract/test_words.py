"""Every word that clients switch on is explained in the contract, and none is there in vain."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LISTS = {
    "Reason words": {"Blocker": 1, "reason=": 0},
    "Loss and warning words": {"Warned": 0},
    "Problem words": {"problem": 0, "problem=": 0},
    "Phase words": {"enter": 0},
}
PLANNER = {"every-minute", "finer-than-schedule", "many", "matches-none", "no-daily"} | {
    "delay-over-gap",
    "needless-glob",
    "never-running",
    "no-catch-up",
    "no-schedule",
    "no-trigger",
    "over-chain-limit",
    "over-max-age",
    "over-max-count",
    "ram-each",
    "too-many",
    "vm-off",
    "with-memory",
    "within-gap",
}
"""Warnings of a policy's definition, which ValidatePolicy says with their key."""


def _explained(title: str) -> set[str]:
    """The words of a list in the XML: one an item, with their meaning."""
    text = "\n".join(path.read_text() for path in sorted(TOP.glob("dbus/*.Snapd1.*.xml")))
    found = re.search(rf"{title}[^:]*:\n\n(.*?)\n *\n", text.replace("-->", "\n"), re.S)
    assert found, title
    return set(re.findall(r"^ +- ([a-z-]+): ", found[1], re.M))


def _used(calls: dict[str, int]) -> Iterator[str]:
    """The literals that the daemon passes there."""
    for path in (TOP / "snapd").rglob("*.py"):
        if "cli" in path.parts or "planning" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = calls.get(name, -1)
            if 0 <= place < len(node.args):
                yield from _literals(node.args[place])
            for keyword in node.keywords:
                if f"{keyword.arg}=" in calls and "operations" in path.parts:
                    yield from _literals(keyword.value)


def _literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if re.fullmatch(r"[a-z-]+", node.value):
            yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)


@pytest.mark.parametrize("title", LISTS)
def test_words_of_the_code_are_explained_in_the_contract(title: str) -> None:
    used = set(_used(LISTS[title])) - PLANNER
    assert len(used) > 5
    assert used - _explained(title) == set()


@pytest.mark.parametrize("title", LISTS)
def test_words_of_the_contract_are_used_by_the_code(title: str) -> None:
    code = "\n".join(path.read_text() for path in (TOP / "snapd").rglob("*.py"))
    assert {word for word in _explained(title) if f'"{word}"' not in code} == set()
