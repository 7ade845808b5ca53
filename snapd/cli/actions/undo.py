"""undo: take a VM's last revert back."""

from __future__ import annotations

from argparse import Namespace

from ...errors import Changed, NoSuchSnapshot
from ..client import Client, Row
from ..output import times
from ..output.screen import Screen
from ..output.text import name, typable
from ..undoing import LastRevert, last_revert, since, still_there
from .common import described, snapshots_of
from .revert import back_to, fate, kept, tell

_LOOKED_AT = ["Time", "Verb", "SnapshotName", "Created", "Result", "Job"]


async def undo(client: Client, args: Namespace, screen: Screen) -> int:
    (path,) = await client.ask("GetDomain", args.vm)
    domain = await client.properties(path, "Domain")
    vm = typable(domain["Name"], domain["UUID"])
    history, _info = await client.rows("ListHistory", domain["UUID"], fields=_LOOKED_AT)
    snapshots = await snapshots_of(client, domain["UUID"])
    last, meant = _way_back(history, snapshots, name(domain["Name"]), screen.command("list", vm))
    done = since(last, snapshots)
    if done and not (args.yes or args.preview or screen.can_ask):
        all_the_same = screen.command("undo", vm, options=("--yes",))
        raise Changed(
            f"VM {name(domain['Name'])}: since its revert to {_when(last, screen)} "
            f"{', '.join(done)}; to undo it all the same: {all_the_same}"
        )
    facts = [
        f"Undo the revert to {_when(last, screen)}.",
        *(f"  since then {each}" for each in done),
        f"Revert VM {described(meant, screen)}.",
        fate(args),
    ]
    about = {"SnapshotName": meant["Name"], "Created": meant["Created"], "Since": done}
    row = await back_to(client, args, screen, meant, facts, about)
    if isinstance(row, int):
        return row
    return tell(screen, row, meant, await kept(client, row), "undo", vm)


def _way_back(
    history: list[Row], snapshots: list[Row], vm: str, see: str
) -> tuple[LastRevert, Row]:
    """The last revert and the safety snapshot that it made. Raises NoSuchSnapshot."""
    last = last_revert(history)
    if last is None:
        raise NoSuchSnapshot(
            f"VM {vm}: nothing to undo: virtsnapd has not reverted it, as far as its history goes; "
            f"what there is to go back to: {see}"
        )
    to = f"revert to {name(last.revert['SnapshotName'])}"
    if last.safety is None:
        raise NoSuchSnapshot(
            f"VM {vm}: its last {to} was done without a safety snapshot: what it was before is "
            f"not kept; what there is to go back to: {see}"
        )
    meant = still_there(last.safety, snapshots)
    if meant is None:
        safety = name(last.safety["SnapshotName"])
        raise NoSuchSnapshot(
            f"VM {vm}: the safety snapshot of its last {to}, {safety}, is not there any more; "
            f"what there is to go back to: {see}"
        )
    return last, meant


def _when(last: LastRevert, screen: Screen) -> str:
    """`before-upgrade (2026-11-24 02:30, 3 h ago)`."""
    then = last.revert["Time"]
    when = ", ".join(filter(None, [times.minute(then), times.age(then, screen.now)]))
    return f"{name(last.revert['SnapshotName'])} ({when})"
