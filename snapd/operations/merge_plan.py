"""What a merge is to do to a domain's files, and whether it has come to that. Pure.

libvirt merges the overlay that stands on a snapshot's own files into them; the leaf of a branch
that the domain isn't on has none, and libvirt removes the files that the branch alone stood on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import Inconsistent, Unsupported
from ..hypervisor import DomainFacts
from ..model import SnapshotInfo
from .preflight.merge import BEGUN_BY_REVERT


@dataclass(frozen=True, slots=True)
class DiskMerge:
    """One disk: goes: the file that is merged away, into: the one that takes it in, "" = none does,
    and that one's format; left: the files that the disk stands on afterwards, its own first."""

    target: str
    goes: str
    into: str
    left: tuple[str, ...]
    format: str = ""


@dataclass(frozen=True, slots=True)
class MergePlan:
    """All that one merge does. memory_file: goes as well, "" = there is none."""

    disks: tuple[DiskMerge, ...]
    memory_file: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(d.target for d in self.disks)

    @property
    def going(self) -> tuple[str, ...]:
        """All files that are to be gone."""
        return (*(d.goes for d in self.disks), *([self.memory_file] if self.memory_file else []))

    @property
    def merges(self) -> bool:
        """Whether data is moved, and not only files removed."""
        return any(d.into for d in self.disks)

    def intent(self) -> dict[str, Any]:
        """As it is written down."""
        disks = {d.target: asdict(d) for d in self.disks}
        return {"disks": disks, "memory_file": self.memory_file}


def read_plan(intent: Mapping[str, Any]) -> MergePlan:
    """The plan that was written down."""
    disks = (DiskMerge(**{**d, "left": tuple(d["left"])}) for d in intent["disks"].values())
    return MergePlan(tuple(disks), intent["memory_file"])


def plan_merge(facts: DomainFacts, snapshot: SnapshotInfo) -> MergePlan:
    """What libvirt's delete of the snapshot is to do. The file that takes an overlay in is the one
    that libvirt's record of the snapshot names and that lies right below by the image headers: the
    same however often it is tried. Raises Inconsistent, where it can't be told which that is."""
    bases = dict(snapshot.bases)
    disks = [_disk(facts, snapshot, target, bases.get(target, "")) for target in sorted(bases)]
    if not disks:
        raise Unsupported(
            f"cannot delete snapshot {snapshot.name} of VM {facts.info.name}: it holds no disk",
            reason="no-disk",
            item=snapshot.name,
            ways=("virsh",),
        )
    return MergePlan(tuple(disks), snapshot.memory_file)


def _disk(facts: DomainFacts, snapshot: SnapshotInfo, target: str, base: str) -> DiskMerge:
    chain = standing(facts, target)
    what = f"cannot delete snapshot {snapshot.name} of VM {facts.info.name}: disk {target}"
    if base not in chain:
        if snapshot.current or any(s.parent == snapshot.name for s in facts.snapshots):
            raise _lost(f"{what} does not stand on {Path(base).name}", snapshot, target)
        return DiskMerge(target, base, "", chain)
    place = chain.index(base)
    over = chain[place - 1] if place else ""
    if not over or over not in _overlays(facts, snapshot, target):
        name = Path(over).name if over else "no overlay"
        raise _lost(f"{what} has {name} on {Path(base).name}, which is not of it", snapshot, target)
    forms = dict(facts.chains.layers.get(target, ()))
    left = (*chain[: place - 1], *chain[place:])
    return DiskMerge(target, over, base, left, forms.get(base, ""))


def _overlays(facts: DomainFacts, snapshot: SnapshotInfo, target: str) -> set[str]:
    """The files that libvirt's records let stand on the snapshot's own: what it began, or a revert
    to it, or what one that was made on it was made of."""
    children = [s for s in facts.snapshots if s.parent == snapshot.name]
    named = (*snapshot.overlays, *snapshot.reverted, *(b for c in children for b in c.bases))
    found = {file for t, file in named if t == target}
    # what a revert began is in no record any more once what was made on it is deleted (11.3)
    top = standing(facts, target)[0]
    begun = snapshot.current and not children and BEGUN_BY_REVERT.search(top)
    return found | ({top} if begun else set())


def _lost(why: str, snapshot: SnapshotInfo, target: str) -> Inconsistent:
    return Inconsistent(
        why, reason="not-in-chain", disk=target, item=snapshot.name, ways=("audit",)
    )


def standing(facts: DomainFacts, target: str) -> tuple[str, ...]:
    """The files that a disk stands on, its own first, by the image headers."""
    if layers := facts.chains.layers.get(target):
        return tuple(path for path, _format in layers)
    source = next((d.source for d in facts.info.disks if d.target == target), "")
    image = facts.images.get(target)
    below = (image.backing,) if image and image.backing else ()
    return (source, *below) if source else ()


def amiss(facts: DomainFacts, disk: DiskMerge) -> Iterator[str]:
    """Where libvirt's XML and the image headers don't say what a disk was to stand on."""
    chains, target = facts.chains, disk.target
    next_start = tuple(d.source for d in facts.inactive if d.target == target)
    views = (
        ("its images stand on", standing(facts, target), False),
        (
            "libvirt has it on",
            chains.live.get(target, ()) or _source(facts, target),
            target in chains.live_ends,
        ),
        (
            "its next start would be on",
            chains.stored.get(target, ()) or next_start,
            target in chains.stored_ends,
        ),
    )
    for said, files, ends in views:
        short = ends and len(files) < len(disk.left)
        if files and (short or files != disk.left[: len(files)]):
            names = ", ".join(Path(f).name for f in files)
            yield f"disk {target}: {said} {names}{' alone' * short}"


def _source(facts: DomainFacts, target: str) -> tuple[str, ...]:
    return tuple(d.source for d in facts.info.disks if d.target == target)


def merged(facts: DomainFacts, disk: DiskMerge) -> bool:
    """Whether the disk stands on what it was to stand on. (A branch's leaf changes nothing.)"""
    chain = standing(facts, disk.target)
    return disk.into in chain and chain == disk.left[: len(chain)]


def half_merged(facts: DomainFacts, snapshot: SnapshotInfo) -> MergePlan | None:
    """What is left of a merge that broke off when some disks had been through it and libvirt still
    listed the snapshot: libvirt can't go on with that itself. None = it isn't one."""
    child = any(s.parent == snapshot.name for s in facts.snapshots)
    if child or not snapshot.current or not facts.chains.capable:
        return None
    disks, some = [], False
    for target, base in sorted(snapshot.bases):
        over, chain = snapshot.active.get(target, ""), standing(facts, target)
        done = chain[:1] == (base,) and over in facts.missing
        if not over or not (done or chain[:2] == (over, base)):
            return None
        some = some or done
        forms = dict(facts.chains.layers.get(target, ()))
        left = chain if done else chain[1:]
        disks.append(DiskMerge(target, over, base, left, forms.get(base, "")))
    return MergePlan(tuple(disks), snapshot.memory_file) if some else None
