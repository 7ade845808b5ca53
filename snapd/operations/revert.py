"""Revert to a snapshot: libvirt's own call, guarded, with a way back. What external ones need more
is in overlay_revert.py.

libvirt ends QEMU before it looks whether the revert can work, so everything is looked at first;
and a safety snapshot of the present is taken before, so that a revert can be undone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import names
from ..errors import (
    Busy,
    Changed,
    Inconsistent,
    NeedsForce,
    NoSuchSnapshot,
    Partial,
    PermissionDenied,
    Protected,
    SnapdError,
    TimedOut,
)
from ..hypervisor import DomainFacts
from ..model import DomainInfo, Kind, Origin, SnapshotInfo, SnapshotKey, State, Status, Verb, Warned
from ..store import Store
from . import overlay_revert
from .afterwards import set_clock
from .context import Context, pick, refuse, verify_tags
from .create import create
from .delete import within
from .images import warn_of_damage
from .job import Job, Outcome, Request, Undone
from .preflight import Blocker, RevertTerms, delete_after_blockers, revert_blockers, writable
from .waiting import idle_facts
from .wishes import RevertWish, Wish, final_state

_OLDER: dict[str, Any] = {
    "boot": "",
    "disks": {},
    "memory": False,
    "agent": False,
    "delete_after": False,
}
"""What the intent of an earlier version, which this one may have to settle, did not say."""
_BEFORE_ANYTHING = (Busy, Changed, NeedsForce, NoSuchSnapshot, PermissionDenied)
"""What libvirt answers before it touches the VM: no lock, no right, its code 77."""


async def revert(ctx: Context, job: Job, wish: RevertWish) -> Outcome:
    """Check, take the safety snapshot, check again, intend, act, verify."""
    job.enter("checking")
    facts, listed = await _look(ctx, job, wish)
    safety = ""
    if wish.safety:
        job.enter("safety-snapshot")
        safety = await _safety(ctx, job, facts, wish.key)
        facts, listed = await _look(ctx, job, wish)
    job.warn(*warnings(facts, listed))
    terms = agreed(ctx.store, wish, listed)
    await job.intend(_intent(facts, listed, wish, terms.wanted, safety, ctx.boot))
    if facts.info.managed_save:
        job.enter("discarding-saved-state", acting=True)
        await ctx.hypervisor.discard_saved_state(wish.key.domain)
        text = f"the managed save of VM {facts.info.name} was removed, as was asked for"
        job.warn(Warned("saved-state", facts.info.name, text))
    job.enter("reverting", acting=True)
    try:
        await ctx.hypervisor.revert(
            wish.key.domain,
            wish.key.name,
            running=terms.wanted is State.RUNNING,
            paused=terms.wanted is State.PAUSED
            or (terms.wanted is State.SHUTOFF and listed.memory),
            force=wish.force,
            created=wish.key.created,
        )
    except _BEFORE_ANYTHING:
        await job.intend({**(job.row.intent or {}), "refused": True}, begun=True)
        raise
    await job.intend({**(job.row.intent or {}), "claimed": True}, begun=True)
    await _reach(ctx, job, wish.key.domain, terms.wanted)
    return await judge(ctx, job)


def _intent(
    facts: DomainFacts,
    listed: SnapshotInfo,
    wish: RevertWish,
    wanted: State,
    safety: str,
    boot: str,
) -> dict[str, Any]:
    outside = listed.kind is Kind.EXTERNAL
    disks = facts.info.disks if outside else facts.saved or facts.info.disks
    intent = {
        "name": wish.key.name,
        "created": wish.key.created,
        "instance": facts.info.instance,
        "state": facts.info.state.value,
        "current": facts.info.current,
        "disks": {d.target: d.source for d in writable(disks)},
        "memory": listed.memory,
        "agent": facts.info.agent,
        "wanted": wanted.value,
        "safety": safety,
        "delete_after": wish.delete_after,
        "claimed": False,
        "boot": boot,
    }
    return intent | ({"external": overlay_revert.files(facts, listed)} if outside else {})


def agreed(store: Store, wish: RevertWish, listed: SnapshotInfo) -> RevertTerms:
    """The state that the VM is to be in, and what the caller agrees to lose."""
    record = store.record(wish.key)
    then = record.state if record and record.state is not State.UNKNOWN else listed.state
    return RevertTerms(final_state(then, wish.after), wish.force, wish.discard_saved_state)


def blockers(
    ctx: Context, facts: DomainFacts, listed: SnapshotInfo, wish: RevertWish
) -> list[Blocker]:
    """Everything against the revert: the facts, a merge of the target that broke off, and a pin
    where the target is to go with it."""
    found = revert_blockers(facts, listed, agreed(ctx.store, wish, listed))
    half_made = ctx.jobs.half_made
    if listed.kind is Kind.EXTERNAL and half_made.in_doubt(wish.key):
        why = f"the merge of {listed.name} broke off, and what it held may be overwritten"
        found.insert(0, Blocker(Inconsistent, "half-made", listed.name, why, ("delete",)))
    elif listed.kind is Kind.EXTERNAL and half_made.status(wish.key) is Status.BROKEN:
        why = f"{listed.name} was found broken; once that is mended, another audit will say so"
        found.append(Blocker(Inconsistent, "half-made", listed.name, why, ("audit",)))
    if wish.delete_after and listed.kind is Kind.EXTERNAL:
        wanted = agreed(ctx.store, wish, listed).wanted
        found += delete_after_blockers(facts, listed, wanted, safety=wish.safety)
    record = ctx.store.record(wish.key)
    if wish.delete_after and record and record.pin_reason is not None:
        why = f"delete_after would delete snapshot {listed.name}, which is pinned"
        found.append(Blocker(Protected, "pinned", listed.name, why, ("unpin",)))
    return found


def warnings(facts: DomainFacts, listed: SnapshotInfo) -> list[Warned]:
    """What a revert cannot bring back, or what could not be looked at in time."""
    found = []
    vm = facts.info.name
    if facts.info.loses_nvram(listed.kind, memory=listed.memory):
        text = f"the UEFI variables of VM {vm} stay as they are now: they are not in the snapshot"
        found.append(Warned("nvram-left-out", vm, text))
    for use in facts.users:
        if use.how == "unchecked":
            text = f"whether {use.who} uses images of VM {vm} could not be told in time"
            found.append(Warned("unchecked", use.who, text))
    return found


async def _look(ctx: Context, job: Job, wish: RevertWish) -> tuple[DomainFacts, SnapshotInfo]:
    key = wish.key
    facts = await idle_facts(ctx.hypervisor, ctx.news, job, key.domain, key.name)
    listed = pick(facts, key)
    what = f"cannot revert VM {facts.info.name} to snapshot {key.name}"
    refuse(what, blockers(ctx, facts, listed, wish))
    return facts, listed


def safety_wish(facts: DomainFacts, target: str) -> Wish:
    """The snapshot that keeps the present, of the same kind as the one that is reverted to; over a
    managed save that is about to be discarded."""
    kinds = {s.name: s.kind for s in facts.snapshots}
    return Wish(
        stem=names.stem_of(Origin.SAFETY),
        kind="external" if kinds.get(target) is Kind.EXTERNAL else "auto",
        origin=Origin.SAFETY,
        reason=f"before the revert to {target}",
        over_saved_state=facts.info.managed_save,
    )


async def _safety(ctx: Context, job: Job, facts: DomainFacts, key: SnapshotKey) -> str:
    """Take the safety snapshot; where that can't be done the revert is refused."""
    wish = safety_wish(facts, key.name)
    request = Request(Verb.CREATE, key.domain, facts.info.name, owner=job.row.owner)
    try:
        made = await ctx.jobs.inline(job, request, lambda child: create(ctx, child, wish))
    except SnapdError as e:
        e.message = (
            f"cannot revert VM {facts.info.name}: no safety snapshot could be taken first "
            f"({e.message}); safety_snapshot=false reverts without one"
        )
        raise
    job.warn(*made.row.warnings)
    return made.row.snapshot


async def _reach(ctx: Context, job: Job, uuid: str, wanted: State) -> None:
    """Bring the VM into the state that was asked for, where the revert itself could not. A QEMU
    that had the snapshot's RAM and is gone again is not replaced: a boot is not what was asked."""
    info = await ctx.hypervisor.domain(uuid)
    memory = bool((job.row.intent or {})["memory"])
    if wanted is State.SHUTOFF and info.state.active:
        job.enter("stopping", acting=True)
        await ctx.hypervisor.stop(uuid)
    elif wanted is State.RUNNING and info.state is State.SHUTOFF and not memory:
        job.enter("starting", acting=True)
        await ctx.hypervisor.start(uuid)


async def judge(ctx: Context, job: Job) -> Outcome:
    """What came of the intent. Raises Undone where QEMU was never ended; Partial where the disks
    have to be taken for torn: the VM is then left as it is, and never started by us."""
    intent, uuid = _OLDER | (job.row.intent or {}), job.row.domain
    job.enter("verifying")
    facts = await _doubtful(ctx, uuid, intent)
    info = (await ctx.inventory.refresh(uuid)).info
    outside = "external" in intent
    if facts and not intent["claimed"]:
        if outside:
            moved = _moved(ctx, info, intent)
            await overlay_revert.unclaimed(ctx, job, facts, intent, moved=moved)
        else:
            await _unclaimed(ctx, job, facts, info)
    if info.current != intent["name"]:
        raise Inconsistent(
            f"VM {info.name}: libvirt said that the revert to {intent['name']!r} was done, but "
            f"its current snapshot is {info.current or 'none'!r}; look at the VM before using it",
            item=intent["name"],
        )
    if facts and outside:
        overlay_revert.verify(job, facts, intent)
    elif ctx.hypervisor.has_images:
        await _verify_disks(ctx, info, intent)
    if info.managed_save:
        raise Partial(
            f"VM {info.name} is reverted to {intent['name']!r}, but was saved meanwhile: its next "
            "start would resume old RAM over the reverted disks; discard the saved state first",
            reason="managed-save",
            item=intent["name"],
            ways=("discard-saved-state",),
        )
    if info.state.value != intent["wanted"]:
        await warn_of_damage(ctx, job, facts or await ctx.hypervisor.facts(uuid))
        raise Partial(
            f"VM {info.name} is reverted to {intent['name']!r}, but {info.state} instead of "
            f"{intent['wanted']}",
            item=intent["name"],
            ways=("start",),
        )
    return await _finish(ctx, job, info, intent)


async def _doubtful(ctx: Context, uuid: str, intent: Mapping[str, Any]) -> DomainFacts | None:
    """The facts, where what came of it is to be told by them; None where libvirt said that it was
    done and has changed no files. Raises TimedOut while libvirt is still at it."""
    look = ctx.hypervisor
    sure = intent.get("claimed", False) and "external" not in intent
    facts = await (look.bare_facts(uuid) if sure else look.facts(uuid))
    if facts.holder:
        raise TimedOut(f"VM {facts.info.name}: {facts.holder} is not done yet")
    return facts if isinstance(facts, DomainFacts) else None


async def _unclaimed(ctx: Context, job: Job, facts: DomainFacts, info: DomainInfo) -> None:
    """libvirt never said that it was done. Raises Undone where QEMU was never ended, Partial where
    the facts don't show that it came to its end all the same."""
    intent = _OLDER | (job.row.intent or {})
    rebooted = _rebooted(ctx, intent)
    moved = _moved(ctx, info, intent)
    marked = info.current == intent["name"] != intent["current"]  # set when all is done
    if not moved and (intent.get("refused") or State(intent["state"]).active):
        raise Undone
    await warn_of_damage(ctx, job, facts)
    restarted = info.current == intent["name"] and moved and not rebooted
    if not ((marked or restarted) and info.state.value == intent["wanted"]):
        raise _torn(facts, intent)


def _rebooted(ctx: Context, intent: dict[str, Any]) -> bool:
    return intent["boot"] not in ("", ctx.boot)  # libvirt counts its instances anew


def _moved(ctx: Context, info: DomainInfo, intent: dict[str, Any]) -> bool:
    """Whether the QEMU of before is gone."""
    return _rebooted(ctx, intent) or info.instance != intent["instance"]


async def _verify_disks(ctx: Context, info: DomainInfo, intent: dict[str, Any]) -> None:
    """The disks are those of the snapshot's configuration, and each still holds it."""
    here = {d.target: d.source for d in writable(info.disks)}
    then = intent["disks"] or here
    other = sorted(t for t in here.keys() | then.keys() if here.get(t) != then.get(t))
    if other:
        raise Inconsistent(
            f"VM {info.name} is reverted to {intent['name']!r}, but disk {other[0]} is not on the "
            "file that it was on then; look at the VM before using it",
            reason="half-made",
            disk=other[0],
        )
    counts = await verify_tags(ctx, info, list(here), intent["name"])
    gone = [target for target, n in counts.items() if n != 1]
    if gone:
        raise Inconsistent(
            f"VM {info.name} is reverted to {intent['name']!r}, but disk {gone[0]} does not hold "
            "that snapshot; look at the VM before using it",
            reason="half-made",
            disk=gone[0],
        )


async def _finish(ctx: Context, job: Job, info: DomainInfo, intent: dict[str, Any]) -> Outcome:
    """What comes after a revert that is verified: the guest's clock, and the end of a trial."""
    safety, name = intent["safety"], intent["name"]
    result = {"SafetySnapshot": safety, "FinalState": info.state.value}
    if intent["memory"] and info.state is State.RUNNING:
        result["TimeSet"] = await set_clock(ctx, job, agent=intent["agent"])
    if intent["delete_after"]:
        key = SnapshotKey(info.uuid, name, intent["created"])
        try:
            await within(ctx, job, key, "delete_after: a trial that was thrown away")
        except SnapdError as e:
            text = f"VM {info.name} is reverted, but snapshot {name} stays: {e.message}"
            job.warn(Warned("not-deleted", name, text))
    return Outcome(
        result=result,
        snapshot=name,
        created=intent["created"],
        reason=f"safety snapshot {safety}" if safety else "no safety snapshot",
    )


def _torn(facts: DomainFacts, intent: dict[str, Any]) -> Partial:
    name, safety = intent["name"], intent["safety"]
    way = (
        f"revert to {safety!r} to have the present back, or to {name!r} again"
        if safety
        else f"revert to {name!r} again"
    )
    return Partial(
        f"VM {facts.info.name}: the revert to {name!r} broke off; its disks may be of two moments "
        f"({_disk_states(facts, [name, *([safety] if safety else [])])}), so it was not started; "
        f"{way}",
        reason="half-made",
        item=safety or name,
        ways=("revert",),
    )


def _disk_states(facts: DomainFacts, names: list[str]) -> str:
    """What each disk has to go back to."""
    said = []
    for disk in writable(facts.info.disks):
        image = facts.images.get(disk.target)
        if image is None:
            said.append(f"{disk.target} cannot be read")
            continue
        held = [n for n in names if image.count(n) == 1]
        said.append(f"{disk.target} holds {' and '.join(held) or 'neither'}")
    return ", ".join(said) or "no disk"
