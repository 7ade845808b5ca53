"""The units that serve libvirt, as systemd knows them: did somebody stop the one that we used.

libvirt's sockets start it again as soon as anybody dials, so after `systemctl stop libvirtd` our
next try would undo what the admin did.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from .errors import SnapdError
from .wire.fault import WireError
from .wire.paths import encode
from .wire.transport import Transport
from .wire.values import unwrap

log = logging.getLogger(__name__)

SYSTEMD = "org.freedesktop.systemd1"
UNITS = "/org/freedesktop/systemd1/unit"
PROPERTIES = "org.freedesktop.DBus.Properties"
DEADLINE = 5.0
SERVERS = ("libvirtd", "virtqemud")


@dataclass(frozen=True, slots=True)
class Unit:
    """A service: active, result: systemd's ActiveState and Result; listening: its socket does."""

    name: str
    active: str
    result: str
    listening: bool

    @property
    def up(self) -> bool:
        return self.active in ("active", "activating", "reloading")


def servers_of(uri: str) -> tuple[str, ...]:
    """The services of this host that may be behind a libvirt URI; none for one on another host,
    of a session, at a socket of its own, and for the test driver."""
    parts = urlsplit(uri)
    local = parts.scheme in ("qemu", "qemu+unix") and not parts.netloc and parts.path == "/system"
    return SERVERS if local and "socket" not in parse_qs(parts.query) else ()


def why_stopped(units: Sequence[Unit], served: Collection[str]) -> str:
    """Why libvirt isn't to be dialled, "" = it may be. served: the units that our last connection
    may have been to. One that failed, or that dialling can't start, is dialled."""
    if any(unit.up for unit in units):
        return ""
    for unit in units:
        if unit.name in served and unit.listening and unit.result == "success":
            if unit.active == "inactive":
                return f"{unit.name} was stopped: systemctl start {unit.name}"
            if unit.active == "deactivating":
                return f"{unit.name} is stopping"
    return ""


class LibvirtUnits:
    """Answers hypervisor.connection.Server. Where systemd can't be asked, what it said last holds;
    where it never could, libvirt is dialled."""

    def __init__(self, uri: str) -> None:
        self._names = servers_of(uri)
        self._served: frozenset[str] = frozenset()
        self._why = ""

    async def connected(self) -> None:
        """Note which units may serve the new connection."""
        self._why = ""
        if units := await self._ask():
            self._served = frozenset(unit.name for unit in units if unit.up)

    async def stopped(self) -> str:
        """Why libvirt isn't to be dialled now, "" = it may be."""
        if self._served and (units := await self._ask()):
            self._why = why_stopped(units, self._served)
            if not any(unit.listening for unit in units if unit.name in self._served):
                self._served = frozenset()  # its socket is gone, and when it is back, it is meant
        return self._why

    async def _ask(self) -> list[Unit]:
        """The units as they are now; none where systemd can't be asked."""
        if not self._names:
            return []
        try:
            async with asyncio.timeout(DEADLINE):
                bus = await Transport.connect("system", DEADLINE)
                try:
                    # first the owner, or asking would have the bus try to start one
                    await bus.bus_call("GetNameOwner", "s", SYSTEMD)
                    return [await _unit(bus, name) for name in self._names]
                finally:
                    await bus.close()
        except (WireError, SnapdError, TimeoutError) as e:
            log.debug("systemd does not say how libvirt's units are: %s", e or "no answer")
            return []


async def _unit(bus: Transport, name: str) -> Unit:
    return Unit(
        name,
        active=await _property(bus, f"{name}.service", "Unit", "ActiveState"),
        result=await _property(bus, f"{name}.service", "Service", "Result"),
        listening=await _property(bus, f"{name}.socket", "Unit", "ActiveState") == "active",
    )


async def _property(bus: Transport, unit: str, interface: str, name: str) -> str:
    path, asked = f"{UNITS}/{encode(unit)}", (f"{SYSTEMD}.{interface}", name)
    answer = await bus.call(SYSTEMD, path, PROPERTIES, "Get", "ss", *asked, timeout=DEADLINE)
    return str(unwrap(answer)[0])
