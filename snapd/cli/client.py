"""The daemon as actions see it: plain values in and out, lists whole, any error an exception."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from ..errors import InvalidArgument, NoSuchDomain, NoSuchPolicy, NoSuchSnapshot, SnapdError
from ..wire import paths
from ..wire.fault import WireError
from ..wire.messages import Signal, Subscription
from ..wire.transport import DEADLINE, Transport
from ..wire.values import Variant, unwrap, variant
from .agent import Agent
from .failures import Unanswered, is_lost
from .output.screen import Screen
from .waiting import Waiting

INTERFACE = "org.virtsnap.Snapd1"
PROPERTIES = "org.freedesktop.DBus.Properties"
PAGE = 5000
PROMPT = 300.0
"""Seconds for a call that may have to wait for a person's password."""
JOBS = (
    *("CreateSnapshot", "RevertSnapshot", "DeleteSnapshot", "DeleteOwnSnapshots"),
    *("Audit", "RunPolicy", "ConfirmPrune"),
)
"""The methods that make a job."""
Row = dict[str, Any]
Argument = str | int | list[str] | dict[str, Any]
_SIGNATURES: dict[type, str] = {str: "s", int: "x", list: "as", dict: "a{sv}"}
Action = Callable[["Client", Namespace, Screen], Awaitable[int]]


def with_daemon(action: Action, args: Namespace, screen: Screen) -> int:
    """Run an action with a client of the daemon on the bus of `args`; its exit code."""

    async def run() -> int:
        transport = await Transport.connect(args.bus)
        agent = Agent(args.bus, ask=not args.no_ask_password)
        waiting = Waiting(screen)
        client = Client(transport, agent=agent, waiting=waiting)
        try:
            return await action(client, args, screen)
        except (NoSuchDomain, NoSuchSnapshot, NoSuchPolicy) as error:
            from . import nearest

            await nearest.add(client, args, error)
            raise
        except WireError as error:  # a look at what was done, behind it
            if client.acted and is_lost(error) and not isinstance(error, Unanswered):
                raise Unanswered(error, job=client.acted in JOBS) from error
            raise
        except asyncio.CancelledError:
            if hasattr(args, "no_wait") and not client.acted:
                waiting.left_before()
            raise
        finally:
            agent.close()
            await transport.close()

    return asyncio.run(run())


class Client:
    """The Manager's methods and everybody's properties. Errors: SnapdError, WireError.

    name: the daemon's, or its unique name, for which the bus starts nothing. timeout: seconds for
    a call that asks nobody. agent: who asks for a password; without one, polkit sees to that.
    waiting: who tells a person that an answer takes its time. acted: the last method that may
    have changed something, "" = none.
    """

    def __init__(
        self,
        transport: Transport,
        name: str = paths.NAME,
        timeout: float = DEADLINE,
        agent: Agent | None = None,
        waiting: Waiting | None = None,
    ) -> None:
        self._bus, self._name, self._timeout = transport, name, timeout
        self._agent, self._waiting = agent, waiting
        self.acted = ""

    @property
    def bus(self) -> Transport:
        return self._bus

    async def ask(self, member: str, *arguments: Argument, **options: Any) -> list[Any]:
        """Call a method that reads; its out arguments. Options of None are left out."""
        return await self._call(paths.ROOT, "Manager", member, arguments, options)

    async def act(self, member: str, *arguments: Argument, **options: Any) -> str:
        """Call a method that changes something, for which a person may be asked; its out
        argument, "" = it has none."""
        return await self.act_on(paths.ROOT, "Manager", member, *arguments, **options)

    async def act_on(
        self, path: str, interface: str, member: str, *arguments: Argument, **options: Any
    ) -> str:
        """As act(), of another object."""
        how: dict[str, Any] = {"timeout": PROMPT, "interactive": True}
        if self._agent:
            await self._agent.ready()
            how["interactive"] = self._agent.ask
        before, self.acted = self.acted, member
        try:
            out = await self._call(path, interface, member, arguments, options, **how)
        except asyncio.CancelledError:
            if self._waiting:
                self._waiting.left_act(job=member in JOBS)
            raise
        except WireError as error:
            if is_lost(error):
                raise Unanswered(error, job=member in JOBS) from error
            self.acted = before
            raise
        except SnapdError:
            self.acted = before
            raise
        return str(out[0]) if out else ""

    async def rows(self, member: str, *arguments: str, **options: Any) -> tuple[list[Row], Row]:
        """A whole list, all its pages: rows, and the info of the last page."""
        rows: list[Row] = []
        info: Row = {"Next": ""}
        while True:
            page = {**options, "limit": PAGE, "from": info["Next"] or None}
            more, info = await self.ask(member, *arguments, **page)
            rows += more
            if not info["Next"]:
                return rows, info

    async def properties(self, path: str = paths.ROOT, interface: str = "Manager") -> Row:
        """All properties of an object."""
        what = (path, PROPERTIES, "GetAll", "s", f"{INTERFACE}.{interface}")
        call = self._bus.call(self._name, *what, timeout=self._timeout)
        out = await self._answer(call, quiet=interface == "Job")
        return dict(unwrap(out[0]))

    async def wait(self, job: str, seconds: int) -> Row:
        """Job.Wait: its result when it is done; raises its error, or TimedOut."""
        how = {"timeout": seconds}
        out = await self._call(job, "Job", "Wait", (), how, timeout=seconds + 10.0)
        return dict(out[0])

    async def on_change(self, path: str, callback: Callable[[Row], None]) -> Subscription:
        """Have it called with the properties of an object that have changed."""

        def changed(signal: Signal) -> None:
            callback(unwrap(signal.body[1]))

        return await self._bus.subscribe(
            changed,
            sender=self._name,
            path=path,
            interface=PROPERTIES,
            member="PropertiesChanged",
        )

    async def _call(
        self,
        path: str,
        interface: str,
        member: str,
        arguments: tuple[Argument, ...],
        options: Mapping[str, Any],
        **how: Any,
    ) -> list[Any]:
        body = [_packed(one) if isinstance(one, Mapping) else one for one in arguments]
        given = {key: value for key, value in options.items() if value is not None}
        signature = "".join(_SIGNATURES[type(one)] for one in arguments)
        call = self._bus.call(
            self._name,
            path,
            f"{INTERFACE}.{interface}",
            member,
            f"{signature}a{{sv}}",
            *body,
            _packed(given),
            **{"timeout": self._timeout, **how},
        )
        # what a job does is told by others, and a question for a password has the terminal
        asked = "interactive" in how and self._agent is not None and self._agent.asks
        return list(unwrap(await self._answer(call, quiet=interface == "Job" or asked)))

    async def _answer(self, call: Coroutine[Any, Any, list[Any]], *, quiet: bool) -> list[Any]:
        if quiet or self._waiting is None:
            return await call
        return await self._waiting.of(call)


def _packed(values: Mapping[str, Any]) -> dict[str, Variant]:
    """As a{sv}: options of a method, a policy's definition."""
    return {key: _variant(key, value) for key, value in values.items()}


def _variant(key: str, value: Any) -> Variant:
    match value:
        case bool():
            return variant("b", value)
        case int():
            return variant("x", value)
        case str():
            return variant("s", value)
        case Mapping():
            return variant("a{sv}", _packed(value))
        case list() if all(isinstance(item, str) for item in value):
            return variant("as", value)
    raise InvalidArgument(f"{key}: there is no such value on the bus: {value!r}", item=key)
