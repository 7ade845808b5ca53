"""External snapshots: what tells against making one, and what lists say of those that are there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ...errors import AlreadyExists, Unsupported
from ...hypervisor import ChainFacts, DomainFacts
from ...model import NO_FLOOR, Disk, DomainInfo, Floor, Kind, SnapshotInfo
from .blocker import Blocker
from .create import agent_blockers
from .disks import monitor_blockers, unreadable, writable
from .domain import condition_blockers, holder_blockers, redefined
from .external_tree import (
    chain_faults,
    children,
    inactive_nodes,
    internal_inside,
    left_chain,
    tree_faults,
)
from .overlaid import overlaid_blockers
from .space import create_needs, space_blockers, unmeasured_blockers

LAYERS = 60
"""So deep may the chain of a disk be: libvirt takes 200, we follow others' chains for 64."""
POLICY_LAYERS = 50
SHALLOW = ((12, 0, 0), (12, 1, 0), 25)
"""libvirt from the first version up to the second doesn't start a VM on more (LIBVIRT.md 4)."""
DENIES_COMMIT = (12, 1, 0)
"""Before it, AppArmor keeps QEMU from merging once a VM was started on a chain (LIBVIRT.md 9)."""
REVERTS_DISKS = (10, 4, 0)


def external_blockers(
    info: DomainInfo, snapshots: Sequence[SnapshotInfo], snapshot: SnapshotInfo, verb: str
) -> Iterator[Blocker]:
    """What XML alone tells against reverting to it, or merging it (verb: these words), with a
    libvirt whose external snapshots we leave alone."""
    yield from redefined(info, snapshots)
    yield from left_chain(info, snapshots)
    below = children(snapshots, snapshot.name)
    if verb == "merge" and len(below) > 1:
        why = f"{' and '.join(s.name for s in below[:2])} both branch off it"
        yield Blocker(Unsupported, "branching", below[0].name, why)
    yield from internal_inside(snapshots)
    why = f"it is an external snapshot, and we {verb} none with a libvirt before 9.9"
    yield Blocker(Unsupported, "external-unsupported", snapshot.name, why, ("virsh",))


def external_create_blockers(
    facts: DomainFacts,
    name: str,
    *,
    memory: bool,
    quiesce: str = "no",
    disks: tuple[str, ...] = (),
    by_policy: bool = False,
    min_free: Floor = NO_FLOOR,
    encrypted: Collection[str] = (),
) -> list[Blocker]:
    """Everything against making an external snapshot now, the gravest first.

    name: "" = one that is free is found. memory: its RAM goes to a file. disks: targets, () = every
    writable one. by_policy: no person looks after it, so that what can't be reverted or merged
    later is refused now. encrypted: targets whose overlay will be, too.
    """
    found = [*holder_blockers(facts)]
    if name and any(s.name == name for s in facts.snapshots):
        why = f"it has a snapshot {name!r} already; take another name"
        found.append(Blocker(AlreadyExists, "name-taken", name, why, ("other-name",)))
    found += unable(facts.chains)
    found += kind_blockers(facts.info, facts.snapshots)
    found += external_disk_blockers(facts.info, disks, memory=memory)
    held = _held(facts.info, disks)
    found += _image_blockers(facts, held, encrypted)
    found += tree_faults(facts)
    found += monitor_blockers(facts) if facts.info.state.active else ()
    found += chain_faults(facts, held)
    found += _depth_blockers(facts, held, by_policy=by_policy)
    found += checkpoint_blockers(facts)
    if memory:
        found += external_memory_blockers(facts.info, by_policy=by_policy)
        found += inactive_nodes(facts, "save it again")
        found += unmeasured_blockers(facts)
    found += later_blockers(facts, disks, memory=memory) if by_policy else ()
    if quiesce == "require":
        found += agent_blockers(facts)
    needs = create_needs(facts, memory=memory)
    kept = {target: need for target, need in needs.items() if target in {d.target for d in held}}
    return [*found, *space_blockers(facts, kept, min_free)]


def cheap_external_blockers(
    info: DomainInfo, snapshots: Sequence[SnapshotInfo], chains: ChainFacts, *, memory: bool
) -> Iterator[Blocker]:
    """What tells against making one, with nothing asked or measured."""
    yield from unable(chains)
    yield from kind_blockers(info, snapshots)
    yield from external_disk_blockers(info, memory=memory)
    yield from external_memory_blockers(info) if memory else ()
    yield from redefined(info, snapshots)


def unable(chains: ChainFacts) -> Iterator[Blocker]:
    """This libvirt doesn't do external snapshots to the end."""
    if not chains.capable:
        why = "this libvirt cannot revert to external snapshots: 9.9 is the first that does"
        yield Blocker(Unsupported, "external-unsupported", "", why, ("internal",))


def kind_blockers(info: DomainInfo, snapshots: Sequence[SnapshotInfo]) -> Iterator[Blocker]:
    """What state and tree tell, from the XML alone."""
    inside = next((s.name for s in snapshots if s.kind is Kind.INTERNAL), "")
    if inside:
        why = f"snapshot {inside} is an internal one, and a tree is of one kind"
        yield Blocker(Unsupported, "mixed-tree", inside, why, ("internal",))
    yield from condition_blockers(info)


def external_disk_blockers(
    info: DomainInfo, disks: Collection[str] = (), *, memory: bool = False
) -> Iterator[Blocker]:
    """What the domain's XML tells of its disks. disks: targets, () = every writable one."""
    every = {d.target for d in writable(info.disks)}
    for target in sorted(set(disks) - every):
        yield Blocker(Unsupported, "no-disk", target, f"it has no writable disk {target}")
    held = _held(info, disks)
    if not held:
        yield Blocker(Unsupported, "no-disk", "", "it has no writable disk to snapshot")
    for disk in held:
        word, why = _disk_fault(disk)
        if word:
            why = f"disk {disk.target} {why}; leave it out, or no overlay can be put on it"
            yield Blocker(Unsupported, word, disk.target, why, ("detach-disk",))
    left_out = sorted(every - {d.target for d in held}) if disks else []
    if left_out and memory:
        why = f"with its RAM, but without disk {left_out[0]}, it would be of no moment"
        yield Blocker(Unsupported, "all-disks", left_out[0], why, ("all-disks", "no-memory"))


def external_memory_blockers(info: DomainInfo, *, by_policy: bool = False) -> Iterator[Blocker]:
    """What keeps its RAM from being saved to a file."""
    if by_policy:
        why = "a policy makes no external snapshots with RAM"
        yield Blocker(Unsupported, "external-unsupported", "", why, ("no-memory",))
    if info.unmigratable:
        why = f"its RAM cannot be saved because of {info.unmigratable}"
        ways = ("no-memory", "shut-off")
        yield Blocker(Unsupported, "unmigratable-device", info.unmigratable, why, ways)


def _held(info: DomainInfo, disks: Collection[str]) -> tuple[Disk, ...]:
    return tuple(d for d in writable(info.disks) if not disks or d.target in disks)


def _disk_fault(disk: Disk) -> tuple[str, str]:
    faults = (
        (disk.shareable, "shared-disk", "is shared with other VMs"),
        (disk.transient, "transient-disk", "is transient: its content goes with each stop"),
        (disk.data_file, "data-file", "keeps its data in a second file"),
        (disk.kind == "network", "network-disk", "is on the network"),
        (disk.kind != "file", "block-device", f"is of type {disk.kind}"),
        (disk.device == "lun", "block-device", "is a device that is passed through"),
        (
            disk.format not in ("qcow2", "raw"),
            "wrong-format",
            f"is {disk.format or 'of no declared format'}, neither qcow2 nor raw",
        ),
    )
    return next(((word, why) for bad, word, why in faults if bad), ("", ""))


def _image_blockers(
    facts: DomainFacts, held: Sequence[Disk], encrypted: Collection[str]
) -> Iterator[Blocker]:
    for disk in held:
        image = facts.images.get(disk.target)
        if blocker := unreadable(facts, disk):
            yield blocker
        if image and image.data_file:
            why = f"the image of disk {disk.target} keeps its data in a second file"
            yield Blocker(Unsupported, "data-file", disk.target, why)
        secret = disk.encrypted or (image is not None and image.encrypted)
        if secret and disk.target not in encrypted:
            why = f"disk {disk.target} is encrypted, and its overlay would not be"
            yield Blocker(Unsupported, "would-be-plaintext", disk.target, why)


def _depth_blockers(
    facts: DomainFacts, held: Sequence[Disk], *, by_policy: bool
) -> Iterator[Blocker]:
    limit = depth_limit(facts.version, by_policy=by_policy)
    for disk in held:
        depth = len(facts.chains.layers.get(disk.target, ()))
        if depth >= limit:
            why = (
                f"disk {disk.target} stands on {depth} files already, and {limit} is the limit: "
                "delete snapshots, which merges them"
            )
            yield Blocker(Unsupported, "chain-limit", disk.target, why, ("delete-others",))
            return


def depth_limit(version: tuple[int, int, int], *, by_policy: bool) -> int:
    """How many files a disk may stand on, the new one among them."""
    since, until, few = SHALLOW
    most = POLICY_LAYERS if by_policy else LAYERS
    return min(most, few) if since <= version < until else most


def checkpoint_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """libvirt's checkpoints and overlays are not proven to go together."""
    if facts.checkpoints:
        first = facts.checkpoints[0]
        why = f"an incremental backup chain is in the way (checkpoint {first})"
        yield Blocker(Unsupported, "checkpoints", first, why, ("delete-checkpoints",))


def later_blockers(
    facts: DomainFacts, disks: Collection[str] = (), *, memory: bool
) -> Iterator[Blocker]:
    """What would keep such a snapshot from being reverted to or merged: a policy makes none then,
    and a person is warned."""
    if commit_denied(facts):
        why = (
            "AppArmor keeps QEMU from merging its overlay once the VM has been stopped and started "
            "again: delete the snapshot before the next restart"
        )
        yield Blocker(Unsupported, "apparmor-commit", "", why, ("internal",))
    if facts.info.state.active and not memory and reverts_no_disks(facts):
        why = "this libvirt may refuse to revert to one of a running VM without its RAM"
        yield Blocker(Unsupported, "external-unsupported", "", why, ("memory", "shut-off"))
    yield from overlaid_blockers(facts.info.disks, [d.target for d in _held(facts.info, disks)])
    for use in facts.users:
        if use.how == "backing":
            why = f"{use.who} is backed by disk {use.target}, and a merge would write to it"
            yield Blocker(Unsupported, "shared-base", use.target, why)


def reverts_no_disks(facts: DomainFacts) -> bool:
    """Whether this libvirt may refuse a revert to one that was made of a running VM without RAM."""
    return (0, 0, 0) < facts.version < REVERTS_DISKS


def commit_denied(facts: DomainFacts) -> bool:
    """Whether the host's AppArmor profile lets QEMU not write to what a chain stands on."""
    return "apparmor" in facts.chains.security and facts.version < DENIES_COMMIT
