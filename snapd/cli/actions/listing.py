"""list: the snapshots of all VMs or of one."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from ..client import Client, Row
from ..output.screen import Screen
from ..output.text import can_print, name
from .common import incomplete, nothing_of

_TREE_FIELDS = ("Path", "Parent", "Current", "Name", "DomainName", "DomainUUID")
_PICKED_BY = ("Name", "DomainName", "Pinned", "Current", "Created", "TimeKnown")
Rows = list[list[str]]
_ASKED = ("origin", "policy", "kind")
_ALSO = ("pinned", "current", "older_than", "newer_than")


async def list_snapshots(client: Client, args: Namespace, screen: Screen) -> int:
    used = _columns(args) if screen.text else []
    fields = _fields(used, args) if screen.text else list(_PICKED_BY)
    asked = {key: getattr(args, key) for key in _ASKED}
    rows, info = await client.rows(
        "ListSnapshots", args.vm, fields=None if screen.json else fields, **asked
    )
    rows = [row for row in rows if picked(row, args)]
    screen.names(row["Name"] if args.vm else f"{row['DomainName']}/{row['Name']}" for row in rows)
    if not rows:
        await nothing_of(client, args.policy)
        screen.note(_none(screen, args))
    elif args.tree and screen.text:
        whole = rows
        if _narrowed(args):
            whole, _ = await client.rows("ListSnapshots", args.vm, fields=list(_TREE_FIELDS))
        _show(screen, used, _tree(used, whole, rows, screen.now), args)
    elif screen.text:
        _show(screen, used, _cells(used, rows, screen.now), args)
    incomplete(screen, info)
    screen.document({"rows": rows, "info": info})
    return 0


def picked(row: Row, args: Namespace) -> bool:
    """Whether it is one of those that are wanted, as far as the daemon does not pick them. What
    has no time that can be believed is neither old nor new."""
    for limit, sign in ((args.older_than, 1), (args.newer_than, -1)):
        if limit is not None and not (row["TimeKnown"] and sign * (limit - row["Created"]) > 0):
            return False
    wanted = {"Pinned": args.pinned, "Current": args.current}
    return all(row[key] for key, only in wanted.items() if only)


def _narrowed(args: Namespace) -> bool:
    return any(getattr(args, key) not in (None, False) for key in (*_ASKED, *_ALSO))


def _none(screen: Screen, args: Namespace) -> str:
    of = f"VM {name(args.vm)} has" if args.vm else "there are"
    if _narrowed(args):
        return f"{of} no such snapshots"
    if args.vm:
        return f"{of} no snapshots; to take one: {screen.command('create', args.vm)}"
    return f"{of} no snapshots; {screen.command('status')} says what to do"


# --- as a table, as a tree


def _columns(args: Namespace) -> list[str]:
    """The columns that are shown; a tree says in its own way which VM and which is current."""
    from .columns import DEFAULT

    used = [each for each in args.columns or DEFAULT if args.columns or each != "vm" or not args.vm]
    if not args.tree:
        return used
    return ["snapshot", *(each for each in used if each not in ("current", "vm", "snapshot"))]


def _fields(used: Sequence[str], args: Namespace) -> list[str]:
    """What has to be asked for."""
    from .columns import COLUMNS

    wanted = {field for each in used for field in COLUMNS[each].fields}
    return sorted(wanted | set(_PICKED_BY) | (set(_TREE_FIELDS) if args.tree else set()))


def _show(screen: Screen, used: Sequence[str], cells: Rows, args: Namespace) -> None:
    from .columns import titles

    screen.table(titles(used, asked=bool(args.columns)), cells)


def _cells(used: Sequence[str], rows: Sequence[Row], now: float) -> Rows:
    from .columns import COLUMNS

    return [[COLUMNS[each].cell(row, now) for each in used] for row in rows]


def _tree(used: Sequence[str], whole: Sequence[Row], found: Sequence[Row], now: float) -> Rows:
    """The trees of all VMs that have some of those found: them, and what they were made on."""
    from ..output import trees

    marks = trees.UNICODE if can_print("".join(trees.UNICODE)) else trees.ASCII
    told = dict(zip((row["Path"] for row in found), _cells(used[1:], found, now), strict=True))
    kept = trees.descent({row["Path"]: row for row in whole}, list(told))
    by_vm: dict[str, list[Row]] = {}
    for row in whole:
        if row["Path"] in kept:
            by_vm.setdefault(row["DomainUUID"], []).append(row)
    nothing = [""] * (len(used) - 1)
    cells = []
    for rows in by_vm.values():
        cells.append([f"VM {name(rows[0]['DomainName'])}", *nothing])
        for before, one in trees.drawn(rows, marks):
            told_of = told.get(one["Path"], nothing) if one else nothing
            cells.append([before + (name(one["Name"]) if one else ""), *told_of])
    return cells
