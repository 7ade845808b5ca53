"""The bus as the rest of the house sees it: calls, replies, signals, names. One per process.

A lost connection is final: wait_disconnected() ends, the process exits and systemd starts it
again. A bus that reads too slowly is waited for: replies hold back while more than 8 MiB are
queued; signals can't wait, and past 128 MiB the bus is taken for dead. Unix fds are never
negotiated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from dbus_next.constants import MessageType
from dbus_next.errors import AuthError, InvalidAddressError
from dbus_next.message import Message

from . import marshal
from .connection import Connection, addresses
from .fault import (
    BUS_PATH,
    DISCONNECTED,
    FREEDESKTOP,
    NAME_HAS_NO_OWNER,
    NO_REPLY,
    NO_SERVER,
    SERVICE_UNKNOWN,
    WireError,
    standard,
)
from .messages import (
    Incoming,
    Signal,
    Subscription,
    Unread,
    incoming,
    incoming_signal,
    match_rule,
    owner_rule,
    remote_error,
)
from .replies import Body, Kept, answer
from .text import one_line

T = TypeVar("T")
HOLD_BACK = 8 * 2**20
DEADLINE = 25.0


class _Asked(NamedTuple):
    """A call of ours that waits: the future of its reply, and who may answer it ("" = any)."""

    reply: asyncio.Future[Message]
    whom: str


class Transport:
    """An open connection to a bus; made by connect()."""

    def __init__(self) -> None:
        self.address = ""
        self.unique_name = ""
        self._connection: Connection | None = None
        self._serial = 1
        self._asked: dict[int, _Asked] = {}
        self._server: Callable[[Incoming], None] | None = None
        self._subscriptions: list[Subscription] = []
        self._owners: dict[str, str] = {}
        self._trusted = False
        self._kept = Kept(self.call, lambda: self.unique_name)
        self._turns = {large: asyncio.Lock() for large in (False, True)}
        self._threads: dict[str, ThreadPoolExecutor] = {}

    @classmethod
    async def connect(cls, address: str, timeout: float = DEADLINE) -> Transport:
        """Connect to "system", "session" or a D-Bus address.

        Raises WireError NoServer: nobody there, or it refuses us; its cause says which.
        """
        transport = cls()
        transport.address = address
        # the system bus passes only replies that were asked for; others pass anybody's
        transport._trusted = address == "system"
        why, last = "its address is empty", None
        for one in addresses(address):
            try:
                await transport._open(one, timeout)
                return transport
            except (OSError, EOFError, AuthError, InvalidAddressError, ValueError) as error:
                last = error
                said = (isinstance(error, OSError) and error.strerror) or str(error)
                why = one_line(f"{one}: {said or 'it does not answer'}")
        raise WireError(NO_SERVER, why) from last

    async def _open(self, address: str, timeout: float) -> None:
        connection = Connection(address, self._on_message)
        try:
            async with asyncio.timeout(timeout):
                await connection.connect()
        except BaseException:
            connection.shut()
            raise
        self._connection = connection
        self.unique_name = connection.unique_name or ""
        connection.gone.add_done_callback(self._on_gone)

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.lost

    # ---- calls of ours

    async def call(
        self,
        dest: str,
        path: str,
        iface: str,
        member: str,
        sig: str = "",
        *body: Any,
        timeout: float = DEADLINE,
        interactive: bool = False,
    ) -> list[Any]:
        """Call a method and return its out arguments, variants as Variant (see values.unwrap).

        timeout: seconds. interactive: the other side may ask a person for a password. Raises
        the SnapdError of the error's name, else WireError: also for no answer in time (NoReply,
        it may have been carried out) and a lost bus (Disconnected).
        """
        flags = marshal.ALLOW_INTERACTIVE if interactive else 0
        ask = partial(
            self._ask, path, iface, member, sig, body, timeout=timeout, flags=flags, name=dest
        )
        if self._trusted or dest.startswith(":") or dest == FREEDESKTOP:
            return await ask(dest)
        known = dest in self._owners
        try:
            return await ask(await self._owner(dest))
        except WireError as error:
            if not known or error.name not in (SERVICE_UNKNOWN, NAME_HAS_NO_OWNER):
                raise
        # its owner went before the call got there: nothing was done
        self._owners.pop(dest, None)
        return await ask(await self._owner(dest))

    async def bus_call(
        self, member: str, sig: str = "", *body: Any, timeout: float = DEADLINE
    ) -> list[Any]:
        """Call a method of the bus itself."""
        return await self.call(
            FREEDESKTOP, BUS_PATH, FREEDESKTOP, member, sig, *body, timeout=timeout
        )

    async def _ask(
        self,
        path: str,
        iface: str,
        member: str,
        sig: str,
        body: Sequence[Any],
        dest: str,
        *,
        timeout: float,
        flags: int,
        name: str,
    ) -> list[Any]:
        serial = self._next_serial()
        data = marshal.frame(
            marshal.METHOD_CALL,
            serial,
            sig,
            body,
            path=path,
            interface=iface,
            member=member,
            destination=dest,
            flags=flags,
        )
        if not self.connected:
            raise WireError(DISCONNECTED, "no connection to the bus")
        whom = "" if self._trusted else dest
        asked = _Asked(asyncio.get_running_loop().create_future(), whom)
        self._asked[serial] = asked
        self._push(data)
        try:
            async with asyncio.timeout(timeout):
                reply = await asked.reply
        except TimeoutError:
            text = f"{name} did not answer {member} within {timeout:g} s"
            raise WireError(NO_REPLY, text) from None
        finally:
            self._asked.pop(serial, None)
        if reply.message_type is MessageType.ERROR:
            raise remote_error(reply)
        return list(reply.body)

    async def _owner(self, name: str) -> str:
        """The unique name behind a well-known one; started by the bus where it can be."""
        if name not in self._owners:
            try:
                (owner,) = await self.bus_call("GetNameOwner", "s", name)
            except WireError as error:
                if error.name != NAME_HAS_NO_OWNER:
                    raise
                await self.bus_call("StartServiceByName", "su", name, 0)
                (owner,) = await self.bus_call("GetNameOwner", "s", name)
            self._owners[name] = owner
        return self._owners[name]

    async def request_name(self, name: str) -> None:
        """Own the name or raise WireError AddressInUse; never queue behind another owner."""
        (answer,) = await self.bus_call("RequestName", "su", name, 4)  # DO_NOT_QUEUE
        if answer not in (1, 4):
            raise standard("AddressInUse", f"the bus name {name} is taken")

    # ---- signals to us

    async def subscribe(
        self,
        callback: Callable[[Signal], None],
        *,
        sender: str,
        path: str = "",
        interface: str = "",
        member: str = "",
        arg0: str | None = None,
    ) -> Subscription:
        """Call back, on the loop, for every such signal that really comes from `sender`, a
        unique or well-known name whose owner may change. arg0: what its first argument has to be,
        a string without quotes; None = whatever."""
        parts = {"sender": sender, "path": path, "interface": interface, "member": member}
        rule = match_rule(parts) + (f",arg0='{arg0}'" if arg0 is not None else "")
        end = self._unsubscribe
        made = Subscription(callback, sender, path, interface, member, rule, end, arg0)
        if not sender.startswith(":") and sender != FREEDESKTOP:
            await self.add_match(owner_rule(sender))
            self._owners.pop(sender, None)
            try:
                self._owners[sender] = (await self.bus_call("GetNameOwner", "s", sender))[0]
            except WireError as error:
                if error.name != NAME_HAS_NO_OWNER:
                    raise
        await self.add_match(rule)
        self._subscriptions.append(made)
        return made

    async def add_match(self, rule: str) -> None:
        await self.bus_call("AddMatch", "s", rule)

    async def _unsubscribe(self, which: Subscription) -> None:
        if which in self._subscriptions:
            self._subscriptions.remove(which)
            await self.bus_call("RemoveMatch", "s", which.rule)
            if not which.sender.startswith(":") and which.sender != FREEDESKTOP:
                await self.bus_call("RemoveMatch", "s", owner_rule(which.sender))

    # ---- calls to us

    def serve(self, handler: Callable[[Incoming], None]) -> None:
        """Give every incoming call to the handler; until then they are UnknownMethod."""
        self._server = handler

    @property
    def crowded(self) -> bool:
        """Whether clients may have left much unread."""
        return not self._kept.few

    async def room(self, call: Incoming, large: bool) -> None:
        """Wait until an answer may be sent. Raises LimitExceeded: too much is unread."""
        await self._kept.room(call.sender, large)

    async def reply(
        self, call: Incoming, sig: str, body: Body, large: bool = False, again: bool = False
    ) -> bool:
        """Answer a call; the body is made in a thread where there is much (large). again: it can be
        made anew, and isn't sent where it would be old once there is room: False.

        Raises MarshalError (nothing is sent), TooLarge above 24 MiB. Waits while the bus is slow.
        """
        writer = self._live().writer
        work = partial(answer, call, self._next_serial(), sig, body)
        if not large and writer.queued <= HOLD_BACK and (self._kept.few or not again):
            self._push(work())
            return True
        # one at a time, so that no crowd fills the memory or the bus
        async with self._turns[large]:
            if again and await self._kept.why_not(call.sender, large):
                return False
            await writer.below(HOLD_BACK)
            self._push(await self._in_thread("marshal", work) if large else work())
            return True

    async def read_aside(self, work: Callable[[], T]) -> T:
        """Have a large call's body read, in a thread: one after the other, whoever called."""
        return await self._in_thread("read", work)

    async def _in_thread(self, name: str, work: Callable[[], T]) -> T:
        if name not in self._threads:
            self._threads[name] = ThreadPoolExecutor(1, name)
        return await asyncio.get_running_loop().run_in_executor(self._threads[name], work)

    def error(self, call: Incoming, name: str, text: str) -> None:
        """Answer a call with an error; the text becomes one clean line."""
        head = {"error": name, "reply_to": call.serial, "destination": call.sender}
        self._tell(marshal.ERROR, "s", [one_line(text)], head)

    def signal(self, path: str, iface: str, member: str, sig: str, body: Sequence[Any]) -> None:
        """Send a signal to whoever listens. Raises MarshalError (nothing is sent)."""
        head = {"path": path, "interface": iface, "member": member}
        self._tell(marshal.SIGNAL, sig, body, head)

    def _tell(self, kind: int, sig: str, body: Sequence[Any], head: Mapping[str, Any]) -> None:
        flags = marshal.NO_REPLY_EXPECTED
        self._push(
            marshal.frame(kind, self._next_serial(), sig, body, flags=flags, repair=True, **head)
        )

    # ---- the end

    async def wait_disconnected(self) -> None:
        """Wait for the end; raises WireError Disconnected where we did not close it."""
        gone = self._live().gone
        await asyncio.wait([gone])
        if error := gone.exception():
            raise WireError(DISCONNECTED, one_line(f"the bus is gone: {error or 'hung up'}"))

    async def close(self, timeout: float = 5.0) -> None:
        """Send what is queued, for at most `timeout` seconds, then disconnect."""
        connection = self._connection
        if connection is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await connection.writer.below(0)
        except TimeoutError:
            pass
        finally:
            connection.shut()
            for thread in self._threads.values():
                thread.shutdown(wait=False)

    # ---- inside

    def _live(self) -> Connection:
        if self._connection is None:
            raise WireError(DISCONNECTED, "no connection to the bus")
        return self._connection

    def _push(self, data: bytes) -> None:
        if self._connection is not None:
            self._kept.sent(len(data))
            self._connection.writer.push(data)

    def _next_serial(self) -> int:
        self._serial = self._serial % (2**32 - 1) + 1
        return self._serial

    def _on_gone(self, gone: asyncio.Future[None]) -> None:
        error = gone.exception()
        for asked in self._asked.values():
            if not asked.reply.done():
                text = one_line(f"the bus is gone: {error or 'closed'}")
                asked.reply.set_exception(WireError(DISCONNECTED, text))

    def _on_message(self, message: Message, size: int, unread: Unread | None) -> None:
        if message.message_type is MessageType.METHOD_CALL:
            self._on_call(incoming(message, size, unread))
        elif message.message_type is MessageType.SIGNAL:
            self._on_signal(message)
        else:
            asked = self._asked.get(message.reply_serial)
            if (
                asked is not None
                and message.sender in (asked.whom or message.sender, FREEDESKTOP)
                and not asked.reply.done()
            ):
                asked.reply.set_result(message)

    def _on_call(self, call: Incoming) -> None:
        if self._server is not None:
            self._server(call)
        elif not call.no_reply:
            self.error(call, f"{FREEDESKTOP}.Error.UnknownMethod", "no objects here")

    def _on_signal(self, message: Message) -> None:
        if message.sender == FREEDESKTOP and message.member == "NameOwnerChanged":
            name, _, owner = message.body
            if name in self._owners or any(each.sender == name for each in self._subscriptions):
                self._owners[name] = owner
                if not owner:
                    del self._owners[name]
        for each in list(self._subscriptions):
            if each.wants(message, self._owners.get(each.sender, each.sender)):
                each.callback(incoming_signal(message))
