"""pin, unpin, adopt, describe, hold, unhold."""

from __future__ import annotations

from argparse import Namespace

from ...errors import NoSuchDomain
from ..client import Client, Row
from ..confirm import confirm
from ..output import fates, times
from ..output.screen import Screen
from ..output.text import name


async def describe(client: Client, args: Namespace, screen: Screen) -> int:
    path, row = await _meant(client, args)
    await client.act_on(path, "Snapshot", "SetDescription", args.text)
    said = f"{_called(row)} has its description"
    if not args.text:
        vm, snapshot = name(row["DomainName"]), name(row["Name"])
        said = f"VM {vm}: the description of snapshot {snapshot} is removed"
    return await _shown(client, screen, path, said)


async def pin(client: Client, args: Namespace, screen: Screen) -> int:
    path, row = await _meant(client, args)
    await client.act_on(path, "Snapshot", "Pin", args.reason)
    return await _shown(client, screen, path, f"{_called(row)} is pinned: nobody deletes it")


async def unpin(client: Client, args: Namespace, screen: Screen) -> int:
    path, row = await _meant(client, args)
    await client.act_on(path, "Snapshot", "Unpin")
    screen.say(f"{_called(row)} {'is not pinned any more' if row['Pinned'] else 'was not pinned'}")
    await _fates(client, screen, row["DomainUUID"], [row["Name"]])
    return await _shown(client, screen, path)


async def adopt(client: Client, args: Namespace, screen: Screen) -> int:
    (path,) = await client.ask("GetDomain", args.vm)
    domain = await client.properties(path, "Domain")
    names = list(dict.fromkeys(args.names))
    what = f"{len(names)} snapshots" if len(names) > 1 else f"snapshot {name(names[0])}"
    policy = args.policy
    if screen.can_ask and not args.yes:
        screen.aside(f"policy {policy}'s retention may then delete what it does not keep")
    question = f"Give {what} of VM {name(domain['Name'])} to policy {policy}?"
    confirm(screen, question, yes=args.yes)
    await client.act("Adopt", domain["UUID"], names, policy)
    are = "count" if len(names) > 1 else "counts"
    screen.say(f"VM {name(domain['Name'])}: {what} {are} for policy {policy} now")
    await _fates(client, screen, domain["UUID"], names)
    screen.names(names)
    rows, _info = await client.rows("ListSnapshots", domain["UUID"], policy=policy)
    screen.document({"rows": [row for row in rows if row["Name"] in names]})
    return 0


async def hold(client: Client, args: Namespace, screen: Screen) -> int:
    await client.act("Hold", args.vm, args.policy, args.until, args.reason)
    until = times.moment(args.until, screen.now) if args.until else "it is taken back"
    vm, policy = [args.vm] if args.vm else [], ["--policy", args.policy] if args.policy else []
    again = screen.command("unhold", *vm, options=policy)
    screen.say(f"{_of(args)} left alone until {until}")
    screen.say(f"to take it back: {again}")
    screen.names(vm)
    screen.document(
        {"VM": args.vm, "Policy": args.policy, "Until": args.until, "Reason": args.reason}
    )
    return 0


async def unhold(client: Client, args: Namespace, screen: Screen) -> int:
    problems, _info = await client.rows("ListProblems")
    was = any(_is_held(row, args) for row in problems)
    await client.act("Unhold", args.vm, args.policy)
    if args.vm and not was:
        try:
            await client.ask("GetDomain", args.vm)
        except NoSuchDomain:  # it is gone, and would be none to unhold if it had not been held
            was = True
    screen.say(_not_held(args, was=was))
    screen.names([args.vm] if args.vm else [])
    screen.document({"VM": args.vm, "Policy": args.policy})
    return 0


async def _meant(client: Client, args: Namespace) -> tuple[str, Row]:
    (path,) = await client.ask("GetSnapshot", args.vm, args.snapshot)
    return path, await client.properties(path, "Snapshot")


def _called(row: Row) -> str:
    return f"VM {name(row['DomainName'])}: snapshot {name(row['Name'])}"


async def _shown(client: Client, screen: Screen, path: str, line: str = "") -> int:
    """Say it; with --json show the snapshot as it is now, with --quiet its name."""
    if line:
        screen.say(line)
    if not screen.text:
        row = await client.properties(path, "Snapshot")
        screen.names([row["Name"]])
        screen.document({"Path": path, **row})
    return 0


async def _fates(client: Client, screen: Screen, uuid: str, names: list[str]) -> None:
    """Say which of them the next prune is going to delete, and why."""
    if not screen.text:
        return
    rows, _info = await client.rows("PreviewRetention", uuid, "")
    for row in rows:
        if row["Name"] in names and not row["Keep"]:
            why = fates.why(row["Reasons"])
            what = f"the next prune deletes {name(row['Name'])} ({why}), unless it is pinned"
            screen.note(what, "warning")


def _is_held(problem: Row, args: Namespace) -> bool:
    """Whether it is a hold that is taken back by that."""
    return (
        problem["Problem"] == "held"
        and args.vm in ("", problem["DomainUUID"], problem["DomainName"])
        and args.policy in ("", problem["Policy"])
    )


def _not_held(args: Namespace, *, was: bool) -> str:
    which = f"VM {name(args.vm)}" if args.vm else f"policy {args.policy}" if args.policy else ""
    if args.vm and args.policy:
        which += f", by policy {args.policy},"
    held = "is held any more" if was else "was held"
    if not which:
        return f"nothing {held}"
    return f"{which} {held.replace(' held', ' not held')}"


def _of(args: Namespace) -> str:
    """`VM web-1 is`, `VM web-1, by policy nightly, is`."""
    vm = f"VM {name(args.vm)}" if args.vm else "every VM"
    return f"{vm}, by policy {args.policy}, is" if args.policy else f"{vm} is"
