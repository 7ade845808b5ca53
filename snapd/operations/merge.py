"""Delete an external snapshot: libvirt merges an overlay into the file below it.

What the snapshot went back to is overwritten from the first byte on, so one whose merge broke off
is no way back any more; all else keeps its content, and the merge can be tried again, into the same
file. It is done when libvirt's list and XML, the image headers and our record agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import (
    Busy,
    Inconsistent,
    NoSuchSnapshot,
    OutcomeUnknown,
    Partial,
    SnapdError,
    TimedOut,
    Unavailable,
)
from ..hypervisor import DomainFacts
from ..model import Disk, DomainInfo, SnapshotInfo, SnapshotKey, State, Warned
from .context import Context
from .job import Job, Outcome, Undone
from .merge_plan import (
    DiskMerge,
    MergePlan,
    amiss,
    half_merged,
    merged,
    plan_merge,
    read_plan,
    standing,
)
from .merged import verify_files, verify_images, verify_tree

LEFT_SECONDS = 3.0
"""What is looked at twice, this far apart, is not what libvirt is at work on."""
STARTING_LOOKS = 15
"""So often, a minute or less apart, libvirt has the VM for starting before that is given up."""
Seen = tuple[DomainFacts, SnapshotInfo]
Look = Callable[[], Awaitable[Seen]]


async def merge(ctx: Context, job: Job, seen: Seen, look: Look) -> Outcome:
    """Intend, merge, verify. seen: the facts and the snapshot, with nothing against it; look: the
    same anew, where the file systems had to be waited for."""
    facts, listed = seen
    plan = half_merged(facts, listed) or plan_merge(facts, listed)
    async with ctx.mergers.turn(job, facts, plan.targets) as waited:
        if waited:
            facts, listed = await look()
            plan = half_merged(facts, listed) or plan_merge(facts, listed)
        await job.intend(await _intent(ctx, job, facts, listed, plan))
        if half_merged(facts, listed):
            return await judge(ctx, job)
        job.enter("merging" if plan.merges else "deleting", acting=True)
        try:
            await ctx.hypervisor.overlays.merge(
                job.row.domain,
                listed.name,
                created=listed.created,
                active=facts.info.state.active,
                progress=job.advance,
            )
        except SnapdError as e:
            if not isinstance(e, OutcomeUnknown | Unavailable | TimedOut):
                await job.intend({**(job.row.intent or {}), "answered": True}, begun=True)
            raise
    return await judge(ctx, job)


async def _intent(
    ctx: Context, job: Job, facts: DomainFacts, listed: SnapshotInfo, plan: MergePlan
) -> dict[str, Any]:
    return {
        "kind": listed.kind.value,
        "name": listed.name,
        "created": listed.created,
        "parent": listed.parent,
        "children": [s.name for s in facts.snapshots if s.parent == listed.name],
        "active": facts.info.state.active,
        "stamp": await ctx.hypervisor.stamp(_targets(facts.info, plan)),
        "boot": ctx.boot,
        "reason": job.reason,
        **plan.intent(),
    }


def _targets(info: DomainInfo, plan: MergePlan) -> DomainInfo:
    """A VM whose disks are the files that a merge writes to: what they look like tells whether it
    has begun."""
    disks = tuple(
        Disk(d.target, d.into, d.format, "block" if d.into.startswith("/dev/") else "file")
        for d in plan.disks
        if d.into
    )
    return replace(info, disks=disks, nvram=None)


async def judge(ctx: Context, job: Job) -> Outcome:
    """What came of the intent. Raises Undone where nothing was written; Partial where the snapshot
    is no way back any more, or is gone and something of it stays; NoSuchSnapshot where somebody put
    another one in its place."""
    intent, uuid = job.row.intent or {}, job.row.domain
    plan = read_plan(intent)
    key = SnapshotKey(uuid, intent["name"], intent["created"])
    job.enter("verifying")
    facts = await _at_rest(ctx, job, key, plan)
    listed = next((s for s in facts.snapshots if s.name == key.name), None)
    if listed and listed.created != key.created:
        vm = facts.info.name
        raise NoSuchSnapshot(f"VM {vm}: snapshot {key.name!r} is another one by now")
    if listed:
        facts = await _still_listed(ctx, job, facts, listed, plan)
    wrong = [*(text for d in plan.disks for text in amiss(facts, d)), *verify_tree(facts, intent)]
    if wrong:
        raise Partial(
            f"VM {facts.info.name}: snapshot {key.name!r} is merged and gone, but {wrong[0]}; "
            "don't start or stop the VM before that is mended",
            reason="half-made",
            item=key.name,
            ways=("define-overlay", "audit"),
        )
    for disk in plan.disks:
        if len(standing(facts, disk.target)) < len(disk.left):
            text = f"what disk {disk.target} stands on further down could not be read"
            job.warn(Warned("unchecked", disk.target, text))
    await verify_files(ctx, job, facts, plan)
    await verify_images(ctx, job, facts, plan)
    await ctx.inventory.refresh(uuid)
    return Outcome(
        result={"Deleted": [key.name], "Stays": []},
        snapshot=key.name,
        created=key.created,
        reason=intent["reason"],
        forget=key,
    )


async def _at_rest(ctx: Context, job: Job, key: SnapshotKey, plan: MergePlan) -> DomainFacts:
    """The facts once libvirt is at work there no more. Raises TimedOut until then."""
    facts = await _facts(ctx, job, key)
    if _left_over(ctx, job, facts, key):
        await asyncio.sleep(LEFT_SECONDS)
        facts = await ctx.hypervisor.facts(key.domain)
        if left := _left_over(ctx, job, facts, key):
            _begin(job, left)
            if left == "stopping":
                await ctx.hypervisor.stop(key.domain)
            else:
                await ctx.hypervisor.overlays.abandon(key.domain, plan.targets)
            facts = await ctx.hypervisor.facts(key.domain)
    if facts.holder:
        raise TimedOut(f"VM {facts.info.name}: {facts.holder} is not done yet")
    return facts


async def _facts(ctx: Context, job: Job, key: SnapshotKey) -> DomainFacts:
    """A libvirtd that was killed as it began with a VM that was off has a QEMU for starting that
    there never was, and tells nothing of the VM until a person ends that (11.3, measured). Raises
    Inconsistent then."""
    try:
        return await ctx.hypervisor.facts(key.domain)
    except (TimedOut, Busy) as e:
        intent, vm = job.row.intent or {}, job.row.domain_name
        if intent["active"] or not await ctx.hypervisor.overlays.starting(key.domain):
            raise
        looked = intent.get("starting", 0) + 1
        if looked < STARTING_LOOKS:
            await job.intend({**intent, "starting": looked}, begun=True)
            raise
        raise Inconsistent(
            f"VM {vm}: the merge of snapshot {key.name!r} broke off as libvirt started the VM for "
            "it, and libvirt does not get over that: stop libvirtd (or virtqemud), remove "
            f"/run/libvirt/qemu/{vm}.xml, start it again, and delete the snapshot again",
            reason="half-made",
            item=key.name,
            ways=("delete",),
        ) from e


def _begin(job: Job, phase: str) -> None:
    """Say that what a merge left is put right. Raises TimedOut where the daemon is about to end:
    the next one does it."""
    if job.stopping:
        raise TimedOut(
            f"VM {job.row.domain_name}: what its merge left is seen to at the next start"
        )
    job.enter(phase)


def _left_over(ctx: Context, job: Job, facts: DomainFacts, key: SnapshotKey) -> str:
    """What a libvirtd that died in the middle has left, and never ends itself: `stopping`: the
    QEMU that it started for a VM that was off, whose guest has never run; `settling`: a merge that
    waits for its last step; "" = nothing, or libvirt is at work."""
    intent = job.row.intent or {}
    here = any((s.name, s.created) == (key.name, key.created) for s in facts.snapshots)
    idle = not facts.holder or facts.holder.startswith("block job")
    if not here or not idle or intent["boot"] != ctx.boot:
        return ""
    if not intent["active"] and facts.info.state is State.PAUSED:
        return "" if intent.get("answered") else "stopping"  # libvirt ends its own, where it lives
    return "settling" if facts.holder else ""


async def _still_listed(
    ctx: Context, job: Job, facts: DomainFacts, listed: SnapshotInfo, plan: MergePlan
) -> DomainFacts:
    """libvirt lists it still. Returns the facts afterwards, where only that was left to be done."""
    vm = facts.info.name
    done = [d for d in plan.disks if merged(facts, d)]
    before = [d for d in plan.disks if d.into and d.goes in standing(facts, d.target)]
    if plan.merges and len(done) == len(plan.disks):
        return await _unlist(ctx, job, facts, listed)
    if not plan.merges:
        if not (set(plan.going) & facts.missing):
            raise Undone
        raise Partial(
            f"VM {vm}: snapshot {listed.name!r} is listed still, but "
            f"{_names(facts, plan)} is gone; it is no way back",
            reason="half-made",
            item=listed.name,
            ways=("delete",),
        )
    if len(before) == len(plan.disks):
        stamp = (job.row.intent or {})["stamp"]
        if stamp and stamp == await ctx.hypervisor.stamp(_targets(facts.info, plan)):
            raise Undone
        raise Partial(
            f"VM {vm}: the merge of snapshot {listed.name!r} broke off; the VM has its data, but "
            "what the snapshot went back to may be overwritten; delete it again to finish",
            reason="half-made",
            item=listed.name,
            ways=("delete",),
        )
    lost = sorted({*plan.targets} - {d.target for d in (*done, *before)})
    if lost:
        raise Inconsistent(
            f"VM {vm}: the merge of snapshot {listed.name!r} broke off, and what disk {lost[0]} "
            "stands on now is neither what it was nor what it should be; look at it before use",
            reason="half-made",
            disk=lost[0],
            item=listed.name,
        )
    return await _the_rest(ctx, job, facts, listed, before)


async def _the_rest(
    ctx: Context, job: Job, facts: DomainFacts, listed: SnapshotInfo, rest: list[DiskMerge]
) -> DomainFacts:
    """libvirtd died between the disks of a merge, and can't go on with it: it looks for the
    overlays that are gone. The others are merged into the same files, and then it is unlisted."""
    key = SnapshotKey(facts.info.uuid, listed.name, listed.created)
    child = any(s.parent == listed.name for s in facts.snapshots)
    if child or not facts.info.state.active:
        left = ", ".join(f"{Path(d.goes).name} into {Path(d.into).name}" for d in rest)
        raise Partial(
            f"VM {facts.info.name}: the merge of snapshot {listed.name!r} broke off between its "
            f"disks, {left} is left; the VM has its data, but libvirt can't go on with it",
            reason="half-made",
            disk=rest[0].target,
            item=listed.name,
            ways=("virsh",) if child else ("start", "delete"),
        )
    _begin(job, "merging")
    for disk in rest:
        await ctx.hypervisor.overlays.commit(key.domain, disk.target, disk.goes, disk.into)
    facts = await ctx.hypervisor.facts(key.domain)
    return await _unlist(ctx, job, facts, listed)


async def _unlist(ctx: Context, job: Job, facts: DomainFacts, listed: SnapshotInfo) -> DomainFacts:
    """All is merged, and libvirtd died before it took it off its list. Children would keep the
    overlay's name in their records, so then a person has to look."""
    key = SnapshotKey(facts.info.uuid, listed.name, listed.created)
    if any(s.parent == listed.name for s in facts.snapshots):
        raise Partial(
            f"VM {facts.info.name}: snapshot {listed.name!r} is merged, but libvirt lists it, and "
            "those made on it name a file that is gone; the VM has its data",
            reason="half-made",
            item=listed.name,
            ways=("virsh",),
        )
    _begin(job, "deleting")
    await ctx.hypervisor.delete(key.domain, key.name, metadata_only=True, created=key.created)
    job.enter("verifying")
    return await ctx.hypervisor.facts(key.domain)


def _names(facts: DomainFacts, plan: MergePlan) -> str:
    return ", ".join(Path(f).name for f in plan.going if f in facts.missing)
