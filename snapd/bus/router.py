"""From a call on the wire to a method of an object, and back: driven by the contract alone.

**What an object class looks like.** A plain class, no base, with

- `interfaces: ClassVar[tuple[str, ...]]`: the XML interfaces that it serves;
- `path: str`: its object path, an attribute or property;
- for every property of the XML a property, or an attribute that the class at least annotates
  (`size: int`), named in snake_case (`DomainUUID` -> `domain_uuid`), that answers at once, with
  plain values: str, int, bool, float, list, dict. Dicts have the keys that the XML declares, a
  value of None is left out; variants are made here. Other public properties are refused;
- for every method a coroutine `async def NAME(self, call, ARGS..., options)`, its arguments named
  as in the XML (snake_case). call: a Call. Arguments and options come without variants, options
  complete with their defaults. It returns nothing, the one out argument, or a tuple of them;
- optionally `owner_uid: int`, where the XML says OwnerMay;
- optionally `async def prepare(self, method, arguments)`: awaited before details, to look again
  at what is there;
- optionally `details(self, method, arguments) -> dict[str, str]`: what the act is about, for who
  has to allow it: `domain`, `uuid`, `snapshot`, `created`, `policy`, `verb`. method: the XML name;
  arguments: by name. It is asked before and, after the yes, again: another answer is Changed. It
  may raise SnapdError. Without it: the method and its string arguments.

Objects are resolved for each call and never exported. Errors are SnapdError or WireError; any
other exception is logged under an id, and the caller gets the id only.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from ..errors import Changed, Internal, LimitExceeded, NotAuthorized, SnapdError, Unavailable
from ..wire.fault import FREEDESKTOP, WireError, standard
from ..wire.marshal import TooLarge
from ..wire.messages import Incoming
from ..wire.values import Variant, parse_options, unwrap
from . import pack
from .contract import Contract, Interface, Member
from .intake import AT_ONCE, WAITING, Intake
from .pieces import FEW, SECONDS, Pieces
from .signals import Bus, Signals
from .standard import DOCTYPE, INTROSPECTABLE, OBJECT_MANAGER, PEER, PROPERTIES

log = logging.getLogger(__name__)

MAX_CALL = 2**20
MANY, LONG = 64, 2**16
"""Items, and characters, from which on an answer is a large one."""
TRIES = 4
UIDS = 1024


class Objects(Protocol):
    """What the router needs of bus.tree.Tree."""

    async def find(self, path: str) -> Any | None: ...
    def resolve(self, path: str) -> Any | None: ...
    def members(self, path: str) -> list[str] | None: ...
    def children(self, path: str) -> list[str] | None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """Given to every method: who calls, and whether a person may be asked for a password."""

    sender: str
    interactive: bool
    _router: Router
    _incoming: Incoming

    async def uid(self) -> int:
        """The caller's uid. Raises NotAuthorized where the caller has left the bus."""
        return await self._router.uid(self.sender)

    async def authorize(self, action: str, details: Mapping[str, str]) -> None:
        """Ask for a second action, beside the one that the XML names. Raises NotAuthorized."""
        await self._router.ask(self, action, details)


Authorize = Callable[[Call, str, Mapping[str, str]], Awaitable[None]]
"""(call, action, details); raises NotAuthorized, or InteractiveAuthorizationRequired."""


@dataclass(slots=True)
class _Caller:
    """Who a sender is, once that was asked; its calls come to it in their order."""

    uid: int | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Router:
    """Serves all calls of a connection, from the moment it is made."""

    def __init__(
        self,
        bus: Bus,
        contract: Contract,
        signals: Signals,
        objects: Objects,
        authorize: Authorize,
        *,
        at_once: int = AT_ONCE,
        waiting: int = WAITING,
    ) -> None:
        self._bus = bus
        self._contract = contract
        self._signals = signals
        self._objects = objects
        self._authorize = authorize
        self._intake = Intake(self._serve, self._stopping, at_once, waiting)
        self._pieces = Pieces()
        self._callers: dict[str, _Caller] = {}
        self._on_calls: list[Callable[[str], None]] = []
        self._waits = {
            (interface.name, member.name)
            for interface in contract.interfaces.values()
            for member in interface.methods.values()
            if member.waits
        }
        self._lists = {"GetManagedObjects"} | {
            member.name
            for interface in contract.interfaces.values()
            for member in interface.methods.values()
            if "limit" in member.options
        }
        self._standard: dict[str, Callable[..., Any]] = {
            "Ping": self._ping,
            "GetMachineId": self._get_machine_id,
            "Introspect": self._introspect,
            "Get": self._get,
            "GetAll": self._get_all,
            "Set": self._set,
            "GetManagedObjects": self._get_managed_objects,
        }
        bus.serve(self._on_call)

    @property
    def busy(self) -> bool:
        """Whether any call waits for its answer."""
        return self._intake.busy

    def on_call(self, call: Callable[[str], None]) -> None:
        """Have it told who calls, by unique name."""
        self._on_calls.append(call)

    async def close(self) -> None:
        """Cancel what is at work, answer it and what waits or still comes with Unavailable."""
        await self._intake.close()
        self._signals.flush()

    async def uid(self, sender: str) -> int:
        """The uid behind a unique name. The bus never gives such a name twice, so the answer
        holds for good; only its number is bounded. Raises NotAuthorized where it has left."""
        if sender not in self._callers:
            if len(self._callers) >= UIDS:
                self._callers.clear()
            self._callers[sender] = _Caller()
        caller = self._callers[sender]
        async with caller.turn:  # in order, or later calls would overtake those that asked
            if caller.uid is None:
                caller.uid = await self._look_up(sender)
            return caller.uid

    async def _look_up(self, sender: str) -> int:
        try:
            (uid,) = await self._bus.bus_call("GetConnectionUnixUser", "s", sender, timeout=5.0)
        except WireError as error:
            raise NotAuthorized(f"the caller {sender} cannot be identified") from error
        return int(uid)

    async def ask(self, call: Call, action: str, details: Mapping[str, str]) -> None:
        """Have an action authorized; meanwhile the call holds up none of its sender's others."""
        with self._intake.aside(call._incoming):
            await self._authorize(call, action, details)

    # ---- calls

    def _on_call(self, call: Incoming) -> None:
        for tell in self._on_calls:
            tell(call.sender)
        if call.size > MAX_CALL:
            self._refuse(call, f"a call has at most {MAX_CALL >> 20} MiB")
        elif not self._intake.take(call, (call.interface, call.member) in self._waits):
            self._refuse(call, "too many calls at once; wait for answers before you send more")

    def _refuse(self, call: Incoming, why: str) -> None:
        """Without a turn: a flood of these is not answered where much is unread already."""
        if not self._bus.crowded:
            self._fail(call, LimitExceeded(why))

    def _stopping(self, call: Incoming) -> None:
        self._fail(call, Unavailable("virtsnapd is stopping; call again when it is back"))

    def _fail(self, call: Incoming, error: SnapdError | WireError) -> None:
        if not call.no_reply:
            text = error.text if isinstance(error, WireError) else error.message
            self._bus.error(call, error.name, text)

    async def _serve(self, call: Incoming) -> None:
        try:
            list_ = self._intake.list_of(call) if call.member in self._lists else nullcontext()
            async with list_:
                await self._answer(call)
        except (SnapdError, WireError) as error:
            self._fail(call, error)
        except TooLarge as error:
            self._fail(call, LimitExceeded(_too_large(call.member, error)))
        except Exception:
            mark = secrets.token_hex(4)
            log.exception("%s: %s.%s on %s", mark, call.interface, call.member, call.path)
            self._fail(call, Internal(f"a fault of virtsnapd; its log has it under {mark}"))

    async def _answer(self, call: Incoming) -> None:
        """Nothing is done for who has left much unread, as what is done is answered in any case.
        What only reads is made anew where there was no room for it any more."""
        if call.no_reply:
            await self._invoke(call)
            return
        large = False
        for _ in range(TRIES):
            await self._bus.room(call, large)
            member, result = await self._invoke(call)
            body, large = partial(pack.results, member, result), _is_large(result)
            again = not member.action
            if await self._bus.reply(call, member.signature_out, body, large, again):
                return
        raise LimitExceeded("others leave too many answers unread; call again later")

    async def _invoke(self, incoming: Incoming) -> tuple[Member, Any]:
        obj = await self._objects.find(incoming.path)
        interface, member = self._find(incoming, obj)
        if incoming.signature != member.signature_in:
            raise standard(
                "InvalidArgs",
                f"{member.name} takes '{member.signature_in}', not '{incoming.signature}'",
            )
        call = Call(incoming.sender, incoming.interactive, self, incoming)
        read = partial(_arguments, member, incoming)
        arguments = await self._bus.read_aside(read) if incoming.unread else read()
        if interface.name.startswith(FREEDESKTOP):
            handler = self._standard[member.name]
            return member, await handler(incoming.path, obj, *arguments.values())
        if member.action:
            obj = await self._allowed(call, incoming.path, obj, member, arguments)
        return member, await getattr(obj, member.attr)(call, *arguments.values())

    async def _allowed(
        self, call: Call, path: str, obj: Any, member: Member, arguments: Mapping[str, Any]
    ) -> Any:
        """The object to act on, once the act is authorized and still about the same thing."""
        if member.owner_may and obj.owner_uid == await call.uid():
            return obj
        if hasattr(obj, "prepare"):
            await obj.prepare(member.name, arguments)
        details = _details(obj, member, arguments)
        await self.ask(call, member.action, details)
        again = self._objects.resolve(path)
        if again is None or _details(again, member, arguments) != details:
            raise Changed(f"what {member.name} was called for has changed; look again")
        return again

    def _find(self, call: Incoming, obj: Any) -> tuple[Interface, Member]:
        names = self._interfaces(call.path, obj)
        if not names and call.interface != PEER:
            raise standard("UnknownObject", f"no object {call.path}")
        names = names or [PEER]
        wanted = [name for name in names if call.interface in ("", name)]
        if not wanted:
            raise standard("UnknownInterface", f"no interface {call.interface} on {call.path}")
        for name in wanted:
            if member := self._contract[name].methods.get(call.member):
                return self._contract[name], member
        raise standard("UnknownMethod", f"no method {call.member} on {call.path}")

    def _interfaces(self, path: str, obj: Any) -> list[str]:
        """All interfaces of a node; a parent of objects can be introspected, no more."""
        collection = self._objects.members(path) is not None if obj is None else False
        if obj is None and not collection and self._objects.children(path) is None:
            return []
        names = [PEER, INTROSPECTABLE]
        if obj is not None:
            names += [PROPERTIES, *obj.interfaces]
        return [*names, OBJECT_MANAGER] if collection else names

    # ---- the standard interfaces

    async def _ping(self, _path: str, _obj: Any) -> None:
        return None

    async def _get_machine_id(self, _path: str, _obj: Any) -> str:
        return _machine_id()

    async def _introspect(self, path: str, obj: Any) -> str:
        parts = [self._contract[name].xml for name in self._interfaces(path, obj)]
        children = sorted(self._objects.children(path) or ())
        parts += [f'<node name="{label}"/>' for label in children]
        return DOCTYPE + "<node>\n" + "\n".join(parts) + "\n</node>\n"

    async def _get(self, _path: str, obj: Any, interface: str, name: str) -> Variant:
        member = self._property(obj, interface, name)
        return pack.property_value(member, getattr(obj, member.attr))

    async def _set(self, _path: str, obj: Any, interface: str, name: str, _value: Any) -> None:
        member = self._property(obj, interface, name)
        raise standard("PropertyReadOnly", f"{member.name} is read-only")

    async def _get_all(self, _path: str, obj: Any, interface: str) -> Mapping[str, Variant]:
        if interface in (PEER, INTROSPECTABLE, PROPERTIES, OBJECT_MANAGER):
            return {}
        names = [interface] if interface else obj.interfaces
        members = [m for n in names for m in self._known(obj, n).properties.values()]
        return self._signals.values(obj, members)

    async def _get_managed_objects(self, path: str, _obj: Any) -> Mapping[str, Any]:
        found, until = {}, time.monotonic() + SECONDS
        for count, member in enumerate(self._objects.members(path) or ()):
            if count == FEW or time.monotonic() > until:
                until = await self._pieces.next()
            if (obj := self._objects.resolve(member)) is not None:
                found[member] = self._signals.all_values(obj)
        return found

    def _known(self, obj: Any, interface: str) -> Interface:
        if interface not in obj.interfaces:
            raise standard("UnknownInterface", f"no interface {interface} on {obj.path}")
        return self._contract[interface]

    def _property(self, obj: Any, interface: str, name: str) -> Member:
        names = [interface] if interface else obj.interfaces
        for each in names:
            if member := self._known(obj, each).properties.get(name):
                return member
        raise standard("UnknownProperty", f"no property {name} on {obj.path}")


def _arguments(member: Member, call: Incoming) -> dict[str, Any]:
    """By name, without variants, the options complete. Raises InvalidArgument."""
    body = call.arguments()
    arguments = {arg.name: unwrap(value) for arg, value in zip(member.ins, body, strict=True)}
    if member.has_options:
        arguments["options"] = parse_options(member.options, body[-1])
    return arguments


def _details(obj: Any, member: Member, arguments: Mapping[str, Any]) -> Mapping[str, str]:
    if hasattr(obj, "details"):
        details: Mapping[str, str] = obj.details(member.name, arguments)
        return details
    given = {name: value for name, value in arguments.items() if isinstance(value, str)}
    return {"verb": member.name, **given}


def _is_large(result: Any) -> bool:
    parts = result if isinstance(result, tuple) else (result,)
    return any(
        len(part) > (LONG if isinstance(part, str) else MANY)
        for part in parts
        if isinstance(part, (list, dict, str))
    )


def _too_large(member: str, error: TooLarge) -> str:
    way = (
        "list pages with the List methods"
        if member == "GetManagedObjects"
        else "ask for less with the options 'fields' and 'limit'"
    )
    return f"the answer has {error.size >> 20} MiB, over {error.limit >> 20} are not sent; {way}"


@cache
def _machine_id() -> str:
    for file in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            return file.read_text(encoding="ascii").strip()
        except OSError:
            continue
    raise standard("FileNotFound", "this machine has no machine-id")
