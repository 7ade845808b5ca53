"""create: take a snapshot."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ..client import Client, Row
from ..follow import started
from ..output import previews
from ..output.screen import Screen
from ..output.text import name
from .preview import show


async def create(client: Client, args: Namespace, screen: Screen) -> int:
    options = {
        **contents(args),
        "description": args.description,
        "then": args.then,
        "trial": args.trial or None,
    }
    if args.preview:
        title = f"VM {name(args.vm)}: what a snapshot would be now:"
        return await show(client, screen, [title], "Create", args.vm, args.snapshot, **options)
    taken = await take(client, args, screen, options)
    if taken is None:
        return 0
    row, made = taken
    screen.say(f"VM {name(row['DomainName'])}: snapshot {name(made['Name'])} is made, {got(made)}")
    screen.names([made["Name"]])
    screen.document(row)
    return 0


async def take(
    client: Client, args: Namespace, screen: Screen, options: Row
) -> tuple[Row, Row] | None:
    """Have a snapshot made: its job's row and its properties; None = nobody waits for it."""
    job = await client.act("CreateSnapshot", args.vm, args.snapshot, **options)
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return None
    return row, await client.properties(row["Result"]["Snapshot"], "Snapshot")


def contents(args: Namespace) -> dict[str, Any]:
    """What is to be in a new one, as options of CreateSnapshot."""
    return {key: getattr(args, key) for key in ("kind", "memory", "quiesce", "max_pause")}


def got(made: Row) -> str:
    """What is in a new one: `internal, with RAM, the VM stood still for 1234 ms`."""
    pause = made["PauseMilliseconds"]
    found = [made["Kind"], previews.GOT.get(made["Consistency"], made["Consistency"])]
    found += [f"the VM stood still for {pause} ms"] if pause > 0 else []
    return ", ".join(found)
