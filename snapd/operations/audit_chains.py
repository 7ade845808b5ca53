"""What is amiss with the files that external snapshots stand on: facts in, findings out.

Pure. libvirt's record of each snapshot says what its overlays are backed by, the headers say what
is so, and the domain's XML says what libvirt believes: where they differ, a verb would destroy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import PurePath

from ..hypervisor import DomainFacts
from ..model import Kind
from .preflight.external_tree import bypassed, tree_faults

Amiss = tuple[str, str, str]
"""A finding's reason word, thing and proof."""
NAMES = 5
"""So many snapshots are named in a proof; of the others it says how many."""


def has_external(facts: DomainFacts) -> bool:
    return any(s.kind is Kind.EXTERNAL for s in facts.snapshots)


def chain(facts: DomainFacts, target: str) -> tuple[str, ...]:
    """The files that a disk stands on, its own first: by the headers where they were read, further
    down by libvirt's record."""
    found = [path for path, _format in facts.chains.layers.get(target, ())]
    if not found:
        found = [d.source for d in facts.info.disks if d.target == target and d.source]
        image = facts.images.get(target)
        found += [image.backing] if found and image and image.backing else []
    return (*found[:-1], *_down(found[-1], _below(facts))) if found else ()


def _below(facts: DomainFacts) -> dict[str, str]:
    """File -> what it is backed by: by its header, else as libvirt's record of snapshots has it."""
    below: dict[str, str] = {}
    for snapshot in facts.snapshots:
        bases = dict(snapshot.bases)
        for target, file in (*snapshot.overlays, *snapshot.reverted):
            below[file] = bases.get(target, "")
    headers = facts.chains.images.items()
    return below | {path: image.backing for path, image in headers if image.backing}


def images(facts: DomainFacts) -> tuple[str, ...]:
    """The qcow2 files, but for the disks' own, that disks and external snapshots stand on and that
    are there: their headers, and what is in them, tell more."""
    tops = {d.source for d in facts.info.disks}
    layers = {p for each in facts.chains.layers.values() for p, form in each if form == "qcow2"}
    made = {file for s in facts.snapshots for _target, file in (*s.overlays, *s.reverted)}
    made |= {i.backing for i in facts.images.values() if i.backing_format == "qcow2"}
    inside = (s.sources for s in facts.snapshots if s.kind is Kind.INTERNAL)
    held = {file for sources in inside for target, file in sources if file in chain(facts, target)}
    return tuple(sorted((layers | made | held) - tops - facts.missing))


def amiss(
    facts: DomainFacts,
    broken: Mapping[str, str],
    writers: Mapping[str, str],
    real: Mapping[str, str],
) -> Iterator[Amiss]:
    """All that is amiss with a domain that has external snapshots. broken: file -> why it is no
    image; writers: file -> the other VM that writes to it; real: file -> its path without symbolic
    links, as far as known."""
    if not has_external(facts):
        return
    for blocker in tree_faults(facts, by_record=True):
        if blocker.reason != "mixed-tree":  # that is told of each internal snapshot
            yield blocker.reason, blocker.item or facts.info.name, blocker.message
    yield from _fallen(facts, broken)
    yield from _bypassed(facts)
    for disk in facts.info.disks:
        if disk.writable:
            yield from _told_otherwise(facts, disk.target, real)
            yield from _unexplained(facts, disk.target)
    for file, who in sorted(writers.items()):
        proof = f"VM {who} writes to {file}, which {_who(*_standing(facts, file))}"
        yield "shared-layer", PurePath(file).name, proof


def _bypassed(facts: DomainFacts) -> Iterator[Amiss]:
    """Another tool committed or pulled an overlay: what is below may be of a younger moment."""
    for past in bypassed(facts):
        there = f"{past.overlay} stands on {past.on or 'nothing'}"
        proof = f"{there}, and on {past.said} by libvirt's record of snapshot {past.snapshot}"
        yield "moved-layer", past.target, proof


def lost(facts: DomainFacts, broken: Mapping[str, str]) -> set[str]:
    """External snapshots that are no way back: a file that they stand on is gone or no image."""
    files = facts.missing | broken.keys()
    names = {s.name for s in facts.snapshots if s.memory_file in files}
    for file in files:
        names |= set(_standing(facts, file)[1])
    return names


def _fallen(facts: DomainFacts, broken: Mapping[str, str]) -> Iterator[Amiss]:
    """Layers that aren't there, or are no images. An overlay that nothing stands on needs not be:
    libvirt's revert unlinks it."""
    for file in sorted(facts.missing | broken.keys()):
        disks, names = _standing(facts, file)
        if disks or names:
            word = "missing-layer" if file in facts.missing else "broken-layer"
            why = "is not there" if file in facts.missing else f"is no image: {broken[file]}"
            yield word, PurePath(file).name, f"{file}, which {_who(disks, names)}, {why}"
    for s in facts.snapshots:
        if s.memory_file and s.memory_file in facts.missing:
            yield "missing-memory-file", s.name, f"its RAM was in {s.memory_file}: it is not there"


def _standing(facts: DomainFacts, file: str) -> tuple[list[str], list[str]]:
    """The disks, and the external snapshots, that need a file to be as it is."""
    below = _below(facts)
    disks = [d.target for d in facts.info.disks if d.writable and file in chain(facts, d.target)]
    names = [
        s.name
        for s in facts.snapshots
        if any(file in _whole(facts, base, below) for _target, base in s.bases)
    ]
    return disks, names


def _whole(facts: DomainFacts, file: str, below: Mapping[str, str]) -> list[str]:
    """A file and all below it."""
    found = list(_down(file, below))
    for layers in facts.chains.layers.values():
        paths = [path for path, _format in layers]
        if found[-1] in paths:
            return found + paths[paths.index(found[-1]) + 1 :]
    return found


def _down(file: str, below: Mapping[str, str]) -> Iterator[str]:
    passed: set[str] = set()
    while file and file not in passed:
        passed.add(file)
        yield file
        file = below.get(file, "")


def _who(disks: list[str], names: list[str]) -> str:
    """`disk vda and snapshots a, b and 7 more stand on`."""
    parts = [f"disk{'s' * (len(disks) > 1)} {', '.join(disks)}"] if disks else []
    if names:
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        parts.append(f"snapshot{'s' * (len(names) > 1)} {', '.join(names[:NAMES])}{more}")
    many = len(disks) + len(names) > 1
    return f"{' and '.join(parts) or 'it'} {'stand' if many else 'stands'} on"


def _told_otherwise(facts: DomainFacts, target: str, real: Mapping[str, str]) -> Iterator[Amiss]:
    """libvirt's XML names another backing file than the header: at the next start the guest would
    see the XML's (LIBVIRT.md 9.10)."""
    layers, chains = [path for path, _format in facts.chains.layers.get(target, ())], facts.chains
    for which, said, ends in (
        ("running", chains.live, chains.live_ends),
        ("stored", chains.stored, chains.stored_ends),
    ):
        files = (*said.get(target, ()), *([""] if target in ends else []))
        for number, (xml, header) in enumerate(zip(files, layers, strict=False)):
            if number and (not xml or _plain(xml, real) != _plain(header, real)):
                above = PurePath(layers[number - 1]).name
                proof = f"below {above} libvirt's {which} XML has {xml or 'nothing'}"
                yield "moved-layer", target, f"{proof}, and its header {header}"
                return


def _plain(path: str, real: Mapping[str, str]) -> str:
    return os.path.normpath(real.get(path, path))


def _unexplained(facts: DomainFacts, target: str) -> Iterator[Amiss]:
    """A layer above what a snapshot stands on, and of none: another tool has put it there."""
    own = {file for s in facts.snapshots for t, file in (*s.overlays, *s.reverted) if t == target}
    known = own | {file for s in facts.snapshots for t, file in s.bases if t == target}
    files = chain(facts, target)
    deepest = max((i for i, file in enumerate(files) if file in known), default=-1)
    for file, below in pairwise(files[: deepest + 1]):
        if file not in known:
            proof = f"disk {target} stands on {file} above {PurePath(below).name}"
            yield "unexplained-layer", PurePath(file).name, f"{proof}, and no snapshot says why"
