"""Create a snapshot. An internal one: with RAM or off by libvirt's own call, without RAM of a
running VM by one monitor transaction that is then registered with libvirt (DESIGN.md, LIBVIRT.md
10). What is different with an external one is in overlay_create.py."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from .. import names
from ..errors import (
    AgentUnavailable,
    AlreadyExists,
    Busy,
    Inconsistent,
    LibvirtError,
    OutcomeUnknown,
    Partial,
    SnapdError,
    TimedOut,
    Unavailable,
    Unsupported,
)
from ..hypervisor import BareFacts, DomainFacts
from ..journal import about
from ..model import (
    Consistency,
    SnapshotInfo,
    State,
    Warned,
)
from . import overlay_create
from .afterwards import carry_on
from .context import Context, refuse, verify_tags
from .images import facts_after
from .job import Job, Outcome, Undone
from .made import left_behind, outcome_of
from .plan import Plan, Way, plan
from .preflight import monitor_blockers, space_blockers, writable
from .quiesce import frozen
from .waiting import idle_facts
from .wishes import Wish

log = logging.getLogger(__name__)


async def create(ctx: Context, job: Job, wish: Wish) -> Outcome:
    """Check, intend, act, verify. Raises what the checks find; nothing was touched then."""
    job.enter("checking")
    job.reason = wish.reason
    uuid = job.row.domain
    if wish.name:
        names.check(wish.name)
    async with contextlib.AsyncExitStack() as held:
        facts, made = await _planned(ctx, job, wish)
        if made.memory and await held.enter_async_context(ctx.writers.turn(job, facts)):
            facts, made = await _planned(ctx, job, wish)
        name = wish.name or _generated(ctx, facts, wish)
        job.warn(*made.warnings)
        await job.name(name)
        intent = _intent(facts, wish, made, name, int(ctx.clock()))
        if made.way is Way.OVERLAY:
            intent |= await overlay_create.files(ctx, facts, made, name)
        await job.intend(intent)
        try:
            await _make(ctx, job, facts, wish, made)
        except SnapdError as e:
            if isinstance(e, OutcomeUnknown | Unavailable | TimedOut):
                raise
            await job.intend({**(job.row.intent or {}), "refused": True}, begun=True)
            raise await _explained(ctx, uuid, made, e) from e
    outcome = await judge(ctx, job)
    if facts.info.state.active:
        await carry_on(ctx, job, wish.then)
    return outcome


def planned(ctx: Context, facts: DomainFacts, wish: Wish) -> Plan:
    """The plan as things stand."""
    uuid = facts.info.uuid
    frozen_now = any(guest.domain == uuid for guest in ctx.frozen_guests.listed())
    records, monitor = ctx.store.records_of(uuid), ctx.hypervisor.has_monitor
    return plan(facts, wish, records, wish.name, monitor=monitor, frozen=frozen_now)


async def _planned(ctx: Context, job: Job, wish: Wish) -> tuple[DomainFacts, Plan]:
    facts = await idle_facts(ctx.hypervisor, ctx.news, job, job.row.domain)
    made = planned(ctx, facts, wish)
    refuse(f"cannot snapshot VM {facts.info.name}", made.blockers)
    return facts, made


async def _make(ctx: Context, job: Job, facts: DomainFacts, wish: Wish, made: Plan) -> None:
    if made.way is Way.MONITOR:
        await _take(ctx, job, facts, wish)
        return
    if made.way is Way.OVERLAY:
        await overlay_create.take(ctx, job, facts, wish)
        return
    job.enter("taking", acting=True)
    ctx.pauses.forget(job.row.domain)
    await ctx.hypervisor.create(job.row.domain, job.row.snapshot, wish.description)


async def _explained(ctx: Context, uuid: str, made: Plan, error: SnapdError) -> SnapdError:
    """A full file system reads "Input/output error" (FIELD_REPORTS 51): look before saying so."""
    if not isinstance(error, LibvirtError | Unsupported):
        return error
    try:
        facts = await ctx.hypervisor.facts(uuid)
    except SnapdError:
        return error
    full = next(space_blockers(facts, dict(made.needs)), None)
    return full.exception(error.message) if full else error


def _generated(ctx: Context, facts: DomainFacts, wish: Wish) -> str:
    taken = {s.name for s in facts.snapshots}
    taken |= {tag for image in facts.images.values() for _id, tag in image.tags}
    return names.generated(wish.stem, wish.at or int(ctx.clock()), frozenset(taken), ctx.tail())


def _intent(facts: DomainFacts, wish: Wish, made: Plan, name: str, now: int) -> dict[str, Any]:
    disks = [d for d in facts.info.disks if d.target in made.disks]
    return {
        "way": made.way.value,
        "name": name,
        "description": wish.description,
        "memory": made.memory,
        "then": wish.then,
        "saved_state": facts.info.managed_save,
        "quiesce": wish.quiesce,
        "state": facts.info.state.value,
        "instance": facts.info.instance,
        "parent": facts.info.current,
        "disks": {d.target: d.source for d in disks},
        "left_out": [d.target for d in facts.info.disks if d not in disks],
        "inactive_xml": facts.inactive_xml if made.way is Way.MONITOR else "",
        "origin": wish.origin.value,
        "policies": list(wish.policies),
        "reason": wish.reason,
        "notes": [w.reason for w in made.warnings],
        "created": now,
        "consistency": "",
        "pause_ms": -1,
    }


async def _take(ctx: Context, job: Job, facts: DomainFacts, wish: Wish) -> None:
    """Freeze if asked, take all disks at one instant, thaw at once."""
    info, intent = facts.info, job.row.intent or {}
    async with frozen(ctx.frozen_guests, info, wish.quiesce) as guest:
        job.enter("taking", acting=True)
        created = int(ctx.clock())
        paused = await ctx.hypervisor.take(info.uuid, writable(info.disks), intent["name"])
    if wish.quiesce == "require" and not guest.held:
        await ctx.hypervisor.remove_tags(info.uuid, writable(info.disks), intent["name"])
        raise AgentUnavailable(
            f"VM {info.name} did not stay frozen while the snapshot was taken: "
            f"{guest.shortfall}; nothing is left"
        )
    consistency = Consistency.QUIESCED if guest.held else Consistency.CRASH
    intent = {**intent, "created": created, "pause_ms": paused, "consistency": consistency.value}
    intent["shortfall"] = guest.shortfall
    await job.intend(intent, begun=True)


async def settled(ctx: Context, job: Job) -> Outcome:
    """How a create that broke off ended. Whoever asked for the VM to be stopped or restarted
    afterwards is told that it wasn't: it may be at work again by now."""
    outcome = await judge(ctx, job)
    intent, vm = job.row.intent or {}, job.row.domain_name
    if intent.get("then", "continue") != "continue":
        text = f"then={intent['then']} of VM {vm} was not carried out to its end; look at the VM"
        job.warn(Warned("then-not-done", vm, text))
    return outcome


async def judge(ctx: Context, job: Job) -> Outcome:
    """What came of the intent: finishes what can be finished, and verifies what is there.

    Also how an earlier daemon's create is settled. Raises Undone, Inconsistent, Partial, and
    TimedOut while libvirt is still at it: listed is not made.
    """
    intent, uuid = job.row.intent or {}, job.row.domain
    if intent["way"] == Way.OVERLAY:
        return await overlay_create.judge(ctx, job)
    name, targets = intent["name"], list(intent["disks"])
    job.enter("verifying")
    facts = await facts_after(ctx, job, ran=State(intent["state"]).active)
    counts = await verify_tags(ctx, facts.info, targets, name)
    if name in facts.names and not _ours(intent):
        raise AlreadyExists(
            f"VM {facts.info.name}: another tool made a snapshot {name!r} at the same time; it is "
            "not ours, take another name",
            item=name,
            ways=("other-name",),
        )
    unregistered = intent["way"] == Way.MONITOR and name not in facts.names
    if unregistered and not await _register(ctx, job, facts, counts):
        raise Undone
    picture = await ctx.inventory.refresh(uuid)
    listed = picture.snapshots.get(name)
    if listed is None:
        await _clear_up(ctx, facts, intent, [t for t, n in counts.items() if n])
        raise Undone
    return _outcome(ctx, job, listed, counts)


def _ours(intent: dict[str, Any]) -> bool:
    """Whether a snapshot of that name which libvirt lists can be the one that we made."""
    if intent["way"] == Way.MONITOR:  # an earlier version's intent doesn't say
        return bool(intent.get("registering", "then" not in intent))
    return not intent.get("refused")


async def _register(ctx: Context, job: Job, facts: BareFacts, counts: dict[str, int]) -> bool:
    """Have libvirt know what the monitor took: in all disks or in none. False = nothing is there.

    Without images (the test driver) registering is the whole create.
    """
    intent, info = job.row.intent or {}, facts.info
    name = intent["name"]
    whole = not counts or all(n == 1 for n in counts.values())
    taken = intent["consistency"] != ""
    loose = intent["quiesce"] == "require" and intent["consistency"] != Consistency.QUIESCED
    if not whole or loose or not (counts or taken):
        if any(counts.values()):
            await _remove_half(ctx, facts, intent, [t for t, n in counts.items() if n])
        return False
    here = {d.target: d.source for d in writable(info.disks)}
    moved = [b.message for b in monitor_blockers(facts)] if info.state.active else []
    if here != intent["disks"] or moved:
        raise Partial(
            f"VM {info.name}: its disks were changed while snapshot {name!r} was made "
            f"({', '.join(moved) or 'other files'}); it counts as not made, an audit shows it",
            reason="half-made",
            item=name,
        )
    await ctx.frozen_guests.not_while_frozen(info)  # libvirt may wait 30 s for the VM's lock
    await job.intend({**intent, "registering": True}, begun=True)
    reverted = info.current != intent["parent"]
    try:
        await ctx.hypervisor.register(
            info.uuid,
            name,
            intent["description"],
            intent["created"],
            intent["parent"] if intent["parent"] in facts.names else "",
            list(intent["disks"]),
            intent["left_out"],
            intent["inactive_xml"],
            current=not reverted,
        )
    except Busy as e:  # somebody has the VM's lock: that ends
        raise TimedOut(e.message) from e
    except (OutcomeUnknown, Unavailable, TimedOut):
        raise
    except SnapdError:
        if held := [t for t, n in counts.items() if n]:
            await _remove_half(ctx, facts, intent, held)
        raise
    return True


async def _clear_up(
    ctx: Context, facts: BareFacts, intent: dict[str, Any], targets: list[str]
) -> None:
    """libvirt died in the middle of its own create: there may be tags that it never lists, and a
    guest that nobody will have run on."""
    if targets:
        await _remove_half(ctx, facts, intent, targets)
    left_behind(intent, facts.info)


async def _remove_half(
    ctx: Context, facts: BareFacts, intent: dict[str, Any], targets: list[str]
) -> None:
    """A tag that libvirt doesn't know is of no use to anybody: a revert to it would tear disks.

    It is ours: no image held that name when the intent was stored, and they are still the same.
    """
    info, name = facts.info, intent["name"]
    same = all(d.source == intent["disks"][d.target] for d in info.disks if d.target in targets)
    if info.state.active and ctx.hypervisor.has_monitor and same:
        disks = [d for d in info.disks if d.target in targets]
        await ctx.hypervisor.remove_tags(info.uuid, disks, name)
        return
    if not info.state.active and info.persistent and same:
        left = await _remove_offline(ctx, facts, intent, targets)
        if not left:
            return
        targets = left
    off = "" if info.state.active else ", and the VM is off now"
    raise Partial(
        f"VM {info.name}: the making of snapshot {name!r} broke off and left it in disk "
        f"{', '.join(targets)}{off}; it counts as not made, and an audit shows it",
        reason="half-made",
        item=name,
        ways=("audit",),
    )


async def _remove_offline(
    ctx: Context, facts: BareFacts, intent: dict[str, Any], targets: list[str]
) -> list[str]:
    """Have libvirt know the tag, so that it deletes it (LIBVIRT.md 10); where it stays."""
    info, name = facts.info, intent["name"]
    every, others = list(intent["disks"]), intent["left_out"]  # it takes no disk out of one
    made, xml = intent["created"], facts.inactive_xml
    try:
        await ctx.hypervisor.register(
            info.uuid, name, "", made, "", every, others, xml, current=False
        )
        await ctx.hypervisor.delete(info.uuid, name)
    except (LibvirtError, Unsupported, Busy) as e:
        fields = about(info, snapshot=name, error=e)
        log.warning("VM %s: %s stays half-made: %s", info.name, name, e.message, extra=fields)
    return [t for t, n in (await verify_tags(ctx, info, targets, name)).items() if n]


def _outcome(ctx: Context, job: Job, listed: SnapshotInfo, counts: dict[str, int]) -> Outcome:
    intent, vm = job.row.intent or {}, job.row.domain_name
    wrong = [target for target, n in counts.items() if n != 1]
    if wrong:
        raise Inconsistent(
            f"VM {vm}: libvirt lists snapshot {listed.name!r}, but disk {wrong[0]} does not hold "
            "it; it counts as not made: delete it",
            reason="half-made",
            disk=wrong[0],
        )
    if ctx.hypervisor.has_images and intent["memory"] != listed.memory:
        got = "with" if listed.memory else "without"
        raise Inconsistent(
            f"VM {vm}: snapshot {listed.name!r} was made {got} RAM, which is not what was asked "
            "for (the VM started or stopped meanwhile); it counts as not made: delete it",
            reason="half-made",
            item=listed.name,
        )
    return outcome_of(ctx, job, listed)
