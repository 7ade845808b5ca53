"""Create an external snapshot: new files are begun beside the disks' present ones, which rest from
then on (LIBVIRT.md 9). The files are made first, and libvirt only has the VM go over to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, NoReturn

from .. import names
from ..errors import (
    AgentUnavailable,
    AlreadyExists,
    Inconsistent,
    OutcomeUnknown,
    PreflightFailed,
    SnapdError,
    TimedOut,
)
from ..hypervisor import DomainFacts, ExternalSnapshot, NewOverlay
from ..journal import of_job
from ..model import Consistency, Disk, Kind, SnapshotInfo, SnapshotKey, State, Warned
from .context import Context
from .delete import within
from .images import warn_of_damage
from .job import Job, Outcome, Undone
from .made import left_behind, outcome_of
from .plan import Plan
from .quiesce import frozen
from .wishes import Wish

log = logging.getLogger(__name__)
LOOKS = 3
"""So often libvirt is looked at, a second and then two apart, before a file is removed."""


async def files(ctx: Context, facts: DomainFacts, made: Plan, name: str) -> dict[str, Any]:
    """The part of the intent that is about files: overlays: target -> path; bases: target -> (path,
    format) of what it is backed by; memory_file: "" = none."""
    disks = [d for d in facts.info.disks if d.target in made.disks]
    lying, unread = await _beside(ctx, disks)
    plain = _paths(facts.info.name, disks, name, memory=made.memory)
    taken = lying | {PurePath(path).name for path in _referred(facts)}
    clear = not unread and not any(PurePath(path).name in taken for path in _all(plain))
    paths = plain if clear else _tailed(ctx, facts, disks, name, memory=made.memory)
    bases = {d.target: [d.source, d.format] for d in disks}
    secret = [d.target for d in disks if d.encrypted]
    return {**paths, "bases": bases, "encrypted": secret}


def _paths(
    vm: str, disks: list[Disk], name: str, *, memory: bool, tail: str = ""
) -> dict[str, Any]:
    """Beside the file that each disk is on now; RAM beside the first's."""
    overlays = {
        d.target: str(PurePath(d.source).with_name(names.overlay_file(vm, d.target, name, tail)))
        for d in disks
    }
    ram = ""
    if memory and disks:
        ram = str(PurePath(disks[0].source).with_name(names.memory_file(vm, name, tail)))
    return {"overlays": overlays, "memory_file": ram}


def _tailed(
    ctx: Context, facts: DomainFacts, disks: list[Disk], name: str, *, memory: bool
) -> dict[str, Any]:
    return _paths(facts.info.name, disks, name, memory=memory, tail=ctx.tail())


def _all(intent: dict[str, Any]) -> list[str]:
    """Every file that was to be made."""
    return [
        *intent["overlays"].values(),
        *([intent["memory_file"]] if intent["memory_file"] else []),
    ]


async def _beside(ctx: Context, disks: list[Disk]) -> tuple[set[str], bool]:
    """The names of images and memory files that lie where the new ones are to lie; whether there
    may be more of them."""
    beside = await ctx.hypervisor.beside({str(PurePath(d.source).parent) for d in disks}, ())
    return {PurePath(f.path).name for f in beside.files}, bool(beside.unread)


async def take(ctx: Context, job: Job, facts: DomainFacts, wish: Wish) -> None:
    """Make the files, freeze if asked, have libvirt change over, thaw at once."""
    info, overlays = facts.info, ctx.hypervisor.overlays
    job.enter("taking", acting=True)
    await _make_files(ctx, job, facts)
    intent = job.row.intent or {}
    wanted = ExternalSnapshot(
        intent["name"],
        intent["description"],
        tuple(intent["overlays"].items()),
        tuple(intent["left_out"]),
        intent["memory_file"],
    )
    quiesce = "no" if intent["memory"] or not info.state.active else wish.quiesce
    loop = asyncio.get_running_loop()
    ctx.pauses.forget(info.uuid)
    async with frozen(ctx.frozen_guests, info, quiesce) as guest:
        job.enter("taking", acting=True)
        begun = loop.time()
        try:
            await overlays.create(info.uuid, wanted)
        except AlreadyExists:  # nothing was written over: what is there is somebody else's
            await job.intend({**intent, "memory_file": ""}, begun=True)
            raise
        took = round((loop.time() - begun) * 1000)
    consistency = Consistency.QUIESCED if guest.held else Consistency.CRASH
    known: dict[str, Any] = {
        "consistency": consistency.value,
        "shortfall": guest.shortfall,
    }
    if not intent["memory"]:  # the guest stands still for a part of it, if at all
        known["pause_ms"] = took
    await job.intend({**intent, **known}, begun=True)


async def _make_files(ctx: Context, job: Job, facts: DomainFacts) -> None:
    """The overlays, empty; under other names where a file is in the way that nobody knew of."""
    uuid, intent = facts.info.uuid, job.row.intent or {}
    try:
        await ctx.hypervisor.overlays.make(uuid, _new(facts, intent))
    except AlreadyExists as e:
        log.info("job %d: %s; taking other names", job.id, e.message, extra=of_job(job.row))
        disks = [d for d in facts.info.disks if d.target in intent["overlays"]]
        memory = bool(intent["memory_file"])
        intent |= _tailed(ctx, facts, disks, intent["name"], memory=memory)
        await job.intend(intent)
        try:
            await ctx.hypervisor.overlays.make(uuid, _new(facts, intent))
        except AlreadyExists:
            await job.intend({**intent, "overlays": {}, "memory_file": ""}, begun=True)
            raise


def _new(facts: DomainFacts, intent: dict[str, Any]) -> list[NewOverlay]:
    found = []
    for target, path in intent["overlays"].items():
        base, form = intent["bases"][target]
        image = facts.images.get(target)
        if image is None or not image.virtual_size:
            raise PreflightFailed(
                f"the size of disk {target} of VM {facts.info.name} is not known",
                reason="image-unreadable",
                disk=target,
            )
        found.append(NewOverlay(target, path, base, form, image.virtual_size))
    return found


async def judge(ctx: Context, job: Job) -> Outcome:
    """What came of the intent, by the facts: verified, or taken back where nothing refers to its
    files, or merged back. Raises Undone, Inconsistent, Partial, AlreadyExists, AgentUnavailable,
    and TimedOut while libvirt is still at it."""
    intent = job.row.intent or {}
    name = intent["name"]
    job.enter("verifying")
    facts = await ctx.hypervisor.facts(job.row.domain)
    vm = facts.info.name
    if facts.holder:
        raise TimedOut(f"VM {vm}: {facts.holder} is not done yet")
    if State(intent["state"]).active:
        await warn_of_damage(ctx, job, facts)
    listed = next((s for s in facts.snapshots if s.name == name), None)
    if listed and _is_it(listed, intent):
        await _verify(ctx, facts, intent, listed)
        if why := _not_quiesced(intent):
            await _merge_back(ctx, job, facts, listed, why)
        await ctx.inventory.refresh(job.row.domain)
        return outcome_of(ctx, job, listed)
    if used := _used(facts, intent):
        raise Inconsistent(
            f"VM {vm}: its disks are on {', '.join(used)}, which were made for snapshot {name!r}, "
            "but libvirt lists no such snapshot; nothing was removed: keep every file",
            reason="half-made",
            item=name,
            ways=("audit",),
        )
    await _take_back(ctx, job, facts)
    left_behind(intent, facts.info)
    if listed:
        raise AlreadyExists(
            f"VM {vm}: another tool made a snapshot {name!r} at the same time; it is "
            "not ours, take another name",
            item=name,
            ways=("other-name",),
        )
    if told := intent.get("merged_back"):
        raise _merged_back(told)
    raise Undone


def _is_it(listed: SnapshotInfo, intent: dict[str, Any]) -> bool:
    """Whether it is the very one: its files are called as nobody else's."""
    return listed.kind is Kind.EXTERNAL and dict(listed.overlays) == intent["overlays"]


def _used(facts: DomainFacts, intent: dict[str, Any]) -> list[str]:
    """Names of those of its files that something of libvirt's or an image refers to."""
    referred = _referred(facts)
    return [PurePath(path).name for path in _all(intent) if path in referred]


def _referred(facts: DomainFacts) -> set[str]:
    """Every file that the VM, its snapshots and its images refer to."""
    chains = facts.chains
    found = {d.source for d in (*facts.info.disks, *facts.inactive)}
    found |= {image.backing for image in (*facts.images.values(), *chains.images.values())}
    found |= {path for layers in chains.layers.values() for path, _format in layers}
    found |= {path for paths in (*chains.live.values(), *chains.stored.values()) for path in paths}
    for s in facts.snapshots:
        found |= s.files | {path for _target, path in s.sources}
    return found - {""}


async def _take_back(ctx: Context, job: Job, facts: DomainFacts) -> None:
    """Remove the files of one that was not made. Not at the first looks after a call that broke
    off: libvirt may not have begun with it."""
    intent, vm = job.row.intent or {}, facts.info.name
    looked = intent.get("looked", 0) + 1
    if not intent.get("refused") and looked < LOOKS:
        await job.intend({**intent, "looked": looked}, begun=True)
        raise OutcomeUnknown(f"VM {vm}: libvirt lists no snapshot {intent['name']!r} yet")
    going, staying = await _of_ours(ctx, job.row.domain, intent)
    left = await ctx.hypervisor.overlays.remove(job.row.domain, going) if going else ()
    for path in (*left, *staying):
        file = PurePath(path).name
        text = f"file {file}, made for a snapshot of VM {vm} that was not made, was not removed"
        job.warn(Warned("file-stays", file, text))


async def _of_ours(ctx: Context, uuid: str, intent: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Those of its files that are there and may go: each is what was to be made, and no image is
    backed by it; and those of which that is not so, or can't be told."""
    paths, bases = _all(intent), {t: base for t, (base, _form) in intent["bases"].items()}
    folders = {str(PurePath(path).parent) for path in paths}
    if not folders:
        return [], []
    beside = await ctx.hypervisor.beside(folders, {*paths, *bases.values()})
    real, found = beside.real, {f.path: f for f in beside.files}
    backed = {f.backing for f in beside.files}
    targets = {path: target for target, path in intent["overlays"].items()}
    going: list[str] = []
    staying: list[str] = []
    for path in paths:
        file, base = found.get(real.get(path, path)), bases.get(targets.get(path, ""), "")
        if beside.unread.keys() & {str(PurePath(path).parent), real.get(path, path)}:
            staying.append(path)
        elif file is not None:
            is_it = file.backing == real.get(base, base) if base else file.saved == uuid
            (going if is_it and file.path not in backed else staying).append(path)
    return going, staying


async def _verify(
    ctx: Context, facts: DomainFacts, intent: dict[str, Any], listed: SnapshotInfo
) -> None:
    """libvirt lists it; is it what was intended? Raises Inconsistent where it isn't."""
    found = _faults(facts, intent, listed)
    if not found and intent["memory_file"] and not await _has_ram(ctx, facts, intent):
        found = [(listed.name, "the file with its RAM is not there")]
    if found:
        item, why = found[0]
        raise Inconsistent(
            f"VM {facts.info.name}: libvirt lists snapshot {listed.name!r}, but {why}; it counts "
            "as not made",
            reason="half-made",
            item=item,
            ways=("audit",),
        )


def _faults(
    facts: DomainFacts, intent: dict[str, Any], listed: SnapshotInfo
) -> list[tuple[str, str]]:
    """Thing and sentence of all that is not as intended."""
    found: list[tuple[str, str]] = []
    live = {d.target: d.source for d in facts.info.disks}
    stored = {d.target: d.source for d in facts.inactive}
    if not listed.current:
        found.append((listed.name, "another one is the current one"))
    for target, path in intent["overlays"].items():
        if live.get(target) == stored.get(target) == path:
            found += _overlay_faults(facts, intent, target)
        else:
            found.append((target, f"disk {target} is not on {PurePath(path).name}"))
    if listed.memory != intent["memory"] or listed.memory_file != intent["memory_file"]:
        got = "with" if listed.memory else "without"
        found.append((listed.name, f"it was made {got} RAM, which is not what was asked for"))
    return found


def _not_quiesced(intent: dict[str, Any]) -> str:
    """Why it is not what quiesce=require asked for; "" = it is, or that wasn't asked for."""
    if intent["quiesce"] != "require" or intent["consistency"] == Consistency.QUIESCED:
        return ""
    return intent.get("shortfall") or "its making broke off"


async def _merge_back(
    ctx: Context, job: Job, facts: DomainFacts, listed: SnapshotInfo, why: str
) -> NoReturn:
    """Rather none than one that is not quiesced: it is sound and the current one, so that its
    deletion loses nothing. Raises AgentUnavailable; Inconsistent where it stays."""
    vm, key = facts.info.name, SnapshotKey(facts.info.uuid, listed.name, listed.created)
    what = f"VM {vm} did not stay frozen while the snapshot was taken: {why}"
    try:
        await within(ctx, job, key, "quiesce=require, and the guest was not quiesced")
    except SnapdError as e:
        raise Inconsistent(
            f"{what}; snapshot {listed.name!r} stays and counts as not made, since it could not be "
            f"merged back: {e.message}",
            reason="half-made",
            item=listed.name,
            ways=("delete",),
        ) from e
    told = f"{what}; it was merged back and nothing is left"
    await job.intend({**(job.row.intent or {}), "refused": True, "merged_back": told}, begun=True)
    raise _merged_back(told)


def _merged_back(told: str) -> AgentUnavailable:
    ways = ("install-agent", "quiesce-try")
    return AgentUnavailable(told, reason="agent-unavailable", ways=ways)


def _overlay_faults(
    facts: DomainFacts, intent: dict[str, Any], target: str
) -> Iterator[tuple[str, str]]:
    """What the header of the file that a disk is on says otherwise."""
    file, (base, form) = PurePath(intent["overlays"][target]).name, intent["bases"][target]
    image = facts.images.get(target)
    if image is None:
        why = facts.unreadable.get(target, "it was not read")
        raise PreflightFailed(f"{file} cannot be judged: {why}", reason="image-unreadable")
    if (image.backing, image.backing_format) != (base, form):
        yield target, f"{file} is not backed by {PurePath(base).name} ({form})"
    if target in intent["encrypted"] and not image.encrypted:
        yield target, f"{file} is not encrypted, as the disk was: what the guest writes is plain"


async def _has_ram(ctx: Context, facts: DomainFacts, intent: dict[str, Any]) -> bool:
    """Whether the file is there, and is the RAM of this VM."""
    path = intent["memory_file"]
    beside = await ctx.hypervisor.beside({str(PurePath(path).parent)}, (path,))
    real = beside.real.get(path, path)
    return any(f.path == real and f.saved == facts.info.uuid for f in beside.files)
