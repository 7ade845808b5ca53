"""libvirt's own event loop, in one thread of ours.

libvirtaio is not thread-safe (LIBVIRT.md, fact 2): with calls in threads its events come late or
never. So: libvirt's default implementation, turned by one thread; callbacks hand over with
call_soon_threadsafe and do nothing else.
"""

from __future__ import annotations

import logging
import threading
import time

import libvirt

log = logging.getLogger(__name__)
BEAT_SECONDS = 10.0


class EventLoop:
    """The one of this process. `start` must come before the first libvirt connection."""

    _started: EventLoop | None = None

    def __init__(self) -> None:
        self.beat = time.monotonic()
        self._thread = threading.Thread(target=self._turn, name="libvirt-events", daemon=True)

    @classmethod
    def start(cls) -> EventLoop:
        """Register the implementation and turn it; the second call answers the first's."""
        if cls._started is None:
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            loop = cls._started = cls()
            libvirt.virEventAddTimeout(int(BEAT_SECONDS * 1000), loop._on_beat, None)
            loop._thread.start()
        return cls._started

    def alive(self) -> bool:
        """Whether libvirt's timer still fires: the self-test that events can come at all."""
        return self._thread.is_alive() and time.monotonic() - self.beat < 3 * BEAT_SECONDS

    def _on_beat(self, _timer: int, _opaque: object) -> None:
        self.beat = time.monotonic()

    def _turn(self) -> None:
        while True:
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError as e:
                log.error("libvirt's event loop stumbled: %s", e)
                time.sleep(0.1)
