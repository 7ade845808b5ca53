"""What a domain's state, tree, devices and other users tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import Busy, Inconsistent, Unsupported
from ...hypervisor import DomainFacts
from ...model import DomainInfo, Kind, SnapshotInfo, State
from .blocker import Blocker


def state_blockers(
    info: DomainInfo, snapshots: Sequence[SnapshotInfo], *, over_saved_state: bool = False
) -> Iterator[Blocker]:
    """What the domain's state and tree tell against an internal snapshot.

    over_saved_state: it is taken just because the managed save is about to be thrown away.
    """
    yield from condition_blockers(info, over_saved_state=over_saved_state)
    yield from tree_blockers(info, snapshots)


def condition_blockers(info: DomainInfo, *, over_saved_state: bool = False) -> Iterator[Blocker]:
    """What its state tells against a snapshot of any kind."""
    if not info.persistent:
        why = "it is transient: libvirt forgets its snapshots when it stops"
        yield Blocker(Unsupported, "transient", "", why, ("define",))
    if info.managed_save and not over_saved_state:
        why = "its RAM is in a managed save, which no snapshot would include"
        yield Blocker(Unsupported, "managed-save", "", why, ("start", "discard-saved-state"))
    if info.io_error:
        why = "it is paused since a disk could not be written: its file system may be full"
        yield Blocker(Unsupported, "io-error", "", why, ("make-room", "resume"))
    if info.state in (State.SUSPENDED, State.CRASHED, State.UNKNOWN):
        yield Blocker(Unsupported, "unfinished-job", "", f"it is {info.state}", ("start",))


def tree_blockers(info: DomainInfo, snapshots: Sequence[SnapshotInfo]) -> Iterator[Blocker]:
    """A tree of one kind refuses the other, since libvirt loses data in mixed ones; and one that
    the domain has left is touched by nobody."""
    yield from redefined(info, snapshots)
    external = next((s.name for s in snapshots if s.kind is Kind.EXTERNAL), "")
    if external:
        why = f"snapshot {external} is an external one"
        yield Blocker(Unsupported, "mixed-tree", external, why)


def redefined(info: DomainInfo, snapshots: Sequence[SnapshotInfo]) -> Iterator[Blocker]:
    """The domain stands on a file that overlays of its own snapshots are backed by: whatever it
    writes there rots them. `virsh define` of an older XML does it."""
    sources = {d.target: d.source for d in info.disks}
    for snapshot in snapshots:
        for target, base in snapshot.bases:
            if sources.get(target) == base:
                why = (
                    f"disk {target} is on {Path(base).name}, which the overlay of snapshot "
                    f"{snapshot.name} is backed by: each write there damages that snapshot"
                )
                yield Blocker(Inconsistent, "other-file", target, why, ("define-overlay",))
                return


def memory_blockers(info: DomainInfo, *, with_memory: bool) -> Iterator[Blocker]:
    """What keeps libvirt's own create (with RAM, or of a VM that is off) from working."""
    if with_memory and info.unmigratable:
        yield Blocker(
            Unsupported,
            "unmigratable-device",
            info.unmigratable,
            f"its RAM cannot be saved because of {info.unmigratable}",
            ("no-memory", "shut-off"),
        )
    if info.raw_nvram and (with_memory or not info.raw_nvram_off):
        yield Blocker(
            Unsupported,
            "uefi-raw-nvram",
            "",
            "its UEFI variables are in a raw file",
            ("no-memory", "qcow2-nvram") if info.state.active else ("start", "qcow2-nvram"),
        )


def holder_blockers(facts: DomainFacts) -> Iterator[Blocker]:
    """Who else is at work on it."""
    if facts.holder == "backup":
        yield Blocker(Busy, "backup", "backup", "a backup of it is running")
    elif facts.holder.startswith("block job"):
        yield Blocker(Busy, "block-job", facts.holder.split()[-1], f"a {facts.holder} is running")
    elif facts.holder:
        yield Blocker(Busy, "unfinished-job", facts.holder, f"{facts.holder} has it")
