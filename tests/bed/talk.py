"""Talking to a running guest over its virtio-serial ports, and timing it by the host's clock."""

import itertools
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


class GuestError(AssertionError):
    """The guest didn't answer, or its command failed."""


def ask(port: Path, request: str, timeout: float) -> tuple[int, str]:
    """Have the guest behind the command port carry out one line; return its status and output.

    Raises TimeoutError if no whole answer came in `timeout` seconds, OSError if the port is gone.
    """
    if "\n" in request:
        raise ValueError("a request is one line")
    request_id = uuid.uuid4().hex
    deadline = time.monotonic() + timeout
    lines: list[str] = []
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        client.connect(str(port))
        client.sendall(f"{request_id} {request}\n".encode())
        rest = b""
        while True:
            client.settimeout(max(0.001, deadline - time.monotonic()))
            data = client.recv(65536)
            if not data:
                raise ConnectionResetError(f"{port} was closed while the guest was asked")
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                said_to, _, text = line.decode(errors="replace").partition(" ")
                if said_to != request_id:
                    continue  # the answer to somebody who didn't wait for it
                if text.startswith(". "):
                    return int(text[2:]), "\n".join(lines)
                lines.append(text[2:])


@dataclass(frozen=True)
class Beat:
    """A pulse as the host got it: the host's monotonic clock, the guest's uptime, its counter."""

    at: float
    uptime: float
    tick: int


class Pulse:
    """Records the guest's pulse (every 0.01 s of its time) while the block runs.

        with guest.pulse() as pulse:
            ...
        pulse.standstill()

    The guest's own clock is no use for this: it stands still with the guest's CPUs. The block is
    entered after the first beat and left after one that the guest sent later than the block's end,
    so a standstill that reaches to the end is in it; 60 s without a beat is a GuestError.
    """

    _PATIENCE = 60.0

    def __init__(self, port: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(port))
        self._beats: list[Beat] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        self._await_beats(2)  # the first may be an old one, sent when nobody listened
        with self._news:
            del self._beats[:-1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with self._news:
                    seen = len(self._beats)
                self._await_beats(seen + 2)
        finally:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._reader.join()
            self._socket.close()

    def standstill(self) -> float:
        """The longest time in seconds, by the host's clock, in which no CPU of the guest ran."""
        times = [beat.at for beat in self._beats]
        return max(b - a for a, b in itertools.pairwise(times))

    def write_stall(self) -> float:
        """The longest time in seconds, by the host's clock, between two synced writes of the guest.

        At its best that is the 0.05 s from one write to the next and the writes' own time.
        """
        changes = [self._beats[0].at]
        changes += [
            b.at for a, b in zip(self._beats, self._beats[1:], strict=False) if a.tick != b.tick
        ]
        changes.append(self._beats[-1].at)
        return max(b - a for a, b in itertools.pairwise(changes))

    @property
    def beats(self) -> tuple[Beat, ...]:
        with self._news:
            return tuple(self._beats)

    def _await_beats(self, count: int) -> None:
        with self._news:
            if not self._news.wait_for(lambda: len(self._beats) >= count, self._PATIENCE):
                raise GuestError(f"no pulse from the guest for {self._PATIENCE:g} s")

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data = self._socket.recv(65536)
            except ConnectionError:
                return  # the guest's QEMU ended
            at = time.monotonic()
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            beats = [Beat(at, *_parse(line)) for line in whole]
            with self._news:
                self._beats += beats
                self._news.notify_all()


def _parse(line: bytes) -> tuple[float, int]:
    uptime, tick = line.split()
    return float(uptime), int(tick)
