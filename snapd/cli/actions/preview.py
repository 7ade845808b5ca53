"""What a verb would do: shown instead of doing it, or before a person is asked."""

from __future__ import annotations

from typing import Any

from ..client import Client, Row
from ..confirm import confirm
from ..output import previews
from ..output.screen import Screen

YES = "yes"


async def show(
    client: Client,
    screen: Screen,
    title: str,
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
    for line in [title, *previews.lines(preview, screen.bus, verb=verb)]:
        screen.say(line)
    screen.format += "-preview"
    screen.document({**preview, **(about or {})})
    return 0 if preview["Verdict"] == YES else previews.REFUSED


async def agreed(
    client: Client,
    screen: Screen,
    question: str,
    verb: str,
    vm: str,
    snapshot: str,
    *,
    yes: bool,
    **options: Any,
) -> bool:
    """On a terminal, show what it would do and ask; False where it would be refused, which is
    shown with the ways out. Raises Cancelled."""
    if screen.can_ask and not (yes or screen.json):
        (preview,) = await client.ask(f"Preview{verb}", vm, snapshot, **options)
        if preview["Verdict"] != YES:
            screen.aside(question)
        for line in previews.lines(preview, screen.bus, verb=verb):
            screen.aside(line)
        if preview["Verdict"] != YES:
            screen.aside("nothing was done")
            return False
    confirm(screen, question, yes=yes)
    return True
