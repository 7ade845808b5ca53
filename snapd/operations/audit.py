"""What is amiss with a VM's snapshots, each with its proof: facts in, findings out.

Pure. auditing.py gathers the facts; nobody here removes, mends or guesses anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from ..hypervisor import Beside, DomainFacts, ImageCheck
from ..model import NVRAM, Disk, Kind, SnapshotInfo, told_time
from ..store import HistoryRow, JobRow
from .audit_chains import amiss, chain, has_external
from .thaw import FrozenGuest


@dataclass(frozen=True, slots=True)
class Finding:
    """Something amiss: a reason word, whose, which thing, and how that is known."""

    reason: str
    domain: str
    item: str
    proof: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One domain as the audit saw it. facts: None where it did not answer; jobs: ours that had not
    ended, before or after the look; checks: target -> what `qemu-img check` said of its image;
    unchecked: thing -> why it could not be looked at. Of files that its disks and external
    snapshots stand on: inside: file -> names of the internal snapshots in it; broken: file -> why
    it is no image; writers: file -> the other VM that writes to it."""

    uuid: str
    name: str
    facts: DomainFacts | None = None
    jobs: tuple[JobRow, ...] = ()
    checks: Mapping[str, ImageCheck] = field(default_factory=dict)
    unchecked: Mapping[str, str] = field(default_factory=dict)
    inside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    writers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Books:
    """What our own records say: jobs that left something half made, our snapshots that others
    removed, and guests that are frozen, or may be."""

    half_made: Sequence[JobRow] = ()
    removed: Sequence[HistoryRow] = ()
    frozen: Sequence[FrozenGuest] = ()


def findings(
    seen: Sequence[Seen],
    books: Books,
    beside: Beside | None = None,
    named: Mapping[str, frozenset[str]] | None = None,
) -> list[Finding]:
    """All that is amiss with these domains, by VM. beside: the files beside their disks, None =
    not looked at; named: UUID -> files that libvirt names, of every domain, these or not."""
    found: list[Finding] = []
    strays = list(_strays(seen, beside, named or {})) if beside else []
    for one in sorted(seen, key=lambda s: (s.name, s.uuid)):
        found += _of_books(one, books)
        found += [Finding("unchecked", one.uuid, what, why) for what, why in one.unchecked.items()]
        if one.facts is None:
            continue
        if one.facts.holder:
            why = f"{one.facts.holder} is at work on the VM: its images are not what they will be"
            found.append(Finding("unchecked", one.uuid, one.name, why))
            continue
        found += _of_tags(one, one.facts)
        wrong = amiss(one.facts, one.broken, one.writers, beside.real if beside else {})
        found += [Finding(reason, one.uuid, item, proof) for reason, item, proof in wrong]
        found += [f for f in strays if f.domain == one.uuid]
        found += _of_checks(one, one.facts)
    return found


def _of_books(seen: Seen, books: Books) -> Iterator[Finding]:
    for guest in books.frozen:
        if guest.domain == seen.uuid:
            how = "asked to freeze, without an answer," if guest.late else "frozen"
            proof = f"{how} at {moment(guest.since)}; its agent has not said thawed since then"
            yield Finding("frozen", seen.uuid, seen.name, proof)
    for job in seen.jobs:
        if job.state.finished:
            continue
        since = moment(job.started or job.queued)
        what = f"{job.verb} {job.snapshot}".strip()
        yield Finding("open-intent", seen.uuid, f"job {job.id}", f"{what}: {job.state} ({since})")
    for row in books.half_made:
        if row.domain == seen.uuid:
            proof = f"job {row.id} ({row.verb}): {row.error_message}"
            yield Finding("half-made", seen.uuid, row.snapshot, proof)
    for gone in books.removed:
        if gone.domain == seen.uuid:
            after = f"after {moment(gone.not_before)} and " if gone.not_before else ""
            proof = f"made {moment(gone.created)} by us, removed {after}before {moment(gone.time)}"
            yield Finding("removed-outside", seen.uuid, gone.snapshot, proof)


# --- snapshots inside the images


def _of_tags(seen: Seen, facts: DomainFacts) -> Iterator[Finding]:
    """Tags that libvirt doesn't know, that are there twice, that are gone. Those of a job of ours
    that is at work come and go by its hand."""
    ours = {job.snapshot for job in seen.jobs}
    holders = (*facts.info.disks, *((facts.info.nvram,) if facts.info.nvram else ()))
    files = {d.target: d for d in holders if d.target in facts.images}
    listed = {s.name: s for s in facts.snapshots if s.name not in ours}
    inside = {name: where for name, where in _inside(facts, files).items() if name not in ours}
    for name, places in inside.items():
        if name not in listed:
            where = "; ".join(_place(files[t], ids) for t, ids in places.items())
            missing = ", ".join(t for t in files if t not in places)
            proof = f"{where}; not in {missing}" if missing else where
            yield Finding("unlisted-tag", seen.uuid, name, proof)
        for target, ids in places.items():
            if len(ids) > 1:
                yield Finding("doubled-tag", seen.uuid, name, _place(files[target], ids))
    for name, snapshot in listed.items():
        yield from _of_listed(seen, facts, files, snapshot, inside.get(name, {}))


def _of_listed(
    seen: Seen,
    facts: DomainFacts,
    files: Mapping[str, Disk],
    snapshot: SnapshotInfo,
    there: Mapping[str, list[str]],
) -> Iterator[Finding]:
    """An internal snapshot whose tag is gone, is below an overlay, or has overlays beside it."""
    gone, below = [], []
    for target in _holds(snapshot, files):
        if target in there:
            continue
        layers = chain(facts, target)[1:]
        where = next((f for f in layers if snapshot.name in seen.inside.get(f, ())), "")
        if where:
            below.append(f"{_image(files[target])} stands on {PurePath(where).name}, which has it")
        else:
            gone.append(_image(files[target]))
    if gone:
        proof = f"no snapshot of that name in {', '.join(gone)}"
        yield Finding("tag-gone", seen.uuid, snapshot.name, proof)
    elif below:
        proof = f"libvirt does not find it below an overlay: {'; '.join(below)}"
        yield Finding("mixed-tree", seen.uuid, snapshot.name, proof)
    elif snapshot.kind is Kind.INTERNAL and has_external(facts):
        where = ", ".join(_image(files[t]) for t in there)
        proof = f"it is an internal one among external ones, and goes with {where} in a merge"
        yield Finding("mixed-tree", seen.uuid, snapshot.name, proof)


def _inside(facts: DomainFacts, files: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Tag -> target -> its IDs in that image."""
    found: dict[str, dict[str, list[str]]] = {}
    for target in files:
        for number, name in facts.images[target].tags:
            found.setdefault(name, {}).setdefault(target, []).append(number)
    return found


def _holds(snapshot: SnapshotInfo, files: Mapping[str, Disk]) -> list[str]:
    """The disks that could be read and whose image has to have the snapshot; so has the NVRAM's,
    unless there is RAM: with it libvirt reverts the disks alone."""
    if snapshot.kind is not Kind.INTERNAL:
        return []
    disks = [t for t in files if t != NVRAM or not snapshot.memory]
    if snapshot.disks:
        return [t for t in disks if t in snapshot.disks or t == NVRAM]
    return [t for t in disks if files[t].format == "qcow2" and t not in snapshot.left_out]


def _image(disk: Disk) -> str:
    return f"{disk.target} ({PurePath(disk.source).name})"


def _place(disk: Disk, ids: Sequence[str]) -> str:
    return f"in {_image(disk)} as ID {', '.join(ids)}"


def _of_checks(seen: Seen, facts: DomainFacts) -> Iterator[Finding]:
    for disk in facts.info.disks:
        check = seen.checks.get(disk.target)
        if check and (said := complaint(check, PurePath(disk.source).name)):
            yield Finding("image-check", seen.uuid, disk.target, said)


def complaint(check: ImageCheck, file: str) -> str:
    """What a check found in an image file (its base name) and the repair; "" = it is sound."""
    if check.errors or check.corruptions:
        said = f"{check.corruptions} corruptions, {check.errors} errors, {check.leaks} leaks"
        repair = (
            f"with the VM off: qemu-img check -r leaks {file}, which mends what a QEMU that was "
            "ended leaves; where errors stay, copy the file, then -r all"
        )
    elif check.leaks:
        said = f"{check.leaks} leaked clusters: room is lost, nothing is damaged"
        repair = f"with the VM off: qemu-img check -r leaks {file}"
    else:
        return ""
    return f"{file}: {said}; repair: {repair}"


# --- files beside the disks


def _strays(
    seen: Sequence[Seen], beside: Beside, named: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    """Overlays and memory files that no VM, snapshot or chain names.

    What a file is backed by tells whose it is: its chain ends in one that a VM has.
    """
    audited = {s.uuid: s for s in seen if s.facts is not None and not s.jobs}
    backing = {f.path: f.backing for f in beside.files}
    owners = _owners(named, beside.real, backing)
    for file in beside.files:
        if file.path in owners:
            continue
        item = PurePath(file.path).name
        if file.saved in audited:
            proof = f"holds RAM of VM {audited[file.saved].name}, and no snapshot names it"
            yield Finding("unlisted-memory-file", file.saved, item, proof)
        elif file.backing:
            found = _first(_down(file.path, backing), owners)
            whose = sorted(found & set(audited), key=lambda u: (audited[u].name, u))
            if whose:
                proof = f"backed by {PurePath(file.backing).name}, and nobody names it"
                yield Finding("unlisted-overlay", whose[0], item, proof)


def _owners(
    named: Mapping[str, frozenset[str]], real: Mapping[str, str], backing: Mapping[str, str]
) -> dict[str, set[str]]:
    """Every file that is named, or in the chain below one that is: whose."""
    owners: dict[str, set[str]] = {}
    for uuid, files in named.items():
        for file in files:
            top = real.get(file, file)
            for each in (top, *_down(top, backing)):
                owners.setdefault(each, set()).add(uuid)
    return owners


def _down(file: str, backing: Mapping[str, str]) -> Iterator[str]:
    """The chain below a file, as far as it is known; a header can also point in a circle."""
    passed = {file}
    while (file := backing.get(file, "")) and file not in passed:
        passed.add(file)
        yield file


def _first(files: Iterable[str], owners: Mapping[str, set[str]]) -> set[str]:
    return next((owners[f] for f in files if f in owners), set())


def moment(seconds: int) -> str:
    """As told_time(); `an unknown time` for 0."""
    return told_time(seconds) if seconds else "an unknown time"
