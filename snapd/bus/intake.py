"""Who is served when: one task a call, so many at once for each sender, the rest in order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..wire.messages import Incoming

log = logging.getLogger(__name__)

AT_ONCE = 64
WAITING = 4096
BYTES = 8 * 2**20
LISTS = 2

Serve = Callable[[Incoming], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Sender:
    """working: calls that count; others: calls that only wait, and those whose caller is asked
    for a password; waits: those of the first kind, by identity, as a serial is only what the caller
    says; queue: calls not begun; size: bytes of them all;
    lists: room for its big answers."""

    working: int = 0
    others: int = 0
    waits: set[int] = field(default_factory=set)
    queue: deque[Incoming] = field(default_factory=deque)
    size: int = 0
    lists: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTS))


class Intake:
    """Starts calls in the order they came, AT_ONCE at a time per sender.

    A call that only waits (Job.Wait) starts at once and doesn't count. What is queued, waits and
    works for a sender is at most WAITING together, and BYTES; take() says so with False.
    """

    def __init__(
        self,
        serve: Serve,
        cancelled: Callable[[Incoming], None],
        at_once: int = AT_ONCE,
        waiting: int = WAITING,
    ) -> None:
        """serve: works for one call; cancelled: answers a call that close() broke off."""
        self._serve = serve
        self._cancelled = cancelled
        self._at_once = at_once
        self._waiting = waiting
        self._closed = False
        self._senders: dict[str, _Sender] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether any call waits or is being served."""
        return bool(self._senders)

    def take(self, call: Incoming, waits: bool = False) -> bool:
        """Serve the call, now or in its turn; False = there are too many already."""
        if self._closed:
            self._cancelled(call)
            return True
        sender = self._senders.setdefault(call.sender, _Sender())
        if sender.working + sender.others + len(sender.queue) >= self._waiting + self._at_once:
            return False
        if sender.size and sender.size + call.size > BYTES:
            return False
        sender.size += call.size
        if waits:
            sender.others += 1
            sender.waits.add(id(call))
            self._start(call, sender)
        else:
            sender.queue.append(call)
            self._next(sender)
        return True

    @contextmanager
    def aside(self, call: Incoming) -> Iterator[None]:
        """While a person is asked for a password, the call doesn't hold up its sender's others."""
        sender = self._senders[call.sender]
        if id(call) in sender.waits:
            yield
            return
        sender.working -= 1
        sender.others += 1
        self._next(sender)
        try:
            yield
        finally:
            sender.working += 1
            sender.others -= 1

    def list_of(self, call: Incoming) -> asyncio.Semaphore:
        """Room for an answer that may be big: a few for each sender, until they are on their way,
        or 64 lists of 10,000 rows would fill the memory. Only for a call that is served."""
        return self._senders[call.sender].lists

    async def close(self) -> None:
        """Begin nothing more, cancel every call and wait until each has had its answer."""
        self._closed = True
        for sender in self._senders.values():
            while sender.queue:
                self._cancelled(sender.queue.popleft())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _next(self, sender: _Sender) -> None:
        while sender.queue and sender.working < self._at_once:
            sender.working += 1
            self._start(sender.queue.popleft(), sender)

    def _start(self, call: Incoming, sender: _Sender) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(call), name=call.member)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(task, call, sender))

    def _done(self, task: asyncio.Task[None], call: Incoming, sender: _Sender) -> None:
        self._tasks.discard(task)
        sender.size -= call.size
        if id(call) in sender.waits:
            sender.waits.discard(id(call))
            sender.others -= 1
        else:
            sender.working -= 1
        if task.cancelled():
            self._cancelled(call)
        elif error := task.exception():
            log.error("call %s from %s was not answered", call.member, call.sender, exc_info=error)
        self._next(sender)
        if not (sender.working or sender.others or sender.queue):
            self._senders.pop(call.sender, None)
