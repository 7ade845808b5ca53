"""What the answers of several commands have in common."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import Protected, Unavailable, without_vm
from ..client import Client, Row
from ..output import times
from ..output.screen import Screen
from ..output.text import name

PICKED_BY = [
    "Path",
    "Name",
    "DomainUUID",
    "DomainName",
    "Created",
    "TimeKnown",
    "State",
    "Status",
    "Origin",
    "Policies",
    "Pinned",
    "Parent",
    "Current",
]


def incomplete(screen: Screen, info: Row) -> None:
    """Say which VMs could not be read for this list."""
    for row in info["Incomplete"]:
        vm = name(row["DomainName"] or row["DomainUUID"])
        screen.note(f"VM {vm}: {times.local(row['ErrorMessage'])}")


async def nothing_of(client: Client, policy: str | None) -> None:
    """Nothing was found of a policy: raise NoSuchPolicy where that is since there is none."""
    if policy:
        await client.ask("GetPolicy", policy)


async def meant_by(client: Client, vm: str, snapshot: str) -> Row:
    """The properties of the snapshot meant: its time and UUID go into the call, so that nothing
    else is reverted or deleted than what was shown."""
    (path,) = await client.ask("GetSnapshot", vm, snapshot)
    return await client.properties(path, "Snapshot")


async def snapshots_of(client: Client, vm: str) -> list[Row]:
    """All of a VM, as they are now, with what picking looks at. Raises Unavailable where the VM
    could not be read: what was there a while ago is nothing to pick from."""
    rows, info = await client.rows("ListSnapshots", vm, fields=PICKED_BY)
    for row in info["Incomplete"]:
        raise Unavailable(
            f"VM {name(row['DomainName'] or vm)}: which snapshots it has cannot be told now: "
            f"{row['ErrorMessage']}"
        )
    return rows


def failure(vm: str, row: Row) -> str:
    """How a policy failed last on that VM, of whom is told already that it is about it."""
    return times.local(without_vm(row["LastErrorMessage"], vm))


def described(row: Row, screen: Screen) -> str:
    """`web-1: snapshot before-upgrade (2026-11-24 02:30, 3 h ago, running, manual)`."""
    created = row["Created"] if row["TimeKnown"] else 0
    when = [times.minute(created), times.age(created, screen.now)] if created else ["time unknown"]
    about = ", ".join([*when, row["State"], row["Origin"]])
    return f"{name(row['DomainName'])}: snapshot {name(row['Name'])} ({about})"


def refuse_admins(policy: Row, bus: str, how: str) -> None:
    """Raises Protected for a policy that is an admin's file, with what is to be done there: edit,
    delete."""
    if policy["Source"] != "admin":
        return
    raise Protected(
        f"policy {policy['Name']} is an admin's file, which is not written from here: {how} "
        f"{_admins(bus)}/{policy['Name']}.toml",
        item=policy["Name"],
        ways=("reload",),
    )


def _admins(bus: str) -> str:
    """The folder of the admin's files as far as it can be told from here."""
    if bus == "system":
        return "/etc/virtsnapd/policies.d"
    config = os.environ.get("XDG_CONFIG_HOME", "") or str(Path.home() / ".config")
    return f"{config}/virtsnapd/policies.d" if bus == "session" else "policies.d of its --config"
