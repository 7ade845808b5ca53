"""What a revert to an external snapshot asks more than revert.py knows. libvirt begins new files on
those that the snapshot's disks were on, and unlinks the ones in use until then: so what it has left
is proved file by file, and where it broke off, the files tell how far it came."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from ..errors import Inconsistent, OutcomeUnknown, Partial, PreflightFailed
from ..hypervisor import DomainFacts
from ..model import SnapshotInfo, State, Warned
from .context import Context
from .images import warn_of_damage
from .job import Job, Undone
from .preflight import writable

LOOKS = 2
"""So often, a second apart, libvirt is looked at before what it left is changed."""
MARKS = 2
"""So often its mark is moved before it counts as one that libvirt does not move."""


class Came(StrEnum):
    """How far it came, by the files that the disks are on."""

    DONE = "done"  # each on a new file that is backed by the snapshot's
    NOWHERE = "nowhere"  # each on the file of before
    ON_BASES = "on-bases"  # on the snapshot's own files, which others stand on
    ASTRAY = "astray"


def files(facts: DomainFacts, listed: SnapshotInfo) -> dict[str, Any]:
    """The part of the intent that is about files. bases: what the disks are to stand on; named: the
    files of all snapshots that are there now, but for those that libvirt is to unlink; snapshots:
    which are listed; inactive_xml: what the VM is defined by, secrets too."""
    going = {d.source for d in writable(facts.info.disks)}
    return {
        "bases": dict(listed.bases),
        "named": sorted(_named(facts) - facts.missing - facts.unknown - going),
        "snapshots": sorted(s.name for s in facts.snapshots),
        "inactive_xml": facts.inactive_xml,
    }


def _named(facts: DomainFacts) -> set[str]:
    return {file for snapshot in facts.snapshots for file in snapshot.files}


def came(facts: DomainFacts, intent: Mapping[str, Any]) -> Came:
    """Pure. Raises PreflightFailed where a new file cannot be read."""
    old, bases = intent["disks"], intent["external"]["bases"]
    here = {d.target: d.source for d in writable(facts.info.disks)}
    if here.keys() != old.keys():
        return Came.ASTRAY
    if here == old:
        return Came.ASTRAY if facts.missing.intersection(old.values()) else Came.NOWHERE
    if all(here[t] == bases.get(t, old[t]) for t in here):
        return Came.ON_BASES
    if here.keys() == bases.keys() and all(
        here[t] not in (old[t], bases[t]) and _backing(facts, t) == bases[t] for t in here
    ):
        return Came.DONE
    return Came.ASTRAY


def _backing(facts: DomainFacts, target: str) -> str:
    image = facts.images.get(target)
    if image is None:
        raise PreflightFailed(
            f"VM {facts.info.name}: what disk {target} is on now cannot be read: "
            f"{facts.unreadable.get(target, 'nobody says why')}",
            reason="image-unreadable",
            disk=target,
        )
    return image.backing


async def unclaimed(
    ctx: Context, job: Job, facts: DomainFacts, intent: Mapping[str, Any], *, moved: bool
) -> None:
    """libvirt never said that it was done. moved: the QEMU of before is gone. Returns where the
    facts show that it came to its end all the same; raises Undone, Partial, Inconsistent."""
    info, name = facts.info, intent["name"]
    if not moved and State(intent["state"]).active:
        raise Undone
    found, off = came(facts, intent), not info.state.active
    if found is Came.DONE and off and info.current != name and _recorded(facts, intent):
        await _move_mark(ctx, job, facts, intent)
    elif found is Came.ON_BASES:
        facts = await _put_back(ctx, job, facts, intent)
        found = came(facts, intent)
    lost = _lost(facts, intent)
    if found is Came.DONE and info.current == name and not lost:
        return
    await warn_of_damage(ctx, job, facts)
    if found is not Came.NOWHERE or lost or info.current != intent["current"]:
        raise _astray(facts, intent, lost)
    if not State(intent["state"]).active:
        raise Undone
    raise Partial(
        f"VM {info.name}: the revert to {name!r} broke off when the VM had been ended; its disks "
        f"and snapshots are as they were, and it is {info.state} now",
        item=name,
        ways=("start", "revert") if not info.state.active else ("revert",),
    )


def _recorded(facts: DomainFacts, intent: Mapping[str, Any]) -> bool:
    """Whether libvirt's record of the snapshot names the files that the VM is on."""
    listed = next((s for s in facts.snapshots if s.name == intent["name"]), None)
    here = writable(facts.info.disks)
    return listed is not None and all(listed.active.get(d.target) == d.source for d in here)


async def _move_mark(ctx: Context, job: Job, facts: DomainFacts, intent: Mapping[str, Any]) -> None:
    """libvirt takes all down before QEMU starts, but for its mark; where QEMU ended then, it stays
    on a snapshot that libvirt holds to be on files that others need: its next revert unlinks them
    (11.3, measured). On one that has children the mark is not moved: its record would lose the
    files that the VM is on, until a snapshot is made. Raises OutcomeUnknown: what came of it is to
    be looked at anew."""
    info, name = facts.info, intent["name"]
    lost, tries = _lost(facts, intent), intent.get("marked", 0)
    if lost or info.current != intent["current"] or tries >= MARKS:
        raise _astray(facts, intent, lost)
    if any(s.parent == name for s in facts.snapshots):
        raise Partial(
            f"VM {info.name} is on the files of {name!r}, but libvirt's mark is on "
            f"{info.current!r}, and a revert by virsh would remove what snapshots stand on: run "
            f"virsh snapshot-current {info.name} {name}, then make a snapshot, before any revert; "
            f"{_way_back(intent)}",
            reason="half-made",
            item=intent["safety"] or name,
            ways=("virsh", "audit"),
        )
    await _look_again(job, intent)
    await job.intend({**intent, "marked": tries + 1}, begun=True)
    await ctx.hypervisor.overlays.mark(info.uuid, name, created=intent["created"])
    raise OutcomeUnknown(f"VM {info.name}: libvirt's mark is moved to {name!r}")


async def _look_again(job: Job, intent: Mapping[str, Any]) -> None:
    """Raises OutcomeUnknown at the first looks: libvirt may not be done yet."""
    looked = intent.get("looked", 0) + 1
    if looked < LOOKS:
        await job.intend({**intent, "looked": looked}, begun=True)
        raise OutcomeUnknown(f"VM {job.row.domain_name}: it is looked at again whether it stays so")


async def _put_back(
    ctx: Context, job: Job, facts: DomainFacts, intent: Mapping[str, Any]
) -> DomainFacts:
    """libvirt leaves the VM defined on the files that its snapshots stand on, where loading RAM
    failed (11.3, measured): its next start would damage them all. It is defined again as it was,
    with files that are still there; what they hold has not changed."""
    info = facts.info
    sure = _named(facts) - facts.missing - facts.unknown
    there = sure.issuperset(intent["disks"].values())  # the current snapshot names them
    lost = _lost(facts, intent)
    if info.state.active or lost or not there or info.current != intent["current"]:
        raise _astray(facts, intent, lost)
    await _look_again(job, intent)
    await ctx.hypervisor.overlays.put_back(info.uuid, intent["external"]["inactive_xml"])
    return await ctx.hypervisor.facts(info.uuid)


def verify(job: Job, facts: DomainFacts, intent: Mapping[str, Any]) -> None:
    """libvirt says that it is done. Raises Inconsistent where the disks don't stand on what that
    moment stands on, where libvirt's own record says otherwise, or a file of others is gone."""
    name, vm = intent["name"], facts.info.name
    lost = _lost(facts, intent)
    if untold := facts.unknown.intersection(intent["external"]["named"]):
        text = f"whether {PurePath(min(untold)).name}, which a snapshot of VM {vm} needs, is there"
        job.warn(Warned("unchecked", vm, f"{text} could not be told"))
    if lost or came(facts, intent) is not Came.DONE:
        raise _astray(facts, intent, lost)
    if not _recorded(facts, intent):
        raise Inconsistent(
            f"VM {vm} is reverted to {name!r}, but libvirt's record of it doesn't name the files "
            f"that the VM is on: it would unlink others; {_way_back(intent)}",
            reason="half-made",
            item=name,
            ways=("audit",),
        )


def _lost(facts: DomainFacts, intent: Mapping[str, Any]) -> list[str]:
    """Files that other snapshots need, and snapshots, that were there before."""
    then = intent["external"]
    gone = facts.missing.intersection(then["named"])
    unlisted = set(then["snapshots"]) - {s.name for s in facts.snapshots}
    return [*sorted(PurePath(file).name for file in gone), *sorted(unlisted)]


def _astray(
    facts: DomainFacts, intent: Mapping[str, Any], lost: Collection[str]
) -> Inconsistent | Partial:
    vm, name = facts.info.name, intent["name"]
    if lost:
        return Inconsistent(
            f"VM {vm}: with the revert to {name!r} went what other snapshots need "
            f"({', '.join(lost)}); restore it before the VM is used; {_way_back(intent)}",
            reason="half-made",
            item=intent["safety"] or name,
            ways=("audit",),
        )
    how = "is said to be done" if intent["claimed"] else "broke off"
    by_hand = not (facts.info.state.active or _recorded(facts, intent))
    on = ", ".join(f"{d.target} on {PurePath(d.source).name}" for d in writable(facts.info.disks))
    return Partial(
        f"VM {vm}: the revert to {name!r} {how}; the VM is {facts.info.state}, with {on}, and "
        f"libvirt's mark is on {facts.info.current or 'none'!r}; {_way_back(intent)}",
        reason="half-made",
        item=intent["safety"] or name,
        ways=("define-overlay", "audit") if by_hand else ("audit",),
    )


def _way_back(intent: Mapping[str, Any]) -> str:
    if intent["safety"]:
        return f"snapshot {intent['safety']!r} holds what the VM was before"
    return "no safety snapshot was taken"
