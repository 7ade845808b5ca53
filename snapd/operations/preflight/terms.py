"""What the caller of a revert agrees to, and what reverts of either kind ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...errors import NeedsForce, PreflightFailed, Protected, Unsupported
from ...hypervisor import DomainFacts, FileUse, Need
from ...model import SnapshotInfo, State
from .blocker import Blocker
from .disks import untold


@dataclass(frozen=True, slots=True)
class RevertTerms:
    """What the caller agrees to. wanted: the state afterwards; force: what libvirt calls risky, a
    TPM that is newer, and others that could not be asked whether they share a disk;
    discard_saved_state: with force, the loss of a managed save."""

    wanted: State = State.SHUTOFF
    force: bool = False
    discard_saved_state: bool = False


def force_blockers(
    facts: DomainFacts, snapshot: SnapshotInfo, terms: RevertTerms
) -> Iterator[Blocker]:
    """What needs the caller's word, or can't be done whatever the word."""
    if not facts.info.persistent:
        yield Blocker(Unsupported, "transient", "", "the VM is transient", ("define",))
    if facts.info.managed_save and not (terms.force and terms.discard_saved_state):
        why = "the VM has a managed save, whose old RAM would meet the reverted disks"
        ways = ("start", "force+discard-saved-state")
        yield Blocker(NeedsForce, "managed-save", "", why, ways)
    if facts.saved_tpm and not snapshot.memory and not terms.force:
        why = (
            "its TPM is not in the snapshot and would be newer than the disks: a guest that seals "
            "keys in it may ask for its recovery key"
        )
        yield Blocker(NeedsForce, "tpm-newer", "", why, ("force",))


def need_blockers(facts: DomainFacts, snapshot: SnapshotInfo, terms: RevertTerms) -> list[Blocker]:
    """What the VM of then lacks to run, where it is to run."""
    runs = terms.wanted is not State.SHUTOFF or snapshot.memory
    return [_lacking(need) for need in facts.needs] if runs else []


def _lacking(need: Need) -> Blocker:
    if not need.told:
        return untold(f"{need.kind} {need.name}, which the VM needed then,", need.name)
    if need.kind in ("network", "bridge", "device"):
        word = "missing-device" if need.kind == "device" else "missing-network"
        why = f"{need.kind} {need.name}, which the VM had then, is not there or not active"
        return Blocker(PreflightFailed, word, need.name, why, ("bring-it-back",))
    why = f"{need.kind} {need.name}, which the VM needed then, is missing"
    return Blocker(PreflightFailed, "missing-file", need.name, why, ("restore-file",))


def user_blockers(facts: DomainFacts, terms: RevertTerms) -> Iterator[Blocker]:
    """A revert rewrites what others read, and so may those who can't be asked."""
    uses = (use for use in facts.users if not (terms.force and use.how == "unchecked"))
    yield from use_blockers(uses, ("try-again", "force"))


def use_blockers(uses: Iterable[FileUse], ways: tuple[str, ...]) -> Iterator[Blocker]:
    """Others who need files that a verb writes. ways: out of not knowing whether one does."""
    for use in uses:
        if use.how == "active":
            why = f"disk {use.target} is in use by {use.who}, which is running"
            yield Blocker(Protected, "shared-disk", use.target, why, ("stop-other-vm",))
        elif use.how == "backing":
            why = f"{use.who} is backed by disk {use.target}, and would read other data afterwards"
            yield Blocker(Protected, "shared-base", use.target, why)
        elif use.how == "unchecked":
            why = f"whether {use.who} uses its disks could not be told: it does not answer"
            yield Blocker(PreflightFailed, "unchecked", use.who, why, ways)
