"""Previews: what a verb would do and what it would cost, by the same verdicts; nothing is changed.

Whole verdicts: the images are read, others' use of them is looked for. Judged anew when a job's
turn comes, since a preview is a look at a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..hypervisor import DomainFacts
from ..model import (
    NVRAM,
    DomainInfo,
    Kind,
    Record,
    SnapshotInfo,
    SnapshotKey,
    State,
    Warned,
    told_consistency,
    told_time,
)
from .context import Context, pick
from .create import planned
from .delete import all_blockers, descendants
from .delete import blockers as delete_blockers
from .plan import Plan, expected
from .preflight import Blocker, writable
from .preflight.merge import merge_needs
from .revert import agreed, safety_wish
from .revert import blockers as revert_blockers
from .revert import warnings as revert_warnings
from .wishes import DeleteWish, RevertWish, Wish

YES = "yes"


@dataclass(frozen=True, slots=True)
class Preview:
    """API.md's Preview. loses: what is gone afterwards, since loses_since (seconds UTC, 0 = no
    time); pause_ms: an estimate, -1 = unknown; need, have: bytes; foreign: others made it."""

    blockers: tuple[Blocker, ...]
    kind: str = "internal"
    consistency: str = ""
    disks: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    final_state: str = ""
    loses: tuple[Warned, ...] = ()
    loses_since: int = 0
    pause_ms: int = 0
    need: int = 0
    have: int = 0
    foreign: bool = False

    @property
    def verdict(self) -> str:
        """`yes`, or the first reason word."""
        return self.blockers[0].reason if self.blockers else YES


async def preview_create(ctx: Context, uuid: str, wish: Wish) -> Preview:
    """What such a snapshot would be. Raises InvalidArgument, NoSuchDomain, TimedOut."""
    facts = await ctx.hypervisor.facts(uuid)
    made = planned(ctx, facts, wish)
    need, have = _space(facts, made)
    return Preview(
        blockers=made.blockers,
        kind=made.kind.value,
        consistency=expected(facts, made, wish).value,
        disks=made.disks,
        left_out=tuple(d.target for d in facts.info.disks if d.target not in made.disks),
        final_state=_after(facts.info, wish).value,
        loses=made.warnings,
        pause_ms=made.pause_ms,
        need=need,
        have=have,
    )


def _after(info: DomainInfo, wish: Wish) -> State:
    if not info.state.active or wish.then == "continue":
        return info.state
    return State.SHUTOFF if wish.then == "stop" else State.RUNNING


async def preview_revert(ctx: Context, wish: RevertWish) -> Preview:
    """What a revert would bring back and lose, with the making of the safety snapshot."""
    key = wish.key
    facts = await ctx.hypervisor.facts(key.domain, key.name)
    listed = pick(facts, key)
    found = revert_blockers(ctx, facts, listed, wish)
    need = have = pause = 0
    said: tuple[Warned, ...] = ()
    if wish.safety:
        made = planned(ctx, facts, safety_wish(facts, key.name))
        found += [b for b in made.blockers if b not in found]
        (need, have), pause, said = _space(facts, made), made.pause_ms, made.warnings
    record = _ours(ctx.store.record(key))
    return Preview(
        blockers=tuple(found),
        kind=listed.kind.value,
        consistency=_got(record, listed),
        disks=listed.disks,
        left_out=listed.left_out,
        final_state=agreed(ctx.store, wish, listed).wanted.value,
        loses=(*losses(facts, listed, wish), *said),
        loses_since=listed.created,
        pause_ms=pause,
        need=need,
        have=have,
        foreign=record is None,
    )


def losses(facts: DomainFacts, listed: SnapshotInfo, wish: RevertWish) -> list[Warned]:
    """What a revert throws away or leaves behind; with a safety snapshot there is a way back."""
    vm, found = facts.info.name, []
    since = told_time(listed.created)
    for disk in writable(facts.info.disks):
        text = f"what was written to disk {disk.target} of VM {vm} since {since}"
        found.append(Warned("disk-changes", disk.target, text))
    has_nvram = facts.info.raw_nvram or facts.info.nvram is not None
    if has_nvram and not facts.info.loses_nvram(listed.kind, memory=listed.memory):
        text = f"what was written to the UEFI variables of VM {vm} since {since}"
        found.append(Warned("disk-changes", NVRAM, text))
    if facts.info.state.active:
        text = f"what VM {vm} is doing: its running state, and open consoles"
        found.append(Warned("running-state", vm, text))
    for part in facts.rolled_back:
        text = f"the present {part} in the configuration of VM {vm}: it goes back, too"
        found.append(Warned("configuration", part, text))
    if facts.info.managed_save:
        text = f"the RAM that VM {vm} has in its managed save"
        found.append(Warned("saved-state", vm, text))
    if wish.delete_after:
        found.append(Warned("snapshot", listed.name, f"snapshot {listed.name} itself"))
    return found + revert_warnings(facts, listed)


async def preview_delete(ctx: Context, wish: DeleteWish) -> Preview:
    """What would go with it, and what keeps it."""
    key = wish.key
    facts = await ctx.hypervisor.facts(key.domain)
    listed = pick(facts, key)
    if listed.kind is Kind.EXTERNAL:
        facts = await ctx.hypervisor.facts(key.domain, key.name)
        listed = pick(facts, key)
    doomed = [*descendants(facts.snapshots, listed.name), listed] if wish.children else [listed]
    found = (
        all_blockers(ctx, facts, doomed) if wish.children else delete_blockers(ctx, facts, listed)
    )
    need, have = _room(facts, _merged_bytes(facts, doomed))
    loses = [Warned("snapshot", s.name, f"snapshot {s.name}") for s in doomed]
    return Preview(
        blockers=tuple(found),
        kind=listed.kind.value,
        consistency=_got(_ours(ctx.store.record(key)), listed),
        disks=listed.disks,
        left_out=listed.left_out,
        final_state=facts.info.state.value,
        loses=tuple(loses),
        loses_since=listed.created,
        pause_ms=-1 if facts.info.state.active else 0,
        need=need,
        have=have,
        foreign=any(
            not _ours(ctx.store.record(SnapshotKey(key.domain, s.name, s.created))) for s in doomed
        ),
    )


def _got(record: Record | None, listed: SnapshotInfo) -> str:
    """The consistency that lists show, too."""
    return (record.consistency if record else told_consistency(listed)).value


def _ours(record: Record | None) -> Record | None:
    """The record, where it is of one of ours: one of a foreign snapshot only holds its pin."""
    return record if record and record.owned else None


def _merged_bytes(facts: DomainFacts, doomed: Sequence[SnapshotInfo]) -> Sequence[tuple[str, int]]:
    """target -> the most that one of these merges may write; what it takes in, it gives back."""
    needs: dict[str, int] = {}
    for each in (s for s in doomed if s.kind is Kind.EXTERNAL):
        for target, need in merge_needs(facts, each).items():
            needs[target] = max(need, needs.get(target, 0))
    return tuple(needs.items())


def _space(facts: DomainFacts, made: Plan) -> tuple[int, int]:
    """Bytes that are needed, and free where the most is needed."""
    return _room(facts, made.needs)


def _room(facts: DomainFacts, needs: Sequence[tuple[str, int]]) -> tuple[int, int]:
    known = [n for n in needs if n[0] in facts.space]
    every = sum(need for _target, need in needs)
    return every, facts.space[max(known, key=lambda n: n[1])[0]].free if known else 0
