"""list, create, revert, delete."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ...errors import InvalidArgument
from ..client import Client, Row
from ..follow import started
from ..output import previews, times
from ..output.screen import Screen
from ..output.text import name, typable
from .common import incomplete
from .preview import agreed, show
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
    options = {
        "description": args.description,
        "kind": args.kind,
        "memory": args.memory,
        "quiesce": args.quiesce,
        "max_pause": args.max_pause,
        "then": args.then,
        "trial": args.trial or None,
    }
    if args.preview:
        title = f"VM {name(args.vm)}: what a snapshot would be now:"
        return await show(client, screen, title, "Create", args.vm, args.snapshot, **options)
    job = await client.act("CreateSnapshot", args.vm, args.snapshot, **options)
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    made = await client.properties(row["Result"]["Snapshot"], "Snapshot")
    pause = made["PauseMilliseconds"]
    got = [made["Kind"], previews.GOT.get(made["Consistency"], made["Consistency"])]
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
    options = {
        "created": meant["Created"],
        "safety_snapshot": False if args.no_safety_snapshot else None,
        "after": args.after,
        "delete_after": args.delete_after or None,
        "force": args.force or None,
        "discard_saved_state": args.discard_saved_state or None,
    }
    verb = ("Revert", meant["DomainUUID"], meant["Name"])
    question = f"Revert VM {_described(meant, screen)}; {fate}."
    if args.preview:
        return await show(client, screen, question, *verb, **options)
    if not await agreed(client, screen, question, *verb, yes=args.yes, **options):
        return previews.REFUSED
    job = await client.act("RevertSnapshot", *verb[1:], **options)
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
        if args.children or args.preview:
            raise InvalidArgument("--all-ours has a --dry-run, no --children or --preview")
        return await delete_ours(client, args, screen)
    if not args.snapshot or args.manual or args.dry_run:
        raise InvalidArgument("give a snapshot, or --all-ours (with --manual, --dry-run)")
    meant = await _find(client, args)
    options = {"created": meant["Created"], "children": args.children or None}
    verb = ("Delete", meant["DomainUUID"], meant["Name"])
    below = " with all that descend from it" if args.children else ""
    question = f"Delete from VM {_described(meant, screen)}{below}."
    if args.preview:
        return await show(client, screen, question, *verb, **options)
    if not await agreed(client, screen, question, *verb, yes=args.yes, **options):
        return previews.REFUSED
    job = await client.act("DeleteSnapshot", *verb[1:], **options)
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    for gone in row["Result"]["Deleted"]:
        screen.say(f"VM {name(row['DomainName'])}: snapshot {name(gone)} is deleted")
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
