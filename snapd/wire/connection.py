"""dbus_next's connection without its faults (0.2.3; never fixed upstream).

It takes EAGAIN for the end, so some 280 messages in a burst lose the bus; it spins for ever when
the bus hangs up before Hello; it reads for as long as there is something to read; it leaks its
socket. Here: a writer that waits, a bound on what it holds, a reader that yields.
"""
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from dbus_next._private.unmarshaller import MarshallerStreamEndError, Unmarshaller
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message

from .messages import Unread
from .unmarshal import values

MAX_QUEUED = 128 * 2**20
"""Bytes that wait for the bus to read them; beyond it the bus is taken for dead."""
STALL = 60.0
"""Seconds for which the bus may read nothing of what waits; then it is taken for dead."""
MESSAGES_AT_ONCE = 32
SECONDS_AT_ONCE = 0.01
LARGE = 4096
"""Bytes of a call's body from which on it isn't read at once: each four of them may be a value, and
a million takes seconds."""
PIECE = 2**18
"""Bytes of a large body that are read at a time: the bus sends on as fast as we read."""
SYSTEM_SOCKET = "unix:path=/var/run/dbus/system_bus_socket"

Deliver = Callable[[Message, int, Unread | None], None]


class Writer:
    """Sends in order, when the socket takes it, and holds at most MAX_QUEUED bytes.

    A bus that takes nothing for STALL seconds is given up: it may read nothing from us for days
    where one client, which hangs, was sent more signals than it keeps. Only a new connection helps.
    """

    def __init__(self, bus: Connection) -> None:
        self._bus = bus
        self._stalled: asyncio.TimerHandle | None = None
        self._queue: deque[memoryview] = deque()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.queued = 0

    def push(self, data: bytes) -> None:
        """Send the bytes, now or when the bus reads. Past the bound the connection is ended."""
        if self._bus.lost:
            return
        self._queue.append(memoryview(data))
        self.queued += len(data)
        if self.queued > MAX_QUEUED:
            self._bus.lose(ConnectionError(f"the bus has not read {self.queued} bytes of ours"))
        elif len(self._queue) == 1:
            self._write()
            if self._queue and not self._bus.lost:
                self._bus.loop.add_writer(self._bus.fd, self._write)
                self._watch()

    async def below(self, size: int) -> None:
        """Wait until at most `size` bytes are queued, or the connection is lost."""
        if self.queued > size and not self._bus.lost:
            waiter = self._bus.loop.create_future()
            self._waiters.append((size, waiter))
            await waiter

    def wake_all(self) -> None:
        """The connection is lost: there is nothing to wait for any more."""
        self._queue.clear()
        self.queued = 0
        self._unwatch()
        self._wake()

    def schedule_write(self, msg: Message | None = None, _future: Any = None) -> None:
        """dbus_next's own name for push(); it calls it once, after Hello, with nothing."""
        if msg is not None:
            self.push(bytes(msg._marshall(False)))

    def _watch(self) -> None:
        self._unwatch()
        text = f"the bus has read nothing for {STALL:g} seconds"
        lose = partial(self._bus.lose, ConnectionError(text))
        self._stalled = self._bus.loop.call_later(STALL, lose)

    def _unwatch(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _write(self) -> None:
        try:
            while self._queue:
                data = self._queue[0]
                sent = self._bus.socket.send(data)
                self.queued -= sent
                if sent < len(data):
                    self._queue[0] = data[sent:]
                else:
                    self._queue.popleft()
        except BlockingIOError:
            pass  # the socket is full: the loop calls again when it isn't
        except OSError as error:
            self._bus.lose(error)
            return
        if not self._queue:
            self._bus.loop.remove_writer(self._bus.fd)
            self._unwatch()
        elif self._stalled is not None:
            self._watch()
        self._wake()

    def _wake(self) -> None:
        ready = [waiter for size, waiter in self._waiters if self.queued <= size]
        self._waiters = [(size, waiter) for size, waiter in self._waiters if self.queued > size]
        for waiter in ready:
            if not waiter.done():
                waiter.set_result(None)


class Reader(Unmarshaller):
    """Reads one message, a large body by our own readers; that of a call stays as it came, and
    `unread` reads it. paused: there was more, but it was long enough at it; to be called again."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.unread: Unread | None = None
        self.size = 0
        self.paused = False
        self._body = bytearray()

    def _unmarshall(self) -> None:
        self.offset = 0
        self.read(16, prefetch=True)
        order = "<" if self.buf[0] == ord("l") else ">"
        body, _serial, fields = struct.unpack_from(f"{order}III", self.buf, 4)
        head = 16 + fields + -fields % 8
        if body > LARGE:
            self.read(head, prefetch=True)
            self._read_body(body)
            self.buf[4:8] = bytes(4)
            super()._unmarshall()
            if self.message is not None:
                work = partial(values, self._body, order, self.message.signature)
                if self.message.message_type is MessageType.METHOD_CALL:
                    self.unread = work
                else:
                    self.message.body = work()
        else:
            super()._unmarshall()
        self.size = head + body

    def _read_body(self, size: int) -> None:
        until = time.monotonic() + SECONDS_AT_ONCE
        self.paused = False
        while missing := size - len(self._body):
            data = self.stream.read(min(missing, PIECE))
            if data is None:
                raise MarshallerStreamEndError
            if not data:
                raise EOFError
            self._body += data
            if len(self._body) < size and time.monotonic() > until:
                self.paused = True
                raise MarshallerStreamEndError


class Connection(MessageBus):
    """One connection. deliver: called with every message after Hello, its size in bytes, and what
    reads its body where that is large."""

    def __init__(self, address: str, deliver: Deliver) -> None:
        super().__init__(bus_address=address, negotiate_unix_fd=False)
        self._deliver = deliver
        self._reading = False
        self.writer = Writer(self)
        self._writer = self.writer  # type: ignore[assignment]

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def fd(self) -> int:
        return self._fd

    @property
    def socket(self) -> Any:
        return self._sock

    @property
    def lost(self) -> bool:
        return self._disconnected

    @property
    def gone(self) -> asyncio.Future[None]:
        """Done when the connection has ended; its exception says why, None = we closed it."""
        return self._disconnect_future

    def lose(self, error: BaseException) -> None:
        """End the connection because of an error."""
        self._finalize(error)

    def shut(self) -> None:
        """Give the socket back, which dbus_next leaves to the garbage collector."""
        self._user_disconnect = True
        self._finalize(None)
        self._stream.close()
        self._sock.close()

    def _finalize(self, err: BaseException | None = None) -> None:
        if self._disconnected:
            return
        super()._finalize(err)
        self.writer.wake_all()

    def _setup_socket(self) -> None:
        try:
            super()._setup_socket()
        except BaseException:
            if hasattr(self, "_sock"):
                self._stream.close()
                self._sock.close()
            raise

    async def _auth_readline(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):
            data = await self._loop.sock_recv(self._sock, 2)
            if not data:
                raise EOFError("the bus hung up during authentication")
            line += data
        return line[:-2].decode()

    def _create_unmarshaller(self) -> Reader:
        return Reader(self._stream)

    def _message_reader(self) -> None:
        if self._disconnected or self._reading:
            return
        until = self._loop.time() + SECONDS_AT_ONCE
        try:
            for _ in range(MESSAGES_AT_ONCE):
                if not self._unmarshaller.unmarshall():
                    if self._unmarshaller.paused:
                        break
                    return
                done, self._unmarshaller = self._unmarshaller, self._create_unmarshaller()
                if done.message.reply_serial in self._method_return_handlers:
                    self._on_message(done.message)
                else:
                    self._deliver(done.message, done.size, done.unread)
                if self._loop.time() > until:
                    break
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream is lost
            self._finalize(error)
            return
        # The rest may be in the stream's buffer, where the selector doesn't see it.
        self._reading = True
        self._loop.call_soon(self._continue_reading)

    def _continue_reading(self) -> None:
        self._reading = False
        self._message_reader()


def addresses(address: str) -> list[str]:
    """The addresses to try, in order, for "system", "session" or a list of addresses."""
    if address == "system":
        address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_SOCKET
    elif address == "session":
        runtime = os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")
        address = os.environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={runtime}/bus"
    return [one for one in address.split(";") if one]
