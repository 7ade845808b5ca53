"""Everything against merging an external snapshot away.

libvirt's delete writes the overlay that stands on the snapshot's own files into them and unlinks
it; of the last one of a branch that the VM is not on, it unlinks those files themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import Inconsistent, Protected, Unsupported
from ...hypervisor import DomainFacts
from ...model import Disk, SnapshotInfo
from .blocker import Blocker
from .disks import monitor_blockers, writable
from .domain import holder_blockers
from .external import checkpoint_blockers, commit_denied, external_blockers
from .external_tree import (
    bypassed,
    chain_faults,
    children,
    inactive_nodes,
    line,
    paths,
    tree_faults,
    unread_chains,
)
from .space import DELETE_BYTES, room_blockers
from .terms import use_blockers

BEGUN_BY_REVERT = re.compile(r"\.\d{9,}$")
"""How libvirt calls the files that a revert begins: after the time in seconds."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What libvirt's delete does to files: into: target -> the file that takes an overlay in, ()
    where nothing is merged; gone: target -> the file that it unlinks."""

    into: Mapping[str, str] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)


def is_aside(facts: DomainFacts, snapshot: SnapshotInfo) -> bool:
    """Whether it is the last one of a branch that the VM isn't on, so that libvirt merges nothing.
    (It is so, too, where the VM's mark was moved.)"""
    return not snapshot.current and not children(facts.snapshots, snapshot.name)


def taken(facts: DomainFacts, snapshot: SnapshotInfo) -> Taken:
    """What would be written and unlinked, as far as the headers tell."""
    bases = {t: file for t, file in snapshot.bases if t in dict(snapshot.overlays)}
    if is_aside(facts, snapshot):
        return Taken({}, bases)
    gone = {}
    for target, base in bases.items():
        found = paths(facts, target)
        if base in found[1:]:
            gone[target] = found[found.index(base) - 1]
    return Taken({t: bases[t] for t in gone}, gone)


def merge_blockers(
    facts: DomainFacts, snapshot: SnapshotInfo, *, by_policy: bool = False
) -> list[Blocker]:
    """Everything against libvirt's delete of it now; facts are about this snapshot. by_policy:
    nobody is there to undo what fails half way."""
    found = [*holder_blockers(facts)]
    if not facts.chains.capable:
        return [*found, *external_blockers(facts.info, facts.snapshots, snapshot, "merge")]
    found += _state_blockers(facts)
    found += tree_faults(facts)
    shape = [*shape_blockers(facts.snapshots, snapshot), *_record_blockers(facts, snapshot)]
    found += shape
    if shape:
        return found
    if is_aside(facts, snapshot):
        found += _aside_blockers(facts, snapshot)
    else:
        found += _merge_blockers(facts, snapshot, by_policy=by_policy)
    found += _memory_file_blockers(facts, snapshot)
    found += _tag_blockers(facts, snapshot)
    return [*found, *_user_blockers(facts, snapshot)]


def rest_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> list[Blocker]:
    """Everything against finishing a merge that broke off between its disks, as far as what was to
    be judged before may be other by now."""
    found = [*holder_blockers(facts), *_memory_file_blockers(facts, snapshot)]
    return [*found, *_tag_blockers(facts, snapshot), *_user_blockers(facts, snapshot)]


def _state_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    if not facts.info.persistent:
        yield Blocker(Unsupported, "transient", "", "the VM is transient", ("define",))
    if facts.info.managed_save:
        why = "the VM has a managed save, which would look for files that are merged away"
        yield Blocker(Unsupported, "managed-save", "", why, ("start", "discard-saved-state"))
    if facts.info.io_error:
        why = "it is paused since a disk could not be written: its file system may be full"
        yield Blocker(Unsupported, "io-error", "", why, ("make-room", "resume"))
    yield from checkpoint_blockers(facts)


def shape_blockers(
    snapshots: tuple[SnapshotInfo, ...], snapshot: SnapshotInfo
) -> Iterator[Blocker]:
    """What libvirt refuses by the shape of the tree, and the one it shouldn't take (11.3)."""
    yield from _trap_blockers(snapshots, snapshot)
    below = children(snapshots, snapshot.name)
    if len(below) > 1:
        why = f"{below[0].name} and {below[1].name} both branch off it"
        yield Blocker(Unsupported, "branching", below[0].name, why, ("delete-branch",))
    elif below and snapshot.current:
        why = f"the VM runs on it, and {below[0].name} stands on its other branch"
        yield Blocker(Unsupported, "active-non-leaf", below[0].name, why, ("delete-branch",))
    elif below and snapshot.name not in {s.name for s in line(snapshots)}:
        why = f"it is on a branch that the VM is not on, and {below[0].name} stands on it"
        yield Blocker(Unsupported, "not-in-chain", below[0].name, why, ("delete-children",))
    elif below and (other := _crashing(snapshots, snapshot)):
        why = f"libvirt would crash on its record of {other.name}, which is on another branch"
        yield Blocker(Unsupported, "branching", other.name, why, ("delete-branch",))


def _crashing(snapshots: tuple[SnapshotInfo, ...], snapshot: SnapshotInfo) -> SnapshotInfo | None:
    """One that stands on it, off the branch that the VM is on, and whose record is bare: libvirtd
    dies as it looks there for what to rebase (11.3, measured). A merge leaves such a record of the
    next younger one."""
    mine, seen = [snapshot.name], set[str]()
    on = {s.name for s in line(snapshots)}
    while mine:
        name = mine.pop()
        if name in seen:
            continue
        seen.add(name)
        for child in children(snapshots, name):
            if child.bare and child.name not in on:
                return child
            mine.append(child.name)
    return None


def _trap_blockers(
    snapshots: tuple[SnapshotInfo, ...], snapshot: SnapshotInfo
) -> Iterator[Blocker]:
    """Deleted, it would leave the VM on a file that libvirt's record of its parent doesn't name:
    the next revert would unlink the named one, which another branch stands on (11.3, measured)."""
    parent = next((s for s in snapshots if s.name == snapshot.parent), None)
    others = [s for s in children(snapshots, snapshot.parent) if s.name != snapshot.name]
    named = dict(parent.overlays) if parent else {}
    needed = {base for s in snapshots if s.name != snapshot.name for _target, base in s.bases}
    astray = any(named.get(t, base) in needed - {base} for t, base in snapshot.bases)
    if snapshot.current and parent and others and astray:
        why = (
            f"{others[0].name} branches off {parent.name} as well, and libvirt would lose track of "
            "which branch the VM is on"
        )
        yield Blocker(Unsupported, "branching", others[0].name, why, ("delete-branch",))


def _record_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """libvirt's record has to say what each overlay was put on."""
    missing = sorted(dict(snapshot.overlays).keys() - dict(snapshot.bases).keys())
    if missing or not snapshot.overlays:
        why = f"libvirt's record of it doesn't say what disk {(*missing, '?')[0]} was on"
        yield Blocker(Inconsistent, "half-made", (*missing, "")[0], why, ("audit",))
    present = {d.target for d in facts.info.disks}
    left = sorted(dict(snapshot.overlays).keys() - present)
    if left and not is_aside(facts, snapshot):
        why = f"disk {left[0]} has left the VM since"
        yield Blocker(Unsupported, "pending-config", left[0], why, ("attach-disk",))


def _merge_blockers(
    facts: DomainFacts, snapshot: SnapshotInfo, *, by_policy: bool
) -> Iterator[Blocker]:
    held = _disks(facts, snapshot)
    yield from inactive_nodes(facts, "merge an overlay")
    yield from monitor_blockers(facts) if facts.info.state.active else ()
    yield from unread_chains(facts, held)
    yield from chain_faults(facts, held)
    for disk in held:
        if blocker := _not_above(facts, snapshot, disk):
            yield blocker
    yield from _others_backed(facts, snapshot)
    yield from _bypassed_blockers(facts, snapshot)
    if commit_denied(facts) and (by_policy or not facts.info.state.active):
        why = "AppArmor keeps QEMU from writing to what a VM was started on"
        yield Blocker(Unsupported, "apparmor-commit", "", why, ("upgrade-libvirt",))
    yield from room_blockers(facts, merge_needs(facts, snapshot))


def _disks(facts: DomainFacts, snapshot: SnapshotInfo) -> tuple[Disk, ...]:
    held = dict(snapshot.overlays)
    return tuple(d for d in facts.info.disks if d.target in held)


def _not_above(facts: DomainFacts, snapshot: SnapshotInfo, disk: Disk) -> Blocker | None:
    """By the headers, what stands right on the snapshot's file has to be what the record of the
    next younger one says: else libvirt merges another file than we think."""
    found = paths(facts, disk.target)
    base = dict(snapshot.bases)[disk.target]
    if not found:
        return None
    younger = line(facts.snapshots)
    younger = younger[: younger.index(snapshot)] if snapshot in younger else []
    next_bases = [dict(s.bases)[disk.target] for s in younger if disk.target in dict(s.bases)]
    above = next_bases[-1] if next_bases else disk.source
    place = found.index(base) if base in found else 0
    if place and found[place - 1] == above:
        return None
    why = (
        f"disk {disk.target} does not stand on {Path(above).name} and that on {Path(base).name}, "
        "as libvirt's records of its snapshots have it"
    )
    return Blocker(Inconsistent, "not-in-chain", disk.target, why, ("audit",))


def _bypassed_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """What another tool has passed by, libvirt doesn't have stand on what takes an overlay in."""
    change = taken(facts, snapshot)
    files = {*change.into.values(), *change.gone.values()}
    for past in bypassed(facts):
        if {past.on, past.said} & files or set(backing(facts, past.said)) & files:
            why = (
                f"{Path(past.overlay).name} stands on {Path(past.on).name or 'nothing'}, and on "
                f"{Path(past.said).name} by libvirt's record: another tool has changed the chain"
            )
            yield Blocker(Inconsistent, "not-in-chain", past.target, why, ("audit",))


def _others_backed(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """Other snapshots of the VM that are backed by a file that takes the overlay in."""
    change = taken(facts, snapshot)
    for other in facts.snapshots:
        for target, base in other.bases if other.name != snapshot.name else ():
            below = [base, *backing(facts, base)]
            into, gone = change.into.get(target), change.gone.get(target)
            if into in below and gone not in below:
                why = f"snapshot {other.name} stands on {Path(into or '').name}, too"
                yield Blocker(Protected, "shared-base", other.name, why)
                return


def backing(facts: DomainFacts, path: str) -> list[str]:
    """All files below one, by the headers that were read."""
    found: dict[str, None] = {}
    while (image := facts.chains.images.get(path)) and image.backing and image.backing not in found:
        path = image.backing
        found[path] = None
    return list(found)


def _aside_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """libvirt unlinks the files that it was made of: they must be of this branch alone."""
    yield from unread_chains(facts, writable(facts.info.disks))
    for target, file in taken(facts, snapshot).gone.items():
        name, item = Path(file).name, target
        used = {p for t in facts.chains.layers for p in paths(facts, t)}
        used |= {d.source for d in (*facts.info.disks, *facts.inactive)}
        if file in used:
            why = f"disk {target} stands on {name}, which libvirt would remove"
            yield Blocker(Protected, "not-in-chain", item, why, ("audit",))
        elif other := _on(facts, snapshot, file):
            why = f"snapshot {other} stands on {name}, which libvirt would remove"
            yield Blocker(Protected, "shared-base", other, why, ("audit",))
        elif not _is_of_branch(facts, snapshot, target, file):
            why = f"{name}, which libvirt would remove, is not known to be made for a snapshot"
            yield Blocker(Protected, "not-in-chain", item, why, ("audit",))


def _on(facts: DomainFacts, snapshot: SnapshotInfo, file: str) -> str:
    """Another snapshot that stands on the file."""
    for other in facts.snapshots:
        below = {p for _t, base in other.bases for p in (base, *backing(facts, base))}
        if other.name != snapshot.name and file in below:
            return other.name
    return ""


def _is_of_branch(facts: DomainFacts, snapshot: SnapshotInfo, target: str, file: str) -> bool:
    """Whether it was begun for a snapshot that this one descends from, or by a revert to it."""
    by_name = {s.name: s for s in facts.snapshots}
    above, passed = by_name.get(snapshot.parent), {snapshot.name}
    while above and above.name not in passed and target not in dict(above.overlays):
        passed.add(above.name)
        above = by_name.get(above.parent)
    if above is None or target not in dict(above.overlays):
        return False
    if image := facts.chains.images.get(file):
        return image.backing == dict(above.bases).get(target)
    return file == dict(above.overlays)[target] or bool(BEGUN_BY_REVERT.search(file))


def merge_needs(facts: DomainFacts, snapshot: SnapshotInfo) -> dict[str, int]:
    """target -> bytes that the merge may write at most: what is in the overlay, but no more than
    what is not allocated below yet."""
    change, needs = taken(facts, snapshot), {}
    for target, gone in change.gone.items():
        over = facts.chains.images.get(gone)
        if over is None and gone in {d.source for d in facts.info.disks}:
            over = facts.images.get(target)
        into = facts.chains.images.get(change.into.get(target, ""))
        need = over.actual_size if over else 0
        if into and into.virtual_size:
            need = min(need, max(0, into.virtual_size - into.actual_size))
        needs[target] = need + DELETE_BYTES
    return needs


def _memory_file_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """libvirt unlinks it by name: it may be an overlay by now, or another one's RAM (LIBVIRT.md 8,
    0.8)."""
    file = snapshot.memory_file
    files = {p for t in facts.chains.layers for p in paths(facts, t)}
    files |= {d.source for d in (*facts.info.disks, *facts.inactive)}
    files |= {f for s in facts.snapshots for _t, f in (*s.overlays, *s.bases, *s.reverted)}
    other = next(
        (s.name for s in facts.snapshots if s.memory_file == file and s.name != snapshot.name), ""
    )
    if file and (file in files or other):
        what = f"snapshot {other} names it, too" if other else "a disk of the VM is on it"
        why = f"its RAM is said to be in {Path(file).name}, which libvirt would remove: {what}"
        yield Blocker(Protected, "other-file", other, why, ("audit",))


def _tag_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """Internal snapshots in a file that goes, which libvirt does not look for (FIELD_REPORTS 4)."""
    for target, gone in taken(facts, snapshot).gone.items():
        image = facts.chains.images.get(gone)
        if image is None and gone in {d.source for d in facts.info.disks}:
            image = facts.images.get(target)
        if image and image.tags:
            tag = image.tags[0][1]
            why = f"{Path(gone).name}, which goes, holds an internal snapshot {tag!r}"
            yield Blocker(Protected, "mixed-tree", target, why, ("audit",))


def _user_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """Others who read what the merge writes or removes."""
    change = taken(facts, snapshot)
    files = {*change.into.values(), *change.gone.values(), ""}
    yield from use_blockers((u for u in facts.users if u.file in files), ("try-again",))
