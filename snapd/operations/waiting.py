"""Waiting for others than ourselves: a backup on the VM, or a job that writes RAM to the same
file system. By libvirt's own word that something ended, never by piling calls up behind its lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator

from ..errors import Busy
from ..hypervisor import DomainEvent, DomainFacts, Hypervisor
from .job import Interrupted, Job
from .preflight import writable

LOOK_AGAIN_SECONDS = 5.0


class News:
    """Wakes who waits for something to happen to a domain."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._waiting: dict[str, list[asyncio.Event]] = {}
        hypervisor.on_event(self._on_event)

    def _on_event(self, event: DomainEvent) -> None:
        for each in self._waiting.get(event.uuid, ()):
            each.set()

    @contextlib.contextmanager
    def of(self, uuid: str) -> Iterator[asyncio.Event]:
        """Set at each event of the domain, from now on."""
        each = asyncio.Event()
        self._waiting.setdefault(uuid, []).append(each)
        try:
            yield each
        finally:
            self._waiting[uuid].remove(each)
            if not self._waiting[uuid]:
                del self._waiting[uuid]


async def idle_facts(
    hypervisor: Hypervisor, news: News, job: Job, uuid: str, snapshot: str = ""
) -> DomainFacts:
    """The facts, once nobody else is at work on the domain; or as they are when the job may wait
    no longer (its max_wait), and then the preflight says who it is. Past a wait the phase is
    "checking": what comes then can't be cancelled."""
    loop = asyncio.get_running_loop()
    waited = False
    with news.of(uuid) as told:
        while True:
            told.clear()  # before the look: what happens during it is not missed
            facts = await hypervisor.facts(uuid, snapshot)
            left = job.start_by - loop.time()
            if not facts.holder or left <= 0:
                if waited:
                    job.enter("checking")
                return facts
            waited = True
            job.wait_for(facts.holder)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_AGAIN_SECONDS)):
                    await told.wait()
            if job.stopping:
                raise Interrupted("waiting")


class Writers:
    """One job at a time writes much to a file system: two take longer, and both guests suffer.

    what: what such a job does there, and item: the word for it in the error of one that may not
    wait for another.
    """

    def __init__(self, what: str = "writes RAM", item: str = "ram-writer") -> None:
        self._what, self._item = what, item
        self._locks: dict[int, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def turn(
        self, job: Job, facts: DomainFacts, targets: Collection[str] = ()
    ) -> AsyncIterator[bool]:
        """Hold the file systems of these disks, of the domain's first one where none is given;
        yields whether they had to be waited for. Raises Busy past the job's max_wait."""
        locks = [self._locks.setdefault(d, asyncio.Lock()) for d in _devices(facts, targets)]
        loop = asyncio.get_running_loop()
        waited = any(lock.locked() for lock in locks)
        if waited:
            job.wait_for(f"another job that {self._what} on the same file system")
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout_at(max(job.start_by, loop.time() + 0.01)):
                    for lock in locks:  # by number: two jobs never wait for each other
                        await held.enter_async_context(lock)
            except TimeoutError as e:
                raise Busy(
                    f"VM {facts.info.name} has to wait: another job {self._what} on the same file "
                    "system; try again, or allow more max_wait",
                    item=self._item,
                ) from e
            if waited:
                job.enter("checking")
            yield waited


def _devices(facts: DomainFacts, targets: Collection[str]) -> list[int]:
    """Numbers of the file systems that could be told, in their order."""
    wanted = targets or [d.target for d in writable(facts.info.disks)[:1]]
    found = {facts.space[t].device for t in wanted if t in facts.space}
    return sorted(found - {0})
