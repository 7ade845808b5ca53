"""Delete a snapshot; an internal one of a running VM by the monitor first and then from libvirt's
record, since libvirt's own call crashes libvirtd 9.0 or leaves tags behind (LIBVIRT.md 10). An
external one is merged: merge.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import NoSuchSnapshot, Partial, Protected, SnapdError, Unsupported
from ..hypervisor import DomainFacts
from ..model import Disk, Kind, SnapshotInfo, SnapshotKey, State, Verb, Warned
from .context import Context, pick, refuse, verify_tags
from .images import facts_after
from .job import DAEMON, Job, Outcome, Request, Undone
from .merge import judge as judge_merge
from .merge import merge
from .merge_plan import half_merged
from .preflight import (
    Blocker,
    delete_blockers,
    merge_blockers,
    merge_order,
    rest_blockers,
    writable,
)
from .waiting import idle_facts
from .wishes import DeleteWish


async def run(ctx: Context, job: Job, wish: DeleteWish) -> Outcome:
    """Delete a snapshot, or it with all that descend from it: the youngest first, each by a job
    of its own, so that what is left is a sound tree whenever it breaks off."""
    if not wish.children:
        return await delete(ctx, job, wish.key)
    job.enter("checking")
    facts = await idle_facts(ctx.hypervisor, ctx.news, job, wish.key.domain)
    top = pick(facts, wish.key)
    if top.kind is Kind.EXTERNAL:
        facts = await idle_facts(ctx.hypervisor, ctx.news, job, wish.key.domain, top.name)
    doomed = (*descendants(facts.snapshots, top.name), top)
    what = f"cannot delete snapshot {wish.key.name} of VM {facts.info.name} with its children"
    refuse(what, all_blockers(ctx, facts, doomed, job))
    keys = [SnapshotKey(wish.key.domain, s.name, s.created) for s in in_order(facts, doomed[:-1])]
    deleted: list[str] = []
    for key in keys:
        try:
            await within(ctx, job, key, f"child of {wish.key.name}")
        except SnapdError as e:
            if not deleted:
                raise
            rest = f"{wish.key.name} and the rest of its children"
            raise _broken_off(facts, deleted, rest, key, e) from e
        deleted.append(key.name)
        job.advance(len(deleted) / len(doomed))
    try:
        last = await delete(ctx, job, wish.key)
    except SnapdError as e:
        if not deleted:
            raise
        if job.row.intent is None:
            raise _broken_off(facts, deleted, wish.key.name, wish.key, e) from e
        e.message += f" ({', '.join(deleted)} deleted before)"  # the facts decide on the rest
        raise
    last.result["Deleted"] = [*deleted, wish.key.name]
    return last


def _broken_off(
    facts: DomainFacts, deleted: list[str], stays: str, key: SnapshotKey, error: SnapdError
) -> Partial:
    return Partial(
        f"VM {facts.info.name}: {', '.join(deleted)} deleted, but not {stays}: {error.message}",
        item=key.name,
        ways=("delete",),
    )


def descendants(snapshots: Iterable[SnapshotInfo], name: str) -> list[SnapshotInfo]:
    """All below a snapshot, children before their parents."""
    found: list[SnapshotInfo] = []
    level = [name]
    snapshots = list(snapshots)
    while level:
        children = [s for s in snapshots if s.parent in level and s not in found]
        found += children
        level = [s.name for s in children]
    return found[::-1]


def all_blockers(
    ctx: Context, facts: DomainFacts, doomed: Sequence[SnapshotInfo], job: Job | None = None
) -> list[Blocker]:
    """Everything against deleting all of these: of external ones, in the order that works."""
    if not any(s.kind is Kind.EXTERNAL for s in doomed):
        return list(dict.fromkeys(b for s in doomed for b in blockers(ctx, facts, s, job)))
    found = [b for s in doomed for b in _guards(ctx, facts, s, job)]
    order = merge_order(facts, [s.name for s in doomed], by_policy=_by_policy(job))
    return list(dict.fromkeys((*found, *order.deferred.values())))


def in_order(facts: DomainFacts, doomed: Sequence[SnapshotInfo]) -> list[SnapshotInfo]:
    """The same, where they are external in the order in which libvirt takes them; the rest of them
    as they come."""
    if not any(s.kind is Kind.EXTERNAL for s in doomed):
        return list(doomed)
    now = merge_order(facts, [s.name for s in doomed]).now
    return sorted(doomed, key=lambda s: now.index(s.name) if s.name in now else len(now))


def _by_policy(job: Job | None) -> bool:
    return job is not None and job.row.owner == DAEMON


def blockers(
    ctx: Context, facts: DomainFacts, listed: SnapshotInfo, job: Job | None = None
) -> list[Blocker]:
    """Everything against deleting it: the facts, our own pins, a revert to it that is planned.

    job: the one that is to do it; what it does by order of a revert is the revert's own end.
    """
    if half_merged(facts, listed):
        found = rest_blockers(facts, listed)
    elif listed.kind is Kind.EXTERNAL:
        found = merge_blockers(facts, listed, by_policy=_by_policy(job))
    else:
        found = delete_blockers(facts, listed)
    if facts.info.state.active and facts.has_images and not ctx.hypervisor.has_monitor:
        found += _gone_blockers(facts, listed)
    return [*_guards(ctx, facts, listed, job), *found]


def _guards(
    ctx: Context, facts: DomainFacts, listed: SnapshotInfo, job: Job | None
) -> Iterator[Blocker]:
    """What of ours is against it, the gravest first."""
    for other in ctx.jobs.open_on(facts.info.uuid):
        aims = other.row.verb is Verb.REVERT and other.row.snapshot == listed.name
        if aims and not (job and other.id in (job.id, job.row.parent)):
            why = f"job {other.id} is about to revert to {listed.name}"
            yield Blocker(Protected, "in-use", listed.name, why, ("wait",))
    record = ctx.store.record(SnapshotKey(facts.info.uuid, listed.name, listed.created))
    if record and record.pin_reason is not None:
        why = f"snapshot {listed.name} is pinned ({record.pin_reason or 'no reason given'})"
        yield Blocker(Protected, "pinned", listed.name, why, ("unpin",))


def _gone_blockers(facts: DomainFacts, listed: SnapshotInfo) -> Iterator[Blocker]:
    """libvirtd 9.0 crashes in its own delete where a disk has left the running VM (LIBVIRT.md
    10), be it the CD that the snapshot left out."""
    here = {d.target for d in facts.info.disks}
    for target in sorted({*listed.disks, *listed.left_out} - here):
        why = f"disk {target} has left the running VM, and monitor = false leaves libvirt's delete"
        yield Blocker(Unsupported, "pending-config", target, why, ("shut-off",))


async def within(ctx: Context, parent: Job, key: SnapshotKey, reason: str) -> Job:
    """Delete as a part of a job that holds the domain already. Raises its error."""
    request = Request(
        Verb.DELETE,
        key.domain,
        parent.row.domain_name,
        key.name,
        key.created,
        parent.row.policy,
        parent.row.owner,
    )
    return await ctx.jobs.inline(parent, request, lambda job: delete(ctx, job, key, reason))


async def delete(ctx: Context, job: Job, key: SnapshotKey, reason: str = "") -> Outcome:
    """Check, intend, act, verify; repeatable, where an earlier one was broken off."""
    job.enter("checking")
    job.reason = reason
    facts, listed = await _look(ctx, job, key)
    if listed.kind is Kind.EXTERNAL:
        return await merge(ctx, job, (facts, listed), lambda: _look(ctx, job, key))
    what = f"cannot delete snapshot {key.name} of VM {facts.info.name}"
    present = _present(job, facts, listed)
    await job.intend(
        {
            "name": key.name,
            "created": key.created,
            "targets": [d.target for d in present],
            "state": facts.info.state.value,
            "reason": reason,
        }
    )
    job.enter("deleting", acting=True)
    if facts.info.state.active and ctx.hypervisor.has_images and ctx.hypervisor.has_monitor:
        await ctx.hypervisor.remove_tags(key.domain, present, key.name, created=key.created)
        left = await verify_tags(ctx, facts.info, [d.target for d in present], key.name)
        if any(left.values()):
            raise Partial(f"{what}: its tag stays in {', '.join(t for t, n in left.items() if n)}")
        job.enter("deleting", acting=True)
        await ctx.hypervisor.delete(key.domain, key.name, metadata_only=True, created=key.created)
    else:
        active = facts.info.state.active if ctx.hypervisor.has_images else None
        await ctx.hypervisor.delete(key.domain, key.name, created=key.created, active=active)
    return await judge(ctx, job)


async def _look(ctx: Context, job: Job, key: SnapshotKey) -> tuple[DomainFacts, SnapshotInfo]:
    """The facts and the snapshot, once nothing is against its deletion."""
    facts = await idle_facts(ctx.hypervisor, ctx.news, job, key.domain)
    if pick(facts, key).kind is Kind.EXTERNAL:  # others who need its files are looked for
        facts = await idle_facts(ctx.hypervisor, ctx.news, job, key.domain, key.name)
    listed = pick(facts, key)
    what = f"cannot delete snapshot {key.name} of VM {facts.info.name}"
    refuse(what, blockers(ctx, facts, listed, job))
    return facts, listed


def _present(job: Job, facts: DomainFacts, listed: SnapshotInfo) -> list[Disk]:
    """The disks that are still the ones in the snapshot. What was plugged in since, in the place
    of one of them, may hold a tag of that name that is another VM's."""
    info, then = facts.info, dict(listed.sources)
    targets = listed.disks or tuple(d.target for d in writable(info.disks))
    found = []
    for disk in writable(info.disks):
        if disk.target not in targets or disk.format != "qcow2":
            continue
        if then.get(disk.target, disk.source) == disk.source:
            found.append(disk)
            continue
        file = Path(then[disk.target]).name
        text = f"disk {disk.target} was on {file} then, which the VM has left: its tag stays there"
        job.warn(Warned("tag-stays", disk.target, text))
    return found


async def judge(ctx: Context, job: Job) -> Outcome:
    """What came of the intent. Raises Undone; Partial where tags and record disagree now, which
    the next delete finishes; NoSuchSnapshot where somebody put another one in its place."""
    intent, uuid = job.row.intent or {}, job.row.domain
    if intent.get("kind") == Kind.EXTERNAL:
        return await judge_merge(ctx, job)
    key = SnapshotKey(uuid, intent["name"], intent["created"])
    job.enter("verifying")
    facts = await facts_after(ctx, job, ran=State(intent.get("state", "shutoff")).active)
    present = {d.target for d in facts.info.disks}
    targets = [t for t in intent["targets"] if t in present]
    counts = await verify_tags(ctx, facts.info, targets, key.name)
    picture = await ctx.inventory.refresh(uuid)
    listed = picture.snapshots.get(key.name)
    vm = picture.info.name
    if listed and listed.created != key.created:
        raise NoSuchSnapshot(f"VM {vm}: snapshot {key.name!r} is another one by now")
    if listed is None and not any(counts.values()):
        return Outcome(
            result={"Deleted": [key.name], "Stays": []},
            snapshot=key.name,
            created=key.created,
            reason=intent["reason"],
            forget=key,
        )
    if listed and all(counts.values()):
        raise Undone
    if listed:
        raise Partial(
            f"VM {vm}: snapshot {key.name!r} is half deleted (gone from "
            f"{', '.join(t for t, n in counts.items() if not n)}); delete it again to finish",
            reason="half-made",
            item=key.name,
            ways=("delete",),
        )
    raise Partial(
        f"VM {vm}: snapshot {key.name!r} is gone from libvirt's list, but its tag stays in "
        f"{', '.join(t for t, n in counts.items() if n)}; an audit shows it",
        reason="half-made",
        item=key.name,
        ways=("audit",),
    )
