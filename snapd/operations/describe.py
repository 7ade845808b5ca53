"""Give a snapshot another description: libvirt has only REDEFINE for that, so all else that the
snapshot is has to be the same before and after."""

from __future__ import annotations

from dataclasses import replace

from ..errors import Busy, Inconsistent, SnapdError
from ..model import DomainInfo, SnapshotInfo, SnapshotKey
from ..store import HistoryRow
from .context import Context, pick

MAX_WAIT = 20.0
"""Seconds for the domain's turn: the caller waits with us, and D-Bus clients do so for 25."""


async def describe(ctx: Context, domain: DomainInfo, key: SnapshotKey, text: str, uid: int) -> None:
    """Wait for the domain's turn, check, act, verify, record. Raises Busy with who holds the
    domain, Changed, NoSuchSnapshot, Inconsistent, and what libvirt refuses it with."""
    async with ctx.jobs.occupied(domain, f"description of snapshot {key.name}", MAX_WAIT):
        facts = await ctx.hypervisor.facts(key.domain)
        before = pick(facts, key)
        vm = facts.info.name
        what = f"cannot describe snapshot {key.name} of VM {vm}"
        if facts.holder:
            raise Busy(f"{what}: {facts.holder} holds the VM; try again later", item=facts.holder)
        if before.description == text:
            return
        act = HistoryRow(
            time=int(ctx.clock()),
            verb="describe",
            domain=key.domain,
            domain_name=vm,
            snapshot=key.name,
            created=key.created,
            owner=uid,
            reason=f"was: {before.description}" if before.description else "had none",
        )
        try:
            await _act(ctx, key, before, facts.info.current, text)
        except SnapdError as e:
            await ctx.store.add_history(replace(act, result=f"{e.name}: {e.message}"))
            raise
        await ctx.store.add_history(replace(act, result="done"))


async def _act(
    ctx: Context, key: SnapshotKey, before: SnapshotInfo, current: str, text: str
) -> None:
    """Have it redefined. What libvirt says of it is a claim, and an error is one too."""
    refused: SnapdError | None = None
    try:
        await ctx.hypervisor.describe(key.domain, key.name, text)
    except SnapdError as e:
        refused = e
    try:
        picture = await ctx.inventory.refresh(key.domain)
    except SnapdError as e:
        raise refused or e from e
    after = picture.snapshots.get(key.name)
    if refused and after == before:
        raise refused
    if differs := _differs(before, after, text):
        raise Inconsistent(
            f"snapshot {key.name} of VM {picture.info.name} was to get another description, but "
            f"by now {differs}; look at it before it is used",
            item=key.name,
        )
    if picture.info.current != current:
        raise Inconsistent(
            f"VM {picture.info.name}: its current snapshot was {current or 'none'!r} before "
            f"{key.name} was described, it is {picture.info.current or 'none'!r} now",
            item=key.name,
        )


def _differs(before: SnapshotInfo, after: SnapshotInfo | None, text: str) -> str:
    """What is not as it was, or not as it was to be; "" = all is well. Pure."""
    if after is None:
        return "libvirt does not list it any more"
    if after.description != text:
        return "its description is not the one that was asked for"
    for field in ("created", "parent", "current", "state", "kind", "memory"):
        was, now = getattr(before, field), getattr(after, field)
        if was != now:
            return f"its {field} is {now!s}, not {was!s}"
    return ""
