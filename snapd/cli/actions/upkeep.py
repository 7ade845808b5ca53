"""audit, and delete --all-ours."""

from __future__ import annotations

from argparse import Namespace

from ...errors import InvalidArgument
from ..client import Client, Row
from ..confirm import confirm
from ..follow import started
from ..output import times
from ..output.screen import Screen
from ..output.text import name, typable

FAILED = 1
_COLUMNS = ["VM", "FINDING", "WHAT", "PROOF"]
"""None is cut or left out: half a proof is none."""
_MEANT = {
    "foreign": "another tool made it",
    "pinned": "it is pinned",
    "manual": "made by hand; --manual takes it along",
}


async def audit(client: Client, args: Namespace, screen: Screen) -> int:
    job = await client.act("Audit", args.vm)
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    domains, _info = await client.rows("ListDomains", fields=["UUID", "Name"])
    names = {each["UUID"]: each["Name"] for each in domains}
    found = [
        {"DomainName": names.get(each["DomainUUID"], ""), **each}
        for each in row["Result"]["Findings"]
    ]
    screen.table(_COLUMNS, [_finding(each) for each in found])
    if not found:
        screen.say("nothing is amiss", "ok")
    screen.names(dict.fromkeys(each["DomainName"] or each["DomainUUID"] for each in found))
    screen.document({"rows": found})
    return FAILED if found else 0


def _finding(row: Row) -> list[str]:
    vm = name(row["DomainName"]) if row["DomainName"] else row["DomainUUID"]
    return [vm, row["Reason"], name(row["Item"]), times.local(row["Proof"])]


async def delete_ours(client: Client, args: Namespace, screen: Screen) -> int:
    """delete VM --all-ours."""
    screen.format = "delete-all-ours"
    if args.snapshots:
        raise InvalidArgument(
            f"--all-ours deletes more than {args.snapshots[0]!r}; give one of the two"
        )
    (path,) = await client.ask("GetDomain", args.vm)
    domain = await client.properties(path, "Domain")
    if not args.dry_run and screen.can_ask and not args.yes:
        would = await _delete(client, screen, domain["UUID"], args, dry_run=True)
        if would is not None:
            _tell(screen, domain, would["Result"], would=True)
        question = f"Delete them from VM {name(domain['Name'])}, and hold all policies on it?"
        confirm(screen, question, yes=False)
    row = await _delete(client, screen, domain["UUID"], args, dry_run=args.dry_run)
    if row is None:
        return 0
    _tell(screen, domain, row["Result"], would=args.dry_run)
    screen.names(row["Result"]["Deleted"])
    screen.document(row)
    failed = any(each["Reason"] not in _MEANT for each in row["Result"]["Stays"])
    return FAILED if failed else 0


async def _delete(
    client: Client, screen: Screen, uuid: str, args: Namespace, *, dry_run: bool
) -> Row | None:
    job = await client.act(
        "DeleteOwnSnapshots", uuid, dry_run=dry_run or None, manual=args.manual or None
    )
    return await started(client, screen, job, no_wait=args.no_wait and not dry_run)


def _tell(screen: Screen, domain: Row, result: Row, *, would: bool) -> None:
    vm, gone, stays = name(domain["Name"]), result["Deleted"], result["Stays"]
    word = "would be deleted" if would else "is deleted"
    for each in gone:
        screen.say(f"VM {vm}: snapshot {name(each)} {word}")
    if not gone:
        screen.say(f"VM {vm}: no snapshot of ours to delete")
    for each in stays:
        reason = _MEANT.get(each["Reason"], each["Reason"])
        screen.say(f"VM {vm}: snapshot {name(each['Name'])} stays: {reason}")
    if stays or would:
        return
    undefine = typable(domain["Name"], domain["UUID"])
    screen.say(f"VM {vm} has no snapshots any more: virsh undefine {undefine} works now")
