"""history: who did what, why, and what came of it."""

from __future__ import annotations

from argparse import Namespace

from ...errors import PREFIX, NoSuchDomain, NoSuchSnapshot
from ..client import Client, Row
from ..output import fates, times
from ..output.people import by, who
from ..output.screen import Screen
from ..output.tables import Column
from ..output.text import name
from .common import nothing_of

DONE = "done"
COLUMNS = [
    Column("TIME", spare=3),
    Column("AGE"),
    Column("VERB"),
    Column("VM"),
    Column("SNAPSHOT"),
    Column("BY", spare=1),
    Column("REASON", spare=2, free=True),
    Column("RESULT", free=True, words=True),
]
"""Who did it and why is what it is for: how long ago it was will do for when."""


async def history(client: Client, args: Namespace, screen: Screen) -> int:
    rows, info = await client.rows(
        "ListHistory",
        args.vm,
        snapshot=args.snapshot or None,
        policy=args.policy or None,
        since=args.since,
        until=args.until,
    )
    rows = [row for row in rows if args.verb in ("", row["Verb"])]
    if not rows:
        await nothing_of(client, args.policy)
        for line in await _not_there(client, args) or [_nothing(args)]:
            screen.note(line)
    # a VM that was asked for is told only where it had other names
    one = args.vm and len({row["DomainName"] for row in rows}) == 1
    screen.table(COLUMNS, [cells(row, screen, told=not one) for row in rows])
    screen.names(dict.fromkeys(row["SnapshotName"] for row in rows if row["SnapshotName"]))
    screen.document({"rows": rows, "info": info})
    return 0


async def _not_there(client: Client, args: Namespace) -> list[str]:
    """Lines that say that there is no such snapshot, and what may be meant; none where there is
    or was one. Raises NoSuchDomain where there is no such VM, and history knows of none."""
    if not args.vm:
        return []
    try:
        await client.ask("GetSnapshot" if args.snapshot else "GetDomain", *_asked(args))
    except (NoSuchDomain, NoSuchSnapshot) as error:
        of = {"snapshot": args.snapshot or None}
        was, _info = await client.ask("ListHistory", args.vm, limit=1, **of)
        if was:
            return []
        if isinstance(error, NoSuchDomain):
            raise
        from ..alike import told
        from ..nearest import add

        await add(client, args, error)
        which = f"VM {name(args.vm)} has no snapshot {name(args.snapshot)}"
        hints = [told(error.near), *getattr(error, "__notes__", ())]
        return [f"{which}, and history knows of none", *(f"  {each}" for each in hints if each)]
    return []


def _asked(args: Namespace) -> list[str]:
    return [args.vm, args.snapshot] if args.snapshot else [args.vm]


def _nothing(args: Namespace) -> str:
    of = f" of VM {name(args.vm)}" if args.vm else ""
    if args.snapshot or args.policy or args.since or args.until or args.verb:
        return f"history{of} has nothing like that"
    return f"nothing was done yet to any snapshot{of}"


def cells(row: Row, screen: Screen, *, told: bool = True) -> list[str]:
    """One act. told: say which VM, too. The result only where it is another one than nearly always,
    and beside what was done to a policy, itself, that is who did it."""
    since = f"after {times.minute(row['NotBefore'])}, " if row["NotBefore"] else ""
    of_vm = bool(row["DomainUUID"] or row["SnapshotName"])
    what = name(row["SnapshotName"]) if row["SnapshotName"] else ""
    return [
        since + times.minute(row["Time"]),
        times.age(row["Time"], screen.now),
        row["Verb"],
        name(row["DomainName"]) if row["DomainName"] and told else "",
        what if of_vm or not row["Policy"] else f"policy {row['Policy']}",
        by(row) if of_vm else who({**row, "Policy": ""}),
        times.local(fates.told(row)),
        "" if row["Result"] == DONE else times.local(row["Result"].removeprefix(PREFIX)),
    ]
