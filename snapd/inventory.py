"""What libvirt has now: the re-listed picture that reads answer from.

libvirt has no event for a snapshot made or deleted, so own operations, lifecycle events, a watch
on libvirt's records and a slow poll each have one domain listed again; the poll leaves out what the
hypervisor proves to be as it was. Nothing here is remembered beyond the next listing, and a domain
that doesn't answer stays as it was and stands in `incomplete`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidArgument, NoSuchDomain, NoSuchSnapshot, SnapdError, Unavailable
from .hypervisor import DomainEvent, EventKind, Hypervisor
from .journal import about
from .model import DomainInfo, SnapshotInfo

log = logging.getLogger(__name__)
POLL_SECONDS, REST_TIMES, REST_SECONDS = 60.0, 10, 300.0
"""After a poll: so long, and so many times as long as a core was busy meanwhile, up to so long."""
BUSY_SECONDS = 5.0
PARALLEL_READS = 4
LOADING_WAIT = 10.0
ECHO_SECONDS = 3.0
"""How long after a job of ours an event is still taken for its doing."""
_AT_REST = (EventKind.DEFINED, EventKind.UNDEFINED, EventKind.RENAMED, EventKind.RECORDED)
"""What also happens to a domain that is off, and writes to none of its disks."""


@dataclass(slots=True)
class DomainPicture:
    """A domain and its snapshots (oldest first) as last read, at `checked`; error = why not.
    shows: all that was over by then, monotonic. derived: what others worked out from it once."""

    info: DomainInfo
    snapshots: dict[str, SnapshotInfo] = field(default_factory=dict)
    checked: int = 0
    error: SnapdError | None = None
    shows: float = field(default=-math.inf, compare=False)
    derived: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What a listing found: a domain's picture before (None = new) and after (None = gone).

    `since`: when the domain was last seen as it was before, 0 = never.
    """

    uuid: str
    before: DomainPicture | None
    after: DomainPicture | None
    since: int


class Inventory:
    """The picture, and who is told when it changes.

    clock: seconds UTC. hold(uuid): True while a job of ours is at work on the domain; events then
    trigger nothing, since the job lists it again itself, until let_go() when it is done.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        hold: Callable[[str], bool] = lambda _uuid: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hypervisor = hypervisor
        self.domains: dict[str, DomainPicture] = {}
        self.loading = True
        self.unread: dict[str, str] = {}
        self.checked, self.versions = 0, ("", "")
        self._hold, self._clock = hold, clock
        self._loaded, self._tried = asyncio.Event(), asyncio.Event()
        self._wanted, self._looks = dict[str, None](), dict[str, asyncio.Task[None]]()
        self._missed, self._let_go = dict[str, float](), dict[str, float]()
        self._wake, self._want = asyncio.Event(), asyncio.Event()
        self._listeners: list[Callable[[Change], None]] = []
        self._status: list[Callable[[], None]] = []
        self._triggers: list[Callable[[str, str], None]] = []
        self._active: list[Callable[[str], None]] = []
        # a poll of many takes long: a look at one that has changed doesn't wait for its end
        self._polled, self._looked_at = (asyncio.Semaphore(PARALLEL_READS) for _ in range(2))
        self._locks: dict[str, asyncio.Lock] = {}
        hypervisor.on_event(self._on_event)
        hypervisor.on_connection(self._on_connection)

    def on_change(self, call: Callable[[Change], None]) -> None:
        """Have each found change told, after the picture has it."""
        self._listeners.append(call)

    def on_status(self, call: Callable[[], None]) -> None:
        """Have it told that connected, loading or versions may have changed."""
        self._status.append(call)

    def on_trigger(self, call: Callable[[str, str], None]) -> None:
        """Have it told what a domain did by itself, as (UUID, word): start, shutdown, crash. Never
        what a revert did, or may have been the doing of a job of ours: that is dropped, not put
        off."""
        self._triggers.append(call)

    def on_active(self, call: Callable[[str], None]) -> None:
        """Have the UUID told of each domain that is active or has been, whenever an event or a
        listing says so, and of each that was reverted; whoever's doing that is."""
        self._active.append(call)

    @property
    def connected(self) -> bool:
        return self.hypervisor.connected

    # --- answering

    async def settled(self) -> None:
        """Wait up to 10 s for the first full read, where one or the first connect is under way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOADING_WAIT):
                await self._tried.wait()
                if self.connected and self.loading:
                    await self._loaded.wait()

    async def ready(self, what: str) -> None:
        """Wait as settled(); raises Unavailable where that didn't help."""
        await self.settled()
        if not self.connected:
            where = f"{self.hypervisor.uri} ({self.hypervisor.error})"
            raise Unavailable(f"{what}: no connection to libvirt at {where}")
        if self.loading:
            raise Unavailable(f"{what}: VMs are still being read, try again soon")

    def incomplete(self) -> dict[str, tuple[str, SnapdError]]:
        """UUID -> (name, why) of domains whose picture is old or not there yet."""
        waiting = Unavailable("not read yet")
        found: dict[str, tuple[str, SnapdError]] = {u: (n, waiting) for u, n in self.unread.items()}
        for uuid, picture in self.domains.items():
            if picture.error:
                found[uuid] = (picture.info.name, picture.error)
        return found

    def known(self, domain: str) -> DomainPicture | None:
        """A domain that is there and has answered, by UUID, else by name."""
        by_name = (p for p in self.domains.values() if p.info.name == domain)
        return self.domains.get(domain.lower()) or next(by_name, None)

    def find(self, domain: str) -> DomainPicture:
        """A domain by UUID, else by name. Raises NoSuchDomain; Unavailable where it is there and
        has not answered yet, or nobody knows what is there."""
        picture = self.known(domain)
        if picture is None and (domain.lower() in self.unread or domain in self.unread.values()):
            raise Unavailable(f"VM {domain} has not been read yet: it does not answer; try again")
        if self.loading and not (self.domains or self.unread):
            raise Unavailable("no VM has been read yet; 'virtsnap status' says why; try again")
        if picture is None:
            raise NoSuchDomain(
                f"no VM {domain[:128]!r} at {self.hypervisor.uri}; 'virtsnap status' lists them",
                item=domain[:128],
            )
        return picture

    def find_snapshot(self, domain: str, name: str) -> tuple[DomainPicture, SnapshotInfo]:
        """A snapshot by its exact name, else by the one that differs only in Unicode form."""
        picture = self.find(domain)
        if name in picture.snapshots:
            return picture, picture.snapshots[name]
        wanted = unicodedata.normalize("NFC", name)
        near = [n for n in picture.snapshots if unicodedata.normalize("NFC", n) == wanted]
        if len(near) > 1:
            raise InvalidArgument(
                f"VM {picture.info.name} has {len(near)} snapshots that look like {name[:128]!r}; "
                "give the exact bytes"
            )
        if not near:
            raise NoSuchSnapshot(
                f"VM {picture.info.name} has no snapshot {name[:128]!r}", item=name[:128]
            )
        return picture, picture.snapshots[near[0]]

    # --- listing

    async def refresh(self, uuid: str) -> DomainPicture:
        """List one domain now, whoever asks; raises what the hypervisor raises."""
        async with self._locks.setdefault(uuid, asyncio.Lock()):
            now, before = int(self._clock()), time.monotonic()
            try:
                info, snapshots = await self.hypervisor.read(uuid)
            except NoSuchDomain:
                self._gone(uuid)
                raise
            except SnapdError as e:
                if picture := self.domains.get(uuid):
                    picture.error = e
                raise
            if info.state.active or info.instance >= 0:
                self._tell_active(uuid)
            picture = DomainPicture(info, {s.name: s for s in snapshots}, now)
            self._replace(uuid, picture)
            if info.busy:  # what was told of may not be over; its end sends no event of every job
                asyncio.get_running_loop().call_later(BUSY_SECONDS, self._look_idle, uuid)
            else:
                picture.shows = before
            return picture

    def _replace(self, uuid: str, picture: DomainPicture) -> None:
        before = self.domains.get(uuid)
        self.domains[uuid] = picture
        self.unread.pop(uuid, None)
        if before and before.info == picture.info and before.snapshots == picture.snapshots:
            picture.info, picture.snapshots = before.info, before.snapshots  # the new ones go
            return
        self._tell(Change(uuid, before, picture, before.checked if before else 0))

    def _gone(self, uuid: str) -> None:
        before = self.domains.pop(uuid, None)
        self.unread.pop(uuid, None)
        self._locks.pop(uuid, None)
        self._let_go.pop(uuid, None)
        if before:
            self._tell(Change(uuid, before, None, before.checked))

    def _tell(self, change: Change) -> None:
        for call in self._listeners:
            call(change)

    async def refresh_all(self) -> None:
        """List everything; a domain that doesn't answer keeps its old picture."""
        known = dict(self.domains)  # what is read meanwhile may be newer than the answer
        listed = await self.hypervisor.list_domains()
        for uuid in [u for u, p in known.items() if u not in listed and self.domains.get(u) is p]:
            self._gone(uuid)
        self.unread = {uuid: name for uuid, name in listed.items() if uuid not in self.domains}
        same = set() if self.loading else await self._unchanged()
        due = [u for u in listed if u in self.unread or not (u in same or self._hold(u))]
        await self._refresh_each(due, self._polled)
        self.checked = int(self._clock())

    async def _unchanged(self) -> set[str]:
        """Those that are proven to be as they were, and need not be read: they are checked so."""
        read = {u: p for u, p in self.domains.items() if not p.error and not self._hold(u)}
        now, same = int(self._clock()), await self.hypervisor.unchanged(read)
        for picture in (read[uuid] for uuid in same):
            picture.checked = now
        return same

    async def _refresh_each(self, uuids: Iterable[str], slots: asyncio.Semaphore) -> None:
        async def one(uuid: str) -> None:
            async with slots:
                try:
                    await self.refresh(uuid)
                except NoSuchDomain:
                    pass  # gone between listing and reading, and told as such
                except SnapdError as e:
                    fields = about(uuid=uuid, error=e)
                    log.debug("VM %s could not be read: %s", uuid, e.message, extra=fields)

        await asyncio.gather(*(one(uuid) for uuid in uuids))

    # --- what makes us look

    def _tell_active(self, uuid: str) -> None:
        for call in self._active:
            call(uuid)

    def _on_event(self, event: DomainEvent) -> None:
        if event.from_snapshot or not self._rests(event):
            self._tell_active(event.uuid)
        over = event.at or time.monotonic()
        self._missed[event.uuid] = max(over, self._missed.get(event.uuid, 0))
        if not self._hold(event.uuid):
            self._catch_up(event.uuid)
        if event.trigger and not event.from_snapshot:
            self._on_act(event)

    def _rests(self, event: DomainEvent) -> bool:
        """Whether it is no sign that the domain is active. libvirt merges the snapshots of one that
        is off by a QEMU whose guest never runs: it tells of block jobs and its end, of no start."""
        picture = self.domains.get(event.uuid)
        off = picture is not None and not picture.info.state.active
        merging = event.kind is EventKind.OTHER and off and self._is_ours(event.uuid)
        return event.kind in _AT_REST or merging

    def _is_ours(self, uuid: str) -> bool:
        """Whether what happens to a domain is taken for the doing of our job."""
        since = time.monotonic() - self._let_go.get(uuid, -math.inf)
        return self._hold(uuid) or since < ECHO_SECONDS

    def _on_act(self, event: DomainEvent) -> None:
        """A domain was started, shut down or crashed: tell it where that was not our doing."""
        if self._is_ours(event.uuid):
            fields = about(uuid=event.uuid)
            log.debug("VM %s: %s, by our job", event.uuid, event.trigger, extra=fields)
            return
        for call in self._triggers:
            call(event.uuid, event.trigger)

    def let_go(self, uuid: str) -> None:
        """Catch up on what was told of a domain after a job of ours had begun its last look at it.
        Events come from a queue of libvirt's, so one that the job caused may come after this."""
        self._let_go[uuid] = time.monotonic()
        self._catch_up(uuid)

    def _catch_up(self, uuid: str) -> None:
        over, picture = self._missed.pop(uuid, None), self.domains.get(uuid)
        if over and (picture is None or picture.error or picture.shows <= over):
            self.look(uuid)

    def _look_idle(self, uuid: str) -> None:
        if uuid in self.domains and not self._hold(uuid):
            self.look(uuid)

    def look(self, uuid: str) -> None:
        """Have a domain listed soon."""
        self._wanted[uuid] = None
        self._want.set()

    def _look_at_wanted(self) -> None:
        """Begin to list those that are to be; one that is being listed still comes again after it,
        and no other one waits for it."""
        begun = [uuid for uuid in self._wanted if uuid not in self._looks]
        for uuid in begun:
            del self._wanted[uuid]
            look = self._refresh_each([uuid], self._looked_at)
            self._looks[uuid] = asyncio.create_task(look, name=uuid)
            self._looks[uuid].add_done_callback(self._looked)

    def _looked(self, task: asyncio.Task[None]) -> None:
        uuid = task.get_name()
        del self._looks[uuid]
        if not task.cancelled() and (error := task.exception()):
            log.error("VM %s could not be looked at", uuid, exc_info=error, extra=about(uuid=uuid))
        if uuid in self._wanted:
            self._want.set()

    def _on_connection(self, connected: bool) -> None:
        self._tried.set()
        self.loading = True
        self._loaded.clear()
        if connected:
            self._wake.set()
        self._told_status()

    def _told_status(self) -> None:
        for call in self._status:
            call()

    async def run(self) -> None:
        """Read all on (re)connect and at each poll, single domains as events ask; for ever."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._poll(), name="inventory, all")
            both.create_task(self._look(), name="inventory, each")

    async def _look(self) -> None:
        """Also during a poll, which takes long where there are many VMs."""
        while True:
            await self._want.wait()
            self._want.clear()
            if self.connected and not self.loading:
                self._look_at_wanted()

    async def _poll(self) -> None:
        due, said = 0.0, ""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(max(due, loop.time() + 0.01)):
                    await self._wake.wait()
            self._wake.clear()
            if not self.connected:
                due = loop.time() + POLL_SECONDS
                continue
            try:
                if self.loading or loop.time() >= due:
                    due = await self._read_everything() + loop.time()
                said = ""
            except SnapdError as e:
                level, said = logging.DEBUG if said == e.message else logging.WARNING, e.message
                log.log(level, "the VMs could not be read: %s", e.message, extra=about(error=e))
                due = min(due, loop.time() + 1)

    async def _read_everything(self) -> float:
        """Seconds until it is due again."""
        first, begun = self.loading, time.process_time()
        if first:
            self.versions = await self.hypervisor.versions()
        await self.refresh_all()
        if first and self.connected and not self._wake.is_set():  # the same one still
            self.loading = False
            self._loaded.set()
            self._want.set()
            log.info("read %d VMs at %s", len(self.domains), self.hypervisor.uri)
            self._told_status()
        busy = 0 if first else time.process_time() - begun  # all are read but once in a connection
        return max(POLL_SECONDS, min(REST_TIMES * busy, REST_SECONDS))
