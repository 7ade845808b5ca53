"""How a snapshot is to be made, and all that is in the way of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ..errors import Busy, Unsupported
from ..hypervisor import DomainFacts
from ..model import Consistency, DomainInfo, Record, State, Warned
from .pause import estimate_ms
from .preflight import (
    Blocker,
    bitmap_blockers,
    create_blockers,
    create_needs,
    memory_blockers,
    space_blockers,
    unmeasured_blockers,
    writable,
)
from .wishes import Wish


class Way(StrEnum):
    """Whose snapshot it is: libvirt's own call, or the monitor's and then libvirt's record."""

    LIBVIRT = "libvirt"
    MONITOR = "monitor"


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is made, and what it costs. pause_ms: an estimate; needs: target -> bytes."""

    way: Way
    memory: bool
    blockers: tuple[Blocker, ...]
    warnings: tuple[Warned, ...] = ()
    pause_ms: int = 0
    needs: tuple[tuple[str, int], ...] = ()


def plan(
    facts: DomainFacts,
    wish: Wish,
    records: Iterable[Record],
    name: str,
    *,
    monitor: bool,
    frozen: bool = False,
) -> Plan:
    """The way, whether RAM is saved, what is warned of, and every blocker.

    records: ours of this domain, for the last measured pause. name: the snapshot's, "" = one that
    is free is found. monitor: whether the monitor may be used. frozen: the guest may be frozen
    since an earlier snapshot, and RAM that is saved now would bring that back with it.
    """
    records = list(records)
    memory_ms = estimate_ms(facts, records, memory=True)
    memory, reasons, found = _decide(facts, wish, memory_ms, monitor=monitor, frozen=frozen)
    info = facts.info
    way = Way.MONITOR if info.state.active and not memory else Way.LIBVIRT
    found += create_blockers(
        facts,
        name,
        memory=memory,
        quiesce=wish.quiesce,
        over_saved_state=wish.over_saved_state,
        min_free=wish.min_free,
    )
    warnings = []
    if wish.then == "restart" and not info.state.active:
        text = f"VM {info.name} is off: there is nothing to restart"
        warnings.append(Warned("then-not-done", info.name, text))
    if reasons:
        text = f"the RAM of VM {info.name} is not in the snapshot: {reasons[0]}"
        warnings.append(Warned("memory-left-out", info.name, text))
    warnings += _left_out(info, memory=memory)
    warnings += _in_the_way(facts)
    pause = memory_ms if memory else estimate_ms(facts, records, memory=False)
    if not memory and pause > wish.max_pause * 1000:
        found.append(_too_long(pause, wish))
    needs = create_needs(facts, memory=memory)
    return Plan(way, memory, tuple(found), tuple(warnings), pause, tuple(needs.items()))


def _left_out(info: DomainInfo, *, memory: bool) -> list[Warned]:
    """Parts of the VM that this snapshot can't hold, said and labelled."""
    found = []
    if info.raw_nvram:
        text = f"the UEFI variables of VM {info.name} are not in the snapshot"
        found.append(Warned("nvram-left-out", info.name, text))
    if info.tpm and not memory:
        text = f"the TPM state of VM {info.name} is not in the snapshot: a revert will need force"
        found.append(Warned("tpm-left-out", info.name, text))
    if info.managed_save:
        text = f"the saved RAM of VM {info.name} is not in the snapshot"
        found.append(Warned("saved-state-left-out", info.name, text))
    return found


def _in_the_way(facts: DomainFacts) -> list[Warned]:
    """What would keep a revert from working, said while there is time."""
    vm = facts.info.name
    found = list(bitmap_blockers(facts))[:1]
    return [Warned(b.reason, b.item, f"VM {vm} cannot be reverted now: {b.message}") for b in found]


def _decide(
    facts: DomainFacts, wish: Wish, memory_ms: int, *, monitor: bool, frozen: bool
) -> tuple[bool, list[str], list[Blocker]]:
    """Whether RAM is saved; why not, where that was wanted; what is against the wish itself."""
    info = facts.info
    found = _wish_blockers(info, wish)
    if not info.state.active:
        return False, [], found
    against = [*memory_blockers(info, with_memory=True)]
    if frozen:
        why = "its file systems may be frozen since an earlier snapshot, and its RAM with them"
        against.append(Blocker(Busy, "frozen", "", why, ("restart-agent", "no-memory")))
    if memory_ms > wish.max_pause * 1000:
        against.append(_too_long(memory_ms, wish))
    if wish.memory == "yes":
        return True, [], [*found, *against]
    wanted = wish.memory == "auto" and wish.quiesce != "require"
    if wanted:
        against += unmeasured_blockers(facts)
        against += space_blockers(facts, create_needs(facts, memory=True), wish.min_free)
    if wanted and not against:
        return True, [], found
    if not wanted and wish.memory == "auto" and wish.then != "continue":
        why = f"its RAM would be lost by then={wish.then}; ask for memory=yes, or say memory=no"
        found.append(Blocker(Unsupported, "no-memory", "", why, ("memory", "no-memory")))
    if wanted and wish.then != "continue":
        ways = ("no-memory", "max-pause")
        why = f"its RAM would be lost by then={wish.then} and cannot be saved: {against[0].message}"
        found.append(Blocker(Unsupported, against[0].reason, against[0].item, why, ways))
    if not monitor:
        why = "it is running, and monitor = false allows no snapshot without its RAM"
        found.append(Blocker(Unsupported, "monitor-off", "", why, ("memory", "shut-off")))
    return False, [b.message for b in against] if wanted else [], found


def _too_long(memory_ms: int, wish: Wish) -> Blocker:
    why = (
        f"it would stand still for about {memory_ms / 1000:.0f} s, more than max_pause "
        f"({wish.max_pause} s) allows"
    )
    return Blocker(Unsupported, "pause-too-long", "", why, ("no-memory", "max-pause"))


def _wish_blockers(info: DomainInfo, wish: Wish) -> list[Blocker]:
    found = []
    if wish.kind == "external":
        why = "this version makes internal snapshots only"
        found.append(Blocker(Unsupported, "external-unsupported", "", why, ("internal",)))
    every = {d.target for d in writable(info.disks)}
    if wish.disks and set(wish.disks) != every:
        why = (
            f"an internal snapshot holds every writable disk ({', '.join(sorted(every))}), "
            f"not only {', '.join(sorted(wish.disks))[:200]}"
        )
        other = sorted(every ^ set(wish.disks))[0]
        found.append(Blocker(Unsupported, "all-disks", other, why, ("all-disks",)))
    if wish.memory == "yes" and info.state is State.SHUTOFF and not wish.policies:
        why = "it is off and has no RAM to save"
        found.append(Blocker(Unsupported, "no-memory", "", why, ("start", "memory-auto")))
    return found


def expected(facts: DomainFacts, plan: Plan, wish: Wish) -> Consistency:
    """What such a snapshot should turn out to be; the real one is verified, not assumed."""
    if plan.memory:
        return Consistency.MEMORY
    if not facts.info.state.active:
        return Consistency.CRASH if facts.info.managed_save else Consistency.OFFLINE
    quiet = wish.quiesce != "no" and facts.info.agent and facts.info.state is State.RUNNING
    return Consistency.QUIESCED if quiet else Consistency.CRASH
