"""policy list, run, remove."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from ...errors import without_vm
from ..client import Client, Row
from ..confirm import confirm
from ..follow import started
from ..output import times
from ..output.screen import Screen
from ..output.tables import Column
from ..output.text import name
from .common import refuse_admins

FAILED = 1
_LIST = [
    Column("POLICY"),
    Column("VMS", free=True),
    Column("WHEN"),
    Column("KEEPS", free=True),
    Column("NEXT RUN", spare=1),
    Column("LAST SUCCESS", spare=2, words=True),
    Column("HEALTH", words=True),
    Column("FROM", spare=3),
]
_RUN = [
    Column("VM"),
    Column("OUTCOME", words=True),
    Column("SNAPSHOT"),
    Column("LET GO", spare=1),
    Column("REASON", free=True),
]
_KEEP = ("last", "hourly", "daily", "weekly", "monthly", "yearly", "within")


async def list_policies(client: Client, _args: Namespace, screen: Screen) -> int:
    (rows, info), (problems, _) = await asyncio.gather(
        client.rows("ListPolicies"), client.rows("ListProblems")
    )
    screen.table(_LIST, [_cells(row, screen) for row in rows])
    if not rows:
        enable = screen.command("policy", "enable", "nightly")
        screen.note(f"no policy is in force; to protect every VM every night: {enable}")
    for problem in problems:
        if problem["Problem"] in ("policy-file", "policy-shadowed"):
            screen.note(f"{problem['Severity']}: {problem['Message']}", problem["Severity"])
    screen.names(row["Name"] for row in rows)
    screen.document({"rows": rows, "info": info})
    return 0


def _cells(row: Row, screen: Screen) -> list[str]:
    definition = row["Definition"]
    excluded = definition.get("exclude", [])
    but = f", not {' '.join(excluded)}" if excluded else ""
    return [
        row["Name"],
        " ".join(definition.get("domains", [])) + but,
        when(definition),
        keeps(definition.get("keep", {})),
        times.moment(row["NextRun"], screen.now),
        times.moment(row["LastSuccess"], screen.now),
        row["Health"],
        row["Source"],
    ]


def when(definition: Mapping[str, Any]) -> str:
    """`30 2 * * *, on start, crash`: a policy's schedule and its triggers."""
    on = ", ".join(definition.get("on", ()))
    return ", ".join(part for part in (definition.get("schedule", ""), on and f"on {on}") if part)


def keeps(rules: Row) -> str:
    """`last 3, daily 7`."""
    return ", ".join(f"{rule} {rules[rule]}" for rule in _KEEP if rule in rules)


async def run(client: Client, args: Namespace, screen: Screen) -> int:
    job = await client.act("RunPolicy", args.policy, domain=args.vm or None)
    row = await started(client, screen, job, no_wait=args.no_wait)
    if row is None:
        return 0
    results = row["Result"]["Domains"]
    if not results:
        screen.note(f"policy {args.policy} matches no VM: nothing was done")
    (jobs, _), (domains, _) = await asyncio.gather(
        client.rows("ListJobs"), client.rows("ListDomains", fields=["UUID", "Name"])
    )
    children = [child for child in jobs if child["Parent"] == job]
    names = {each["UUID"]: each["Name"] for each in domains}
    screen.table(_RUN, [_result(each, children, names) for each in results])
    for child in children:
        for warning in child["Warnings"]:
            vm, said = f"VM {name(child['DomainName'])}", times.local(warning["Message"])
            screen.note(f"warning: {said if vm in said else f'{vm}: {said}'}", "warning")
    screen.names(filter(None, (_made(each, children) for each in results)))
    screen.document(row)
    return FAILED if any(each["Outcome"] == "failed" for each in results) else 0


def _result(result: Row, children: list[Row], names: dict[str, str]) -> list[str]:
    uuid = result["DomainUUID"]
    mine = [child for child in children if child["DomainUUID"] == uuid]
    vm, made = names.get(uuid) or str(uuid), _made(result, children)
    gone = [each for c in mine for each in c["Result"].get("Deleted", ())]
    return [
        name(vm),
        result["Outcome"],
        name(made) if made else "",
        " ".join(map(name, gone)),
        times.local(without_vm(result["Reason"], vm)),
    ]


def _made(result: Row, children: list[Row]) -> str:
    """The name of the snapshot that was made, "" = none."""
    of_job = (str(c["SnapshotName"]) for c in children if c["Path"] == result["Job"])
    return next(of_job, "")


async def remove(client: Client, args: Namespace, screen: Screen) -> int:
    (path,) = await client.ask("GetPolicy", args.policy)
    policy = await client.properties(path, "Policy")
    refuse_admins(policy, screen.bus, "delete")
    question = f"Remove policy {policy['Name']}; its snapshots stay and are not let go any more."
    confirm(screen, question, yes=args.yes)
    await client.act("RemovePolicy", args.policy, if_revision=policy["Revision"])
    screen.say(f"policy {policy['Name']} is out of force; its snapshots stay")
    screen.names([policy["Name"]])
    screen.document({"Name": policy["Name"]})
    return 0
