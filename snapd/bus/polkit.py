"""polkit decides on the system bus: asked for every act, nothing is remembered, fails closed.

No uid is an exception here; polkit itself allows root everything. Where polkit can't be asked
nobody may act, so root may not either.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol
from weakref import WeakValueDictionary

from ..errors import NotAuthorized, SnapdError
from ..wire.fault import FREEDESKTOP, WireError, standard
from ..wire.messages import Signal, Subscription
from ..wire.text import clean
from ..wire.values import variant
from .router import Call

log = logging.getLogger(__name__)

NAME = "org.freedesktop.PolicyKit1"
PATH = "/org/freedesktop/PolicyKit1/Authority"
AUTHORITY = f"{NAME}.Authority"

RULES_SECONDS = 20.0
"""For an answer that needs no person: polkit ends a rule after 15 s, clients give up after 25 s."""
PERSON_SECONDS = 300.0
CANCEL_SECONDS = 2.0
AT_ONCE = 8
"""Checks of a uid at once, the rest wait in order: the bus lets a connection wait for 128 replies,
and one user's open dialogs must not use up everybody's."""
DETAILS = ("domain", "uuid", "snapshot", "policy", "verb")
MAX_DETAIL = 1024
ALLOW_USER_INTERACTION = 1
_BREAKS = re.compile(r"[\t\n\r\x7f-\x9f\u2028\u2029]")


class Bus(Protocol):
    """What is needed of wire.transport.Transport, which takes replies only of whom it asked."""

    async def call(
        self,
        dest: str,
        path: str,
        iface: str,
        member: str,
        sig: str = "",
        *body: Any,
        timeout: float = 25.0,
    ) -> list[Any]: ...

    async def bus_call(
        self, member: str, sig: str = "", *body: Any, timeout: float = 25.0
    ) -> list[Any]: ...

    async def subscribe(
        self, callback: Callable[[Signal], None], *, sender: str, interface: str, member: str
    ) -> Subscription: ...


class Polkit:
    """Asks polkit on a connection to the system bus; authorize() is the router's hook."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._numbers = itertools.count(1)
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._leavers = _Leavers(bus)

    async def authorize(self, call: Call, action: str, details: Mapping[str, str]) -> None:
        """Return where polkit says yes.

        A person is asked for a password only where the caller allows that; where he doesn't and
        it is needed: WireError InteractiveAuthorizationRequired. Anything else is NotAuthorized: a
        no, no answer in time, one that makes no sense, an error, no polkit, a caller that left.
        """
        uid = await call.uid()
        seconds = PERSON_SECONDS if call.interactive else RULES_SECONDS
        left = asyncio.Event()
        try:
            async with asyncio.timeout(seconds) as deadline, self._watched(call, left, deadline):
                turn = self._turns.setdefault(uid, asyncio.Semaphore(AT_ONCE))
                async with turn:
                    answer = await self._check(call, action, details, seconds)
        except TimeoutError:
            if left.is_set():
                raise NotAuthorized(f"{action}: the caller has left the bus") from None
            raise _unasked(action, f"it gave no answer within {seconds:g} s") from None
        except WireError as error:
            raise _unasked(action, error.text) from error
        except SnapdError as error:
            raise _unasked(action, error.message) from error
        _judge(call, action, answer)

    @contextlib.asynccontextmanager
    async def _watched(
        self, call: Call, left: asyncio.Event, deadline: asyncio.Timeout
    ) -> AsyncIterator[None]:
        """Where a person may take long, end at once when the caller leaves. Without one it is not
        worth the while: an answer comes soon."""

        def leave() -> None:
            left.set()
            if not deadline.expired():
                deadline.reschedule(0)

        if not call.interactive:
            yield
            return
        async with self._leavers.told(call.sender, leave):
            yield

    async def _check(
        self, call: Call, action: str, details: Mapping[str, str], seconds: float
    ) -> list[Any]:
        number = f"virtsnapd-{next(self._numbers)}"
        subject = ["system-bus-name", {"name": variant("s", call.sender)}]
        flags = ALLOW_USER_INTERACTION if call.interactive else 0
        body = (subject, action, _fit(details), flags, number)
        ask = (NAME, PATH, AUTHORITY, "CheckAuthorization", "(sa{sv})sa{ss}us")
        try:
            # its own time-out is never the first to end it
            return await self._bus.call(*ask, *body, timeout=seconds + CANCEL_SECONDS)
        except asyncio.CancelledError:
            await self._cancel(number)
            raise

    async def _cancel(self, number: str) -> None:
        """Have polkit stop asking: a dialog goes away. It may have just answered, or be gone."""
        cancel = (NAME, PATH, AUTHORITY, "CancelCheckAuthorization", "s", number)
        try:
            await self._bus.call(*cancel, timeout=CANCEL_SECONDS)
        except (WireError, SnapdError) as error:
            log.info("polkit did not take a question back: %s", error)


def _fit(details: Mapping[str, str]) -> dict[str, str]:
    """What rules and messages may look up, each as one clean line: a bad string would cost us the
    bus, and a break would let a name write lines of its own into a dialog."""
    return {
        key: _BREAKS.sub("\N{REPLACEMENT CHARACTER}", clean(details.get(key, ""), MAX_DETAIL))
        for key in DETAILS
    }


def _judge(call: Call, action: str, answer: list[Any]) -> None:
    """CheckAuthorization's `(bba{ss})`: return for a yes."""
    match answer:
        case [[True, bool(), dict()]]:
            return
        case [[False, bool(challenge), dict(told)]]:
            if challenge and not call.interactive:
                raise standard(
                    "InteractiveAuthorizationRequired",
                    f"{action} needs a password; call again with ALLOW_INTERACTIVE_AUTHORIZATION",
                )
            if "polkit.dismissed" in told:
                raise NotAuthorized(f"{action}: the password dialog was dismissed")
            if challenge:
                raise NotAuthorized(
                    f"{action} needs a password, and no agent is there to ask for it"
                )
            # polkit does not tell a wrong password from a rule that says no
            wrong = ", or the password was wrong" if call.interactive else ""
            raise NotAuthorized(f"{action} is not for you, says polkit{wrong}")
        case _:
            raise _unasked(action, "its answer makes no sense")


def _unasked(action: str, why: str) -> NotAuthorized:
    log.warning("polkit did not decide on %s: %s", action, why)
    return NotAuthorized(
        f"{action}: polkit cannot be asked ({why}), and without it nobody may, not even root; "
        "see that polkit.service runs"
    )


class _Leavers:
    """Tells who leaves the bus. It listens only while somebody has to be told: every connection
    to a bus, and its end, would wake us otherwise."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._tell: dict[str, list[Callable[[], None]]] = {}
        self._subscription: Subscription | None = None
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def told(self, name: str, tell: Callable[[], None]) -> AsyncIterator[None]:
        """Meanwhile call `tell` when the unique name is gone, also where it already is."""
        self._tell.setdefault(name, []).append(tell)
        try:
            await self._tune()
            (there,) = await self._bus.bus_call("NameHasOwner", "s", name)
            if there is not True:
                tell()
            yield
        finally:
            self._tell[name].remove(tell)
            if not self._tell[name]:
                del self._tell[name]
            with contextlib.suppress(WireError):  # the bus is gone, and with it what it would send
                await self._tune()

    async def _tune(self) -> None:
        async with self._turn:
            if self._tell and self._subscription is None:
                self._subscription = await self._bus.subscribe(
                    self._heard,
                    sender=FREEDESKTOP,
                    interface=FREEDESKTOP,
                    member="NameOwnerChanged",
                )
            elif not self._tell and self._subscription is not None:
                ended, self._subscription = self._subscription, None
                await ended.close()

    def _heard(self, signal: Signal) -> None:
        name, _before, after = signal.body
        if not after:
            for tell in list(self._tell.get(name, ())):
                tell()
