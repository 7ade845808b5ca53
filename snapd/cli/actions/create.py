"""create: take a snapshot."""

from __future__ import annotations

from argparse import Namespace

from ..client import Client
from ..follow import started
from ..output import previews
from ..output.screen import Screen
from ..output.text import name
from .preview import show


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
