"""Questions on the terminal, before something is done that is hard to undo."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from ..errors import Cancelled
from .output.screen import Screen

YES = ("y", "yes")


def confirm(screen: Screen, question: str, *, yes: bool, about: Sequence[str] = ()) -> None:
    """Return where it may be done: with --yes, without a terminal, or answered with y. about: what
    people have read before; shown here where the answer is for a program.

    Raises Cancelled, and KeyboardInterrupt for Ctrl-C.
    """
    if yes or not screen.can_ask:
        return
    screen.flush()
    if not screen.text:
        for line in about:
            screen.aside(line)
    # asyncio's handler would only cancel the task, which cannot run while we read here
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        screen.draw(f"{question} [y/N] ")
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, ours)
    if not answer.endswith("\n"):  # its end was typed, and the cursor stands behind the question
        screen.aside("")
    if answer.strip().lower() not in YES:
        raise Cancelled("nothing was done")
