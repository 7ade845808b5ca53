"""show VM SNAPSHOT: one that is there, or what history has of one that is gone."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Sequence

from ...errors import NoSuchDomain, NoSuchSnapshot
from ...wire import paths
from ..client import Client, Row
from ..output import facts, fates, previews, times, words
from ..output.people import who
from ..output.screen import Screen
from ..output.text import name, typable

_WANTED = {
    "manual": "by hand",
    "policy": "by policy",
    "event": "by policy, on an event",
    "safety": "to keep what the VM was before a revert",
    "trial": "to try something: kept out of every policy",
    "foreign": "by another tool, as far as is known",
}
_IN = {"internal": "inside the images", "external": "in files of its own"}


async def show_snapshot(client: Client, args: Namespace, screen: Screen) -> int:
    try:
        (path,) = await client.ask("GetSnapshot", args.vm, args.snapshot)
        row = {"Path": path, **await client.properties(path, "Snapshot")}
    except (NoSuchSnapshot, NoSuchDomain) as error:
        acts, _info = await client.rows("ListHistory", args.vm, snapshot=args.snapshot)
        if not acts:
            raise
        return _show_gone(screen, acts, error)
    screen.names([row["Name"]])
    if screen.quiet:
        return 0
    (rows, _), (acts, _) = await asyncio.gather(
        client.rows("ListSnapshots", row["DomainUUID"], fields=["Name", "Parent"]),
        client.rows("ListHistory", row["DomainUUID"], snapshot=row["Name"]),
    )
    children = [each["Name"] for each in rows if each["Parent"] == path]
    own = [act for act in acts if act["Created"] == row["Created"]]
    current = ", the current one" if row["Current"] else ""
    screen.say(f"VM {name(row['DomainName'])}: snapshot {name(row['Name'])}{current}", "heading")
    facts.show(screen, _facts(screen, row, children, own))
    screen.document({"Snapshot": row, "Children": children, "History": own})
    return 0


def _facts(screen: Screen, row: Row, children: Sequence[str], acts: Sequence[Row]) -> facts.Facts:
    parent = paths.parse(row["Parent"])
    left_out = f" (without {', '.join(row['DisksLeftOut'])})" if row["DisksLeftOut"] else ""
    ram = ", and RAM" if row["Consistency"] == "memory" else ""
    got = previews.GOT.get(row["Consistency"], "")
    pause, created = row["PauseMilliseconds"], row["Created"] if row["TimeKnown"] else 0
    return [
        ("created", times.moment(created, screen.now) if created else "unknown"),
        ("description", row["Description"]),
        ("origin", f"{row['Origin']}: {_WANTED.get(row['Origin'], '')}".rstrip(": ")),
        ("made by", made_by(acts)),
        ("status", row["Status"]),
        ("holds", f"disks {', '.join(row['Disks']) or 'unknown'}{left_out}{ram}"),
        ("VM then", row["State"]),
        ("consistency", f"{row['Consistency']}: {got}" if got else row["Consistency"]),
        ("kind", f"{row['Kind']}: {_IN.get(row['Kind'], '')}".rstrip(": ")),
        ("pause", f"the VM stood still for {previews.span(pause)}" if pause >= 0 else "unknown"),
        ("parent", name(parent.name) if parent else "none"),
        ("children", ", ".join(map(name, children)) or "none"),
        ("policies", ", ".join(row["Policies"]) or "counts for none"),
        ("pinned", (row["PinReason"] or "yes") if row["Pinned"] else "no"),
        ("notes", [words.note(word) for word in row["Notes"]]),
        ("revert", _ways(screen, row, "revert", row["RevertBlocker"])),
        ("delete", _ways(screen, row, "delete", row["DeleteBlocker"])),
    ]


def made_by(acts: Sequence[Row]) -> str:
    """Who made it and why, by its acts in history; "" = history does not know."""
    made = next((act for act in acts if act["Verb"] == "create" and act["Result"] == "done"), None)
    if made is None:
        return ""
    return f"{who(made)}{_why(made)}"


def _ways(screen: Screen, row: Row, verb: str, blocker: str) -> list[str]:
    """What is known to be in the way, or the command that looks."""
    if blocker not in ("", "unchecked"):
        return [f"not now: {words.reason(blocker)}"]
    known = "not looked at yet" if blocker else "nothing is known to be in the way"
    if not row["Name"].isprintable():  # as it is shown it could not be typed
        return [known]
    vm = typable(row["DomainName"], row["DomainUUID"])
    look = screen.command(verb, vm, row["Name"], options=["--preview"])
    return [known, f"{look} says more"]


# --- gone


def _show_gone(screen: Screen, acts: Sequence[Row], error: Exception) -> int:
    """What history has of it. acts: at least one, the newest first."""
    from .history import COLUMNS, cells

    vm, snapshot = name(acts[0]["DomainName"]), name(acts[0]["SnapshotName"])
    too = "" if isinstance(error, NoSuchSnapshot) else ", nor is the VM"
    screen.say(f"VM {vm}: snapshot {snapshot} is not there any more{too}", "heading")
    facts.show(screen, gone_facts(acts, screen.now))
    screen.say()
    screen.table(COLUMNS, [cells(act, screen) for act in acts])
    screen.document({"Snapshot": None, "Children": [], "History": list(acts)})
    return 0


def gone_facts(acts: Sequence[Row], now: float) -> facts.Facts:
    """Who deleted it, when and why, and who had made it."""
    deleted = next(
        (act for act in acts if act["Verb"] == "delete" and act["Result"] == "done"), None
    )
    if deleted is None:
        return [("deleted", "history does not say by whom")]
    since = f"after {times.minute(deleted['NotBefore'])}, " if deleted["NotBefore"] else ""
    created = deleted["Created"]
    own = [act for act in acts if act["Created"] == created]
    return [
        ("deleted", f"{since}{times.moment(deleted['Time'], now)}"),
        ("by", who(deleted)),
        ("why", fates.told(deleted) or "not said"),
        ("created", times.moment(created, now)),
        ("made by", made_by(own)),
    ]


def _why(act: Row) -> str:
    return f" ({fates.told(act)})" if act["Reason"] else ""
