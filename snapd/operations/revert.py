"""Revert to an internal snapshot: libvirt's own call, guarded, with a way back.

libvirt ends QEMU before it looks whether the revert can work, so everything is looked at first;
and a safety snapshot of the present is taken before, so that a revert can be undone.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Inconsistent, Partial, SnapdError, TimedOut
from ..hypervisor import DomainFacts
from ..model import DomainInfo, Origin, SnapshotInfo, SnapshotKey, State, Verb
from .checks import revert_blockers
from .context import Context, pick, refuse
from .create import Wish, create
from .job import Job, Outcome, Request, Undone


@dataclass(frozen=True, slots=True)
class RevertWish:
    """Where to and how. after: as-snapshot, running, paused, stopped. safety: take one first."""

    key: SnapshotKey
    after: str = "as-snapshot"
    safety: bool = True


def final_state(then: State, after: str) -> State:
    """The state that the VM is to be in afterwards; then: what it did when it was taken."""
    if after == "as-snapshot":
        return then if then in (State.RUNNING, State.PAUSED) else State.SHUTOFF
    return {"running": State.RUNNING, "paused": State.PAUSED, "stopped": State.SHUTOFF}[after]


async def revert(ctx: Context, job: Job, wish: RevertWish) -> Outcome:
    """Check, take the safety snapshot, check again, intend, act, verify."""
    job.enter("checking")
    facts, listed = await _look(ctx, wish.key)
    safety = ""
    if wish.safety:
        job.enter("safety-snapshot")
        safety = await _safety(ctx, job, facts, wish.key)
        facts, listed = await _look(ctx, wish.key)
    record = ctx.store.record(wish.key)
    then = record.state if record and record.state is not State.UNKNOWN else listed.state
    wanted = final_state(then, wish.after)
    await job.intend(
        {
            "name": wish.key.name,
            "created": wish.key.created,
            "instance": facts.info.instance,
            "state": facts.info.state.value,
            "current": facts.info.current,
            "wanted": wanted.value,
            "safety": safety,
            "claimed": False,
        }
    )
    job.enter("reverting", acting=True)
    await ctx.hypervisor.revert(
        wish.key.domain,
        wish.key.name,
        running=wanted is State.RUNNING,
        paused=wanted is State.PAUSED or (wanted is State.SHUTOFF and listed.memory),
    )
    intent = {**(job.row.intent or {}), "claimed": True}
    await job.intend(intent, begun=True)
    await _reach(ctx, job, wish.key.domain, wanted)
    return await judge(ctx, job)


async def _look(ctx: Context, key: SnapshotKey) -> tuple[DomainFacts, SnapshotInfo]:
    facts = await ctx.hypervisor.facts(key.domain, key.name)
    listed = pick(facts, key)
    refuse(
        f"cannot revert VM {facts.info.name} to snapshot {key.name}", revert_blockers(facts, listed)
    )
    return facts, listed


async def _safety(ctx: Context, job: Job, facts: DomainFacts, key: SnapshotKey) -> str:
    """Take the safety snapshot; where that can't be done the revert is refused."""
    wish = Wish(stem="safety", origin=Origin.SAFETY, reason=f"before the revert to {key.name}")
    request = Request(Verb.CREATE, key.domain, facts.info.name, owner=job.row.owner)
    try:
        made = await ctx.jobs.inline(job, request, lambda child: create(ctx, child, wish))
    except SnapdError as e:
        e.message = (
            f"cannot revert VM {facts.info.name}: no safety snapshot could be taken first "
            f"({e.message}); safety_snapshot=false reverts without one"
        )
        raise
    return made.row.snapshot


async def _reach(ctx: Context, job: Job, uuid: str, wanted: State) -> None:
    """Bring the VM into the state that was asked for, where the revert itself could not."""
    info, _snapshots = await ctx.hypervisor.read(uuid)
    if wanted is State.SHUTOFF and info.state.active:
        job.enter("stopping", acting=True)
        await ctx.hypervisor.stop(uuid)
    elif wanted is State.RUNNING and info.state is State.SHUTOFF:
        job.enter("starting", acting=True)
        await ctx.hypervisor.start(uuid)


async def judge(ctx: Context, job: Job) -> Outcome:
    """What came of the intent. Raises Undone where QEMU was never ended; Partial where the disks
    have to be taken for torn: the VM is then left as it is, and never started by us."""
    intent, uuid = job.row.intent or {}, job.row.domain
    job.enter("verifying")
    facts = await ctx.hypervisor.facts(uuid)
    if facts.holder:
        raise TimedOut(f"VM {facts.info.name}: {facts.holder} is not done yet")
    picture = await ctx.inventory.refresh(uuid)
    info = picture.info
    moved = info.instance != intent["instance"]
    at_target = info.current == intent["name"]
    if not intent["claimed"]:
        if State(intent["state"]).active and not moved:
            raise Undone
        if not (at_target and moved and info.state.value == intent["wanted"]):
            raise _torn(info, intent["name"], intent["safety"])
    if not at_target:
        raise Inconsistent(
            f"VM {info.name}: libvirt said that the revert to {intent['name']!r} was done, but "
            f"its current snapshot is {info.current or 'none'!r}; look at the VM before using it",
            item=intent["name"],
        )
    if info.state.value != intent["wanted"]:
        raise Partial(
            f"VM {info.name} is reverted to {intent['name']!r}, but {info.state} instead of "
            f"{intent['wanted']}",
            item=intent["name"],
            ways=("start",),
        )
    return Outcome(
        result={"SafetySnapshot": intent["safety"], "FinalState": info.state.value},
        snapshot=intent["name"],
        created=intent["created"],
        reason=f"safety snapshot {intent['safety']}" if intent["safety"] else "no safety snapshot",
    )


def _torn(info: DomainInfo, name: str, safety: str) -> Partial:
    way = (
        f"revert to {safety!r} to have the present back, or to {name!r} again"
        if safety
        else f"revert to {name!r} again"
    )
    return Partial(
        f"VM {info.name}: the revert to {name!r} broke off; its disks may be of two moments, so it "
        f"was not started; {way}",
        reason="half-made",
        item=safety or name,
        ways=("revert",),
    )
