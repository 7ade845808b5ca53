"""The files read again while the daemon runs: policies take effect, settings are checked."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from ..errors import InvalidArgument
from ..model import Problem
from ..policy import problem
from ..settings import load_daemon
from .rooms import Rooms

log = logging.getLogger(__name__)
WORD = "settings-file"
FILES = ("policy-file", "policy-shadowed", WORD)


async def reload(rooms: Rooms) -> list[Problem]:
    """Read all files again; returns what is wrong with them, which is logged too.

    virtsnapd.toml is used at the start only: of that file is said what the next start would find.
    """
    await _check_settings(rooms)
    await rooms.policies.load()
    return [p for p in rooms.health.problems() if p.problem in FILES]


async def _check_settings(rooms: Rooms) -> None:
    """Have Health say how virtsnapd.toml stands now."""
    wrong, changed = "", False
    try:
        read = await asyncio.to_thread(load_daemon, rooms.config / "virtsnapd.toml")
        changed = read != rooms.settings
    except InvalidArgument as e:
        wrong = e.message
    standing = rooms.health.standing
    at_start = next((p for p in standing if p.id == problem(WORD, "").id), None)
    found = _since_start(at_start, wrong) if at_start else _of_next_start(wrong, changed=changed)
    rooms.health.standing = [p for p in standing if p.problem != WORD]
    if found:
        rooms.health.standing.append(found)
        log.info("%s", found.message)  # as a problem it gets a line of its own


def _since_start(at_start: Problem, wrong: str) -> Problem:
    """The daemon runs on defaults and prunes nothing, since the file was wrong when it started."""
    if wrong:
        what = f"{wrong}; the defaults are used and nothing is pruned until it is mended"
        return replace(at_start, message=what)
    what = (
        "virtsnapd.toml was wrong when the daemon started: the defaults are used and nothing is "
        "pruned until it is started again"
    )
    return replace(at_start, message=what, ways=("restart",))


def _of_next_start(wrong: str, *, changed: bool) -> Problem | None:
    """What differs from the settings in use. Its id is another than that of a bad start."""
    if wrong:
        what = (
            f"{wrong}; what was read at the start is still used, but the next start would use the "
            "defaults and prune nothing"
        )
        return problem(WORD, what, "critical", key="next", ways=("fix-file", "reload"))
    if changed:
        what = "virtsnapd.toml has changed: that is used from the next start on"
        return problem(WORD, what, key="next", ways=("restart",))
    return None
