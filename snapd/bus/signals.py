"""What we tell without being asked: signals, changed properties, objects that come and go.

Everything leaves in the order in which it happened. A signal that cannot be marshalled is our
own mistake: logged, and never the failure of the work it tells about.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from ..wire import paths
from ..wire.marshal import MarshalError
from ..wire.messages import Incoming
from ..wire.values import Variant
from . import pack
from .contract import Contract, Member
from .standard import OBJECT_MANAGER, PROPERTIES

T = TypeVar("T")
log = logging.getLogger(__name__)


class Bus(Protocol):
    """What this room needs of wire.transport.Transport."""

    def serve(self, handler: Callable[[Incoming], None]) -> None: ...

    @property
    def crowded(self) -> bool: ...

    def room(self, call: Incoming, large: bool) -> Coroutine[Any, Any, None]: ...

    def reply(
        self,
        call: Incoming,
        sig: str,
        body: Callable[[], Sequence[Any]],
        large: bool = False,
        again: bool = False,
    ) -> Coroutine[Any, Any, bool]: ...

    def read_aside(self, work: Callable[[], T]) -> Coroutine[Any, Any, T]: ...

    def error(self, call: Incoming, name: str, text: str) -> None: ...

    def signal(self, path: str, iface: str, member: str, sig: str, body: Sequence[Any]) -> None: ...

    def bus_call(
        self, member: str, sig: str = "", *body: Any, timeout: float = 25.0
    ) -> Coroutine[Any, Any, list[Any]]: ...


class Signals:
    """Sends for objects as the router's page describes them."""

    def __init__(self, bus: Bus, contract: Contract) -> None:
        self._bus = bus
        self._contract = contract
        self._changed: dict[str, tuple[Any, set[str]]] = {}

    def signal(self, path: str, interface: str, name: str, *values: Any) -> None:
        """Send a signal of the contract with plain values, after the changes before it."""
        self.flush()
        member = self._contract[interface].signals[name]
        body = pack.arguments(member, values)
        self._send(path, interface, name, member.signature_out, body)

    def added(self, obj: Any) -> None:
        """Tell the collection's listeners that the object is there now."""
        self.flush()
        body = [obj.path, self.all_values(obj)]
        manager = paths.parent(obj.path)
        self._send(manager, OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", body)

    def removed(self, obj: Any) -> None:
        """Tell the collection's listeners that the object is gone."""
        self._changed.pop(obj.path, None)
        self.flush()
        body = [obj.path, list(obj.interfaces)]
        manager = paths.parent(obj.path)
        self._send(manager, OBJECT_MANAGER, "InterfacesRemoved", "oas", body)

    def changed(self, obj: Any, *names: str) -> None:
        """Tell that properties (XML names) have new values: once per turn of the loop, with the
        values of then, from the object given last. const and false ones are left out."""
        for name in names:
            self._contract.property(obj.interfaces, name)
        if not self._changed:
            asyncio.get_running_loop().call_soon(self.flush)
        _, known = self._changed.get(obj.path, (obj, set()))
        self._changed[obj.path] = (obj, known | set(names))

    def flush(self) -> None:
        """Send the changes now, not at the end of this turn; signal() does so by itself."""
        changed, self._changed = self._changed, {}
        for path, (obj, names) in changed.items():
            for interface in obj.interfaces:
                members = self._contract[interface].properties
                here = [members[name] for name in sorted(names & members.keys())]
                values = self.values(obj, [m for m in here if m.emits == "true"])
                stale = [m.name for m in here if m.emits == "invalidates"]
                if values or stale:
                    body = [interface, values, stale]
                    self._send(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

    def all_values(self, obj: Any) -> dict[str, dict[str, Variant]]:
        """Interface -> property -> value, of all that an object has."""
        return {
            name: self.values(obj, self._contract[name].properties.values())
            for name in obj.interfaces
        }

    def values(self, obj: Any, members: Iterable[Member]) -> dict[str, Variant]:
        """Property values; one that fails is logged and left out, so that it costs itself only."""
        values = {}
        for member in members:
            try:
                values[member.name] = pack.property_value(member, getattr(obj, member.attr))
            except Exception:
                log.exception("property %s of %s", member.name, obj.path)
        return values

    def _send(
        self, path: str, interface: str, name: str, signature: str, body: Sequence[Any]
    ) -> None:
        try:
            self._bus.signal(path, interface, name, signature, body)
        except MarshalError:
            log.exception("signal %s.%s of %s", interface, name, path)
