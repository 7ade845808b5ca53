"""Guests that are frozen, or may be by a freeze that comes late (DESIGN.md rule 12).

Each stands in the store before its agent is asked to freeze it, and until the agent has answered a
thaw, which it carries out after everything it was asked before, or until that instance of the VM
is gone. What a verb has not thawed is thawed here, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import (
    AgentUnavailable,
    Busy,
    LibvirtError,
    NoSuchDomain,
    PermissionDenied,
    SnapdError,
    TimedOut,
    Unsupported,
)
from ..hypervisor import DomainEvent, EventKind, Hypervisor
from ..journal import NOT_THAWED, about
from ..model import DomainInfo
from ..store import Store

log = logging.getLogger(__name__)
AGENT_SECONDS = 10
CALL_SECONDS = 16.0  # the agent's own time-out, after libvirt's 5 s to get in step with it
RETRY = (1.0, 30.0)
FACT = "frozen"

# The agent has answered that it doesn't freeze, or was never asked: it has nothing of ours to
# thaw, and what somebody else has frozen (a backup) is not ours to thaw.
_REFUSED = (Busy, LibvirtError, NoSuchDomain, PermissionDenied, Unsupported)
_NEWS = (EventKind.STARTED, EventKind.RESUMED, EventKind.STOPPED, EventKind.UNDEFINED)


@dataclass(frozen=True, slots=True)
class FrozenGuest:
    """A guest that is not known to be thawed since `since` (seconds UTC).

    instance: DomainInfo.instance when it was asked. late: its agent did not answer the freeze in
    time, and may carry it out whenever it wakes up.
    """

    domain: str
    name: str
    instance: int
    since: int
    late: bool = False


class FrozenGuests:
    """The ledger of frozen guests, and the keeper of each that nobody else is about to thaw.

    clock: seconds UTC.
    """

    def __init__(
        self, hypervisor: Hypervisor, store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        self._hypervisor, self._store, self._clock = hypervisor, store, clock
        self._guests: dict[str, FrozenGuest] = {}
        self._said: set[str] = set()
        self._held: set[str] = set()
        self._calls: dict[str, asyncio.Task[int]] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._releases: set[asyncio.Task[int]] = set()
        self._news: dict[str, asyncio.Event] = {}
        self._listeners: list[Callable[[], None]] = []
        self._stopping = False
        hypervisor.on_connection(self._on_connection)
        hypervisor.on_event(self._on_event)

    def on_change(self, call: Callable[[], None]) -> None:
        """Have it told that guests came or went, or are still not thawed."""
        self._listeners.append(call)

    def listed(self) -> list[FrozenGuest]:
        """The guests that are frozen, or may be, the oldest first."""
        return sorted(self._guests.values(), key=lambda g: (g.since, g.domain))

    # --- what a verb does

    async def freeze(self, info: DomainInfo) -> int:
        """Freeze a guest and hold it until release(); how many file systems.

        Raises what the hypervisor raises, and TimedOut: then nothing is held, and the guest is
        thawed here should the freeze come late. So is one that an earlier freeze may come to.
        """
        uuid = info.uuid
        await self._past(info)
        self._held.add(uuid)
        try:
            return await self._ask(uuid, f"freeze VM {info.name}", self._freeze(info))
        except SnapdError:
            self._let_go(uuid)
            await self._mark_late(uuid)
            raise
        except BaseException:
            self._let_go(uuid)
            raise

    def release(self, uuid: str) -> asyncio.Task[int]:
        """Begin to thaw a guest that freeze() holds; the task gives how many file systems were,
        -1 = the agent has not answered, and it goes on here."""
        task = asyncio.create_task(self._release(uuid), name=f"thaw {uuid}")
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        return task

    async def not_while_frozen(self, info: DomainInfo) -> None:
        """Thaw a guest that may have been left frozen; raises TimedOut where that isn't sure.

        One whose freeze was given up is not waited for: that may never come. info: as it is now.
        """
        guest = self._guests.get(info.uuid)
        if guest is None or guest.late or guest.instance != info.instance:
            return
        try:
            await self._thaw_now(guest)
        except SnapdError as e:
            raise TimedOut(f"VM {info.name} may still be frozen: {e.message}") from e

    async def _past(self, info: DomainInfo) -> None:
        """Be done with an earlier freeze of the guest. Raises where its agent does not answer."""
        guest = self._guests.get(info.uuid)
        if guest and guest.instance != info.instance:
            await self._drop(info.uuid)
        elif guest:
            try:
                await self._thaw_now(guest)
            except SnapdError as e:
                spent = max(0, int(self._clock()) - guest.since)
                what = f"its agent has not answered since it was to freeze it {spent} s ago"
                raise AgentUnavailable(f"{what} ({e.message})") from e

    async def _freeze(self, info: DomainInfo) -> int:
        now = int(self._clock())
        self._guests[info.uuid] = FrozenGuest(info.uuid, info.name, info.instance, now)
        try:
            await self._write()
        except BaseException:
            self._guests.pop(info.uuid, None)  # nobody is frozen who would be forgotten
            raise
        try:
            return await self._hypervisor.freeze(info.uuid, AGENT_SECONDS)
        except _REFUSED:
            await self._drop(info.uuid)
            raise

    async def _mark_late(self, uuid: str) -> None:
        if guest := self._guests.get(uuid):
            self._guests[uuid] = replace(guest, late=True)
            await self._write()
            self._tell()

    async def _release(self, uuid: str) -> int:
        guest = self._guests.get(uuid)
        try:
            return await self._thaw_now(guest) if guest else 0
        except SnapdError as e:
            fields = about(guest.name if guest else "", uuid=uuid, error=e, event=NOT_THAWED)
            log.error("a frozen VM could not be thawed: %s", e.message, extra=fields)
            return -1
        finally:
            self._let_go(uuid)

    def _let_go(self, uuid: str) -> None:
        self._held.discard(uuid)
        self._attend(uuid)

    # --- asking the agent

    async def _thaw_now(self, guest: FrozenGuest, *, keeper: bool = False) -> int:
        call = self._thaw(guest.domain, keeper)
        return await self._ask(guest.domain, f"thaw VM {guest.name}", call)

    async def _thaw(self, uuid: str, keeper: bool) -> int:
        if uuid not in self._guests or (keeper and uuid in self._held):
            return 0  # so it has become while an earlier call was waited for
        count = await self._hypervisor.thaw(uuid, AGENT_SECONDS)
        if keeper:
            name = self._guests[uuid].name
            log.info("VM %s is thawed", name, extra=about(name, uuid=uuid))
        await self._drop(uuid)
        return count

    async def _ask(self, uuid: str, what: str, call: Coroutine[Any, Any, int]) -> int:
        """One call of ours at a time to an agent, or a thaw would not be known to come last.

        A call is neither cancelled nor forgotten when it's waited for no more.
        """
        try:
            while earlier := self._calls.get(uuid):
                await self._await(earlier, what)
        except BaseException:
            call.close()
            raise
        task = self._calls[uuid] = asyncio.create_task(call, name=what)
        task.add_done_callback(lambda task: self._answered(uuid, what, task))
        await self._await(task, what)
        return task.result()

    async def _await(self, task: asyncio.Task[int], what: str) -> None:
        done, _ = await asyncio.wait({task}, timeout=CALL_SECONDS)
        if not done:
            raise TimedOut(f"cannot {what}: no answer within {CALL_SECONDS:g} s")

    def _answered(self, uuid: str, what: str, task: asyncio.Task[int]) -> None:
        self._calls.pop(uuid, None)
        if not task.cancelled() and (error := task.exception()):
            log.debug("cannot %s: %s", what, error, extra=about(uuid=uuid))
        if uuid not in self._keepers:
            self._attend(uuid)

    # --- keeping at it

    def _attend(self, uuid: str) -> None:
        """Have somebody see to it that the guest gets thawed; at once."""
        if uuid not in self._guests or uuid in self._held or self._stopping:
            return
        if uuid in self._keepers:
            self._news[uuid].set()
            return
        self._news[uuid] = asyncio.Event()
        self._keepers[uuid] = asyncio.create_task(self._keep(uuid), name=f"keeper {uuid}")

    async def _keep(self, uuid: str) -> None:
        delay, news = RETRY[0], self._news[uuid]
        try:
            while (guest := self._guests.get(uuid)) and uuid not in self._held:
                news.clear()
                try:
                    if await self._thawed(guest):
                        continue
                except Exception:  # whatever it is: a guest must not stay frozen for it
                    log.exception("thawing VM %s", guest.name, extra=about(guest.name, uuid=uuid))
                self._tell()
                try:
                    async with asyncio.timeout(delay):
                        await news.wait()
                except TimeoutError:
                    delay = min(delay * 2, RETRY[1])
                else:
                    delay = RETRY[0]
        finally:
            del self._keepers[uuid], self._news[uuid]

    async def _thawed(self, guest: FrozenGuest) -> bool:
        """Try once; True also where there is nothing to thaw any more."""
        try:
            await self._thaw_now(guest, keeper=True)
        except SnapdError as e:
            if not await self._is_gone(guest):
                self._say_frozen(guest, e)
                return False
            if self._guests.get(guest.domain) == guest:
                fields = about(guest.name, uuid=guest.domain)
                log.info("VM %s was frozen when it ended", guest.name, extra=fields)
                await self._drop(guest.domain)
        return True

    def _say_frozen(self, guest: FrozenGuest, error: SnapdError) -> None:
        """Once: it is tried again and again, and what lasts becomes a problem."""
        level = logging.DEBUG if guest.domain in self._said else logging.WARNING
        self._said.add(guest.domain)
        fields = about(guest.name, uuid=guest.domain, error=error, event=NOT_THAWED)
        log.log(level, "VM %s may still be frozen: %s", guest.name, error.message, extra=fields)

    async def _is_gone(self, guest: FrozenGuest) -> bool:
        """Whether what was frozen runs no more: the VM is off, or was started anew."""
        try:
            info = await self._hypervisor.domain(guest.domain)
        except NoSuchDomain:
            return True
        except SnapdError:
            return False
        return info.instance != guest.instance

    def _on_connection(self, connected: bool) -> None:
        for uuid in [*self._guests] if connected else ():
            self._attend(uuid)

    def _on_event(self, event: DomainEvent) -> None:
        if event.kind in _NEWS:
            self._attend(event.uuid)

    # --- on disk

    async def load(self) -> None:
        """Take up the guests that an earlier daemon left; before any job is."""
        for row in await self._store.fact(FACT) or ():
            guest = FrozenGuest(
                row["domain"], row["name"], row["instance"], row["since"], row["late"]
            )
            self._guests[guest.domain] = guest

    async def stop(self, timeout: float) -> None:
        """Give the thaws under way that long; the next daemon goes on with what is left."""
        end = asyncio.get_running_loop().time() + timeout
        tasks = self._tasks()
        while tasks and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            tasks = self._tasks()
        self._stopping = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tasks(self) -> set[asyncio.Task[Any]]:
        return {*self._calls.values(), *self._keepers.values(), *self._releases}

    async def _drop(self, uuid: str) -> None:
        self._said.discard(uuid)
        if self._guests.pop(uuid, None):
            await self._write()
            self._tell()

    async def _write(self) -> None:
        await self._store.write_fact(FACT, [asdict(guest) for guest in self.listed()])

    def _tell(self) -> None:
        for call in self._listeners:
            call()
