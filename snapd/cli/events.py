"""What happens, as the daemon tells it: in order, each once, also across its restarts.

An event is the document that --json shows: `Event`, `Time` (seconds UTC, when it was heard), and
what belongs to it. The daemon is called by its unique name, for which the bus starts nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial

from ..errors import SnapdError
from ..wire import fault, paths
from ..wire.fault import WireError
from ..wire.messages import Signal
from ..wire.transport import Transport
from ..wire.values import unwrap
from . import authors
from .backlog import Backlog
from .client import INTERFACE, PROPERTIES, Client, Row

RAISED, CLEARED = "ProblemRaised", "ProblemCleared"
PROBLEMS = (RAISED, CLEARED)
SNAPSHOTS = ("SnapshotCreated", "SnapshotDeleted", "SnapshotReverted")
RUN = "PolicyRunFinished"
JOB = "JobEnded"
GONE, BACK, LEFT_OUT = "DaemonGone", "DaemonBack", "LeftOut"
AGAIN = 5.0
"""Seconds until a daemon is asked anew that did not answer, or may yet forget a problem."""
SETTLED = 75.0
"""Seconds after which a daemon that has read all VMs has told of each problem that is over: it
looks once a minute. What is over before its first look raises no signal."""
_LOOK, _OWNER = "look", "owner"


class Events:
    """The events of all VMs or, with its UUID, of one; those of no VM, as a lost connection, are
    everybody's. problems: no others than problems, and first those that there are."""

    def __init__(self, bus: Transport, uuid: str = "", *, problems: bool = False) -> None:
        self._bus, self._uuid, self._only_problems = bus, uuid, problems
        self._backlog: Backlog[tuple[str, list[object], int]] = Backlog()
        self._owner = ""
        self._known: dict[str, Row] = {}
        self._unsure = True  # whether _known may come to differ from what there is, with no signal
        self._sure_at = 0.0  # when they cannot any more, 0 = not all VMs are read
        self._due: asyncio.TimerHandle | None = None

    async def listen(self) -> None:
        """Hear from now on; events() tells it."""
        root = {"sender": paths.NAME, "path": paths.ROOT}
        manager = f"{INTERFACE}.Manager"
        for member in PROBLEMS if self._only_problems else (*SNAPSHOTS, RUN, *PROBLEMS):
            for uuid in (self._uuid, "") if self._uuid else (None,):
                await self._bus.subscribe(
                    self._heard, **root, interface=manager, member=member, arg0=uuid
                )
        if not self._only_problems:
            await self._bus.subscribe(
                self._ended, sender=paths.NAME, interface=f"{INTERFACE}.Job", member="Completed"
            )
        changed = {"interface": PROPERTIES, "member": "PropertiesChanged", "arg0": manager}
        await self._bus.subscribe(self._changed, **root, **changed)
        await self._bus.subscribe(
            self._moved,
            sender=fault.FREEDESKTOP,
            interface=fault.FREEDESKTOP,
            member="NameOwnerChanged",
            arg0=paths.NAME,
        )
        try:
            (self._owner,) = await self._bus.bus_call("GetNameOwner", "s", paths.NAME)
        except WireError as error:
            if error.name != fault.NAME_HAS_NO_OWNER:
                raise

    async def events(self) -> AsyncIterator[Row]:
        """For ever. Raises WireError where the bus is gone."""
        if not self._owner:
            yield _event(GONE)
        for problem in await self._look():
            if self._only_problems:  # the others are told of what changes
                yield problem
        while True:
            item = await self._backlog.get()
            if isinstance(item, int):
                yield _event(LEFT_OUT, {"Count": item})
                self._unsure = True  # a problem may have come or gone there
                for problem in await self._look():
                    yield problem
                continue
            for event in await self._told(*item):
                yield event

    @property
    def _daemon(self) -> Client:
        return Client(self._bus, self._owner)

    # --- what is heard

    def _heard(self, signal: Signal) -> None:
        self._put(signal.member, unwrap(list(signal.body)))

    def _ended(self, signal: Signal) -> None:
        if signal.body[0] != "done":  # what is done is told by a signal of its own
            self._put(JOB, [signal.path])

    def _moved(self, signal: Signal) -> None:
        self._put(_OWNER, [signal.body[2]])

    def _changed(self, signal: Signal) -> None:
        if self._unsure and {"Loading", "Connected", "Health"} & set(signal.body[1]):
            self._put(_LOOK, [])

    def _put(self, what: str, body: list[object]) -> None:
        always = what in (_LOOK, _OWNER)
        self._backlog.put((what, body, int(time.time())), always=always)

    # --- what is told

    async def _told(self, what: str, body: list[object], when: int) -> list[Row]:
        if what == _OWNER:
            return await self._another(str(body[0]))
        if what == _LOOK:
            return await self._look() if self._unsure else []
        if what == JOB:
            return await self._job(str(body[0]), when)
        uuid, second, detail = str(body[0]), str(body[1]), body[2]
        if not isinstance(detail, Mapping):
            return []
        if what in PROBLEMS:
            return self._problem(what, dict(detail), when)
        row = {"DomainUUID": uuid, **detail}
        if what in SNAPSHOTS:
            author = await authors.of(self._daemon, what, row, when)
            row = {"Path": second, **row, **author}
        return [_event(what, row, when)]

    def _problem(self, what: str, row: Row, when: int) -> list[Row]:
        """Nothing for one that was told: a daemon that was started anew raises all of them."""
        identity = row["ID"]
        if (what == RAISED) == (identity in self._known):
            return []
        if what == RAISED:
            self._known[identity] = row
        else:
            del self._known[identity]
        return [_event(what, row, when)]

    async def _job(self, path: str, when: int) -> list[Row]:
        """A job that did not end well. One that was to make a policy's snapshot is told as the
        policy's run."""
        row = await authors.job(self._daemon, path)
        other = self._uuid and row.get("DomainUUID") != self._uuid
        if not row or other or (row["Policy"] and row["Verb"] == "create"):
            return []
        return [_event(JOB, {"Path": path, **row, **authors.author(row)}, when)]

    async def _another(self, owner: str) -> list[Row]:
        """The daemon has come or gone. What happened while it was away it does not tell, but for
        the problems that there are."""
        if owner == self._owner:
            return []
        self._owner, self._unsure, self._sure_at = owner, True, 0.0
        return [_event(BACK), *await self._look()] if owner else [_event(GONE)]

    async def _look(self) -> list[Row]:
        """The differences between the problems that are known and those that there are. While VMs
        are still being read, nothing counts as cleared, and a look is due when they are."""
        if not self._owner:
            return []
        try:
            manager = await self._daemon.properties()
            rows, _ = await self._daemon.rows("ListProblems")
        except (SnapdError, WireError) as error:
            if isinstance(error, WireError) and error.name == fault.DISCONNECTED:
                raise
            self._unsure = True
            self._again()
            return []
        whole = manager["Connected"] and not manager["Loading"]
        there = {row["ID"]: row for row in rows if self._wanted(row)}
        gone = [row for key, row in self._known.items() if key not in there and whole]
        over = [event for row in gone for event in self._problem(CLEARED, row, _now())]
        new = [
            event
            for row in there.values()
            for event in self._problem(RAISED, row, row["Since"] or _now())
        ]
        now = asyncio.get_running_loop().time()
        self._sure_at = (self._sure_at or now + SETTLED) if whole else 0.0
        self._unsure = not whole or now < self._sure_at
        if whole and self._unsure:
            self._again()
        return over + new

    def _again(self) -> None:
        """Look once more in a while."""
        if self._due:
            self._due.cancel()
        loop = asyncio.get_running_loop()
        self._due = loop.call_later(AGAIN, partial(self._put, _LOOK, []))

    def _wanted(self, row: Row) -> bool:
        return not self._uuid or row["DomainUUID"] in ("", self._uuid)


def _event(what: str, row: Row | None = None, when: int = 0) -> Row:
    return {"Event": what, "Time": when or _now(), **(row or {})}


def _now() -> int:
    return int(time.time())
