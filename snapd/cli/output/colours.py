"""Which words have a colour on a terminal. Colour says nothing that the word doesn't."""

from __future__ import annotations

import os
from typing import TextIO

_BOLD, _DIM, _RED, _GREEN, _YELLOW, _CYAN = "1", "2", "31", "32", "33", "36"
_OF = {
    "heading": _BOLD,
    "way": _CYAN,
    **dict.fromkeys(("critical", "failed", "crashed", "broken", "unknown", "overdue"), _RED),
    **dict.fromkeys(
        ("warning", "needs-attention", "let go", "paused", "suspended", "none", "never"), _YELLOW
    ),
    **dict.fromkeys(("ok", "running", "done", "made", "yes", "current", "*"), _GREEN),
    **dict.fromkeys(("shutoff", "skipped", "cancelled"), _DIM),
}


def wanted(stream: TextIO) -> bool:
    """Whether there may be colour: on a terminal that has some, unless NO_COLOR says no."""
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def painted(shown: str, word: str) -> str:
    """The text in the colour of that word, if it has one."""
    code = _OF.get(word)
    return f"\x1b[{code}m{shown}\x1b[0m" if code and shown else shown
