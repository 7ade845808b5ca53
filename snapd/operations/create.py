"""Create an internal snapshot: with RAM or off by libvirt's own call, without RAM of a running VM
by one monitor transaction that is then registered with libvirt (DESIGN.md, LIBVIRT.md 10)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .. import names
from ..errors import AgentUnavailable, Inconsistent, InvalidArgument, Partial, TimedOut, Unsupported
from ..hypervisor import DomainFacts
from ..model import (
    Consistency,
    DomainInfo,
    Origin,
    Record,
    SnapshotInfo,
    SnapshotKey,
    State,
    Warned,
)
from .checks import create_blockers, memory_blockers, monitor_blockers, writable
from .context import Context, refuse, verify_tags
from .job import Job, Outcome, Undone
from .pause import estimate_ms
from .quiesce import frozen, thaw_left_behind


class Way(StrEnum):
    """Whose snapshot it is: libvirt's own call, or the monitor's and then libvirt's record."""

    LIBVIRT = "libvirt"
    MONITOR = "monitor"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to make. name "" = `STEM-TIME`, of `at` (a slot) or of the time of taking.

    memory: auto, yes, no. quiesce: no, try, require. max_pause: seconds. disks: targets, () = all.
    """

    name: str = ""
    stem: str = "manual"
    at: int = 0
    description: str = ""
    kind: str = "auto"
    disks: tuple[str, ...] = ()
    memory: str = "auto"
    quiesce: str = "try"
    max_pause: int = 60
    origin: Origin = Origin.MANUAL
    policies: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is made."""

    way: Way
    memory: bool
    warnings: tuple[Warned, ...] = ()


def decide(facts: DomainFacts, wish: Wish, estimate: int, *, monitor: bool) -> Plan:
    """The way, and whether RAM is saved. Pure. Raises Unsupported, InvalidArgument.

    estimate: milliseconds that the guest would stand still for its RAM.
    """
    info = facts.info
    _refuse_kind(info, wish)
    if not info.state.active:
        return Plan(Way.LIBVIRT, memory=False)
    too_long = estimate > wish.max_pause * 1000
    if wish.memory == "yes":
        if wish.quiesce == "require":
            raise InvalidArgument(
                f"VM {info.name}: a snapshot with RAM needs no quiescing; ask for one of the two"
            )
        if too_long:
            raise Unsupported(
                f"VM {info.name} would stand still for about {estimate / 1000:.0f} s, "
                f"more than max_pause ({wish.max_pause} s) allows",
                reason="pause-too-long",
                ways=("no-memory", "max-pause"),
            )
        return Plan(Way.LIBVIRT, memory=True)
    if wish.memory == "auto" and wish.quiesce != "require":
        why_not = next((b.message for b in memory_blockers(info, with_memory=True)), "")
        if too_long and not why_not:
            why_not = f"it would stand still for about {estimate / 1000:.0f} s"
        if not why_not:
            return Plan(Way.LIBVIRT, memory=True)
        message = f"the RAM of VM {info.name} is not in the snapshot: {why_not}"
        return _disks_only(info, monitor, (Warned("memory-left-out", info.name, message),))
    return _disks_only(info, monitor, ())


def _refuse_kind(info: DomainInfo, wish: Wish) -> None:
    if wish.kind == "external":
        raise Unsupported(
            f"VM {info.name}: this version makes internal snapshots only",
            reason="external-unsupported",
            ways=("internal",),
        )
    every = {d.target for d in writable(info.disks)}
    if wish.disks and set(wish.disks) != every:
        raise Unsupported(
            f"VM {info.name}: an internal snapshot holds every writable disk "
            f"({', '.join(sorted(every))}), not only {', '.join(sorted(wish.disks))[:200]}",
            ways=("all-disks",),
        )


def _disks_only(info: DomainInfo, monitor: bool, warnings: tuple[Warned, ...]) -> Plan:
    if not monitor:
        raise Unsupported(
            f"VM {info.name} is running, and monitor = false allows no snapshot without its RAM",
            reason="monitor-off",
            ways=("memory", "shut-off"),
        )
    if info.raw_nvram:
        message = f"the UEFI variables of VM {info.name} are not in the snapshot"
        warnings = (*warnings, Warned("nvram-left-out", info.name, message))
    return Plan(Way.MONITOR, memory=False, warnings=warnings)


async def create(ctx: Context, job: Job, wish: Wish) -> Outcome:
    """Check, intend, act, verify. Raises what the checks find; nothing was touched then."""
    job.enter("checking")
    job.reason = wish.reason
    uuid = job.row.domain
    facts = await ctx.hypervisor.facts(uuid)
    memory_ms = estimate_ms(facts, ctx.store.records_of(uuid), memory=True)
    plan = decide(facts, wish, memory_ms, monitor=ctx.hypervisor.has_monitor)
    name = names.check(wish.name) if wish.name else _generated(ctx, facts, wish)
    what = f"cannot snapshot VM {facts.info.name}"
    refuse(what, create_blockers(facts, name, memory=plan.memory))
    job.warn(*plan.warnings)
    await job.name(name)
    intent = _intent(facts, wish, plan, name, int(ctx.clock()))
    await job.intend(intent)
    if plan.way is Way.MONITOR:
        await _take(ctx, job, facts, wish)
    else:
        job.enter("taking", acting=True)
        ctx.pauses.forget(uuid)
        await ctx.hypervisor.create(uuid, name, wish.description)
    return await judge(ctx, job)


def _generated(ctx: Context, facts: DomainFacts, wish: Wish) -> str:
    taken = {s.name for s in facts.snapshots}
    taken |= {tag for image in facts.images.values() for _id, tag in image.tags}
    return names.generated(wish.stem, wish.at or int(ctx.clock()), frozenset(taken), ctx.tail())


def _intent(facts: DomainFacts, wish: Wish, plan: Plan, name: str, now: int) -> dict[str, Any]:
    disks = writable(facts.info.disks)
    return {
        "way": plan.way.value,
        "name": name,
        "description": wish.description,
        "memory": plan.memory,
        "quiesce": wish.quiesce,
        "state": facts.info.state.value,
        "instance": facts.info.instance,
        "parent": facts.info.current,
        "disks": {d.target: d.source for d in disks},
        "left_out": [d.target for d in facts.info.disks if d not in disks],
        "inactive_xml": facts.inactive_xml if plan.way is Way.MONITOR else "",
        "origin": wish.origin.value,
        "policies": list(wish.policies),
        "reason": wish.reason,
        "notes": [w.reason for w in plan.warnings],
        "created": now,
        "consistency": "",
        "pause_ms": -1,
    }


async def _take(ctx: Context, job: Job, facts: DomainFacts, wish: Wish) -> None:
    """Freeze if asked, take all disks at one instant, thaw at once."""
    info, intent = facts.info, job.row.intent or {}
    async with frozen(ctx.hypervisor, info, wish.quiesce) as guest:
        job.enter("taking", acting=True)
        created = int(ctx.clock())
        paused = await ctx.hypervisor.take(info.uuid, writable(info.disks), intent["name"])
    if wish.quiesce == "require" and not guest.held:
        await ctx.hypervisor.remove_tags(info.uuid, writable(info.disks), intent["name"])
        raise AgentUnavailable(
            f"VM {info.name} did not stay frozen while the snapshot was taken; nothing is left"
        )
    consistency = Consistency.QUIESCED if guest.held else Consistency.CRASH
    intent = {**intent, "created": created, "pause_ms": paused, "consistency": consistency.value}
    await job.intend(intent, begun=True)


async def judge(ctx: Context, job: Job) -> Outcome:
    """What came of the intent: finishes what can be finished, and verifies what is there.

    Also how an earlier daemon's create is settled. Raises Undone, Inconsistent, Partial, and
    TimedOut while libvirt is still at it: listed is not made.
    """
    intent, uuid = job.row.intent or {}, job.row.domain
    name, targets = intent["name"], list(intent["disks"])
    job.enter("verifying")
    facts = await ctx.hypervisor.facts(uuid)
    if facts.holder:
        raise TimedOut(f"VM {facts.info.name}: {facts.holder} is not done yet")
    counts = await verify_tags(ctx, facts.info, targets, name)
    listed = next((s for s in facts.snapshots if s.name == name), None)
    if intent["way"] == Way.MONITOR and listed is None:
        await thaw_left_behind(ctx.hypervisor, facts.info, intent["quiesce"])
        if not await _register(ctx, job, facts, counts):
            raise Undone
    picture = await ctx.inventory.refresh(uuid)
    listed = picture.snapshots.get(name)
    if listed is None:
        await _clear_up(ctx, facts.info, intent, [t for t, n in counts.items() if n])
        raise Undone
    return _outcome(ctx, job, listed, counts)


async def _register(ctx: Context, job: Job, facts: DomainFacts, counts: dict[str, int]) -> bool:
    """Have libvirt know what the monitor took: in all disks or in none. False = nothing is there.

    Without images (the test driver) registering is the whole create.
    """
    intent, info = job.row.intent or {}, facts.info
    name = intent["name"]
    whole = not counts or all(n == 1 for n in counts.values())
    taken = intent["consistency"] != ""
    if not whole or not (counts or taken):
        if any(counts.values()):
            await _remove_half(ctx, info, [t for t, n in counts.items() if n], name)
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
    reverted = info.current != intent["parent"]
    parents = {s.name for s in facts.snapshots}
    await ctx.hypervisor.register(
        info.uuid,
        name,
        intent["description"],
        intent["created"],
        intent["parent"] if intent["parent"] in parents else "",
        list(intent["disks"]),
        intent["left_out"],
        intent["inactive_xml"],
        current=not reverted,
    )
    return True


async def _clear_up(
    ctx: Context, info: DomainInfo, intent: dict[str, Any], targets: list[str]
) -> None:
    """libvirt died in the middle of its own create: there may be tags that it never lists, and a
    guest that nobody will have run on. Whether to run it is a person's to say."""
    name = intent["name"]
    if targets:
        await _remove_half(ctx, info, targets, name)
    if intent["memory"] and intent["state"] == State.RUNNING and info.state is State.PAUSED:
        raise Partial(
            f"VM {info.name}: snapshot {name!r} was not made, since its making broke off, and "
            "the VM was left paused",
            item=name,
            ways=("resume",),
        )


async def _remove_half(ctx: Context, info: DomainInfo, targets: list[str], name: str) -> None:
    """A tag that libvirt doesn't know is of no use to anybody: a revert to it would tear disks."""
    if not (info.state.active and ctx.hypervisor.has_monitor):
        off = "" if info.state.active else ", and the VM is off now"
        raise Partial(
            f"VM {info.name}: the making of snapshot {name!r} broke off and left it in disk "
            f"{', '.join(targets)}{off}; it counts as not made, and an audit shows it",
            reason="half-made",
            item=name,
            ways=("audit",),
        )
    disks = [d for d in info.disks if d.target in targets]
    await ctx.hypervisor.remove_tags(info.uuid, disks, name)


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
    state, consistency, pause = State(intent["state"]), _consistency(intent), intent["pause_ms"]
    if intent["memory"] and pause < 0:
        pause = ctx.pauses.last(job.row.domain)
    record = Record(
        SnapshotKey(job.row.domain, listed.name, listed.created),
        Origin(intent["origin"]),
        tuple(intent["policies"]),
        state,
        consistency,
        pause if state is State.RUNNING else 0,
        None,
        tuple(intent["notes"]),
    )
    return Outcome(
        result={"Name": listed.name, "Consistency": consistency.value},
        snapshot=listed.name,
        created=listed.created,
        reason=intent["reason"],
        record=record,
    )


def _consistency(intent: dict[str, Any]) -> Consistency:
    if intent["memory"]:
        return Consistency.MEMORY
    if not State(intent["state"]).active:
        return Consistency.OFFLINE
    return Consistency(intent["consistency"] or Consistency.CRASH)
