"""Everything against a revert to an external snapshot.

libvirt ends QEMU, begins new files on those that the snapshot's disks were on, and unlinks the
ones that the current snapshot's record names: in use or not, needed by others or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...errors import Inconsistent, PreflightFailed, Protected, Unsupported
from ...hypervisor import DomainFacts
from ...model import SnapshotInfo, State
from .blocker import Blocker
from .disks import untold, writable
from .external import checkpoint_blockers, commit_denied, external_blockers, reverts_no_disks
from .external_tree import (
    bypassed,
    chain_faults,
    children,
    inactive_nodes,
    paths,
    tree_faults,
    unread_chains,
)
from .merge import backing, shape_blockers
from .overlaid import overlaid_blockers
from .space import DISK_BYTES, room_blockers
from .terms import RevertTerms, force_blockers, need_blockers, user_blockers

FOLDERS = ("/var/lib/libvirt/images/", "/home/", "/mnt/", "/media/", "/opt/", "/srv/")
"""Where AppArmor's helper lets a VM have a file of any name; elsewhere libvirt's new ones, which
end in a number, keep it from starting again (LIBVIRT.md 9)."""


def revert_external_blockers(
    facts: DomainFacts, snapshot: SnapshotInfo, terms: RevertTerms
) -> list[Blocker]:
    """Everything against reverting to it now; facts are about this snapshot, whose holder has been
    looked at."""
    if not facts.chains.capable:
        return [*external_blockers(facts.info, facts.snapshots, snapshot, "revert to")]
    found = [*tree_faults(facts, by_record=True), *_state_blockers(facts, snapshot)]
    found += force_blockers(facts, snapshot, terms)
    found += unread_chains(facts, writable(facts.info.disks))
    found += chain_faults(facts, writable(facts.info.disks))
    found += _unlinked_blockers(facts)
    found += _base_blockers(facts, snapshot)
    found += _overwritten_blockers(facts, snapshot)
    found += _saved_blockers(facts, snapshot)
    found += _memory_blockers(facts, snapshot)
    found += checkpoint_blockers(facts)
    needs = {d.target: DISK_BYTES for d in writable(facts.info.disks)}
    found += room_blockers(facts, needs)
    found += need_blockers(facts, snapshot, terms)
    files = {*_going(facts).values(), *(d.source for d in facts.info.disks), ""}
    users = [use for use in facts.users if use.file in files]
    return [*found, *user_blockers(replace(facts, users=users), terms)]


def delete_after_blockers(
    facts: DomainFacts, snapshot: SnapshotInfo, wanted: State, *, safety: bool
) -> Iterator[Blocker]:
    """What will keep it from being deleted once the VM is back at it. wanted: the VM's state then;
    safety: a snapshot is made first, upon the current one."""
    what = f"delete_after could not delete snapshot {snapshot.name} then"
    if below := children(facts.snapshots, snapshot.name):
        why, ways = f"{what}: {below[0].name} stands on it", ("delete-children",)
        yield Blocker(Unsupported, "active-non-leaf", below[0].name, why, ways)
    elif safety and facts.info.current == snapshot.name:
        why, ways = f"{what}: the safety snapshot would stand on it", ("no-safety-snapshot",)
        yield Blocker(Unsupported, "active-non-leaf", snapshot.name, why, ways)
    tree = tuple(replace(s, current=s.name == snapshot.name) for s in facts.snapshots)
    then = replace(facts, info=replace(facts.info, state=wanted), snapshots=tree)
    back = replace(snapshot, current=True)
    for blocker in (*shape_blockers(tree, back), *inactive_nodes(then, "merge an overlay")):
        if blocker.reason != "active-non-leaf":
            yield replace(blocker, message=f"{what}: {blocker.message}")


def _state_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    if snapshot.state is State.SUSPENDED:
        why = "the VM was suspended by its guest then, and libvirt does not revert to that"
        yield Blocker(Unsupported, "external-unsupported", snapshot.name, why)
    if snapshot.state.active and not snapshot.memory and reverts_no_disks(facts):
        why = "this libvirt may refuse to revert to one of a running VM without its RAM"
        yield Blocker(Unsupported, "external-unsupported", snapshot.name, why)


def _unlinked_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """What libvirt unlinks has to be the files that the VM is on, and nobody else's base. (After
    the mark was moved away and back, its record names another file: LIBVIRT.md 9.8.)"""
    going = _going(facts)
    on = {d.target: d.source for d in facts.info.disks}
    for target, file in going.items():
        name = Path(file).name
        used = {p for t in facts.chains.layers for p in paths(facts, t)} - {on.get(target, "")}
        if file in used and file != on.get(target):
            why = f"a disk stands on {name}, which libvirt would remove"
            yield Blocker(Protected, "not-in-chain", target, why, ("audit",))
        if target not in on and file not in facts.missing:
            why = f"disk {target} has left the VM since, and {name}, which it was on, would go"
            yield Blocker(Unsupported, "pending-config", target, why, ("attach-disk",))
        for other in facts.snapshots:
            below = {p for _t, base in other.bases for p in (base, *backing(facts, base))}
            if file in below or file == other.memory_file:
                why = f"snapshot {other.name} stands on {name}, which libvirt would remove"
                yield Blocker(Protected, "shared-base", other.name, why, ("audit",))
                break
    for target in going:
        image = facts.images.get(target)
        if image and image.tags:
            tag = image.tags[0][1]
            why = f"the file of disk {target}, which goes, holds an internal snapshot {tag!r}"
            yield Blocker(Protected, "mixed-tree", target, why, ("audit",))


def _going(facts: DomainFacts) -> dict[str, str]:
    """target -> the file that libvirt would unlink."""
    current = next((s for s in facts.snapshots if s.current), None)
    return dict((current.reverted or current.overlays) if current else ())


def _base_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """All that the new files are to stand on has to be there."""
    for target, base in snapshot.bases:
        for file in _standing(facts, base):
            name = Path(file).name
            if file in facts.missing:
                why = f"file {name}, which disk {target} was on or stood on, is missing"
                yield Blocker(PreflightFailed, "missing-file", name, why, ("restore-file",))
            elif file in facts.unknown:
                what = f"file {name}, which disk {target} was on or stood on,"
                yield untold(what, target, facts.whys.get(file))
    if not snapshot.bases and facts.has_images:
        why = "libvirt's record of it holds no configuration to go back to"
        yield Blocker(Inconsistent, "half-made", "", why, ("audit",))


def _overwritten_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """Where another tool committed an overlay, what is below it has the younger data. (One that it
    pulled up looks the same by the headers, unless nothing is below.) What stands on the very file
    that was committed sees what it saw."""
    for past in bypassed(facts):
        base = dict(snapshot.bases).get(past.target, "")
        standing = _standing(facts, base) if base else []
        if past.on in standing and past.said not in standing:
            why = (
                f"{Path(past.overlay).name} stands on {Path(past.on).name} instead of "
                f"{Path(past.said).name}: another tool may have overwritten what disk "
                f"{past.target} held"
            )
            yield Blocker(Inconsistent, "not-in-chain", past.target, why, ("audit",))


def _standing(facts: DomainFacts, base: str) -> list[str]:
    """A file and all below it, by the headers of this branch or of the chain that disks are on."""
    for target in facts.chains.layers:
        found = list(paths(facts, target))
        if base in found:
            return found[found.index(base) :]
    return [base, *backing(facts, base)]


def _saved_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """The disks of the configuration that it goes back to."""
    yield from overlaid_blockers(facts.saved, dict(snapshot.bases))
    present = {d.target for d in writable(facts.info.disks)}
    then = {d.target for d in facts.saved if d.writable}
    for target in sorted(then - present):
        why = f"disk {target} has left the VM since"
        yield Blocker(Unsupported, "pending-config", target, why, ("attach-disk",))
    for target in sorted(present - then) if facts.saved else ():
        why = f"disk {target} was not there then, and would leave the VM"
        yield Blocker(Unsupported, "pending-config", target, why, ("detach-disk",))
    for disk in (d for d in facts.saved if d.writable):
        if disk.kind != "file":
            why = f"disk {disk.target} is of type {disk.kind}, on which libvirt begins no new file"
            yield Blocker(Unsupported, "block-device", disk.target, why)
        image = facts.chains.images.get(disk.source) or facts.images.get(disk.target)
        if disk.encrypted or (image and image.encrypted):
            why = f"disk {disk.target} is encrypted, and the new file of libvirt's would not be"
            yield Blocker(Unsupported, "would-be-plaintext", disk.target, why)
        if commit_denied(facts) and not disk.source.startswith(FOLDERS):
            why = f"AppArmor would keep the VM from the new file beside {Path(disk.source).name}"
            yield Blocker(Unsupported, "apparmor-commit", disk.target, why, ("move-images",))


def _memory_blockers(facts: DomainFacts, snapshot: SnapshotInfo) -> Iterator[Blocker]:
    """libvirt overwrites such a file without a word: it has to be of this snapshot alone
    (LIBVIRT.md 0.8, 8.2)."""
    file = snapshot.memory_file
    if not file:
        return
    name = Path(file).name
    others = {s.name: s.files for s in facts.snapshots if s.name != snapshot.name}
    other = next((who for who, files in others.items() if file in files), "")
    if file in facts.missing:
        why = f"file {name}, which its RAM is in, is missing"
        yield Blocker(PreflightFailed, "missing-file", name, why, ("restore-file",))
    elif file in facts.unknown:
        yield untold(f"file {name}, which its RAM is in,", name, facts.whys.get(file))
    if other or file in {f for _t, f in (*snapshot.overlays, *snapshot.bases, *snapshot.reverted)}:
        why = f"its RAM is said to be in {name}, which {other or 'one of its disks'} is in as well"
        yield Blocker(Inconsistent, "other-file", name, why, ("audit",))
