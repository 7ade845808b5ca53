"""history: who did what, why, and what came of it."""

from __future__ import annotations

from argparse import Namespace

from ...errors import PREFIX
from ..client import Client, Row
from ..output import times
from ..output.screen import Screen
from ..output.text import name

DAEMON = -1


async def history(client: Client, args: Namespace, screen: Screen) -> int:
    rows, info = await client.rows("ListHistory", args.vm, snapshot=args.snapshot or None)
    if not rows:
        of = f" of VM {name(args.vm)}" if args.vm else ""
        screen.note(f"nothing was done yet to any snapshot{of}")
    headers = ["TIME", "AGE", "VERB", "VM", "SNAPSHOT", "BY", "REASON", "RESULT"]
    screen.table(headers, [_cells(row, screen) for row in rows])
    screen.document({"rows": rows, "info": info})
    return 0


def _cells(row: Row, screen: Screen) -> list[str]:
    since = f"after {times.minute(row['NotBefore'])}, " if row["NotBefore"] else ""
    return [
        since + times.minute(row["Time"]),
        times.age(row["Time"], screen.now),
        row["Verb"],
        name(row["DomainName"]) if row["DomainName"] else "",
        name(row["SnapshotName"]) if row["SnapshotName"] else "",
        _who(row),
        row["Reason"],
        row["Result"].removeprefix(PREFIX),
    ]


def _who(row: Row) -> str:
    """The user's name, or the daemon, and for which policy."""
    uid: int = row["OwnerUID"]
    who = "others" if row["NotBefore"] else "virtsnapd" if uid == DAEMON else _user(uid)
    return f"{who}, policy {row['Policy']}" if row["Policy"] else who


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"
