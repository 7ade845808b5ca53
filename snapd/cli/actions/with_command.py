"""with: a command of this host, with a snapshot of a VM taken before it.

Standard input and output are the command's: all that we say is on standard error. While it runs
neither bus nor event loop is open: it may take hours, and the daemon be restarted meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from contextlib import redirect_stdout, suppress

from ...errors import Cancelled, InvalidArgument, NoSuchSnapshot, SnapdError
from ...wire.fault import WireError
from .. import child, failures
from ..client import Client, Row, with_daemon
from ..follow import started
from ..output.screen import Screen
from ..output.text import name
from .create import contents, got
from .trials import ending, thrown_away

DELETED, KEPT, REVERTED = "deleted", "kept", "reverted"
_FAILURES = (SnapdError, WireError, failures.JobFailed)
_ASK = Namespace(
    no_safety_snapshot=False,
    after=None,
    force=False,
    discard_saved_state=False,
    delete_after=True,
    preview=False,
    yes=False,
    no_wait=False,
)
"""How the way back is gone: as `discard` does it when nothing else is typed."""


def run_with(args: Namespace, screen: Screen) -> int:
    """The command's exit status. What goes wrong before it is run is an error as any other."""
    if not args.command:
        raise InvalidArgument("no command to run; write: virtsnap with VM -- COMMAND")
    with redirect_stdout(sys.stderr), child.interrupts() as came:
        if status := child.cannot_run(args.command[0]):
            why = "is not executable" if status == child.NOT_EXECUTABLE else "is not found"
            _fail(screen, "CannotRun", f"{name(args.command[0])} {why}; no snapshot was taken")
            return status
        made: list[Row] = []
        try:
            _take(args, screen, made)
            ended = child.run(args.command, {**os.environ, **_told(made[0])})
        except KeyboardInterrupt:
            _interrupted(args, screen, made)
            return child.BY_SIGNAL + (came[0] if came else signal.SIGINT)
        with suppress(OSError):  # where nobody reads what we say, the status is still the command's
            _document(screen, made[0], ended, _settled(args, screen, made[0], ended))
        return ended.status


def _take(args: Namespace, screen: Screen, made: list[Row]) -> None:
    """Take the snapshot; its properties go into the list. Raises what went wrong."""

    async def take(client: Client, args: Namespace, screen: Screen) -> int:
        options = {**contents(args), "description": f"before {_called(args)}", "trial": True}
        job = await client.act("CreateSnapshot", args.vm, args.snapshot, **options)
        row = await started(client, screen, job, no_wait=False)
        assert row is not None
        made.append(await client.properties(row["Result"]["Snapshot"], "Snapshot"))
        return 0

    with_daemon(take, args, screen)
    with suppress(OSError):
        screen.note(f"{_which(made[0])} is made, {got(made[0])}")


def _settled(args: Namespace, screen: Screen, made: Row, ended: child.Ended) -> str:
    """What becomes of the snapshot, in a word."""
    try:
        if ended.error:
            _fail(screen, "CannotRun", f"{name(args.command[0])} {ended}")
            return _deleted(args, screen, made)
        if ended.status:
            return _failed(args, screen, made, ended)
        if not args.keep:
            return _deleted(args, screen, made)
        screen.note(f"{_which(made)} is kept")
        screen.names([made["Name"]])
    except KeyboardInterrupt:
        screen.note("")  # the line that was asked or drawn on
    for way in _ways(screen, made):
        screen.note(way)
    return KEPT


def _deleted(args: Namespace, screen: Screen, made: Row) -> str:
    """Delete the snapshot, which nobody needs; where that fails, say so: it changes no status."""

    async def delete(client: Client, _: Namespace, screen: Screen) -> int:
        which = (made["DomainUUID"], made["Name"])
        job = await client.act("DeleteSnapshot", *which, created=made["Created"])
        await started(client, screen, job, no_wait=False)
        return 0

    try:
        with_daemon(delete, args, screen)
    except NoSuchSnapshot:
        screen.note(f"{_which(made)} has gone meanwhile")
        return DELETED
    except _FAILURES as error:
        failures.report(screen, error)
        screen.note(f"{_which(made)} is still there")
        for way in _ways(screen, made):
            screen.note(way)
        return KEPT
    screen.note(f"{_which(made)} is deleted")
    return DELETED


def _failed(args: Namespace, screen: Screen, made: Row, ended: child.Ended) -> str:
    """Offer the way back: asked for on a terminal, unless somebody wants us to end."""
    vm, snapshot = name(made["DomainName"]), name(made["Name"])
    what = f"virtsnap: {_called(args)} {ended}; VM {vm} as it was before is in snapshot {snapshot}"
    if not (screen.text and screen.can_ask) or ended.told:
        if not screen.json:
            screen.failure([what, *_ways(screen, made)], {})
        return KEPT
    screen.failure([what], {})
    if _reverted(args, screen, made):
        return REVERTED
    for way in _ways(screen, made):
        screen.note(way)
    return KEPT


def _reverted(args: Namespace, screen: Screen, made: Row) -> bool:
    """Ask whether to go back, and do it."""
    import termios

    # what was typed while the command ran is no answer
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    try:
        return not with_daemon(
            lambda client, _, screen: thrown_away(client, _ASK, screen, made), args, screen
        )
    except Cancelled:
        return False
    except _FAILURES as error:
        failures.report(screen, error)
        return False


def _interrupted(args: Namespace, screen: Screen, made: list[Row]) -> None:
    """Say that nothing was run, and how the snapshot goes, which may come or be there."""
    which = made[0]["Name"] if made else args.snapshot
    accept = screen.command("accept", args.vm, *filter(None, [which]))
    there = "the snapshot that was taken" if made else "the snapshot, if it is made all the same"
    _fail(screen, "Interrupted", f"{_called(args)} was not run; to delete {there}: {accept}")


def _ways(screen: Screen, made: Row) -> list[str]:
    return [
        f"  to go back to it: {ending(screen, 'discard', made, made['Name'])}",
        f"  to keep what the VM is now: {ending(screen, 'accept', made, made['Name'])}",
    ]


def _document(screen: Screen, made: Row, ended: child.Ended, outcome: str) -> None:
    which = {key: made[key] for key in ("DomainUUID", "DomainName", "Created")}
    about = {**which, "SnapshotName": made["Name"], "Status": ended.status, "Outcome": outcome}
    screen.event(about)


def _fail(screen: Screen, error: str, message: str) -> None:
    document = {"error": error, "message": message, "detail": {}}
    screen.failure([f"virtsnap: {message}"], document)


def _told(made: Row) -> dict[str, str]:
    """What the command finds in its environment."""
    return {"VIRTSNAP_VM": made["DomainName"], "VIRTSNAP_SNAPSHOT": made["Name"]}


def _called(args: Namespace) -> str:
    """The command without its arguments, which may hold secrets."""
    return name(args.command[0].rpartition("/")[2] or args.command[0])


def _which(made: Row) -> str:
    return f"VM {name(made['DomainName'])}: snapshot {name(made['Name'])}"
