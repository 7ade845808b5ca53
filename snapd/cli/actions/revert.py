"""revert: bring a VM back to a snapshot."""

from __future__ import annotations

from argparse import Namespace

from ..client import Client
from ..follow import started
from ..output import previews
from ..output.screen import Screen
from ..output.text import name, typable
from .common import described, meant_by
from .preview import agreed, show


async def revert(client: Client, args: Namespace, screen: Screen) -> int:
    meant = await meant_by(client, args.vm, args.snapshot)
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
    question = f"Revert VM {described(meant, screen)}; {fate}."
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
