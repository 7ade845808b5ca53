"""preview, policy confirm: what retention keeps of a VM, what it lets go, and why."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path
from typing import Any

from ...errors import InvalidArgument
from ..client import Client, Row
from ..confirm import confirm
from ..follow import started
from ..output import fates, times
from ..output.screen import Screen
from ..output.tables import Column
from ..output.text import name, typable
from .validate import read_definition

KEPT, GOES = "kept", "let go"
_COLUMNS = [
    Column("SNAPSHOT"),
    Column("CREATED", spare=1),
    Column("FATE", words=True),
    Column("WHY", free=True),
]


async def preview(client: Client, args: Namespace, screen: Screen) -> int:
    policy, definition = args.policy, None
    if args.file:
        policy, definition = policy or Path(args.file).stem, _read(args.file)
    rows, info = await client.rows(
        "PreviewRetention", args.vm, policy, definition=definition, at=args.at
    )
    _show(screen, rows)
    going = _going(rows)
    of = f", of those by policy {policy}" if policy else ""
    if rows:
        when = f"at {times.minute(args.at)}" if args.at else "at the next prune"
        screen.say(f"{len(rows) - len(going)} kept, {len(going)} let go {when}{of}")
    else:
        made = f" made by policy {policy}" if policy else ""
        screen.note(f"VM {name(args.vm)} has no snapshot{made}: nothing is let go")
    if going and info["Plan"]:
        await _tell_waiting(client, screen, args.vm, going)
    screen.names(row["Name"] for row in going)
    screen.document({"rows": rows, "info": info})
    return 0


async def confirm_prune(client: Client, args: Namespace, screen: Screen) -> int:
    (path,), _policy = await asyncio.gather(
        client.ask("GetDomain", args.vm), client.ask("GetPolicy", args.policy)
    )
    domain = await client.properties(path, "Domain")
    vm = name(domain["Name"])
    if args.policy not in domain["Policies"]:
        raise InvalidArgument(f"policy {args.policy} does not cover VM {vm}", item=args.policy)
    # of all policies: what goes is one plan, whichever of them it is recorded for
    rows, info = await client.rows("PreviewRetention", domain["UUID"], "")
    going = _going(rows)
    if not going:
        screen.say(f"VM {vm}: retention lets nothing go; nothing was done")
        screen.document({"Path": "/", "Result": {"Deleted": [], "Stays": []}})
        return 0
    _show(screen, going)
    count = f"let go: {len(going)} of {len(rows)} snapshots"
    screen.say(count)
    these = f"these {len(going)} snapshots" if len(going) > 1 else "this snapshot"
    about = [*map(_line, going), count]
    confirm(screen, f"Delete {these} of VM {vm}?", yes=args.yes, about=about)
    job = await client.act("ConfirmPrune", domain["UUID"], args.policy, info["Plan"])
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    for gone in row["Result"]["Deleted"]:
        screen.say(f"VM {vm}: snapshot {name(gone)} is deleted")
    for left in row["Result"]["Stays"]:
        screen.say(f"VM {vm}: snapshot {name(left['Name'])} stays: {left['Reason']}")
    screen.names(row["Result"]["Deleted"])
    screen.document(row)
    return 0


def _going(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row["Keep"]]


def _show(screen: Screen, rows: list[Row]) -> None:
    named = fates.policies(reason for row in rows for reason in row["Reasons"])
    alone = next(iter(named)) if len(named) == 1 else ""
    cells = [
        [
            name(row["Name"]),
            times.minute(row["Created"]),
            KEPT if row["Keep"] else GOES,
            fates.why(row["Reasons"], alone),
        ]
        for row in rows
    ]
    screen.table(_COLUMNS, cells)


def _line(row: Row) -> str:
    created, why = times.minute(row["Created"]), fates.why(row["Reasons"])
    return f"  {name(row['Name'])} ({created}): {why}"


def _read(file: str) -> dict[str, Any]:
    """A definition that is not set yet."""
    try:
        definition = dict(read_definition(Path(file)))
    except InvalidArgument as error:
        raise InvalidArgument(f"{file}: {error.message}", item=file) from error
    if not definition:
        raise InvalidArgument(f"{file}: there is no policy in it", item=file)
    return definition


async def _tell_waiting(client: Client, screen: Screen, vm: str, going: list[Row]) -> None:
    """Say where it waits for a person, as so much would go, and how to agree."""
    problems, _info = await client.rows("ListProblems")
    for row in problems:
        if row["Problem"] == "prune-held" and vm in (row["DomainName"], row["DomainUUID"]):
            named = fates.policies(reason for one in going for reason in one["Reasons"])
            policy = min(named, default="POLICY")  # safety snapshots go by no policy
            again = typable(row["DomainName"], row["DomainUUID"])
            agree = screen.command("policy", "confirm", policy, again)
            screen.say(f"that is so much that it waits for a person; to agree: {agree}")
