"""check: is what should be protected protected? For monitoring, which must not start the daemon."""

from __future__ import annotations

import asyncio
import traceback
from argparse import Namespace
from dataclasses import replace

from ...errors import InvalidArgument, SnapdError, Unavailable
from ...wire import fault, paths
from ...wire.fault import WireError
from ...wire.transport import Transport
from ..client import Client, Row
from ..failures import explain, is_gone
from ..output import plugin, prometheus
from ..output.screen import Screen
from ..output.text import on_bus
from ..verdict import MUTE, RUNNING, STOPPED, UNKNOWN, Seen, Status, findings, part, status

SYSTEMD, SYSTEMD_PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
UNIT = "virtsnapd.service"
LISTS_WAIT = 10.0
"""Seconds that a list waits for VMs that are still being read."""
SYSTEMD_SECONDS = 5.0
"""What systemd has for its answer, which is not worth more."""
_GONE = (fault.SERVICE_UNKNOWN, fault.NAME_HAS_NO_OWNER)


def check(args: Namespace, screen: Screen) -> int:
    try:
        if args.json and args.prometheus:
            raise InvalidArgument("give one of --json and --prometheus")
        seen = asyncio.run(_look(args))
    except Exception as error:  # noqa: BLE001 - Python's own exit code would read as WARNING
        if not isinstance(error, (SnapdError, WireError)):
            traceback.print_exc()
        return unknown(screen, error, for_file=args.prometheus and not args.json)
    if args.prometheus and seen.daemon != UNKNOWN:
        # 0 whatever it says: the text has all of it, and what writes it to a file goes by this
        screen.export(prometheus.metrics(seen))
        return 0
    return _show(screen, seen)


def unknown(screen: Screen, error: Exception, *, for_file: bool = False) -> int:
    """Show an error that left check without an answer; the exit code. for_file: standard output
    is for metrics only."""
    if isinstance(error, WireError) and error.name in (fault.NO_REPLY, fault.DISCONNECTED):
        why = error.text
    elif isinstance(error, WireError):
        why, _code = explain(error, screen.bus)
    else:
        why = on_bus(str(error), screen.bus) or type(error).__name__
    if for_file:
        screen.note(f"virtsnap: {why}")
        return Status.UNKNOWN
    return _show(screen, Seen(UNKNOWN, why))


def _show(screen: Screen, seen: Seen) -> int:
    found = findings(seen)
    for line in plugin.lines(seen, found, screen.now):
        screen.say(line)
    screen.document(plugin.document(seen, found))
    return status(found)


async def _look(args: Namespace) -> Seen:
    """Raises SnapdError and WireError where nothing can be told."""
    try:
        bus = await Transport.connect(args.bus, args.timeout)
    except WireError as error:
        # of another bus one may just have the wrong address
        if args.bus != "system" or not is_gone(error):
            raise
        return Seen(STOPPED, f"virtsnapd cannot run: {explain(error, args.bus)[0]}")
    try:
        owner = await _owner(bus, args.timeout)
        state = await _unit_file(bus, min(args.timeout, SYSTEMD_SECONDS))
        user = "--user " if args.bus == "session" else ""
        enable = f"systemctl {user}enable virtsnapd"
        stopped = Seen(STOPPED, _not_running(args.bus, state), unit_file=state, enable=enable)
        if not owner:
            return stopped
        # by its unique name, which the bus starts nothing for
        client = Client(bus, owner, args.timeout)
        deadline = asyncio.get_running_loop().time() + args.timeout
        try:
            return await _ask(client, args, replace(stopped, daemon=RUNNING, why=""), deadline)
        except TimeoutError:
            why = f"virtsnapd does not answer within {args.timeout} s"
        except WireError as error:
            if error.name in _GONE:
                return stopped
            if error.name != fault.NO_REPLY:
                raise
            why = f"virtsnapd does not answer: {error.text}"
        return replace(stopped, daemon=MUTE, why=why)
    finally:
        await bus.close()


async def _ask(client: Client, args: Namespace, about: Seen, deadline: float) -> Seen:
    """What a running daemon says of itself, if need be once its first look at the VMs is over.
    Raises TimeoutError past the deadline, in seconds of the loop."""
    now = asyncio.get_running_loop().time
    async with asyncio.timeout_at(deadline):
        manager = await client.properties()
    while True:
        problems: list[Row] = []
        coverage: list[Row] = []
        try:
            async with asyncio.timeout_at(deadline):
                (problems, _), (coverage, _) = await asyncio.gather(
                    client.rows("ListProblems"), client.rows("ListCoverage", "")
                )
                # last: the lists may have waited
                manager = await client.properties()
        except TimeoutError:
            if not manager["Loading"]:
                raise
        if not manager["Loading"] or now() + LISTS_WAIT > deadline:
            break
        await asyncio.sleep(0.2)
    seen = replace(
        about,
        connected=manager["Connected"],
        loading=manager["Loading"],
        health=manager["Health"],
        problems=problems,
        coverage=coverage,
    )
    async with asyncio.timeout_at(deadline):
        return await _part(client, seen, args.vm, args.policy)


async def _part(client: Client, seen: Seen, vm: str, policy: str) -> Seen:
    """What was asked for, by name or UUID. Raises NoSuchDomain, NoSuchPolicy."""
    if not vm and not policy:
        return seen
    rows = [*seen.coverage, *seen.problems]
    if policy and not any(row["Policy"] == policy for row in rows) and not seen.loading:
        await client.ask("GetPolicy", policy)
    return part(seen, await _uuid(client, vm, rows) if vm else "", policy)


async def _uuid(client: Client, vm: str, rows: list[Row]) -> str:
    for key, wanted in (("DomainUUID", vm.lower()), ("DomainName", vm)):
        for row in rows:
            if row[key] == wanted:
                return str(row["DomainUUID"])
    try:
        (path,) = await client.ask("GetDomain", vm)
        return str((await client.properties(path, "Domain"))["UUID"])
    except Unavailable:
        return vm  # no VM is known yet; why that is so is a problem of all of them


async def _owner(bus: Transport, timeout: float) -> str:
    """The daemon's unique name, "" = it is not running."""
    try:
        (owner,) = await bus.bus_call("GetNameOwner", "s", paths.NAME, timeout=timeout)
    except WireError as error:
        if error.name == fault.NAME_HAS_NO_OWNER:
            return ""
        raise
    return str(owner)


async def _unit_file(bus: Transport, timeout: float) -> str:
    """Systemd's word for the unit file of the daemon, "" = there is no systemd on this bus, or
    none that knows the unit."""
    try:
        (owner,) = await bus.bus_call("GetNameOwner", "s", SYSTEMD, timeout=timeout)
        interface, member = f"{SYSTEMD}.Manager", "GetUnitFileState"
        (state,) = await bus.call(
            owner, SYSTEMD_PATH, interface, member, "s", UNIT, timeout=timeout
        )
    except WireError:
        return ""
    return str(state)


def _not_running(bus: str, state: str) -> str:
    sentence, _code = explain(WireError(fault.NAME_HAS_NO_OWNER, ""), bus)
    return sentence if state else f"{sentence}; whether it is started at boot is not known"
