"""delete: let snapshots go."""

from __future__ import annotations

from argparse import Namespace

from ...errors import InvalidArgument
from ..client import Client
from ..follow import started
from ..output import previews
from ..output.screen import Screen
from ..output.text import name
from .common import described, meant_by
from .preview import agreed, show
from .upkeep import delete_ours


async def delete(client: Client, args: Namespace, screen: Screen) -> int:
    if args.all_ours:
        if args.children or args.preview:
            raise InvalidArgument("--all-ours has a --dry-run, no --children or --preview")
        return await delete_ours(client, args, screen)
    if not args.snapshot or args.manual or args.dry_run:
        raise InvalidArgument("give a snapshot, or --all-ours (with --manual, --dry-run)")
    meant = await meant_by(client, args.vm, args.snapshot)
    options = {"created": meant["Created"], "children": args.children or None}
    verb = ("Delete", meant["DomainUUID"], meant["Name"])
    below = " with all that descend from it" if args.children else ""
    question = f"Delete from VM {described(meant, screen)}{below}."
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
