"""What an admin must act on, in words: each function tells of one kind of trouble. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from ..errors import SnapdError, without_vm
from ..inventory import DomainPicture
from ..model import DomainInfo, Policy, Problem, SnapshotInfo, told_time
from ..operations import FrozenGuest, redefined
from ..settings import matches
from ..store import SlotRow
from .chains import OF_TREE, Heap, branches, words
from .coverage import YES, Coverage

FROZEN_SECONDS = 30
TREE_SECONDS = 15 * 86400
"""So long a branch may keep others from being merged: safety snapshots go after 14 days."""
_OUT = {
    **dict.fromkeys(OF_TREE, "delete-branch"),
    "apparmor-commit": "upgrade-libvirt",
    "checkpoints": "delete-checkpoints",
    "external-unsupported": "upgrade-libvirt",
    "managed-save": "start",
    "mixed-tree": "delete-others",
    "pending-config": "attach-disk",
    "transient": "define",
}
"""The way out for each word against a merge; an audit names what the others are about."""
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def problem(
    word: str,
    message: str,
    severity: str = "warning",
    *,
    domain: DomainInfo | None = None,
    policy: str = "",
    key: str = "",
    ways: tuple[str, ...] = (),
) -> Problem:
    """A problem whose id is the same as long as word, domain, policy and key are."""
    uuid = domain.uuid if domain else ""
    return Problem(
        id=identity(word, uuid, policy, key),
        problem=word,
        message=message,
        severity=severity,
        domain=uuid,
        domain_name=domain.name if domain else "",
        policy=policy,
        ways=ways,
    )


def identity(*parts: str) -> str:
    return f"{parts[0]}-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:12]}"


def disk_problems(info: DomainInfo, snapshots: Sequence[SnapshotInfo]) -> Iterator[Problem]:
    """A domain whose disks must not be written on, or could not be."""
    for found in redefined(info, snapshots):
        what = f"VM {info.name}: {found.message}; define it on its overlay again"
        yield problem("redefined", what, "critical", domain=info, ways=found.ways)
    if info.io_error:
        what = (
            f"VM {info.name} is paused since a disk of it could not be written (a full file "
            "system?); make room, then resume it"
        )
        yield problem("io-error", what, "critical", domain=info, ways=("make-room", "resume"))


def still_frozen(guests: Sequence[FrozenGuest], now: float) -> Iterator[Problem]:
    """Guests that nobody has got thawed for long. now: seconds UTC."""
    for guest in guests:
        if now - guest.since <= FROZEN_SECONDS:
            continue
        since = told_time(guest.since)
        how = "was to be frozen and may be" if guest.late else "is frozen"
        yield Problem(
            id=identity("frozen", guest.domain),
            problem="frozen",
            message=f"VM {guest.name} {how}, since {since}: its guest agent does not answer "
            "that it is thawed, which is asked again and again; meanwhile what writes in it hangs",
            severity="critical",
            domain=guest.domain,
            domain_name=guest.name,
            since=guest.since,
            ways=("restart-agent", "reset"),
        )


def storage_that_hangs(hanging: Mapping[str, int]) -> Iterator[Problem]:
    """hanging: mount point -> how many of our questions hang there; named by its last part."""
    for place, count in sorted(hanging.items()):
        what = (
            f"storage {PurePath(place).name or place} does not answer: {count} "
            f"{'look' if count == 1 else 'looks'} of virtsnapd at files hang there; while that is "
            "so, VMs with disks on it are not snapshotted, reverted or pruned"
        )
        yield problem("storage-hangs", what, "critical", key=place, ways=("mend-storage",))


# --- policies on VMs


def cannot_work(row: Coverage, info: DomainInfo) -> Problem | None:
    """Told at once, not when the slot comes; what only a run found out is told as its failure."""
    if row.verdict == YES or (row.found_by_run and row.error_name):
        return None
    what = f"policy {row.policy} cannot work on VM {info.name}: {without_vm(row.why, info.name)}"
    return problem("cannot-work", what, policy=row.policy, domain=info, ways=row.ways)


def overdue(row: Coverage, info: DomainInfo, now: int) -> Problem | None:
    """What should have been made twice by now, and was not."""
    if not row.overdue:
        return None
    last = f"its last success was at {told_time(row.last_success)}"
    what = (
        f"policy {row.policy} is overdue on VM {info.name} for {span(now - row.overdue)}: the "
        f"second slot without a success came at {told_time(row.overdue)}; "
        f"{last if row.last_success else 'it has had none there yet'}"
    )
    if row.error_message:
        what += f"; its last error: {without_vm(row.error_message, info.name)}"
    ways = ("policy-run",)
    found = problem("overdue", what, "critical", policy=row.policy, domain=info, ways=ways)
    return replace(found, since=row.overdue)


def run_failed(
    row: Coverage, info: DomainInfo, refused: SnapdError | None, retry_at: int
) -> Problem | None:
    """The last run of a policy on a VM, where it failed; and when it is tried again."""
    if not row.error_name:
        return None
    why = without_vm(row.error_message, info.name)
    what = f"policy {row.policy} failed on VM {info.name}: {why}"
    if refused:
        what += "; it is not tried again until the VM or the policy changes"
    elif retry_at:
        what += f"; it is tried again at {told_time(retry_at)}"
    return problem("run-failed", what, "critical", policy=row.policy, domain=info)


def cannot_prune(picture: DomainPicture, heap: Heap, now: int) -> Problem | None:
    """Overlays that retention lets go and libvirt doesn't merge: told while there is room for more,
    unless what is in the way will go by itself before that."""
    info, waits, pile = picture.info, heap.waits, heap.pile
    lasting = any(s.word not in OF_TREE or now - s.since > TREE_SECONDS for s in waits.values())
    if not (lasting or pile.half_full):
        return None
    since = min(s.since for s in waits.values())
    what = (
        f"VM {info.name} cannot be pruned: {len(waits)} snapshots that retention lets go stay "
        f"({words(waits, waits)}){branches(picture, waits)}; its disks stand on "
        f"{len(pile.names)} of them"
    )
    what += (
        ", and no other is made"
        if pile.full
        else f", and from {pile.limit} on no other snapshot is made"
    )
    severity = "critical" if pile.full else "warning"
    ways = tuple(sorted({_OUT.get(s.word, "audit") for s in waits.values()}))
    found = problem("cannot-prune", what, severity, domain=info, ways=ways)
    return replace(found, since=since)


def uncovered(
    info: DomainInfo, in_force: Collection[Policy], slots: Collection[SlotRow]
) -> Problem | None:
    """A VM that no policy covers: unless a policy says so, and it has not come to that by a rename
    alone. slots: those of the VM."""
    if any(matches(p, info.name, info.uuid) for p in in_force):
        return None
    if any(f"uuid:{info.uuid}" in map(str.lower, p.exclude) for p in in_force):
        return None
    left = {s.policy: s.domain_name for s in slots if s.domain_name not in ("", info.name)}
    by_rename = [p for p in in_force if p.name in left and matches(p, left[p.name], info.uuid)]
    if by_rename:
        names = " and ".join(sorted(p.name for p in by_rename))
        was = " and ".join(sorted({left[p.name] for p in by_rename}))
        what = (
            f"VM {info.name} is covered by no policy any more: it has left {names} when it was "
            f"renamed from {was}; have a policy cover it, or exclude it as uuid:{info.uuid}"
        )
        return problem("uncovered", what, domain=info)
    if any(_excludes(p, info) for p in in_force):
        return None
    what = f"VM {info.name} is covered by no policy, and excluded by none"
    return problem("uncovered", what, domain=info)


def _excludes(policy: Policy, info: DomainInfo) -> bool:
    """Whether a policy names a domain as one that it leaves out."""
    named = replace(policy, domains=policy.exclude, exclude=())
    return bool(policy.exclude) and matches(named, info.name, info.uuid)


def span(seconds: int) -> str:
    """`3 d`, `26 h`: a unit is used from twice its length on."""
    size, unit = next(((s, u) for s, u in _UNITS if seconds >= 2 * s), _UNITS[-1])
    return f"{seconds // size} {unit}"
