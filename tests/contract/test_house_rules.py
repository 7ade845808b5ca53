"""Sizes: a file that fits a reading, a function that fits a screen."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SNAPD = Path(__file__).parents[2] / "snapd"
FILE_LINES = 400
FUNCTION_LINES = 50


def _too_long(text: str, limit: int) -> list[str]:
    return [
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > limit
    ]


def test_too_long_function_over_the_limit_is_named() -> None:
    text = "class A:\n    async def f(self):\n        a = 1\n        return a\n"
    assert _too_long(text, 2) == ["f: 3 lines"]
    assert _too_long(text, 3) == []


@pytest.mark.parametrize(
    "path", sorted(SNAPD.rglob("*.py")), ids=lambda p: str(p.relative_to(SNAPD))
)
def test_file_and_functions_within_the_limits(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES
    assert _too_long(text, FUNCTION_LINES) == []
