"""domains: the VMs, whether they can be snapshotted, by which policies they are, and when last."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter

from ..client import Client, Row
from ..output import times, words
from ..output.screen import Screen
from ..output.tables import Column
from ..output.text import name
from .common import failure, incomplete

YES, UNCHECKED, NO = "yes", "unchecked", "no: "
_COLUMNS = (
    Column("VM"),
    Column("STATE", words=True),
    Column("SNAPSHOTS", spare=2),
    Column("CAN BE MADE", spare=1),
    Column("POLICIES", words=True),
    Column("LAST SUCCESS", words=True),
    Column("AGE", spare=3),
    Column("LAST RUN", words=True),
)


async def domains(client: Client, args: Namespace, screen: Screen) -> int:
    rows, info = await client.rows("ListDomains")
    found = [row for row in rows if picked(row, args)]
    screen.names(row["Name"] for row in found)
    if screen.quiet:
        return 0
    snapshots, _ = await client.rows("ListSnapshots", "", fields=["DomainUUID"])
    counts = Counter(row["DomainUUID"] for row in snapshots)
    screen.table(_COLUMNS, [_cells(row, counts, screen) for row in found])
    _explain(screen, found)
    if not found:
        screen.note("no VM is like that" if rows else "there is no VM here")
    incomplete(screen, info)
    screen.document(
        {"rows": [{**row, "Snapshots": counts[row["UUID"]]} for row in found], "info": info}
    )
    return 0


def picked(row: Row, args: Namespace) -> bool:
    """Whether it is one of those that are wanted."""
    return not (
        (args.unprotected and row["Policies"])
        or (args.unsupported and not can(row["Support"]).startswith(NO))
        or (args.failed and not row["LastErrorName"])
        or (args.state and row["State"] != args.state)
    )


def can(support: dict[str, str]) -> str:
    """`internal, with RAM`, or the reason words why no snapshot can be made of it."""
    made = []
    for kind in ("internal", "external"):
        if support.get(kind) == YES:
            made.append(f"{kind}, with RAM" if support.get(f"{kind}-memory") == YES else kind)
    if made:
        return "; ".join(made)
    why = dict.fromkeys(support.get(kind, UNCHECKED) for kind in ("internal", "external"))
    return UNCHECKED if UNCHECKED in why else f"{NO}{', '.join(why)}"


def _cells(row: Row, counts: Counter[str], screen: Screen) -> list[str]:
    last = row["LastSuccess"]
    return [
        name(row["Name"]),
        row["State"],
        str(counts[row["UUID"]]),
        can(row["Support"]),
        ", ".join(row["Policies"]) or "none",
        times.minute(last),
        times.age(last, screen.now),
        "failed" if row["LastErrorName"] else "",
    ]


def _explain(screen: Screen, rows: list[Row]) -> None:
    """What the reason words mean, and how the last runs failed."""
    none = [row for row in rows if can(row["Support"]).startswith(NO)]
    said = dict.fromkeys(
        word
        for row in none
        for kind, word in row["Support"].items()
        if kind in ("internal", "external")
    )
    for word in said:
        screen.note(words.reason(word))
    for row in rows:
        if row["LastErrorMessage"]:
            screen.note(f"VM {name(row['Name'])} failed last: {failure(row['Name'], row)}")
