"""Delete an internal snapshot: of a running VM by the monitor first and then from libvirt's
record, since libvirt's own call crashes libvirtd 9.0 or leaves tags behind (LIBVIRT.md 10)."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import NoSuchSnapshot, Partial, Protected, SnapdError, TimedOut
from ..hypervisor import DomainFacts
from ..model import SnapshotInfo, SnapshotKey, State, Verb
from .context import Context, pick, refuse, verify_tags
from .images import warn_of_damage
from .job import Job, Outcome, Request, Undone
from .preflight import Blocker, delete_blockers, writable
from .waiting import idle_facts
from .wishes import DeleteWish


async def run(ctx: Context, job: Job, wish: DeleteWish) -> Outcome:
    """Delete a snapshot, or it with all that descend from it: the youngest first, each by a job
    of its own, so that what is left is a sound tree whenever it breaks off."""
    if not wish.children:
        return await delete(ctx, job, wish.key)
    job.enter("checking")
    facts = await idle_facts(ctx.hypervisor, ctx.news, job, wish.key.domain)
    below = descendants(facts.snapshots, pick(facts, wish.key).name)
    keys = [SnapshotKey(wish.key.domain, s.name, s.created) for s in below]
    for each in (*below, pick(facts, wish.key)):
        what = f"cannot delete snapshot {wish.key.name} of VM {facts.info.name} with its children"
        refuse(what, blockers(ctx, facts, each, job))
    deleted: list[str] = []
    for key in keys:
        try:
            await within(ctx, job, key, f"child of {wish.key.name}")
        except SnapdError as e:
            if not deleted:
                raise
            raise Partial(
                f"VM {facts.info.name}: {', '.join(deleted)} deleted, {wish.key.name} and the rest "
                f"of its children stay: {e.message}",
                item=key.name,
                ways=("delete",),
            ) from e
        deleted.append(key.name)
    last = await delete(ctx, job, wish.key)
    last.result["Deleted"] = [*deleted, wish.key.name]
    return last


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


def blockers(
    ctx: Context, facts: DomainFacts, listed: SnapshotInfo, job: Job | None = None
) -> list[Blocker]:
    """Everything against deleting it: the facts, our own pins, a revert to it that is planned.

    job: the one that is to do it; what it does by order of a revert is the revert's own end.
    """
    found = delete_blockers(facts, listed)
    record = ctx.store.record(SnapshotKey(facts.info.uuid, listed.name, listed.created))
    if record and record.pin_reason is not None:
        why = f"snapshot {listed.name} is pinned ({record.pin_reason or 'no reason given'})"
        found.insert(0, Blocker(Protected, "pinned", listed.name, why, ("unpin",)))
    for other in ctx.jobs.open_on(facts.info.uuid):
        aims = other.row.verb is Verb.REVERT and other.row.snapshot == listed.name
        if aims and not (job and other.id in (job.id, job.row.parent)):
            why = f"job {other.id} is about to revert to {listed.name}"
            found.insert(0, Blocker(Protected, "in-use", listed.name, why, ("wait",)))
    return found


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
    facts = await idle_facts(ctx.hypervisor, ctx.news, job, key.domain)
    listed = pick(facts, key)
    what = f"cannot delete snapshot {key.name} of VM {facts.info.name}"
    refuse(what, blockers(ctx, facts, listed, job))
    targets = listed.disks or tuple(d.target for d in writable(facts.info.disks))
    present = [d for d in writable(facts.info.disks) if d.target in targets]
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
        await ctx.hypervisor.remove_tags(key.domain, present, key.name)
        left = await verify_tags(ctx, facts.info, [d.target for d in present], key.name)
        if any(left.values()):
            raise Partial(f"{what}: its tag stays in {', '.join(t for t, n in left.items() if n)}")
        job.enter("deleting", acting=True)
        await ctx.hypervisor.delete(key.domain, key.name, metadata_only=True)
    else:
        await ctx.hypervisor.delete(key.domain, key.name)
    return await judge(ctx, job)


async def judge(ctx: Context, job: Job) -> Outcome:
    """What came of the intent. Raises Undone; Partial where tags and record disagree now, which
    the next delete finishes; NoSuchSnapshot where somebody put another one in its place."""
    intent, uuid = job.row.intent or {}, job.row.domain
    key = SnapshotKey(uuid, intent["name"], intent["created"])
    job.enter("verifying")
    facts = await ctx.hypervisor.facts(uuid)
    if facts.holder:
        raise TimedOut(f"VM {facts.info.name}: {facts.holder} is not done yet")
    if State(intent.get("state", "shutoff")).active:
        await warn_of_damage(ctx, job, facts)
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
