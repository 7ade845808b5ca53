"""revert: bring a VM back to a snapshot."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from ...errors import InvalidArgument
from ..client import Client, Row
from ..follow import started
from ..output import previews
from ..output.screen import Screen
from ..output.text import name, typable
from .common import described, meant_by, nothing_of, snapshots_of
from .preview import Asked, agreed, show


async def revert(client: Client, args: Namespace, screen: Screen) -> int:
    if args.snapshot is not None:
        if args.policy:
            raise InvalidArgument("--policy goes with --latest or --before, not with a name")
        meant, about = await meant_by(client, args.vm, args.snapshot), {}
    else:
        meant = await _picked(client, args, screen)
        about = {"SnapshotName": meant["Name"], "Created": meant["Created"]}
    facts = [f"Revert VM {described(meant, screen)}.", fate(args)]
    row = await back_to(client, args, screen, meant, facts, about)
    if isinstance(row, int):
        return row
    safety = await kept(client, row)
    return tell(
        screen, row, meant, safety, "revert", typable(row["DomainName"], row["DomainUUID"]), safety
    )


async def _picked(client: Client, args: Namespace, screen: Screen) -> Row:
    """What --latest or --before means, said with why."""
    from ..picking import Wanted, pick

    rows = await snapshots_of(client, args.vm)
    vm = rows[0]["DomainName"] if rows else args.vm
    wanted = Wanted(args.policy or "", args.before)
    if not any(args.policy in row["Policies"] for row in rows):
        await nothing_of(client, args.policy)
    see = screen.command("list", vm)
    meant, why = pick(rows, wanted, vm=name(vm), now=screen.now, see=see)
    screen.note(f"picked {name(meant['Name'])}: {why}")
    return meant


def fate(args: Namespace) -> str:
    """What becomes of what the VM is now: a fact before a question."""
    if args.no_safety_snapshot:
        return "  what it is now is LOST"
    return "  what it is now is kept in a safety snapshot"


async def back_to(
    client: Client, args: Namespace, screen: Screen, meant: Row, facts: Sequence[str], about: Row
) -> Row | int:
    """Ask, and revert to that very snapshot: its UUID and time go into the call. The job's row, or
    the exit code where there is none. facts: what is said of it before; about: what stands in a
    preview's document as well."""
    options: dict[str, Any] = {
        **way_back(args),
        "created": meant["Created"],
        "delete_after": args.delete_after or None,
    }
    verb = ("Revert", meant["DomainUUID"], meant["Name"])
    if args.preview:
        return await show(client, screen, facts, *verb, about=about, **options)
    how = " and delete that" if args.delete_after else ""
    how += ", and lose what it is now" if args.no_safety_snapshot else ""
    vm = name(meant["DomainName"])
    asked = Asked(facts, f"Revert VM {vm} to {name(meant['Name'])}{how}?")
    if not await agreed(client, screen, asked, *verb, yes=args.yes, **options):
        return previews.REFUSED
    job = await client.act("RevertSnapshot", *verb[1:], **options)
    row = await started(client, screen, job, no_wait=args.no_wait)
    return 0 if row is None else row


def way_back(args: Namespace) -> dict[str, Any]:
    """How a VM goes back, as options of RevertSnapshot."""
    return {
        "safety_snapshot": False if args.no_safety_snapshot else None,
        "after": args.after,
        "force": args.force or None,
        "discard_saved_state": args.discard_saved_state or None,
    }


async def kept(client: Client, row: Row) -> str:
    """The name of the safety snapshot that a revert's job made; "" = none."""
    path = row["Result"]["SafetySnapshot"]
    return "" if path == "/" else str((await client.properties(path, "Snapshot"))["Name"])


def tell(screen: Screen, row: Row, meant: Row, safety: str, *undo: str) -> int:
    """What was done, and the command that takes it back: the words after virtsnap."""
    screen.say(
        f"VM {name(row['DomainName'])} is back at {name(meant['Name'])}, "
        f"{row['Result']['FinalState']}"
    )
    if safety:
        screen.say(f"what it was before is in {name(safety)}")
        screen.say(f"to undo: {screen.command(*undo)}")
    screen.names([safety] if safety else [])
    screen.document(row)
    return 0
