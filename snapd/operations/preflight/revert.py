"""Everything against a revert. libvirt ends QEMU first and finds what is missing afterwards, so
all of it is looked for before (LIBVIRT.md 10, rule 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import Inconsistent, PreflightFailed, Unsupported
from ...hypervisor import DomainFacts
from ...model import NVRAM, Kind, SnapshotInfo
from .blocker import Blocker
from .disks import backing_blockers, held, unread, untold, writable
from .domain import holder_blockers, tree_blockers
from .external_revert import revert_external_blockers
from .terms import RevertTerms, force_blockers, need_blockers, user_blockers

LOADED_BY_JOB = (10, 10, 0)  # libvirt that has QEMU load RAM by a job


def revert_blockers(
    facts: DomainFacts, snapshot: SnapshotInfo, terms: RevertTerms | None = None
) -> list[Blocker]:
    """Everything against reverting to it now; facts are about this snapshot."""
    terms = terms or RevertTerms()
    found = [*holder_blockers(facts)]
    if snapshot.kind is Kind.EXTERNAL:
        return [*found, *revert_external_blockers(facts, snapshot, terms)]
    found += tree_blockers(facts.info, facts.snapshots)
    found += force_blockers(facts, snapshot, terms)
    found += _name_blockers(facts, snapshot)
    found += bitmap_blockers(facts)
    found += _encryption_blockers(facts, snapshot)
    found += tag_blockers(facts, snapshot, partly=False)
    found += backing_blockers(facts)
    found += _saved_blockers(facts)
    found += need_blockers(facts, snapshot, terms)
    return [*found, *user_blockers(facts, terms)]


def _name_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """From 10.10 on libvirt loads RAM by a job of QEMU's that is called after the snapshot, and
    finds that the name won't do when it has ended the VM (11.3, measured)."""
    strange = not re.fullmatch(r"[A-Za-z0-9._-]+", snapshot.name)
    if strange and snapshot.memory and facts.version >= LOADED_BY_JOB:
        why = (
            f"it has RAM, which this libvirt cannot load under the name {snapshot.name!r}: only "
            "A-Z, a-z, 0-9 and . _ - will do"
        )
        yield Blocker(Unsupported, "name-unloadable", snapshot.name, why)


def bitmap_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """QEMU refuses to load a snapshot under a bitmap, after libvirt has ended the VM."""
    if facts.checkpoints:
        first = facts.checkpoints[0]
        why = f"an incremental backup chain is in the way (checkpoint {first})"
        yield Blocker(Unsupported, "checkpoints", first, why, ("delete-checkpoints",))
        return
    for target, image in facts.images.items():
        if bitmaps := (*image.bitmaps, *facts.live_bitmaps.get(target, ())):
            why = f"disk {target} holds a backup bitmap ({bitmaps[0]})"
            yield Blocker(Unsupported, "checkpoints", target, why, ("remove-bitmap",))


def _encryption_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """Without RAM libvirt reverts by qemu-img, which it gives no key: some disks go back, and the
    encrypted ones don't (LIBVIRT.md 10)."""
    for disk in writable(facts.info.disks) if not snapshot.memory else ():
        image = facts.images.get(disk.target)
        if disk.encrypted or (image and image.encrypted):
            why = f"disk {disk.target} is encrypted, and would not go back with the others"
            yield Blocker(Unsupported, "encrypted-disk", disk.target, why)


def tag_blockers(facts: DomainFacts, snapshot: SnapshotInfo, *, partly: bool) -> Iterator[Blocker]:
    """The tag must be in every image exactly once, and must not be an image snapshot's number.

    partly: it may be missing in some (a delete that was broken off is to be finished).
    """
    disks = {d.target: d for d in (*facts.info.disks, *held(facts.info))}
    targets = list(snapshot.disks or [d.target for d in writable(facts.info.disks)])
    if facts.info.nvram and not snapshot.memory:  # with RAM libvirt reverts without it
        targets.append(NVRAM)
    for target in targets:
        image = facts.images.get(target)
        if image is None:
            disk = disks.get(target)
            if disk and disk.writable and (blocker := unread(facts, disk)):
                yield blocker
            continue
        count = image.count(snapshot.name)
        if count > 1:
            why = f"disk {target} holds {count} snapshots named {snapshot.name!r}"
            yield Blocker(Inconsistent, "half-made", target, why, ("audit",))
        elif count == 0 and not partly:
            why = f"disk {target} does not hold snapshot {snapshot.name!r} any more"
            yield Blocker(Inconsistent, "half-made", target, why, ("audit", "delete"))
        if any(number == snapshot.name and tag != number for number, tag in image.tags):
            why = f"in disk {target}, {snapshot.name!r} is the number of another snapshot"
            yield Blocker(Inconsistent, "half-made", target, why, ("start", "audit"))


def _saved_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """The disks of the saved configuration have to be there, and the writable ones the present
    ones: a snapshot holds no other."""
    present = {d.target: d.source for d in writable(facts.info.disks)}
    if not facts.saved and present and facts.has_images:
        why = "libvirt's record of it holds no configuration to go back to"
        yield Blocker(Inconsistent, "half-made", "", why, ("audit",))
        return
    for disk in facts.saved:
        name = Path(disk.source).name
        if disk.source in facts.missing:
            why = f"file {name} of disk {disk.target} is missing"
            yield Blocker(PreflightFailed, "missing-file", name, why, ("restore-file",))
        elif disk.source in facts.unknown:
            unseen = facts.whys.get(disk.source)
            yield untold(f"file {name} of disk {disk.target}", disk.target, unseen)
        elif disk.writable and disk.target not in present:
            why = f"disk {disk.target} has left the VM since ({name})"
            yield Blocker(Unsupported, "pending-config", disk.target, why, ("attach-disk",))
        elif disk.writable and present[disk.target] != disk.source:
            why = f"disk {disk.target} was on another file then ({name})"
            yield Blocker(Inconsistent, "other-file", disk.target, why)
    then = {d.target for d in facts.saved if d.writable}
    for target in sorted(present.keys() - then) if facts.saved else ():
        why = f"disk {target} was not there then, and would leave the VM"
        yield Blocker(Unsupported, "pending-config", target, why, ("detach-disk",))
