"""list: the snapshots of all VMs or of one."""

from __future__ import annotations

from argparse import Namespace

from ..client import Client, Row
from ..output import times
from ..output.screen import Screen
from ..output.text import name
from .common import incomplete

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
