"""try, accept, discard: change a VM, then keep what has changed or throw it away."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from ...errors import AlreadyExists, InvalidArgument, NoSuchSnapshot
from ..client import Client, Row
from ..confirm import confirm
from ..follow import started
from ..output import previews, times
from ..output.screen import Screen
from ..output.text import name, typable
from .common import described, meant_by, snapshots_of
from .create import contents, got, take
from .preview import Asked, agreed, show
from .revert import back_to, fate, kept, tell

TRIAL = "trial"


async def begin(client: Client, args: Namespace, screen: Screen) -> int:
    options = {**contents(args), "description": args.description, "trial": True}
    if args.preview:
        title = f"VM {name(args.vm)}: what a trial would be now:"
        return await show(client, screen, [title], "Create", args.vm, args.snapshot, **options)
    others = await trials_of(client, args.vm)
    if others:
        _another(screen, others, yes=args.yes)
    taken = await take(client, args, screen, options)
    if taken is None:
        return 0
    row, made = taken
    screen.say(f"VM {name(row['DomainName'])}: trial {name(made['Name'])} is made, {got(made)}")
    which = [made["Name"]] if others else []
    screen.say(f"to keep what changes from now on: {ending(screen, 'accept', made, *which)}")
    screen.say(f"to throw it away: {ending(screen, 'discard', made, *which)}")
    screen.names([made["Name"]])
    screen.document(row)
    return 0


async def accept(client: Client, args: Namespace, screen: Screen) -> int:
    meant = await _meant(client, args, screen)
    verb = ("Delete", meant["DomainUUID"], meant["Name"])
    asked = Asked(
        [
            f"Keep what has changed since, and delete from VM {described(meant, screen)}.",
            "  there is no way back to it then",
        ],
        f"Delete trial {name(meant['Name'])} of VM {name(meant['DomainName'])}?",
    )
    if args.preview:
        return await show(client, screen, asked.facts, *verb, created=meant["Created"])
    if not await agreed(client, screen, asked, *verb, yes=args.yes, created=meant["Created"]):
        return previews.REFUSED
    job = await client.act("DeleteSnapshot", *verb[1:], created=meant["Created"])
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    screen.say(
        f"VM {name(row['DomainName'])}: what has changed is kept, trial {name(meant['Name'])} is "
        "deleted"
    )
    screen.names(row["Result"]["Deleted"])
    screen.document(row)
    return 0


async def discard(client: Client, args: Namespace, screen: Screen) -> int:
    return await thrown_away(client, args, screen, await _meant(client, args, screen))


async def thrown_away(client: Client, args: Namespace, screen: Screen, meant: Row) -> int:
    """Revert to that trial and delete it, asked for where somebody can be; the exit code."""
    facts = [f"Revert VM {described(meant, screen)}, which is then deleted.", fate(args)]
    row = await back_to(client, args, screen, meant, facts, {})
    if isinstance(row, int):
        return row
    safety = await kept(client, row)
    vm = typable(row["DomainName"], row["DomainUUID"])
    return tell(screen, row, meant, safety, "revert", vm, safety)


async def trials_of(client: Client, vm: str) -> list[Row]:
    """The trials of a VM that are under way."""
    return [row for row in await snapshots_of(client, vm) if row["Origin"] == TRIAL]


def ending(screen: Screen, verb: str, row: Row, *which: str) -> str:
    """The command that ends a trial: accept or discard."""
    return screen.command(verb, typable(row["DomainName"], row["DomainUUID"]), *which)


def pick(trials: Sequence[Row], *, latest: bool, vm: str, screen: Screen) -> Row:
    """The trial that is meant where none is named. Raises NoSuchSnapshot, InvalidArgument where
    it may be one of several."""
    if not trials:
        raise NoSuchSnapshot(
            f"VM {name(vm)}: no trial is under way; to begin one: {screen.command('try', vm)}"
        )
    newest = max(row["Created"] for row in trials)
    fit = [row for row in trials if not latest or row["Created"] == newest]
    if len(fit) > 1:
        way = "" if latest else ", or take the newest: --latest"
        of = " of the same second" if latest else ""
        error = InvalidArgument(
            f"VM {name(vm)} has {len(fit)} trials{of}; name the one that you mean{way}"
        )
        for line in _listed(fit, screen):
            error.add_note(line)
        raise error
    return fit[0]


async def _meant(client: Client, args: Namespace, screen: Screen) -> Row:
    """The trial that the command line means. Raises NoSuchSnapshot, InvalidArgument."""
    if not args.snapshot:
        trials = await trials_of(client, args.vm)
        return pick(trials, latest=args.latest, vm=args.vm, screen=screen)
    if args.latest:
        raise InvalidArgument("--latest goes without the name of a trial")
    row = await meant_by(client, args.vm, args.snapshot)
    if row["Origin"] != TRIAL:
        words = (typable(row["DomainName"], row["DomainUUID"]), row["Name"])
        raise InvalidArgument(
            f"VM {described(row, screen)} is no trial; to delete it: "
            f"{screen.command('delete', *words)}; to go back to it: "
            f"{screen.command('revert', *words)}"
        )
    return row


def _another(screen: Screen, others: Sequence[Row], *, yes: bool) -> None:
    """Have another trial beside those wanted. Raises AlreadyExists, Cancelled."""
    if yes:
        return
    one, several = others[0], len(others) > 1
    under_way = f"{len(others)} trials are" if several else "a trial is"
    said = f"VM {name(one['DomainName'])}: {under_way} under way"
    if not screen.can_ask:
        which = ["TRIAL"] if several else []
        accepted, discarded = (ending(screen, verb, one, *which) for verb in ("accept", "discard"))
        error = AlreadyExists(f"{said}; for another one beside it: --yes")
        for line in [*_listed(others, screen), f"to end it first: {accepted}, or {discarded}"]:
            error.add_note(line)
        raise error
    for line in [f"{said}:", *(f"  {each}" for each in _listed(others, screen))]:
        screen.aside(line)
    confirm(screen, "Begin another one beside it?", yes=yes)


def _listed(trials: Sequence[Row], screen: Screen) -> list[str]:
    """`new-kernel (2026-11-24 02:30, 3 h ago)`, one a line, the newest first."""
    return [
        f"{name(row['Name'])} "
        f"({times.minute(row['Created'])}, {times.age(row['Created'], screen.now)})"
        for row in sorted(trials, key=lambda row: -int(row["Created"]))
    ]
