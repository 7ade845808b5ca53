"""What is known of one thing, a fact a line."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from . import text
from .screen import Screen

SHORTEST = 30
"""Text is not folded below that: the terminal may do as it likes."""
Facts = Sequence[tuple[str, str | Sequence[str]]]


def show(screen: Screen, facts: Facts) -> None:
    """Each fact, under its label where it has several lines; one without a value is left out."""
    if not screen.text:
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in lines(facts, width=width):
        screen.say(line)


def lines(facts: Facts, *, width: int) -> list[str]:
    """`  label   value`, folded at words where wider than `width` letters, 0 = never. Pure."""
    told = [(label, [value] if isinstance(value, str) else value) for label, value in facts]
    told = [(label, [one for one in values if one]) for label, values in told]
    wide = max((len(label) for label, values in told if values), default=0)
    made = []
    for label, values in told:
        folded = [part for one in values for part in _folded(text.safe(one), width - wide - 4)]
        for n, part in enumerate(folded):
            made.append(f"  {'' if n else label:{wide}}  {part}")
    return made


def _folded(value: str, width: int) -> list[str]:
    if width < SHORTEST or len(value) <= width:
        return [value]
    return textwrap.wrap(value, width, break_long_words=False, break_on_hyphens=False)
