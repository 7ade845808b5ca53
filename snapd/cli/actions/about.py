"""show: all that is known about a VM, or about one of its snapshots."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

from ...wire import paths
from ..client import Client, Row
from ..output import facts, times, ways, words
from ..output.screen import Screen
from ..output.text import name, typable
from .about_snapshot import show_snapshot
from .common import failure, incomplete

_FIELDS = ["Path", "Name", "Origin", "Created", "TimeKnown", "Current"]


async def show(client: Client, args: Namespace, screen: Screen) -> int:
    if args.snapshot:
        return await show_snapshot(client, args, screen)
    return await _show_vm(client, args, screen)


async def _show_vm(client: Client, args: Namespace, screen: Screen) -> int:
    screen.format = "show-vm"
    (path,) = await client.ask("GetDomain", args.vm)
    vm = {"Path": path, **await client.properties(path, "Domain")}
    uuid = vm["UUID"]
    screen.names([vm["Name"]])
    if screen.quiet:
        return 0
    (snapshots, info), (coverage, _), (policies, _), (problems, _) = await asyncio.gather(
        client.rows("ListSnapshots", uuid, fields=_FIELDS),
        client.rows("ListCoverage", ""),
        client.rows("ListPolicies", fields=["Name", "Holds"]),
        client.rows("ListProblems"),
    )
    covered = [row for row in coverage if row["DomainUUID"] == uuid]
    holds = holds_on(policies, uuid)
    about = [row for row in problems if row["DomainUUID"] == uuid]
    screen.say(f"VM {name(vm['Name'])}", "heading")
    facts.show(screen, _facts(screen, vm, snapshots, covered, holds))
    for row in about:
        screen.say(f"{row['Severity']}: {times.local(row['Message'])}", row["Severity"])
        for way in ways.told(row["Ways"], screen.bus, row):
            screen.say(f"  way out: {way}", "way")
    incomplete(screen, {"Incomplete": [x for x in info["Incomplete"] if x["DomainUUID"] == uuid]})
    screen.document(
        {
            "Domain": vm,
            "Snapshots": len(snapshots),
            "Coverage": covered,
            "Holds": holds,
            "Problems": about,
        }
    )
    return 0


def _facts(
    screen: Screen, vm: Row, snapshots: Sequence[Row], covered: Sequence[Row], holds: Sequence[Row]
) -> facts.Facts:
    now = screen.now
    current = paths.parse(vm["CurrentSnapshot"])
    enable = screen.command("policy", "list")
    failed = [failure(vm["Name"], vm)] if vm["LastErrorName"] else []
    return [
        ("state", vm["State"]),
        ("UUID", vm["UUID"]),
        ("snapshots", counted(snapshots, now)),
        ("current", name(current.name) if current else ""),
        ("can be made", made(vm["Support"])),
        ("policies", [_under(row, now) for row in covered] or f"none covers it; see {enable}"),
        ("held", [_held(screen, row) for row in holds]),
        ("last success", times.moment(vm["LastSuccess"], now)),
        ("last failure", failed),
        ("see also", screen.command("list", typable(vm["Name"], vm["UUID"]), options=["--tree"])),
    ]


def counted(snapshots: Sequence[Row], now: float) -> str:
    """`4 (3 policy, 1 manual), the newest 3 h ago`."""
    if not snapshots:
        return "none"
    origins = Counter(row["Origin"] for row in snapshots).most_common()
    kinds = ", ".join(f"{count} {origin}" for origin, count in origins)
    newest = max((row["Created"] for row in snapshots if row["TimeKnown"]), default=0)
    ago = f", the newest {times.age(newest, now)}" if newest else ""
    return f"{len(snapshots)} ({kinds}){ago}"


def made(support: dict[str, str]) -> list[str]:
    """`internal, internal-memory: yes`: which snapshots can be made, or why not."""
    kinds: dict[str, list[str]] = {}
    for kind, word in support.items():
        kinds.setdefault(word, []).append(kind)
    return [f"{', '.join(alike)}: {words.reason(word)}" for word, alike in kinds.items()]


def holds_on(policies: Sequence[Row], uuid: str) -> list[Row]:
    """The holds that keep policies off that VM, each with its policy."""
    return [
        {"Policy": policy["Name"], **hold}
        for policy in policies
        for hold in policy["Holds"]
        if hold["DomainUUID"] in ("", uuid)
    ]


def _under(row: Row, now: float) -> str:
    """One policy, and how it fares there."""
    parts = [f"{row['Policy']}: {row['Health']}"]
    if row["Verdict"] != "yes":
        parts.append(f"cannot work: {row.get('Why') or words.reason(row['Verdict'])}")
    else:
        parts.append(f"makes {row['Kind']} ones")
    if row["NextRun"]:
        parts.append(f"next {times.moment(row['NextRun'], now)}")
    parts.append(f"last success {times.moment(row['LastSuccess'], now)}")
    return ", ".join(parts)


def _held(screen: Screen, hold: Row) -> str:
    until = times.moment(hold["Until"], screen.now) if hold["Until"] else "it is taken back"
    why = f" ({hold['Reason']})" if hold["Reason"] else ""
    of = "all VMs" if not hold["DomainUUID"] else "it"
    return f"by policy {hold['Policy']} {of} left alone until {until}{why}"
