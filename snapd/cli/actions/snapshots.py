"""list, create, revert, delete."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ...errors import InvalidArgument
from ..client import Client, Row
from ..confirm import confirm
from ..follow import started
from ..output import times
from ..output.screen import Screen
from ..output.text import name, typable
from .common import incomplete
from .upkeep import delete_ours

_FIELDS = [
    "Name",
    "DomainName",
    "Created",
    "TimeKnown",
    "State",
    "Consistency",
    "Kind",
    "Origin",
    "Policies",
    "Status",
    "Current",
    "Pinned",
    "PinReason",
    "RevertBlocker",
    "Description",
]
_GOT = {
    "offline": "the VM was off",
    "memory": "with RAM",
    "quiesced": "quiesced by the guest agent",
    "crash": "crash-consistent",
}


async def list_snapshots(client: Client, args: Namespace, screen: Screen) -> int:
    fields = None if screen.json else _FIELDS
    rows, info = await client.rows("ListSnapshots", args.vm, fields=fields)
    headers = ["VM", "SNAPSHOT", "CREATED", "AGE", "STATE", "GOT", "KIND", "BY", "NOTES", "TEXT"]
    cells = [_cells(row, screen, several=not args.vm) for row in rows]
    if rows:
        screen.table(headers, cells)
    elif args.vm:
        make = screen.command("create", args.vm)
        screen.note(f"VM {name(args.vm)} has no snapshots; to take one: {make}")
    else:
        screen.note(f"there are no snapshots; {screen.command('status')} says what to do")
    incomplete(screen, info)
    screen.document({"rows": rows, "info": info})
    return 0


def _cells(row: Row, screen: Screen, *, several: bool) -> list[str]:
    created = row["Created"] if row["TimeKnown"] else 0
    return [
        name(row["DomainName"]) if several else "",
        name(row["Name"]),
        times.minute(created) if created else "unknown",
        times.age(created, screen.now),
        row["State"],
        row["Consistency"],
        row["Kind"],
        " ".join([row["Origin"], *row["Policies"]]),
        ", ".join(_notes(row)),
        row["Description"],
    ]


def _notes(row: Row) -> list[str]:
    blocker = row["RevertBlocker"]
    notes = {
        "current": row["Current"],
        f"pinned: {row['PinReason']}".rstrip(": "): row["Pinned"],
        row["Status"]: row["Status"] != "ok",
        f"no revert: {blocker}": blocker not in ("", "unchecked"),
    }
    return [note for note, holds in notes.items() if holds]


async def create(client: Client, args: Namespace, screen: Screen) -> int:
    job = await client.act(
        "CreateSnapshot",
        args.vm,
        args.snapshot,
        description=args.description,
        memory=args.memory,
        quiesce=args.quiesce,
        max_pause=args.max_pause,
        trial=args.trial or None,
    )
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    made = await client.properties(row["Result"]["Snapshot"], "Snapshot")
    pause = made["PauseMilliseconds"]
    got = [made["Kind"], _GOT.get(made["Consistency"], made["Consistency"])]
    got += [f"the VM stood still for {pause} ms"] if pause > 0 else []
    screen.say(
        f"VM {name(row['DomainName'])}: snapshot {name(made['Name'])} is made, {', '.join(got)}"
    )
    screen.document(row)
    return 0


async def revert(client: Client, args: Namespace, screen: Screen) -> int:
    meant = await _find(client, args)
    fate = (
        "what it is now is LOST"
        if args.no_safety_snapshot
        else "what it is now is kept in a safety snapshot"
    )
    question = f"Revert VM {_described(meant, screen)}; {fate}."
    confirm(screen, question, yes=args.yes)
    job = await client.act(
        "RevertSnapshot",
        meant["DomainUUID"],
        meant["Name"],
        created=meant["Created"],
        safety_snapshot=False if args.no_safety_snapshot else None,
        after=args.after,
    )
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    vm, result = row["DomainName"], row["Result"]
    screen.say(f"VM {name(vm)} is back at {name(meant['Name'])}, {result['FinalState']}")
    if result["SafetySnapshot"] != "/":
        safety = (await client.properties(result["SafetySnapshot"], "Snapshot"))["Name"]
        undo = screen.command("revert", typable(vm, row["DomainUUID"]), safety)
        screen.say(f"what it was before is in {name(safety)}; to undo: {undo}")
    screen.document(row)
    return 0


async def delete(client: Client, args: Namespace, screen: Screen) -> int:
    if args.all_ours:
        return await delete_ours(client, args, screen)
    if not args.snapshot or args.manual or args.dry_run:
        raise InvalidArgument("give a snapshot, or --all-ours (with --manual, --dry-run)")
    meant = await _find(client, args)
    confirm(screen, f"Delete from VM {_described(meant, screen)}.", yes=args.yes)
    job = await client.act(
        "DeleteSnapshot", meant["DomainUUID"], meant["Name"], created=meant["Created"]
    )
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    screen.say(f"VM {name(row['DomainName'])}: snapshot {name(meant['Name'])} is deleted")
    screen.document(row)
    return 0


async def _find(client: Client, args: Namespace) -> dict[str, Any]:
    """The properties of the snapshot meant: its time and UUID go into the call, so that nothing
    else is reverted or deleted than what was shown."""
    (path,) = await client.ask("GetSnapshot", args.vm, args.snapshot)
    return await client.properties(path, "Snapshot")


def _described(row: Row, screen: Screen) -> str:
    """`web-1: snapshot before-upgrade (2026-11-24 02:30, 3 h ago, running, manual)`."""
    created = row["Created"] if row["TimeKnown"] else 0
    when = [times.minute(created), times.age(created, screen.now)] if created else ["time unknown"]
    about = ", ".join([*when, row["State"], row["Origin"]])
    return f"{name(row['DomainName'])}: snapshot {name(row['Name'])} ({about})"
