"""The connections to one libvirt: kept up for ever, and shared out so that no VM blocks another.

libvirtd serves 5 requests of a client at a time (LIBVIRT.md 9, FIELD_REPORTS 47), and while one
waits, the answers to others on the same connection come up to 5 s late (libvirt 9.0, measured). So
what may wait behind a stuck VM never goes over the connection that answers everybody, but over one
of its own. `test://` keeps its state in the connection: there one serves all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import libvirt

from ..errors import TimedOut, Unavailable
from ..journal import CONNECTION_LOST, about
from .errormap import broken_off, translate
from .loop import EventLoop

log = logging.getLogger(__name__)
T = TypeVar("T")

KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 10, 1
"""One that says nothing for 20 s is dead. More than the 5 s after which libvirtd asks us itself: as
long as it does we need not, and wake up less."""
PROBE_SECONDS = 120.0
"""Where libvirt answers no keepalive; where it does, that tells much sooner."""
OPEN_SECONDS = 20.0
BACKOFF_SECONDS = (0.2, 30.0)
SESSION_SECONDS = 5.0
"""The longest pause where a person may start their own libvirt at any time, and look."""
STOPPED_SECONDS = 2.0
IDLE_SECONDS = 90.0
"""So long a connection that no call is on is kept (longer than from one poll to the next): libvirtd
wakes us on each every 5 s."""
SESSION_HINT = "virtsnapd starts none: start virt-manager, or virsh -c qemu:///session, once"


class Server(Protocol):
    """What serves the URI, as whoever starts and stops it knows it (systemd). Raises nothing."""

    async def connected(self) -> None:
        """A connection is new: note what serves it."""

    async def stopped(self) -> str:
        """Why libvirt isn't to be dialled now, which would start it again; "" = it may be."""


@dataclass
class _Lane:
    """A connection for calls that may wait, how many are on it, and when the last one ended, by
    the loop's clock."""

    conn: libvirt.virConnect
    calls: int = 0
    left: float = 0.0


class Connections:
    """All connections to one URI.

    on_open(conn): called in a thread when the main connection is new, before anybody reads: the
    place to register events. on_change(connected): called on the loop, also when the first try
    has failed.
    """

    def __init__(
        self,
        uri: str,
        on_open: Callable[[libvirt.virConnect], None],
        on_change: Callable[[bool], None],
    ) -> None:
        self.uri = uri
        self.error = "not connected yet"
        self.shared = uri.startswith(("test:", "test+"))
        self.events = EventLoop.start()
        self._on_open, self._on_change = on_open, on_change
        self._reads = ThreadPoolExecutor(8, "libvirt-read")
        self._calls = ThreadPoolExecutor(64, "libvirt-call")
        self._main: libvirt.virConnect | None = None
        self._lanes: dict[str, list[_Lane]] = {"look": [], "verb": []}
        self._lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def connected(self) -> bool:
        return self._main is not None

    # --- keeping it up

    async def keep(self, server: Server | None = None) -> None:
        """Connect, watch, connect again: until cancelled. What was stopped is not dialled."""
        delay, most = BACKOFF_SECONDS[0], SESSION_SECONDS if self._session else BACKOFF_SECONDS[1]
        answered = False
        while True:
            if server:
                await self._until_wanted(server)
            try:
                await self._open()
            except (libvirt.libvirtError, TimeoutError) as e:
                again, self.error = self.error, self._told(e)
                level = logging.DEBUG if again == self.error else logging.WARNING
                log.log(level, "cannot connect to libvirt at %s: %s", self.uri, self.error)
                if not answered:
                    answered = True
                    self._on_change(False)
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                delay = min(delay * 2, most)
                continue
            delay, answered = BACKOFF_SECONDS[0], True
            self._on_change(True)
            try:
                if server:
                    await server.connected()
                await self._watch()
            finally:
                await self._drop()
                self._on_change(False)
            fields = about(event=CONNECTION_LOST)
            log.warning(
                "the connection to libvirt at %s is lost: %s", self.uri, self.error, extra=fields
            )

    @property
    def _session(self) -> bool:
        return self.uri.partition("?")[0].endswith("/session")

    def _told(self, error: Exception) -> str:
        """Why it can't be opened, and what a person can do where that is theirs."""
        why = " ".join(str(error).split()) or "opening it took too long"
        return f"{why}; {SESSION_HINT}" if self._session else why

    async def _until_wanted(self, server: Server) -> None:
        """Return when libvirt may be dialled: at once, but where somebody has stopped it."""
        said = ""
        while why := await server.stopped():
            if why != said:
                self.error = said = why
                log.info("libvirt at %s is left alone: %s", self.uri, why)
            await asyncio.sleep(STOPPED_SECONDS)

    async def _open(self) -> None:
        self._lost.clear()
        conn = await self._in_thread(self._reads, self._dial, OPEN_SECONDS)
        await self._in_thread(self._reads, lambda: self._on_open(conn), OPEN_SECONDS)
        self._main, self.error = conn, ""
        log.info("connected to libvirt at %s", self.uri)

    def _dial(self) -> libvirt.virConnect:
        conn = libvirt.open(self.uri)
        with contextlib.suppress(libvirt.libvirtError):  # local drivers know neither
            conn.registerCloseCallback(self._on_close, None)
            conn.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
        return conn

    def _on_close(self, conn: libvirt.virConnect, reason: int, _opaque: object) -> None:
        def lost() -> None:
            if conn is self._main or self._main is None:
                self.error = f"closed (reason {reason})"
                self._lost.set()

        self._on_loop(lost)

    async def _watch(self) -> None:
        """Return when the main connection is dead."""
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._lost.wait()
                return
            try:
                await self.read("cannot ask libvirt for its version", lambda c: c.getLibVersion())
            except (Unavailable, TimedOut) as e:
                self.error = e.message
                return
            await self._close_idle()

    async def _close_idle(self) -> None:
        """Close the connections that nobody has needed for a while, but the main one."""
        since = self._loop.time() - IDLE_SECONDS
        for lanes in self._lanes.values() if not self.shared else ():
            idle = [lane for lane in lanes if not lane.calls and lane.left < since]
            lanes[:] = [lane for lane in lanes if lane not in idle]
            for lane in idle:
                await self._close(lane.conn)

    async def _close(self, conn: libvirt.virConnect) -> None:
        def hang_up() -> None:
            with contextlib.suppress(libvirt.libvirtError):  # local drivers have none
                conn.unregisterCloseCallback()  # libvirt keeps the connection for it
            conn.close()

        with contextlib.suppress(libvirt.libvirtError, TimeoutError):
            await self._in_thread(self._reads, hang_up, 2)

    async def _drop(self) -> None:
        main, self._main = self._main, None
        conns = [lane.conn for lanes in self._lanes.values() for lane in lanes]
        self._lanes = {"look": [], "verb": []}
        if main is not None:
            conns.append(main)
        for conn in conns:
            await self._close(conn)

    async def close(self) -> None:
        """Let the connections go; calls that libvirt still carries out are left to it."""
        await self._drop()
        self._reads.shutdown(wait=False, cancel_futures=True)
        self._calls.shutdown(wait=False, cancel_futures=True)

    # --- calling

    async def read(
        self, what: str, call: Callable[[libvirt.virConnect], T], timeout: float = 10
    ) -> T:
        """A short read that never waits for a VM. Raises Unavailable, TimedOut, mapped errors."""
        conn = self._main
        if conn is None:
            raise self._unavailable(what)
        return await self._guarded(what, self._reads, lambda: call(conn), timeout, False)

    async def look(
        self,
        what: str,
        call: Callable[[libvirt.virConnect], T],
        timeout: float,
        answered: Callable[[], None],
    ) -> T:
        """A read that may wait behind a VM's job, for that long; the thread may wait on.

        answered: called on the loop when the thread is done, or was never begun.
        """
        return await self._on_lane("look", what, call, timeout, answered, changing=False)

    async def act(self, what: str, call: Callable[[libvirt.virConnect], T]) -> T:
        """A call that changes something. It has no time-out: it ends when libvirt ends it."""
        return await self._on_lane("verb", what, call, None, None, changing=True)

    async def _on_lane(
        self,
        kind: str,
        what: str,
        call: Callable[[libvirt.virConnect], T],
        timeout: float | None,
        answered: Callable[[], None] | None,
        *,
        changing: bool,
    ) -> T:
        try:
            lane = await self._lane(kind, what)
        except BaseException:
            if answered:
                answered()
            raise

        def done() -> None:
            lane.calls -= 1
            lane.left = self._loop.time()
            if answered:
                answered()

        return await self._guarded(
            what, self._calls, lambda: call(lane.conn), timeout, changing, done
        )

    async def _lane(self, kind: str, what: str) -> _Lane:
        """A connection that no call is on, but where one serves all; counted from now on."""
        main = self._main
        if main is None:
            raise self._unavailable(what)
        lanes = self._lanes[kind]
        lane = next((lane for lane in lanes if self.shared or not lane.calls), None)
        if lane is None:
            if self.shared:
                conn = main
            else:
                conn = await self._guarded(what, self._reads, self._dial, OPEN_SECONDS, False)
            lane = _Lane(conn)
            lanes.append(lane)
        lane.calls += 1
        return lane

    async def _guarded(
        self,
        what: str,
        pool: ThreadPoolExecutor,
        call: Callable[[], T],
        timeout: float | None,
        changing: bool,
        done: Callable[[], None] | None = None,
    ) -> T:
        try:
            return await self._in_thread(pool, call, timeout, done)
        except libvirt.libvirtError as e:
            if broken_off(e):
                self._lost.set()
            raise translate(e, what, changing=changing) from e
        except TimeoutError as e:
            raise TimedOut(f"{what}: no answer from libvirt within {timeout:g} s") from e

    async def _in_thread(
        self,
        pool: ThreadPoolExecutor,
        call: Callable[[], T],
        timeout: float | None,
        done: Callable[[], None] | None = None,
    ) -> T:
        future = pool.submit(call)
        if done:  # when the thread is done, not when we stop waiting for it
            future.add_done_callback(lambda _: self._on_loop(done))
        async with asyncio.timeout(timeout):  # wait_for() of 3.11 swallows cancellations
            return await asyncio.wrap_future(future)

    def _on_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving
            self._loop.call_soon_threadsafe(call)

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"{what}: no connection to libvirt at {self.uri} ({self.error})")
