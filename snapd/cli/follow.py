"""A job until its end: waited for without a time limit, shown while it works, left when told so."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from ..errors import OutcomeUnknown, SnapdError, TimedOut
from ..wire import fault
from ..wire.fault import WireError
from .client import Client, Row
from .failures import JobFailed
from .output import text, times
from .output.screen import Screen

QUICK = 1
LONG = 20
TICK = 0.2
FINISHED = ("done", "failed", "cancelled")


async def started(client: Client, screen: Screen, path: str, *, no_wait: bool) -> Row | None:
    """What came of a job that was just started: its row once it is done; None (and its path is
    shown) with --no-wait. Raises JobFailed."""
    if no_wait:
        screen.say(path)
        screen.names([path])
        screen.format = "started"
        screen.document({"Path": path})
        return None
    row = await follow(client, screen, path)
    for warning in row["Warnings"]:
        screen.note(f"warning: {times.local(warning['Message'])}")
    return row


async def follow(client: Client, screen: Screen, path: str) -> Row:
    """Wait for the end of a job; its properties and Path. Raises JobFailed where it did not end
    well, OutcomeUnknown where the daemon is gone."""
    try:
        row = await _wait(client, path, QUICK)
        if row is None:
            row = await _slow(client, screen, path)
    except asyncio.CancelledError:
        _leave(screen, path)
        raise
    except WireError as error:
        raise OutcomeUnknown(
            f"virtsnapd is gone while job {_number(path)} was at work ({error.text}); it finds out "
            f"what came of it when it is started again; {screen.command('history')} shows it then"
        ) from error
    if row["State"] != "done":
        raise JobFailed(row)
    return row


async def _slow(client: Client, screen: Screen, path: str) -> Row:
    """Wait on, and show that it works."""
    progress = Progress(screen, path)
    news = await client.on_change(path, progress.changed)
    progress.changed(await client.properties(path, "Job"))
    ticker = asyncio.create_task(progress.run()) if screen.live else None
    try:
        while (row := await _wait(client, path, LONG)) is None:
            pass
        return row
    finally:
        if ticker:
            ticker.cancel()
            await asyncio.wait([ticker])
        await news.close()


async def _wait(client: Client, path: str, seconds: int) -> Row | None:
    """The job's row when it has finished within the time, else None."""
    error: SnapdError | None = None
    result: Row = {}
    try:
        try:
            result = await client.wait(path, seconds)
        except SnapdError as e:
            error = e
        row = await client.properties(path, "Job")
    except WireError as e:
        if e.name == fault.NO_REPLY:  # slow, or just gone: then the next call says so
            return None
        raise
    if row["State"] in FINISHED:
        return {"Path": path, **row, "Result": {**row["Result"], **result}}
    if error is None or isinstance(error, TimedOut):
        return None
    raise error


class Progress:
    """What a job does: one line that is drawn over on a terminal, else a line a phase."""

    def __init__(self, screen: Screen, path: str) -> None:
        self._screen, self._path = screen, path
        self._row: dict[str, Any] = {}
        self._begun = time.monotonic() - QUICK
        self._told = ""

    def changed(self, news: Row) -> None:
        """Take in properties of the job."""
        self._row.update(news)
        phase = self._phase()
        over = self._row.get("State") in FINISHED
        if not (self._screen.live or over) and phase != self._told:
            self._told = phase
            self._screen.note(f"job {_number(self._path)}: {phase}")

    async def run(self) -> None:
        """Draw until cancelled, or until nobody looks any more."""
        from .output.drawing import Line  # rich takes 150 ms, which a quick job does not need

        with contextlib.suppress(OSError):
            line = Line()
            try:
                while True:
                    about = f"job {_number(self._path)}: {self._phase()}"
                    line.show(about, self._row.get("Progress", -1.0), self._spent())
                    await asyncio.sleep(TICK)
            finally:
                line.close()

    def _spent(self) -> str:
        """How long it has been at work, or how long we have waited for it to begin."""
        begun = self._row.get("Started", 0)
        seconds = time.time() - begun if begun else time.monotonic() - self._begun
        return times.elapsed(max(seconds, 0))

    def _phase(self) -> str:
        row = self._row
        vm = text.name(row["DomainName"]) if row.get("DomainName") else row.get("Policy", "")
        return f"{row.get('Verb', '')} {vm}: {row.get('Phase') or row.get('State', '')}"


def _leave(screen: Screen, path: str) -> None:
    """Say how to follow a job that is left to itself."""
    goes_on = f"job {_number(path)} goes on"
    follow_it = screen.command("jobs", _number(path), options=["--wait"])
    screen.failure(
        [f"virtsnap: {goes_on}", f"  to follow it: {follow_it}"],
        {"error": "Interrupted", "message": goes_on, "detail": {"Job": path}},
    )


def _number(path: str) -> str:
    return path.rpartition("/")[2]
