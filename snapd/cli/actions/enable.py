"""policy enable: show what a template or a policy file would do here, then put it in force."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path

from ...errors import InvalidArgument, NoSuchPolicy
from ...model import Policy, Warned
from ...settings import check_definition, system_timezone
from .. import templates
from ..client import Client, Row
from ..confirm import confirm
from ..output import times
from ..output.screen import Screen
from ..output.tables import Column
from ..output.text import name
from .common import refuse_admins
from .coverage import WORKS, next_run, whys, works
from .policies import keeps, when
from .validate import read_definition

_COLUMNS = [
    Column("VM"),
    Column("STATE", spare=2, words=True),
    *WORKS,
    Column("ALREADY UNDER", spare=1),
    Column("FIRST RUN", spare=6),
]


async def enable(client: Client, args: Namespace, screen: Screen) -> int:
    path = find(args.template)
    policy, warnings = _read(path)
    rows, _ = await client.rows("ListPolicies", fields=["Name", "Revision", "Source"])
    present = next((row for row in rows if row["Name"] == policy.name), None)
    if present:
        refuse_admins(present, screen.bus, "edit")
    definition = dict(policy.definition)
    (domains, _), (covered, _) = await asyncio.gather(
        client.rows("ListDomains", fields=["UUID", "State", "Policies"]),
        client.rows("ListCoverage", policy.name, definition=definition),
    )
    slots = await client.ask("PreviewSchedule", policy.name, definition=definition, count=1)
    first = times.moment(slots[0][0], screen.now) if slots[0] else "none"
    about = _about(policy, covered, domains, first)
    for line in about:
        screen.say(line)
    _show(screen, policy, covered, domains)
    for warning in warnings:
        screen.note(f"warning: {warning.item}: {warning.message}", "warning")
    revision = present["Revision"] if present else ""
    if revision != policy.revision:
        what = "Replace" if present else "Put in force"
        confirm(screen, f"{what} policy {policy.name}?", yes=args.yes, about=about)
        revision = await client.act(
            "SetPolicy", policy.name, definition, if_revision=revision or None
        )
        screen.say(f"policy {policy.name} is in force, first run {first}")
    else:
        screen.say(f"policy {policy.name} was in force as it is already; next run {first}")
    run, status = screen.command("policy", "run", policy.name), screen.command("status")
    screen.say(f"to take the first snapshots now: {run}")
    screen.say(f"to look after it: {status}")
    screen.names([policy.name])
    screen.document(
        {"Name": policy.name, "Revision": revision, "NextFires": slots[0], "Coverage": covered}
    )
    return 0


def _read(path: Path) -> tuple[Policy, list[Warned]]:
    try:
        definition = read_definition(path)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}", item=str(path)) from error
    return check_definition(path.stem, definition, "api", system_timezone()).demand(str(path))


def find(template: str) -> Path:
    """The file that is meant: a path, or the name of a template. Raises NoSuchPolicy."""
    if "/" in template or template.endswith(".toml"):
        return Path(template)
    path = templates.folder() / f"{template}.toml"
    if path.is_file():
        return path
    known = ", ".join(templates.known()) or "none here"
    raise NoSuchPolicy(
        f"no template {template!r}; templates: {known}; a file is given by its path: ./FILE.toml",
        item=template,
    )


def _about(policy: Policy, covered: list[Row], domains: list[Row], first: str) -> list[str]:
    keep = policy.definition.get("keep")
    rules = keeps(keep) if isinstance(keep, dict) else ""
    return [
        f"policy {policy.name}: {when(policy.definition)} ({policy.timezone}), keeps {rules}, "
        f"{'with' if policy.memory else 'without'} RAM",
        f"it covers {len(covered)} of {len(domains)} VMs; first run {first}",
    ]


def _show(screen: Screen, policy: Policy, covered: list[Row], domains: list[Row]) -> None:
    by_uuid = {row["UUID"]: row for row in domains}
    rows = []
    for row in covered:
        vm = by_uuid.get(row["DomainUUID"], {"State": "", "Policies": []})
        others = ", ".join(label for label in vm["Policies"] if label != policy.name)
        about = [*works(row), others, next_run(row, screen)]
        rows.append([name(row["DomainName"]), vm["State"], *about])
    screen.table(_COLUMNS, rows)
    whys(covered, screen)
