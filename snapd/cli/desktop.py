"""Problems on the desktop: a notification each, as org.freedesktop.Notifications has them.

What there is and what was shown are compared whenever something has changed, so that a desktop
that shows nothing for a while, or comes late, gets what is still there then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from ..wire import fault
from ..wire.fault import WireError
from ..wire.messages import Signal
from ..wire.transport import Transport
from ..wire.values import variant
from .client import Row
from .output import times, ways
from .output.text import safe

NAME, PATH = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"
AGAIN = 30.0
"""Seconds until a desktop that shows nothing is tried anew."""
PAUSE = 1.0
"""Seconds until it is tried anew at the earliest: one that breaks may come again at once."""
PATIENCE = 10.0
AS_THE_DESKTOP_LIKES = -1
_LOW, _NORMAL, _CRITICAL = range(3)
_NOBODY = (fault.SERVICE_UNKNOWN, fault.NAME_HAS_NO_OWNER, fault.NO_REPLY)


@dataclass(frozen=True, slots=True)
class Notification:
    """As the desktop takes it. body: with markup where that was asked for."""

    summary: str
    body: str
    icon: str
    urgency: int


def notification(problem: Row, bus: str, *, markup: bool) -> Notification:
    """Of a row of ListProblems. Names that others gave are in the body only, where the desktop
    says whether it reads markup. Pure."""
    critical = problem["Severity"] == "critical"
    told = ways.told(problem["Ways"], bus, problem)
    what = times.local(problem["Message"])
    lines = [safe(line) for line in (what, *(f"Way out: {way}" for way in told))]
    body = "\n".join(escape(line, quote=False) if markup else line for line in lines)
    if critical:
        return Notification("VM snapshots: critical problem", body, "dialog-error", _CRITICAL)
    return Notification("VM snapshots: problem", body, "dialog-warning", _NORMAL)


class Desktop:
    """Shows the problems that there are. note: called with a line about what it cannot do."""

    def __init__(self, session: Transport, bus: str, note: Callable[[str], None]) -> None:
        """session: the connection on which the desktop is; bus: the daemon's, for the commands
        that are shown."""
        self._session, self._bus, self._note = session, bus, note
        self._there: dict[str, Row] = {}
        self._shown: dict[str, int] = {}  # by problem; 0 = it was shown and is no more
        self._markup: bool | None = None
        self._changed = asyncio.Event()

    def raised(self, problem: Row) -> None:
        self._there[problem["ID"]] = problem
        self._changed.set()

    def cleared(self, problem: Row) -> None:
        self._there.pop(problem["ID"], None)
        self._changed.set()

    async def run(self) -> None:
        """Show and close, for ever. Raises WireError where the session's bus is gone."""
        about = {"sender": NAME, "path": PATH, "interface": NAME, "member": "NotificationClosed"}
        await self._session.subscribe(self._closed, **about)
        bus = {"sender": fault.FREEDESKTOP, "interface": fault.FREEDESKTOP}
        await self._session.subscribe(self._moved, member="NameOwnerChanged", arg0=NAME, **bus)
        failed = False
        while True:
            self._changed.clear()
            error = await self._catch_up()
            if error and not failed:
                why = f"the desktop shows no notifications ({error.text or error.name})"
                self._note(f"{why}; tried again until it does")
            elif failed and not error:
                self._note("the desktop shows notifications again")
            failed = error is not None
            if failed:
                await asyncio.sleep(PAUSE)
            try:
                async with asyncio.timeout(AGAIN if failed else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _catch_up(self) -> WireError | None:
        """Show and close what is to be; the first error that kept it from showing one."""
        first: WireError | None = None
        for identity in [one for one in self._shown if one not in self._there]:
            await self._close(self._shown.pop(identity))
        for identity, problem in list(self._there.items()):
            if identity in self._shown or identity not in self._there:
                continue
            try:
                self._shown[identity] = await self._show(problem)
            except WireError as error:
                if error.name == fault.DISCONNECTED:
                    raise
                first = first or error
                if error.name in _NOBODY:
                    break
        return first

    async def _show(self, problem: Row) -> int:
        if self._markup is None:
            (able,) = await self._call("GetCapabilities", "")
            self._markup = "body-markup" in able
        what = notification(problem, self._bus, markup=self._markup)
        hints = {"urgency": variant("y", what.urgency)}
        text = (what.icon, what.summary, what.body)
        how: tuple[Any, ...] = ([], hints, AS_THE_DESKTOP_LIKES)
        (number,) = await self._call("Notify", "susssasa{sv}i", "virtsnap", 0, *text, *how)
        return int(number)

    async def _close(self, number: int) -> None:
        if number:
            try:
                await self._call("CloseNotification", "u", number)
            except WireError as error:  # closed by its reader, or with the desktop
                if error.name == fault.DISCONNECTED:
                    raise

    async def _call(self, member: str, signature: str, *body: Any) -> list[Any]:
        return await self._session.call(
            NAME, PATH, NAME, member, signature, *body, timeout=PATIENCE
        )

    # --- what is heard of the desktop

    def _closed(self, signal: Signal) -> None:
        for identity, number in self._shown.items():
            if number == signal.body[0]:
                self._shown[identity] = 0

    def _moved(self, signal: Signal) -> None:
        """Another one: numbers of the one before mean nothing to it."""
        self._shown = dict.fromkeys(self._shown, 0)
        self._markup = None
        if signal.body[2]:
            self._changed.set()
