"""delete: let snapshots go, one after the other."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import Any

from ...errors import InvalidArgument, NoSuchSnapshot, SnapdError
from ...wire.fault import WireError
from ..client import Client, Row
from ..confirm import confirm
from ..failures import NOT_AUTHORIZED, UNAVAILABLE, JobFailed, report
from ..follow import started
from ..output import previews
from ..output.screen import Screen
from ..output.text import name
from ..picking import leaves_first, named
from .common import described, meant_by, snapshots_of
from .preview import YES, Asked, agreed, show
from .upkeep import delete_ours


async def delete(client: Client, args: Namespace, screen: Screen) -> int:
    if args.all_ours:
        if args.children or args.preview:
            raise InvalidArgument("--all-ours has a --dry-run, no --children or --preview")
        return await delete_ours(client, args, screen)
    if not args.snapshots:
        raise InvalidArgument("give snapshots, or --all-ours (with --manual, --dry-run)")
    if args.dry_run:
        raise InvalidArgument("--dry-run goes with --all-ours; for snapshots by name: --preview")
    if args.manual:
        raise InvalidArgument("--manual goes with --all-ours, not with names of snapshots")
    meant = await _meant(client, args)
    if not (args.yes or args.preview or screen.can_ask):
        _refuse_globs(args.snapshots, meant)
    if len(meant) == 1:
        return await _one(client, args, screen, meant[0])
    if args.children or args.no_wait:
        raise InvalidArgument(
            f"{len(meant)} snapshots are meant; --children and --no-wait are for one"
        )
    if args.preview:
        return await _preview_each(client, screen, meant)
    _ask(screen, meant, yes=args.yes)
    return await _each(client, screen, meant)


async def _meant(client: Client, args: Namespace) -> list[Row]:
    """What all the words mean, children before parents. Raises NoSuchSnapshot where one means
    nothing: then nothing at all is deleted."""
    tree = await snapshots_of(client, args.vm)
    found: list[Row] = []
    for word in args.snapshots:
        rows = named(tree, word)
        if rows is None:
            rows = [await _told_by_daemon(client, args.vm, word, tree)]
        if not rows:
            vm = name(tree[0]["DomainName"] if tree else args.vm)
            raise NoSuchSnapshot(f"VM {vm}: no snapshot has a name that fits {name(word)}")
        found += rows
    return leaves_first(found, tree)


def _refuse_globs(words: list[str], meant: list[Row]) -> None:
    """Where nobody can be asked, only what was named in full goes. Raises InvalidArgument."""
    names = {row["Name"] for row in meant}
    if globs := [word for word in words if word not in names and set(word) & set("*?[")]:
        raise InvalidArgument(
            f"{name(globs[0])} means {_many(meant)} of VM {name(meant[0]['DomainName'])}, "
            f"and nobody can be asked here: --yes deletes {'them' if len(meant) > 1 else 'it'}",
            item=globs[0],
        )


def _many(rows: list[Row]) -> str:
    return f"{len(rows)} {'snapshot' if len(rows) == 1 else 'snapshots'}"


async def _told_by_daemon(client: Client, vm: str, word: str, tree: list[Row]) -> Row:
    """What a name means that no snapshot has letter by letter: one in another Unicode form."""
    row = await meant_by(client, vm, word)
    same = (each for each in tree if each["Name"] == row["Name"])
    return next((each for each in same if each["Created"] == row["Created"]), row)


async def _one(client: Client, args: Namespace, screen: Screen, meant: Row) -> int:
    options = {"created": meant["Created"], "children": args.children or None}
    verb = ("Delete", meant["DomainUUID"], meant["Name"])
    below = " with all that descend from it" if args.children else ""
    asked = Asked(
        [f"Delete from VM {described(meant, screen)}{below}."],
        f"Delete {name(meant['Name'])} of VM {name(meant['DomainName'])}{below}?",
    )
    if args.preview:
        return await show(client, screen, asked.facts, *verb, **options)
    if not await agreed(client, screen, asked, *verb, yes=args.yes, **options):
        return previews.REFUSED
    job = await client.act("DeleteSnapshot", *verb[1:], **options)
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    _say(screen, row)
    screen.names(row["Result"]["Deleted"])
    screen.document({"rows": [_done(meant, row)]})
    return 0


async def _preview_each(client: Client, screen: Screen, meant: list[Row]) -> int:
    """Each by itself, as the VM is now, in the order in which they would be deleted."""
    rows: list[Row] = []
    for one in meant:
        which = (one["DomainUUID"], one["Name"])
        (preview,) = await client.ask("PreviewDelete", *which, created=one["Created"])
        screen.say(f"Delete from VM {described(one, screen)}.")
        for line in [
            *previews.lines(preview, screen.bus, verb="Delete"),
            *_maybe_over(preview, rows),
        ]:
            screen.say(line)
        rows.append({**_which(one), **preview})
    screen.format = "delete-previews"
    screen.document({"rows": rows})
    return 0 if all(row["Verdict"] == YES for row in rows) else previews.REFUSED


def _maybe_over(preview: Row, before: list[Row]) -> list[str]:
    """Lines for what is in its way and is to be deleted before it. Pure."""
    in_way = {blocker["Item"] for blocker in preview["Blockers"]}
    gone = [name(row["Name"]) for row in before if row["Name"] in in_way]
    return [f"    {one} goes before it, and may then not be in its way" for one in gone]


def _ask(screen: Screen, meant: list[Row], *, yes: bool) -> None:
    """Once, for all of them. Raises Cancelled."""
    if screen.can_ask and not yes:
        for row in meant:
            pinned = ", pinned" if row["Pinned"] else ""
            screen.aside(f"  {described(row, screen)}{pinned}")
    vm = name(meant[0]["DomainName"])
    confirm(screen, f"Delete these {len(meant)} snapshots of VM {vm}?", yes=yes)


async def _each(client: Client, screen: Screen, meant: list[Row]) -> int:
    """One after the other, whatever becomes of the others; the exit code of the first that was
    not deleted."""
    rows: list[Row] = []
    code = 0
    over = False
    for one in meant:
        if over:
            rows.append({**_which(one), "Outcome": "not-tried"})
            continue
        try:
            rows.append(await _delete(client, screen, one))
        except (JobFailed, SnapdError, WireError) as error:
            shown = report(screen, error)
            code = code or shown
            # who may not, and who is not there, is not asked again for each
            over = shown in (NOT_AUTHORIZED, UNAVAILABLE)
            rows.append(_failed(one, error))
        except asyncio.CancelledError:
            if rest := len(meant) - len(rows) - 1:
                screen.note(f"the other {rest} stay as they are")
            raise
    gone = [row["Name"] for row in rows if row["Outcome"] == "done"]
    if len(gone) < len(meant):
        vm = name(meant[0]["DomainName"])
        screen.note(f"VM {vm}: {len(gone)} of {len(meant)} snapshots are deleted")
    screen.names(gone)
    screen.document({"rows": rows})
    return code


async def _delete(client: Client, screen: Screen, one: Row) -> Row:
    job = await client.act("DeleteSnapshot", one["DomainUUID"], one["Name"], created=one["Created"])
    row = await started(client, screen, job, no_wait=False)
    assert row is not None  # it was waited for
    _say(screen, row)
    return _done(one, row)


def _say(screen: Screen, row: Row) -> None:
    for gone in row["Result"]["Deleted"]:
        screen.say(f"VM {name(row['DomainName'])}: snapshot {name(gone)} is deleted")


def _which(one: Row) -> Row:
    return {key: one[key] for key in ("DomainUUID", "DomainName", "Name", "Created")}


def _done(one: Row, row: Row) -> Row:
    return {
        **_which(one),
        "Outcome": "done",
        "Deleted": row["Result"]["Deleted"],
        "Warnings": row["Warnings"],
        "Job": row["Path"],
    }


def _failed(one: Row, error: JobFailed | SnapdError | WireError) -> Row:
    said: dict[str, Any]
    if isinstance(error, JobFailed):
        row = error.row
        said = {key: row[key] for key in ("ErrorName", "ErrorMessage", "ErrorDetail")}
        said["Job"] = row["Path"]
    else:
        said = {"ErrorName": error.name, "ErrorMessage": str(error)}
    return {**_which(one), "Outcome": "failed", **said}
