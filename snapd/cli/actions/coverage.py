"""policy coverage: each policy with each VM that it covers, and how it fares there."""

from __future__ import annotations

from argparse import Namespace

from ..client import Client, Row
from ..output import times
from ..output.previews import size, span
from ..output.screen import Screen
from ..output.tables import Column
from ..output.text import name
from .common import failure

WORKS = [
    Column("KIND", spare=3),
    Column("CAN WORK", words=True),
    Column("VM STANDS STILL", spare=4),
    Column("RAM KEPT", spare=5),
]
_COLUMNS = [
    Column("POLICY"),
    Column("VM"),
    Column("HEALTH", words=True),
    *WORKS,
    Column("NEXT RUN", spare=6),
    Column("LAST SUCCESS", spare=1, words=True),
]


async def coverage(client: Client, args: Namespace, screen: Screen) -> int:
    rows, info = await client.rows("ListCoverage", args.policy)
    screen.table(_COLUMNS, [_cells(row, screen) for row in rows])
    for row in rows:
        what = f"policy {row['Policy']} on VM {name(row['DomainName'])}"
        if row["LastErrorMessage"]:
            screen.note(f"{what} failed last: {failure(row['DomainName'], row)}", "failed")
    whys(rows, screen)
    if not rows:
        screen.note(f"policy {args.policy} matches no VM" if args.policy else "no VM is covered")
    screen.names(dict.fromkeys(row["DomainName"] for row in rows))
    screen.document({"rows": rows, "info": info})
    return 0


def _cells(row: Row, screen: Screen) -> list[str]:
    return [
        row["Policy"],
        name(row["DomainName"]),
        row["Health"],
        *works(row),
        next_run(row, screen),
        times.moment(row["LastSuccess"], screen.now),
    ]


def works(row: Row) -> list[str]:
    """The cells below WORKS: yes or why not, and what it costs."""
    if row["Verdict"] != "yes":
        return ["", row["Verdict"], "", ""]
    pause, ram = row["PauseMilliseconds"], row["RamKept"]
    still = "for a moment" if pause < 0 else span(pause) if pause else "no"
    return [row["Kind"], "yes", still, f"up to {size(ram)}" if ram else ""]


def whys(rows: list[Row], screen: Screen) -> None:
    """Say why it can't work on a VM, or makes external snapshots there."""
    for row in rows:
        if why := row.get("Why", ""):  # an older daemon's rows have none
            how = "" if row["Verdict"] == "yes" else " cannot work"
            screen.note(f"policy {row['Policy']} on VM {name(row['DomainName'])}{how}: {why}")


def next_run(row: Row, screen: Screen) -> str:
    """When it runs next; "" for one that waits for a trigger."""
    return times.moment(row["NextRun"], screen.now) if row["NextRun"] else ""
