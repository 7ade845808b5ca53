"""policy show: one in force as it stands in its file, how it fares, what is odd about it."""

from __future__ import annotations

from argparse import Namespace

from ...settings import definition_to_toml
from ..client import Client, Row
from ..output import times
from ..output.screen import Screen


async def show(client: Client, args: Namespace, screen: Screen) -> int:
    (path,) = await client.ask("GetPolicy", args.policy)
    policy = await client.properties(path, "Policy")
    (verdict,) = await client.ask("ValidatePolicy", policy["Name"], policy["Definition"])
    _show(screen, policy)
    for warning in verdict["Warnings"]:
        screen.note(f"warning: {warning['Key']}: {warning['Message']}", "warning")
    screen.names([policy["Name"]])
    screen.document({**policy, "Path": path, "Warnings": verdict["Warnings"]})
    return 0


def _show(screen: Screen, policy: Row) -> None:
    where = "an admin's file" if policy["Source"] == "admin" else "set through the API"
    screen.say(f"policy {policy['Name']}, {where}, health {policy['Health']}")
    screen.say()
    for line in definition_to_toml(policy["Definition"]).decode().splitlines():
        screen.say(f"    {line}".rstrip())
    screen.say()
    screen.say(f"next run {times.moment(policy['NextRun'], screen.now)}")
    screen.say(f"last run {times.moment(policy['LastRun'], screen.now)}")
    screen.say(f"last success {times.moment(policy['LastSuccess'], screen.now)}")
    if policy["LastErrorMessage"]:
        screen.say(f"last failure: {times.local(policy['LastErrorMessage'])}", "failed")
