"""Gathering what an audit judges. Reads only, holds no VM's turn, waits for nobody for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath

from ..errors import PreflightFailed, SnapdError
from ..hypervisor import Beside, DomainFacts, ImageCheck
from ..model import Disk, JobState, SnapshotInfo, SnapshotKey, State, Verb, Warned
from ..store import REMOVED_OUTSIDE, HistoryRow
from .audit import Books, Finding, Seen, findings
from .audit_chains import chain, images, lost
from .context import Context
from .images import check_images
from .job import Job, Outcome

AT_ONCE = 4
REMOVED_SECONDS = 30 * 86400
"""How far back a snapshot that others removed is told of."""
MOST = 10_000
"""Findings in one answer; a warning says that there were more."""


async def audit(ctx: Context, job: Job, domain: str) -> Outcome:
    """Look at a domain, "" = at all; the findings stand in the result's Findings."""
    job.enter("reading")
    uuids = [domain] if domain else list(ctx.inventory.domains)
    done, room = 0, asyncio.Semaphore(AT_ONCE)

    async def one(uuid: str) -> Seen:
        nonlocal done
        async with room:
            seen = await _see(ctx, uuid)
        done += 1
        job.progress = done / (len(uuids) + 1)
        ctx.jobs.changed(job, "Progress")
        return seen

    seen = list(await asyncio.gather(*(one(uuid) for uuid in uuids)))
    job.enter("comparing")
    seen += _unread(ctx, uuids)
    books = Books(
        await ctx.store.half_made(), await _removed(ctx, seen), ctx.frozen_guests.listed()
    )
    found = await _judge(ctx, seen, books)
    _mark_broken(ctx, seen, found)
    if len(found) > MOST:
        text = f"{len(found)} findings, only {MOST} are told; audit the VMs one by one"
        job.warn(Warned("too-many", str(len(found)), text))
    return Outcome(result={"Findings": [_row(f) for f in found[:MOST]]})


def _mark_broken(ctx: Context, seen: Iterable[Seen], found: Collection[Finding]) -> None:
    """What lacks in an image, or stands on a file that is gone, is no way back: it counts for
    nothing (DESIGN.md, rule 3)."""
    gone = {(f.domain, f.item) for f in found if f.reason == "tag-gone"}
    for one in seen:
        if one.facts and not one.facts.holder:
            gone |= {(one.uuid, name) for name in lost(one.facts, one.broken)}
            keys = (SnapshotKey(one.uuid, s.name, s.created) for s in one.facts.snapshots)
            ctx.jobs.half_made.audited(one.uuid, (k for k in keys if (k.domain, k.name) in gone))


def _row(finding: Finding) -> dict[str, str]:
    row = asdict(finding)
    return {
        "Reason": row["reason"],
        "DomainUUID": row["domain"],
        "Item": row["item"],
        "Proof": row["proof"],
    }


# --- one domain


async def _see(ctx: Context, uuid: str) -> Seen:
    """A domain with the jobs of ours that were at work on it before or after the look."""
    picture = ctx.inventory.domains.get(uuid)
    name = picture.info.name if picture else uuid
    at_work = _at_work(ctx, uuid)
    unchecked: dict[str, str] = {}
    checks: dict[str, ImageCheck] = {}
    facts, below = None, _Below()
    try:
        facts = await ctx.hypervisor.facts(uuid)
        unchecked.update(facts.unreadable)
        below = await _look_below(ctx, facts, unchecked)
        if not (at_work or _at_work(ctx, uuid) or facts.holder or facts.info.state.active):
            checks = await check_images(ctx, facts, unchecked)
    except SnapdError as e:
        unchecked[name] = e.message
    at_work |= _at_work(ctx, uuid)
    rows = tuple(job.row for job in sorted(at_work, key=lambda j: j.id))
    writers = _writers(ctx, facts) if facts else {}
    found = (below.inside, below.broken, writers)
    return Seen(uuid, name, facts, rows, checks, unchecked, *found)


@dataclass(slots=True)
class _Below:
    """As Seen has them."""

    inside: dict[str, tuple[str, ...]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


async def _look_below(ctx: Context, facts: DomainFacts, unchecked: dict[str, str]) -> _Below:
    """What the images say that disks and external snapshots stand on, each by itself."""
    found, room = _Below(), asyncio.Semaphore(AT_ONCE)
    off = replace(facts.info, state=State.SHUTOFF)  # of QEMU only the disks' own could be asked

    async def one(path: str) -> None:
        if known := facts.chains.images.get(path):
            found.inside[path] = tuple(name for _id, name in known.tags)
            return
        async with room:
            try:
                tags = await ctx.hypervisor.tags(off, [Disk(path, path, "qcow2")])
                found.inside[path] = tags.get(path, ())
            except PreflightFailed as e:
                if "Permission denied" in e.message:
                    unchecked[PurePath(path).name] = e.message
                else:
                    found.broken[path] = e.message
            except SnapdError as e:
                unchecked[PurePath(path).name] = e.message

    if ctx.hypervisor.has_images:
        await asyncio.gather(*(one(path) for path in images(facts)))
    return found


def _writers(ctx: Context, facts: DomainFacts) -> dict[str, str]:
    """Files that the domain's disks and external snapshots stand on -> the other VM that has it
    as a disk to write to, as last read."""
    mine = {f for d in facts.info.disks if d.writable for f in chain(facts, d.target)}
    mine |= {file for s in facts.snapshots for file in s.files}
    return {
        disk.source: picture.info.name
        for uuid, picture in ctx.inventory.domains.items()
        for disk in picture.info.disks
        if uuid != facts.info.uuid and disk.writable and not disk.shareable and disk.source in mine
    }


def _at_work(ctx: Context, uuid: str) -> set[Job]:
    return {
        job
        for job in ctx.jobs.open_on(uuid)
        if job.row.state is not JobState.QUEUED and job.row.verb is not Verb.AUDIT
    }


def _unread(ctx: Context, uuids: Collection[str]) -> list[Seen]:
    """Domains that libvirt lists and that never answered: what they use isn't known."""
    return [
        Seen(uuid, name, unchecked={name: "it has not been read yet: it does not answer"})
        for uuid, name in ctx.inventory.unread.items()
        if uuid not in uuids
    ]


async def _removed(ctx: Context, seen: Collection[Seen]) -> list[HistoryRow]:
    """Our snapshots that others removed: those noted, and those that nobody has noted yet."""
    now = int(ctx.clock())
    equal = {"reason": REMOVED_OUTSIDE}
    noted, _total = await ctx.store.history(equal, now - REMOVED_SECONDS, 0, 0, MOST)
    rows = [row for _number, row in noted]
    known = {(r.domain, r.snapshot, r.created) for r in rows}
    there = {(s.uuid, i.name, i.created) for s in seen if s.facts for i in s.facts.snapshots}
    rows = [r for r in rows if (r.domain, r.snapshot, r.created) not in there]  # or it came back
    for one in seen:
        if one.facts is None:
            continue
        here = {(s.name, s.created) for s in one.facts.snapshots}
        here |= {(job.snapshot, job.created) for job in one.jobs}
        for record in ctx.store.records_of(one.uuid):
            key = record.key
            fresh = (key.domain, key.name, key.created) not in known
            if (key.name, key.created) not in here and fresh:
                rows.append(HistoryRow(now, "delete", one.uuid, one.name, key.name, key.created))
    return rows


# --- files beside the disks


async def _judge(ctx: Context, seen: Sequence[Seen], books: Books) -> list[Finding]:
    """The findings. A file counts as nobody's only after every VM that might name it was asked."""
    folders = {f for s in seen if s.facts for f in _folders(s.facts)}
    if not ctx.hypervisor.has_images or not folders or ctx.inventory.unread:
        return findings(seen, books)
    named = _named(ctx, [s.facts for s in seen if s.facts])
    beside = await ctx.hypervisor.beside(folders, frozenset().union(*named.values()))
    found = findings(seen, books, beside, named)
    if any(f.reason.startswith("unlisted-") and f.reason != "unlisted-tag" for f in found):
        others = set(ctx.inventory.domains) - {s.uuid for s in seen}
        facts, silent = await _ask_others(ctx, others)
        if silent:
            note = Seen(silent[0], silent[1], unchecked={silent[1]: silent[2]})
            return findings([*seen, note], books)
        named = _named(ctx, [*(s.facts for s in seen if s.facts), *facts])
        beside = await ctx.hypervisor.beside(folders, frozenset().union(*named.values()))
        found = findings(seen, books, beside, named)
    whose = next(s.uuid for s in seen if s.facts)
    return [*found, *_not_looked_at(beside, whose)]


async def _ask_others(
    ctx: Context, uuids: Iterable[str]
) -> tuple[list[DomainFacts], tuple[str, str, str] | None]:
    """What the other VMs have, and the first (UUID, name, why) that does not say."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(uuid: str) -> DomainFacts | tuple[str, str, str]:
        async with room:
            try:
                return await ctx.hypervisor.facts(uuid)
            except SnapdError as e:
                picture = ctx.inventory.domains.get(uuid)
                name = picture.info.name if picture else uuid
                why = f"whether it uses a file beside another VM's disks is not known: {e.message}"
                return uuid, name, why

    answers = await asyncio.gather(*(one(uuid) for uuid in sorted(uuids)))
    silent = next((a for a in answers if isinstance(a, tuple)), None)
    return [a for a in answers if isinstance(a, DomainFacts)], silent


def _named(ctx: Context, facts: Iterable[DomainFacts]) -> dict[str, frozenset[str]]:
    """UUID -> every file that libvirt names for the domain, as last read and as just read."""
    named = {
        uuid: _files(picture.info.disks, picture.snapshots.values())
        for uuid, picture in ctx.inventory.domains.items()
    }
    for fact in facts:
        uuid = fact.info.uuid
        now = _files((*fact.info.disks, *fact.inactive), fact.snapshots)
        chains = fact.chains
        below = {image.backing for image in fact.images.values()} - {""}
        below |= {path for layers in chains.layers.values() for path, _format in layers}
        below |= {
            p for said in (chains.live, chains.stored) for each in said.values() for p in each
        }
        named[uuid] = named.get(uuid, frozenset()) | now | below
    return named


def _files(disks: Iterable[Disk], snapshots: Iterable[SnapshotInfo]) -> frozenset[str]:
    found = {d.source for d in disks if d.kind in ("file", "block")}
    for snapshot in snapshots:
        found |= snapshot.files
    return frozenset(found - {""})


def _folders(facts: DomainFacts) -> set[str]:
    """Where the domain's overlays and memory files would lie."""
    disks = [d for d in (*facts.info.disks, *facts.inactive) if d.writable and d.kind == "file"]
    files = _files(disks, facts.snapshots)
    return {str(PurePath(file).parent) for file in files if PurePath(file).is_absolute()}


def _not_looked_at(beside: Beside, uuid: str) -> list[Finding]:
    return [
        Finding("unchecked", uuid, PurePath(path).name, why)
        for path, why in sorted(beside.unread.items())
    ]
