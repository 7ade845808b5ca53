"""What a verb would do: shown instead of doing it, or before a person is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..client import Client, Row
from ..confirm import confirm
from ..output import previews
from ..output.screen import Screen

YES = "yes"


class Asked(NamedTuple):
    """What is to be done, as facts, one a line, and the question whether, which is short: it is
    all that a person reads who is in a hurry."""

    facts: Sequence[str]
    question: str


async def show(
    client: Client,
    screen: Screen,
    facts: Sequence[str],
    verb: str,
    vm: str,
    snapshot: str,
    *,
    about: Row | None = None,
    **options: Any,
) -> int:
    """--preview. verb: Create, Revert, Delete; the exit code says whether it can be done. about:
    what the document says beside the preview."""
    (preview,) = await client.ask(f"Preview{verb}", vm, snapshot, **options)
    for line in [*facts, *previews.lines(preview, screen.bus, verb=verb)]:
        screen.say(line)
    screen.format += "-preview"
    screen.document({**preview, **(about or {})})
    return 0 if preview["Verdict"] == YES else previews.REFUSED


async def agreed(
    client: Client,
    screen: Screen,
    asked: Asked,
    verb: str,
    vm: str,
    snapshot: str,
    *,
    yes: bool,
    **options: Any,
) -> bool:
    """On a terminal, show what it would do and ask; False where it would be refused, which is
    shown with the ways out. Raises Cancelled."""
    if screen.can_ask and not yes:
        facts, verdict = list(asked.facts), YES
        if not screen.json:
            (preview,) = await client.ask(f"Preview{verb}", vm, snapshot, **options)
            facts += previews.lines(preview, screen.bus, verb=verb)
            verdict = preview["Verdict"]
        for line in facts:
            screen.aside(line)
        if verdict != YES:
            screen.aside("nothing was done")
            return False
    confirm(screen, asked.question, yes=yes)
    return True
