"""watch: what happens, while it happens; problems also as notifications of the desktop."""

from __future__ import annotations

import asyncio
import gc
from argparse import Namespace
from collections.abc import Awaitable

from ...errors import Unavailable
from ...wire import fault
from ...wire.fault import WireError
from ...wire.transport import Transport
from ..client import Client, Row
from ..desktop import Desktop
from ..events import BACK, CLEARED, GONE, LEFT_OUT, RAISED, Events
from ..failures import UNAVAILABLE, explain
from ..output import happenings, times
from ..output.outlet import Outlet
from ..output.screen import Screen
from ..output.text import name


async def watch(client: Client, args: Namespace, screen: Screen) -> int:
    """Until nobody reads any more, or a bus is gone."""
    gc.enable()  # it goes on for weeks, unlike other commands
    session = await _session() if args.notify else None
    try:
        vm, uuid = await _vm(client, args, screen)
        events = Events(client.bus, uuid, problems=args.problems or args.notify)
        await events.listen()
        screen.note(_watching(args, vm))
        screen.event({"Event": "Watching", "DomainUUID": uuid, "DomainName": vm})
        work = _work(events, session, screen, of_one=bool(uuid))
        await _first(work, client.bus.wait_disconnected())
    except WireError as error:
        if error.name != fault.DISCONNECTED:
            raise
        raise Unavailable(f"the bus is gone, and nothing more is heard: {error.text}") from error
    finally:
        if session:
            await session.close()
    return 0


async def _work(events: Events, session: Transport | None, screen: Screen, *, of_one: bool) -> None:
    outlet = Outlet()
    desktop: Desktop | None = None
    if session:
        desktop = Desktop(session, screen.bus, lambda line: screen.note(f"virtsnap: {line}"))
    try:
        work = [_tell(events, screen, outlet, desktop, of_one=of_one), _until_closed(outlet)]
        await _first(*work, *([_show(desktop, session)] if desktop and session else []))
    finally:
        outlet.close()


async def _vm(client: Client, args: Namespace, screen: Screen) -> tuple[str, str]:
    """Name and UUID of the VM that was asked for, "" = all. It is the call that starts the daemon
    where it is not running; notifications wait for one that cannot be started."""
    if args.vm:
        (path,) = await client.ask("GetDomain", args.vm)
        row = await client.properties(path, "Domain")
        return row["Name"], row["UUID"]
    try:
        await client.properties()
    except WireError as error:
        sentence, code = explain(error, screen.bus)
        if not (args.notify and code == UNAVAILABLE and client.bus.connected):
            raise
        screen.note(f"virtsnap: {sentence}")
    return "", ""


def _watching(args: Namespace, vm: str) -> str:
    what = "snapshots, runs of policies, problems, and jobs that fail"
    if args.problems or args.notify:
        what = "problems, those that there are now first"
    shown = " (each is shown on the desktop as well)" if args.notify else ""
    return f"watching VM {name(vm)}: {what}{shown}" if vm else f"watching all VMs: {what}{shown}"


async def _tell(
    events: Events, screen: Screen, outlet: Outlet, desktop: Desktop | None, *, of_one: bool
) -> None:
    async for event in events.events():
        what = event["Event"]
        if desktop and what in (RAISED, CLEARED):
            (desktop.raised if what == RAISED else desktop.cleared)(event)
        await outlet.ready()
        if what in (GONE, BACK, LEFT_OUT):
            _beside(screen, _of_the_daemon(event, screen), "warning" if what != BACK else "")
        elif screen.text:
            line, word = happenings.line(event)
            screen.say(line, word)
        screen.names(happenings.names(event, of_one=of_one))
        screen.event(event)
        screen.flush()


def _beside(screen: Screen, line: str, word: str) -> None:
    """On standard error, with --quiet, too: names alone do not say that some are missing."""
    if screen.quiet:
        screen.failure([f"virtsnap: {line}"], {})
    screen.note(line, word)


def _of_the_daemon(event: Row, screen: Screen) -> str:
    history, when = screen.command("history"), times.second(event["Time"])
    if event["Event"] == LEFT_OUT:
        what = f"{event['Count']} events are left out, which nobody read in time"
    elif event["Event"] == GONE:
        what = "virtsnapd is not running: nothing is heard until it is; it is not started for this"
    else:
        what = "virtsnapd is running again"
    return f"{when}  {what}" + ("" if event["Event"] == GONE else f"; {history} has what was done")


async def _until_closed(outlet: Outlet) -> None:
    await outlet.closed
    raise BrokenPipeError


async def _session() -> Transport:
    try:
        return await Transport.connect("session")
    except WireError as error:
        raise Unavailable(f"notifications need a session's bus: {error.text}") from error


async def _show(desktop: Desktop, session: Transport) -> None:
    try:
        await _first(desktop.run(), session.wait_disconnected())
    except WireError as error:
        raise Unavailable(f"the session's bus is gone: {error.text}") from error


async def _first(*work: Awaitable[None]) -> None:
    """Until the first of them has ended, whose error it raises."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        next(iter(done)).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
