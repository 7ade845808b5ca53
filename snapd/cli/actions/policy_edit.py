"""policy edit, policy set: change a policy of the API, with a look at what changes."""

from __future__ import annotations

import asyncio
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from ...errors import InvalidArgument, SnapdError
from ...settings import definition_to_toml
from .. import editor
from ..client import Client, Row
from ..confirm import confirm
from ..definition import changed, differences, shown
from ..output import times
from ..output.screen import Screen
from ..output.text import name
from .common import refuse_admins
from .validate import read_definition

KEYS = "virtsnapd-policy(5) has every key. Comments are not kept."


async def set_keys(client: Client, args: Namespace, screen: Screen) -> int:
    policy = await _ours(client, args.policy, screen.bus)
    wanted = changed(policy["Definition"], args.changes)
    (verdict,) = await client.ask("ValidatePolicy", policy["Name"], wanted)
    if not verdict["Valid"]:
        faults = "; ".join(_faults(verdict["Errors"]))
        raise InvalidArgument(f"policy {policy['Name']} stays as it is: {faults}")
    return await _put(client, screen, policy, wanted, verdict, yes=args.yes)


async def edit(client: Client, args: Namespace, screen: Screen) -> int:
    policy = await _ours(client, args.policy, screen.bus)
    if not screen.can_ask:
        way = screen.command("policy", "set", policy["Name"])
        raise InvalidArgument(f"there is no terminal to edit on; {way} KEY=VALUE needs none")
    file = Path(tempfile.mkdtemp(prefix="virtsnap-")) / f"{policy['Name']}.toml"
    begun = f"# policy {policy['Name']}: {KEYS}\n\n".encode() + definition_to_toml(
        policy["Definition"]
    )
    file.write_bytes(begun)
    try:
        wanted, verdict = await _edited(client, screen, policy["Name"], file)
        code = await _put(client, screen, policy, wanted, verdict, yes=args.yes)
    except BaseException as error:
        if file.exists() and file.read_bytes() != begun:
            _tell_kept(screen, file, error)
        else:
            _remove(file)
        raise
    _remove(file)
    return code


async def _edited(
    client: Client, screen: Screen, policy: str, file: Path
) -> tuple[dict[str, Any], Row]:
    """What a person has made of it, once that is valid, and the daemon's verdict on it. Raises
    Cancelled where they give up."""
    while True:
        editor.edit(file)
        try:
            wanted = dict(read_definition(file))
            (verdict,) = await client.ask("ValidatePolicy", policy, wanted)
            if verdict["Valid"]:
                return wanted, verdict
            faults = _faults(verdict["Errors"])
        except InvalidArgument as error:  # no TOML, or what a policy has no place for
            faults = [error.message]
        said = [f"{file.name}: {fault}" for fault in faults]
        for line in said:
            screen.note(line, "critical")
        confirm(screen, "It is not valid. Edit it again?", yes=False, about=said)


async def _put(
    client: Client, screen: Screen, policy: Row, wanted: Row, verdict: Row, *, yes: bool
) -> int:
    """Show what changes, ask, and set it, unless somebody else has changed it meanwhile."""
    label, revision = policy["Name"], policy["Revision"]
    changes = differences(policy["Definition"], wanted)
    if changes:
        lines = [f"policy {label}:"]
        lines += [f"  {key}: {shown(key, old)} -> {shown(key, new)}" for key, old, new in changes]
        if any(change.key in ("domains", "exclude") for change in changes):
            lines += await _moves(client, label, wanted)
        for line in lines:
            screen.say(line)
        odd = [f"warning: {each['Key']}: {each['Message']}" for each in verdict["Warnings"]]
        for line in odd:
            screen.note(line, "warning")
        confirm(screen, f"Change policy {label}?", yes=yes, about=[*lines, *odd])
        revision = await client.act("SetPolicy", label, wanted, if_revision=revision)
        upcoming = next(iter(verdict["NextFires"]), 0)
        following = f", next run {times.moment(upcoming, screen.now)}" if upcoming else ""
        screen.say(f"policy {label} is changed{following}")
        if any(change.key.startswith(("keep.", "limits.max")) for change in changes):
            look = screen.command("preview", "VM", options=["--policy", label])
            screen.say(f"what it keeps of a VM now, and what it lets go: {look}")
    else:
        screen.say(f"policy {label} is left as it was")
    screen.names([label])
    found = [{"Key": key, "Old": old, "New": new} for key, old, new in changes]
    fires = verdict["NextFires"]
    screen.document({"Name": label, "Revision": revision, "Changes": found, "NextFires": fires})
    return 0


async def _moves(client: Client, policy: str, wanted: Row) -> list[str]:
    """Which VMs join and which leave."""
    (before, _), (after, _) = await asyncio.gather(
        client.rows("ListCoverage", policy),
        client.rows("ListCoverage", policy, definition=wanted),
    )
    old, new = ({row["DomainUUID"]: row["DomainName"] for row in rows} for rows in (before, after))
    joins = [f"  VM {name(vm)} joins" for uuid, vm in new.items() if uuid not in old]
    leaves = [f"  VM {name(vm)} leaves" for uuid, vm in old.items() if uuid not in new]
    return joins + leaves


async def _ours(client: Client, policy: str, bus: str) -> Row:
    """The properties of a policy that may be changed here. Raises NoSuchPolicy, Protected."""
    (path,) = await client.ask("GetPolicy", policy)
    row = await client.properties(path, "Policy")
    refuse_admins(row, bus, "edit")
    return row


def _faults(errors: list[Row]) -> list[str]:
    return [f"{row['Key']}: {row['Message']}" if row["Key"] else row["Message"] for row in errors]


def _tell_kept(screen: Screen, file: Path, error: BaseException) -> None:
    kept = f"what you wrote is kept in {file}"
    if isinstance(error, SnapdError):  # also in its JSON
        error.message = f"{error.message}; {kept}"
    else:
        screen.note(kept)


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.parent.rmdir()
