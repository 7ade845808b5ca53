"""status: what is protected, what is next, what is wrong, and what to type next."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import NamedTuple

from ..client import Client, Row
from ..output import times, ways
from ..output.screen import Screen
from ..output.tables import Column
from ..output.text import name
from .common import incomplete

_OPEN = ("running", "queued", "unknown")
_DOMAINS = [
    Column("VM"),
    Column("STATE", spare=1, words=True),
    Column("POLICIES", words=True),
    Column("LAST SUCCESS", spare=2, words=True),
    Column("NEXT RUN", spare=3),
    Column("LAST RUN", words=True),
]
_JOBS = [
    Column("JOB"),
    Column("VERB"),
    Column("VM"),
    Column("SNAPSHOT"),
    Column("POLICY", spare=2),
    Column("STATE", words=True),
    Column("PHASE", spare=1),
    Column("SINCE", spare=3),
]


class _Picture(NamedTuple):
    manager: Row
    domains: list[Row]
    info: Row
    policies: list[Row]
    problems: list[Row]
    jobs: list[Row]


async def status(client: Client, _args: Namespace, screen: Screen) -> int:
    seen = await _look(client)
    _heading(screen, seen)
    _domains(screen, seen)
    incomplete(screen, seen.info)
    _jobs(screen, seen.jobs)
    _problems(screen, seen.problems)
    if following := _next(screen, seen):
        screen.say()
        screen.say(f"next: {following}", "way")
    screen.names(row["Name"] for row in seen.domains)
    screen.document(
        {
            "Manager": seen.manager,
            "Domains": seen.domains,
            "Policies": seen.policies,
            "Problems": seen.problems,
            "Jobs": seen.jobs,
            "Incomplete": seen.info["Incomplete"],
            "Checked": seen.info["Checked"],
        }
    )
    return 0


async def _look(client: Client) -> _Picture:
    (domains, info), (policies, _), (problems, _), *jobs = await asyncio.gather(
        client.rows("ListDomains"),
        client.rows("ListPolicies"),
        client.rows("ListProblems"),
        *(client.rows("ListJobs", state=state) for state in _OPEN),
    )
    # last: the lists may have waited until libvirt was read
    manager = await client.properties()
    return _Picture(
        manager, domains, info, policies, problems, [row for rows, _ in jobs for row in rows]
    )


def _heading(screen: Screen, seen: _Picture) -> None:
    manager = seen.manager
    versions = f"virtsnapd {manager['Version']}"
    if manager["LibvirtVersion"]:
        versions += f", libvirt {manager['LibvirtVersion']}"
    covered = sum(bool(row["Policies"]) for row in seen.domains)
    screen.say(f"{manager['LibvirtURI']} ({versions})")
    if not manager["Connected"]:
        checked = seen.info["Checked"]
        last = f"what follows is of {times.moment(checked, screen.now)}" if checked else ""
        what = "NOT CONNECTED to libvirt: no snapshot is made; "
        screen.say(what + (last or "nothing is known"), "critical")
    elif manager["Loading"]:
        screen.say("still reading the VMs: what follows is not complete yet")
    upcoming = manager["NextRun"]
    following = f", next run {times.moment(upcoming, screen.now)}" if upcoming else ""
    screen.say(
        f"{covered} of {_number(len(seen.domains), 'VM')} under "
        f"{_number(len(seen.policies), 'policy', 'policies')}{following}, "
        f"health {manager['Health']}"
    )


def _domains(screen: Screen, seen: _Picture) -> None:
    runs = {row["Name"]: row["NextRun"] for row in seen.policies}
    rows = []
    for row in seen.domains:
        upcoming = min((runs[p] for p in row["Policies"] if runs.get(p)), default=0)
        rows.append(
            [
                name(row["Name"]),
                row["State"],
                ", ".join(row["Policies"]) or "none",
                times.moment(row["LastSuccess"], screen.now),
                times.moment(upcoming, screen.now),
                "failed" if row["LastErrorName"] else "",
            ]
        )
    if rows:
        screen.say()
    screen.table(_DOMAINS, rows)


def _jobs(screen: Screen, jobs: list[Row]) -> None:
    if not jobs:
        return
    screen.say()
    screen.table(
        _JOBS,
        [
            [
                row["Path"].rpartition("/")[2],
                row["Verb"],
                name(row["DomainName"]) if row["DomainName"] else "",
                name(row["SnapshotName"]) if row["SnapshotName"] else "",
                row["Policy"],
                row["State"],
                row["Phase"] if row["Phase"] != row["State"] else "",
                times.age(row["Started"], screen.now),
            ]
            for row in jobs
        ],
    )


def _problems(screen: Screen, problems: list[Row]) -> None:
    if problems:
        screen.say()
    for row in problems:
        screen.say(f"{row['Severity']}: {times.local(row['Message'])}", row["Severity"])
        for way in ways.told(row["Ways"], screen.bus, row):
            screen.say(f"  way out: {way}", "way")


def _next(screen: Screen, seen: _Picture) -> str:
    """The next thing to do for who has just begun; "" = all is set up."""
    if not seen.manager["Connected"]:
        return "start libvirt (systemctl start libvirtd); virtsnapd connects by itself"
    if seen.manager["Loading"]:
        return f"{screen.command('status')}, in a moment"
    if not seen.domains:
        other = {"system": "--session", "session": "--system"}.get(screen.bus)
        elsewhere = f", or look at the other libvirt: virtsnap {other}" if other else ""
        return f"there is no VM here: make one with virt-manager or virt-install{elsewhere}"
    if not seen.policies:
        if any(row["Problem"] == "policy-file" for row in seen.problems):
            return "correct the policy file: virtsnap policy validate FILE says what is wrong"
        return f"{screen.command('policy', 'enable', 'nightly')} protects every VM, every night"
    if not any(row["LastSuccess"] for row in seen.domains):
        run = screen.command("policy", "run", seen.policies[0]["Name"])
        return f"{run} takes the first snapshots now"
    return ""


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
