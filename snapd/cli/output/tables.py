"""Rows of cells as aligned lines that fit a terminal. Pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import text
from .colours import painted

GAP = 2
SHORTEST = 12
"""A free text is not cut below that: what is left would tell nothing."""


class Column(NamedTuple):
    """One column. spare: where the terminal is too narrow, the column with the most is left out
    first; 0 = never. free: text of any length, the first to be cut. words: its words have colours.
    """

    title: str
    spare: int = 0
    free: bool = False
    words: bool = False


def lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int, colour: bool
) -> tuple[list[str], list[str]]:
    """The table with its heading, and the titles of the columns that there was no room for. Columns
    in which nothing stands are left out. width: letters in a line, 0 = as many as it takes.

    Names are never cut: cut, they could not be typed.
    """
    shown = [[text.safe(cell) for cell in row] for row in rows]
    used = [n for n in range(len(columns)) if any(row[n] for row in shown)]
    wide = {n: max(_width(row[n]) for row in [[c.title for c in columns], *shown]) for n in used}
    gone: list[str] = []
    free = [n for n in used if columns[n].free]
    # in steps: free text shrinks a little, then columns go, then it goes as well
    while width and sum(wide[n] + GAP for n in used) - GAP > width:
        over = sum(wide[n] + GAP for n in used) - GAP - width
        longest = max((n for n in free if n in used), key=lambda n: wide[n], default=-1)
        if longest >= 0 and wide[longest] > SHORTEST:
            wide[longest] = max(SHORTEST, wide[longest] - over)
            continue
        most = max(
            (n for n in used if columns[n].spare), key=lambda n: columns[n].spare, default=-1
        )
        if most < 0:
            break
        used.remove(most)
        gone.append(columns[most].title)
        for n in free:  # what is free now may be read again
            wide[n] = max(_width(row[n]) for row in [[c.title for c in columns], *shown])
    cells = [[_cell(columns[n], row[n], wide[n], colour) for n in used] for row in shown]
    heads = [painted(columns[n].title, "heading") if colour else columns[n].title for n in used]
    return _aligned(heads, cells).splitlines(), gone


def _cell(column: Column, cell: str, wide: int, colour: bool) -> str:
    if column.free and _width(cell) > wide:
        while cell and _width(cell) > wide - 1:
            cell = cell[:-1]
        cell += "…" if text.can_print("…") else "~"
    return painted(cell, cell) if colour and column.words else cell


def _aligned(heads: list[str], cells: list[list[str]]) -> str:
    tabulate = _tabulate(wide=not all(cell.isascii() for row in cells for cell in row))
    tabulate.PRESERVE_WHITESPACE = True  # spaces are part of a name
    tabulate.MIN_PADDING = 0  # beside titles, which made lines wider than was reckoned
    # all are texts: what it guesses for each cell takes longer than all else
    tabulate._column_type = lambda *_cells, **_how: str
    made: str = tabulate.tabulate(cells, heads, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in made.splitlines())


def _tabulate(*, wide: bool) -> Any:
    """The module. It would load wcwidth at once, which takes as long as all the rest: only for
    wide letters, and accents."""
    if "wcwidth" not in sys.modules and not wide:
        sys.modules["wcwidth"] = None  # type: ignore[assignment]
    import tabulate

    if sys.modules.get("wcwidth", tabulate) is None:
        del sys.modules["wcwidth"]
    if wide:
        import wcwidth

        tabulate.wcwidth, tabulate.WIDE_CHARS_MODE = wcwidth, True
    return tabulate


def _width(cell: str) -> int:
    """How many letters' room it takes: a CJK letter takes two, an accent of its own none."""
    if cell.isascii():
        return len(cell)
    from wcwidth import wcswidth

    return max(int(wcswidth(cell)), 0) or len(cell)
