"""Delete what is ours on a VM, so that it can be undefined; say what stays, and why."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from ..errors import NoSuchSnapshot, SnapdError
from ..model import DomainInfo, Kind, Origin, Record, SnapshotInfo, SnapshotKey
from . import delete
from .context import Context
from .ending import signed
from .job import Job, Outcome

REASON = "all of ours are deleted"
Pause = Callable[[DomainInfo, str, int], Awaitable[object]]
"""(domain, reason, uid): no policy runs or prunes there until somebody takes that back."""


@dataclass(frozen=True, slots=True)
class OwnPlan:
    """going: what is deleted, in this order; stays: name -> reason word."""

    going: tuple[SnapshotInfo, ...]
    stays: Mapping[str, str]


def plan_own(
    snapshots: Iterable[SnapshotInfo], records: Iterable[Record], *, manual: bool
) -> OwnPlan:
    """What goes and what stays. A leaf goes before what it was made upon, and among those that
    could be next, the youngest. Pure."""
    known = {(r.key.name, r.key.created): r for r in records}
    listed = {s.name: s for s in snapshots}
    stays: dict[str, str] = {}
    for info in listed.values():
        record = known.get((info.name, info.created))
        if record is None or record.origin is Origin.FOREIGN:
            stays[info.name] = "foreign"
        elif record.pin_reason is not None:
            stays[info.name] = "pinned"
        elif record.origin is Origin.MANUAL and not manual:
            stays[info.name] = "manual"
    going = {name: info for name, info in listed.items() if name not in stays}
    return OwnPlan(_leaf_first(going, listed), stays)


def _leaf_first(
    going: Mapping[str, SnapshotInfo], listed: Mapping[str, SnapshotInfo]
) -> tuple[SnapshotInfo, ...]:
    children = dict.fromkeys(listed, 0)
    for info in going.values():
        if info.parent in children:
            children[info.parent] += 1
    free = [(-s.created, s.name) for s in going.values() if not children[s.name]]
    heapq.heapify(free)
    order: list[SnapshotInfo] = []
    while free:
        _age, name = heapq.heappop(free)
        order.append(going[name])
        parent = going[name].parent
        if parent in children:
            children[parent] -= 1
            if parent in going and not children[parent]:
                heapq.heappush(free, (-going[parent].created, parent))
    return tuple(order)


async def delete_own(
    ctx: Context, job: Job, pause: Pause | None, *, dry_run: bool, manual: bool
) -> Outcome:
    """The work of a delete-own job. One that cannot be deleted stays, and the rest goes on."""
    job.enter("planning")
    uuid = job.row.domain
    picture = await ctx.inventory.refresh(uuid)
    listed, records = list(picture.snapshots.values()), ctx.store.records_of(uuid)
    plan = await asyncio.to_thread(plan_own, listed, records, manual=manual)
    stays = [{"Name": name, "Reason": reason} for name, reason in plan.stays.items()]
    if dry_run:
        return Outcome(result={"Deleted": [s.name for s in plan.going], "Stays": stays})
    job.enter("pausing-policies", acting=True)
    if pause:
        why = signed(job.id, f"{REASON}, so that the VM can be removed")
        await pause(picture.info, why, job.row.owner)
    deleted: list[str] = []
    going = plan.going
    if any(s.kind is Kind.EXTERNAL for s in going):
        going = tuple(delete.in_order(await ctx.hypervisor.facts(uuid, going[0].name), going))
    for info in going:
        job.enter("deleting", acting=True)
        try:
            await delete.within(ctx, job, SnapshotKey(uuid, info.name, info.created), REASON)
        except NoSuchSnapshot:
            continue
        except SnapdError as e:
            stays.append({"Name": info.name, "Reason": e.reason or e.name})
        else:
            deleted.append(info.name)
    return Outcome(result={"Deleted": deleted, "Stays": stays})
