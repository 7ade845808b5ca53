"""A job until its end: waited for without a time limit, shown while it works, left when told so."""

from __future__ import annotations

import asyncio
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
SPINNER = "|/-\\"


async def started(client: Client, screen: Screen, path: str, *, no_wait: bool) -> Row | None:
    """What came of a job that was just started: its row once it is done; None (and its path is
    shown) with --no-wait. Raises JobFailed."""
    if no_wait:
        screen.say(path)
        screen.names([path])
        screen.document({"Path": path})
        return None
    row = await follow(client, screen, path)
    for warning in row["Warnings"]:
        screen.note(f"warning: {warning['Message']}")
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
            screen.draw()
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
    """One line that says what a job does: drawn over on a terminal, else one line a phase."""

    def __init__(self, screen: Screen, path: str) -> None:
        self._screen, self._path = screen, path
        self._row: dict[str, Any] = {}
        self._begun = time.monotonic() - QUICK
        self._told = ""

    def changed(self, news: Row) -> None:
        """Take in properties of the job."""
        self._row.update(news)
        phase = self._phase(share=False)
        over = self._row.get("State") in FINISHED
        if not (self._screen.live or over) and phase != self._told:
            self._told = phase
            self._screen.note(f"job {_number(self._path)}: {phase}")

    async def run(self) -> None:
        """Draw until cancelled."""
        tick = 0
        while True:
            spent = times.elapsed(time.monotonic() - self._begun)
            mark = SPINNER[tick % len(SPINNER)]
            phase = self._phase(share=True)
            self._screen.draw(f"{mark} job {_number(self._path)}: {phase}, {spent}")
            tick += 1
            await asyncio.sleep(TICK)

    def _phase(self, *, share: bool) -> str:
        row = self._row
        vm = text.name(row["DomainName"]) if row.get("DomainName") else row.get("Policy", "")
        done = row.get("Progress", -1.0)
        so_far = f" {done:.0%}" if share and done >= 0 else ""
        return f"{row.get('Verb', '')} {vm}: {row.get('Phase') or row.get('State', '')}{so_far}"


def _leave(screen: Screen, path: str) -> None:
    """Say how to follow a job that is left to itself."""
    wait = text.busctl(screen.bus, path, "Job", "Wait 'a{sv}' 0")
    seen = screen.command("status")
    screen.failure(
        [f"virtsnap: job {_number(path)} goes on; see {seen}", f"  or wait for it: {wait}"],
        {
            "error": "Interrupted",
            "message": f"job {_number(path)} goes on",
            "detail": {"Job": path},
        },
    )


def _number(path: str) -> str:
    return path.rpartition("/")[2]
