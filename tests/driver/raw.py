"""A client of a bus without a library: it sends any bytes, reads when told to, and just goes."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from snapd.wire import paths
from snapd.wire.marshal import METHOD_CALL, frame

MANAGER = "org.virtsnap.Snapd1.Manager"
PEER = "org.freedesktop.DBus.Peer"
RETURN, ERROR, SIGNAL = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of what came: its kind, which call it answers (0 = none), the error's name, and
    the rest as bytes; whom it is from and to, and how many bytes it had in all."""

    kind: int
    reply_to: int
    error: str
    body: bytes
    sender: str
    destination: str
    size: int


class Raw:
    """One connection. serial: of the last call made."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(address.partition("path=")[2].partition(",")[0])
        self.serial = 0
        self._read = b""
        uid = str(os.getuid()).encode().hex().encode()
        self.socket.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\n")
        assert self.socket.recv(512).startswith(b"OK ")
        self.socket.sendall(b"BEGIN\r\n")
        bus = {"path": "/org/freedesktop/DBus", "destination": "org.freedesktop.DBus"}
        self.socket.sendall(self.made("Hello", interface="org.freedesktop.DBus", **bus))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.socket.close()

    def made(
        self, member: str, signature: str = "", body: Sequence[Any] = (), **head: Any
    ) -> bytes:
        """A call as bytes, of the Manager unless head says otherwise; not sent."""
        self.serial += 1
        known = {"path": paths.ROOT, "interface": MANAGER, "destination": paths.NAME}
        head = {"serial": self.serial, **known, **head}
        return frame(METHOD_CALL, head.pop("serial"), signature, body, member=member, **head)

    def send(self, *calls: bytes) -> None:
        """Send them at once."""
        self.socket.sendall(b"".join(calls))

    def call(
        self, member: str, signature: str = "", body: Sequence[Any] = (), **head: Any
    ) -> Reply:
        """Make a call and wait for its answer."""
        self.send(self.made(member, signature, body, **head))
        return self.answers(self.serial)[self.serial]

    def answers(self, *serials: int) -> dict[int, Reply]:
        """Read until all of these calls are answered; AssertionError past a minute."""
        wanted = set(serials)
        found: dict[int, Reply] = {}
        deadline = time.monotonic() + 60
        while wanted - found.keys():
            assert time.monotonic() < deadline, f"{len(wanted - found.keys())} without an answer"
            for reply in self.messages(self.socket.recv(2**20)):
                if reply.reply_to in wanted:
                    assert reply.reply_to not in found, f"{reply.reply_to} was answered twice"
                    found[reply.reply_to] = reply
        return found

    def messages(self, data: bytes) -> Iterator[Reply]:
        """The whole messages that have come with these bytes."""
        assert data, "the bus has hung up"
        self._read += data
        at = 0
        while len(self._read) - at >= 16:
            kind, size = self._read[at + 1], struct.unpack_from("<I", self._read, at + 4)[0]
            fields = struct.unpack_from("<I", self._read, at + 12)[0]
            head = 16 + (fields + 7) // 8 * 8
            if len(self._read) - at < head + size:
                break
            yield _reply(kind, self._read[at : at + head], self._read[at + head : at + head + size])
            at += head + size
        self._read = self._read[at:]

    def hung_up(self) -> bool:
        """Whether the bus has ended the connection by now."""
        try:
            while self.socket.recv(2**16):
                pass
        except ConnectionResetError:
            return True
        return True


def _reply(kind: int, head: bytes, body: bytes) -> Reply:
    """Its fields are what dbus-daemon writes: little endian, each at a multiple of eight."""
    found: dict[int, Any] = {}
    at, end = 16, 16 + struct.unpack_from("<I", head, 12)[0]
    while at < end:
        code, signature = head[at], head[at + 2 : at + 3]
        at += 4
        if signature == b"u":
            found[code] = struct.unpack_from("<I", head, at)[0]
            at += 4
        elif signature == b"g":
            at += head[at] + 2
        else:
            size = struct.unpack_from("<I", head, at)[0]
            found[code] = head[at + 4 : at + 4 + size].decode()
            at += 4 + size + 1
        at = (at + 7) // 8 * 8
    names = found.get(7, ""), found.get(6, "")
    return Reply(kind, found.get(5, 0), found.get(4, ""), body, *names, len(head) + len(body))
