"""The table of field reports: each has tests, and they exist."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[2]
TABLE = TOP / "tests" / "data" / "field_reports.toml"
CASES: dict[str, dict[str, Any]] = tomllib.loads(TABLE.read_text())["case"]
WANTED = [*range(1, 10), 12, 13, *range(15, 21), *range(45, 54), 55, 56, 87]


@cache
def _tests(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_field_reports_of_lost_data_and_of_hangs_are_all_there() -> None:
    assert {str(number) for number in WANTED} <= CASES.keys()


@pytest.mark.parametrize("number", CASES)
def test_field_report_has_its_tests_or_says_why_not(number: str) -> None:
    case = CASES[number]
    assert case["title"]
    assert case.get("tests") or case.get("why")
    for test in case.get("tests", ()):
        path, _, name = test.partition("::")
        assert name.startswith("test_")
        assert name in _tests(TOP / path), test
