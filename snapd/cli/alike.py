"""Names like a word that is none of them. Pure, and loaded only where one was mistyped."""

from __future__ import annotations

from collections.abc import Iterable

from .output.text import name

MOST = 3
ALIKE = 0.6
"""Of 1, as difflib reckons and finds good."""
BEHIND = 0.25
"""How much less alike than the first the others may be: db-1 for ddb-1, and not web-1 as well."""
BEGINS = 3
"""Letters that mean a name which begins with them."""
LONGEST = 128
CLOSELY = 50
"""More letters are not compared, nor more names closely: a name can be made to take for ever."""


def near(word: str, names: Iterable[str]) -> list[str]:
    """The names that may have been meant by a word that is none of them, at most MOST, the most
    alike first."""
    if not word or len(word) > LONGEST:
        return []
    from difflib import SequenceMatcher

    def alike(other: str, *, closely: bool) -> float:
        folded = other.casefold()[:LONGEST]
        if len(word) >= BEGINS and folded.startswith(wanted):
            return 1.0
        matcher.set_seq1(folded)
        return matcher.ratio() if closely else matcher.quick_ratio()

    wanted = word.casefold()
    matcher = SequenceMatcher(autojunk=False, a="", b=wanted)
    quick = ((alike(each, closely=False), each) for each in {*names} - {word})
    maybe = sorted((-score, each) for score, each in quick if score >= ALIKE)[:CLOSELY]
    found = sorted((-alike(each, closely=True), len(each), each) for _, each in maybe)
    least = max(ALIKE, -found[0][0] - BEHIND) if found else ALIKE
    return [each for score, _, each in found[:MOST] if -score >= least]


def told(names: Iterable[str]) -> str:
    """`did you mean web-1, web-2 or db-1?`; "" for none."""
    shown = [name(each) for each in names]
    if not shown:
        return ""
    last = f" or {shown[-1]}" if shown[1:] else shown[0]
    return f"did you mean {', '.join(shown[:-1])}{last}?"
