"""How a snapshot is to be made, and all that is in the way of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..errors import (
    AgentUnavailable,
    AlreadyExists,
    Busy,
    NoSpace,
    PreflightFailed,
    Unsupported,
)
from ..hypervisor import DomainFacts
from ..model import Consistency, DomainInfo, Kind, Record, State, Warned
from .pause import estimate_ms
from .preflight import (
    Blocker,
    bitmap_blockers,
    create_blockers,
    create_needs,
    later_blockers,
    memory_blockers,
    space_blockers,
    unmeasured_blockers,
    writable,
)
from .preflight.external import (
    commit_denied,
    external_create_blockers,
    external_memory_blockers,
    reverts_no_disks,
)
from .preflight.external_tree import inactive_nodes
from .preflight.overlaid import overlaid_blockers
from .wishes import Wish

AGAINST_INTERNAL = frozenset(
    {
        "raw-disk",
        "block-device",
        "network-disk",
        "encrypted-disk",
        "data-file",
        "wrong-format",
        "monitor-off",
        "uefi-raw-nvram",
    }
)
"""What no internal snapshot of a VM gets past, as long as the VM is what it is."""
STANDSTILL_MS = 1000
"""What an internal snapshot without RAM may stand a running guest still for where an external one
can be had: a second is what people, connections and the heartbeats of clusters bear, and to spare
them less is not worth the upkeep of a chain."""
TOO_LONG = "pause-too-long"
_PASSING = (Busy, NoSpace, AgentUnavailable, AlreadyExists, PreflightFailed)


class Way(StrEnum):
    """Whose snapshot it is: libvirt's own call, or the monitor's and then libvirt's record; or an
    external one, libvirt's own onto overlays that are there already."""

    LIBVIRT = "libvirt"
    MONITOR = "monitor"
    OVERLAY = "overlay"


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is made, and what it costs. disks: targets of those that it holds; pause_ms: an
    estimate; needs: target -> bytes."""

    way: Way
    memory: bool
    blockers: tuple[Blocker, ...]
    warnings: tuple[Warned, ...] = ()
    pause_ms: int = 0
    needs: tuple[tuple[str, int], ...] = ()
    disks: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """internal or external."""
        return Kind.EXTERNAL if self.way is Way.OVERLAY else Kind.INTERNAL


def plan(
    facts: DomainFacts,
    wish: Wish,
    records: Iterable[Record],
    name: str,
    *,
    monitor: bool,
    frozen: bool = False,
) -> Plan:
    """The kind, the way, whether RAM is saved, what is warned of, and every blocker.

    records: ours of this domain, for the last measured pause. name: the snapshot's, "" = one that
    is free is found. monitor: whether the monitor may be used. frozen: the guest may be frozen
    since an earlier snapshot, and RAM that is saved now would bring that back with it.

    kind auto: a tree keeps its kind; else internal where nothing about the VM is against it and the
    guest doesn't stand still for long, now or when it runs; else external where that can be made
    and merged here. What passes (a busy VM, a full file system) changes no kind. Where neither can
    be, the reason is the internal one's.
    """
    sort = _Sort(facts, wish, list(records), name, monitor, frozen)
    if wish.kind == "external":
        return sort.plan(Kind.EXTERNAL)
    vm, kinds = facts.info.name, {s.kind for s in facts.snapshots}
    if wish.kind == "auto" and kinds == {Kind.EXTERNAL} and facts.chains.capable:
        return _told(sort.plan(Kind.EXTERNAL), vm, "so are those that the VM has")
    internal = sort.plan(Kind.INTERNAL)
    against = [b for b in internal.blockers if b.reason in AGAINST_INTERNAL]
    if wish.kind == "internal" or kinds:
        return internal
    if not against:
        return _spared(sort, internal)
    external = sort.plan(Kind.EXTERNAL)
    shared = {b.reason for b in internal.blockers} - AGAINST_INTERNAL
    if any(b.error not in _PASSING and b.reason not in shared for b in external.blockers):
        return internal
    return _told(external, vm, against[0].message)


def _spared(sort: _Sort, internal: Plan) -> Plan:
    """An external one instead of an internal one that could be made, but would stand the guest
    still for long; only where nothing keeps it from being reverted to and merged, whoever asks, and
    where all that are to be kept have room on a chain."""
    facts, wish = sort.facts, sort.wish
    runs = replace(facts, info=replace(facts.info, state=State.RUNNING))
    still = estimate_ms(runs, (), memory=False)
    refused = any(b.error not in _PASSING and b.reason != TOO_LONG for b in internal.blockers)
    limit = min(STANDSTILL_MS, wish.max_pause * 1000)
    if still <= limit or internal.memory or wish.many or refused:
        return internal
    external = sort.plan(Kind.EXTERNAL)
    later = later_blockers(runs, wish.disks, memory=external.memory)
    if any(b.error not in _PASSING for b in external.blockers) or any(later):
        return internal
    when = "" if facts.info.state.active else " while it runs"
    why = f"an internal one would stand it still for about {still / 1000:.1f} s{when}"
    return _told(external, facts.info.name, why)


def _told(made: Plan, vm: str, why: str) -> Plan:
    """The plan, with a word on why it is an external one though nobody asked for that."""
    said = Warned("external", vm, f"the snapshot of VM {vm} is an external one: {why}")
    return replace(made, warnings=(said, *made.warnings))


@dataclass(frozen=True, slots=True)
class _Sort:
    """What plan() is asked, for a look at each kind."""

    facts: DomainFacts
    wish: Wish
    records: list[Record]
    name: str
    monitor: bool
    frozen: bool

    def plan(self, kind: Kind) -> Plan:
        facts, wish, info = self.facts, self.wish, self.facts.info
        memory_ms = estimate_ms(facts, self.records, memory=True, kind=kind)
        memory, reasons, found = self._decide(kind, memory_ms)
        way = Way.MONITOR if info.state.active and not memory else Way.LIBVIRT
        way = Way.OVERLAY if kind is Kind.EXTERNAL else way
        found += self._blockers(kind, memory=memory)
        warnings = []
        if wish.then == "restart" and not info.state.active:
            text = f"VM {info.name} is off: there is nothing to restart"
            warnings.append(Warned("then-not-done", info.name, text))
        if reasons:
            text = f"the RAM of VM {info.name} is not in the snapshot: {reasons[0]}"
            warnings.append(Warned("memory-left-out", info.name, text))
        warnings += _left_out(info, kind, memory=memory)
        internal = kind is Kind.INTERNAL
        warnings += _in_the_way(facts) if internal else _afterwards(facts, wish, memory=memory)
        pause = memory_ms if memory else estimate_ms(facts, self.records, memory=False, kind=kind)
        if not memory and pause > wish.max_pause * 1000:
            found.append(_too_long(pause, wish))
        held = tuple(d.target for d in writable(info.disks))
        if kind is Kind.EXTERNAL and wish.disks:
            held = tuple(target for target in held if target in wish.disks)
        needs = create_needs(facts, memory=memory)
        found = list(dict.fromkeys(found))
        return Plan(way, memory, tuple(found), tuple(warnings), pause, tuple(needs.items()), held)

    def _blockers(self, kind: Kind, *, memory: bool) -> list[Blocker]:
        wish = self.wish
        if kind is Kind.EXTERNAL:
            return external_create_blockers(
                self.facts,
                self.name,
                memory=memory,
                quiesce=wish.quiesce,
                disks=wish.disks,
                by_policy=bool(wish.policies),
                min_free=wish.min_free,
            )
        return create_blockers(
            self.facts,
            self.name,
            memory=memory,
            quiesce=wish.quiesce,
            over_saved_state=wish.over_saved_state,
            min_free=wish.min_free,
        )

    def _decide(self, kind: Kind, memory_ms: int) -> tuple[bool, list[str], list[Blocker]]:
        """Whether RAM is saved; why not, where that was wanted; what is against the wish itself."""
        facts, wish = self.facts, self.wish
        found = _wish_blockers(facts.info, wish, kind)
        if not facts.info.state.active:
            return False, [], found
        against = [*_against_memory(facts, wish, kind, frozen=self.frozen)]
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
        found += _then_blockers(wish, wanted, against)
        if not self.monitor and kind is Kind.INTERNAL:
            why = "it is running, and monitor = false allows no snapshot without its RAM"
            found.append(Blocker(Unsupported, "monitor-off", "", why, ("memory", "shut-off")))
        return False, [b.message for b in against] if wanted else [], found


def _left_out(info: DomainInfo, kind: Kind, *, memory: bool) -> list[Warned]:
    """Parts of the VM that this snapshot can't hold, said and labelled."""
    found = []
    if info.loses_nvram(kind, memory=memory):
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


def _afterwards(facts: DomainFacts, wish: Wish, *, memory: bool) -> list[Warned]:
    """What a person should know who makes an external one: how it would be of no use. Where no
    person looks after it, the same is in the way."""
    info, found = facts.info, []
    if commit_denied(facts):
        text = (
            f"AppArmor keeps the snapshot of VM {info.name} from being merged once the VM was "
            "stopped and started again: delete it before that"
        )
        found.append(Warned("apparmor-commit", info.name, text))
    held = [d.target for d in writable(info.disks) if not wish.disks or d.target in wish.disks]
    against = [(b.item, b.message) for b in overlaid_blockers(info.disks, held)]
    if info.state.active and not memory and reverts_no_disks(facts):
        against.append(
            (info.name, "this libvirt may refuse to, as it is made running, without RAM")
        )
    for item, why in against:
        text = (
            f"VM {info.name} could not be reverted to it: {why}; it serves a backup alone, and a "
            "delete merges it"
        )
        found.append(Warned("not-revertible", item, text))
    return found


def _against_memory(
    facts: DomainFacts, wish: Wish, kind: Kind, *, frozen: bool
) -> Iterable[Blocker]:
    """What keeps its RAM out of a snapshot, beside the time that it takes and the room."""
    info = facts.info
    if kind is Kind.EXTERNAL:
        yield from external_memory_blockers(info, by_policy=bool(wish.policies))
        yield from inactive_nodes(facts, "save it again")
        if secret := next((d.target for d in writable(info.disks) if d.encrypted), ""):
            why = f"disk {secret} is encrypted, and the file with its RAM would not be"
            yield Blocker(Unsupported, "would-be-plaintext", secret, why, ("no-memory",))
    else:
        yield from memory_blockers(info, with_memory=True)
    if frozen:
        why = "its file systems may be frozen since an earlier snapshot, and its RAM with them"
        yield Blocker(Busy, "frozen", "", why, ("restart-agent", "no-memory"))


def _then_blockers(wish: Wish, wanted: bool, against: Sequence[Blocker]) -> Iterable[Blocker]:
    """RAM that is not saved, and that what is to happen afterwards would throw away unasked."""
    if not wanted and wish.memory == "auto" and wish.then != "continue":
        why = f"its RAM would be lost by then={wish.then}; ask for memory=yes, or say memory=no"
        yield Blocker(Unsupported, "no-memory", "", why, ("memory", "no-memory"))
    if wanted and wish.then != "continue":
        ways = ("no-memory", "max-pause")
        why = f"its RAM would be lost by then={wish.then} and cannot be saved: {against[0].message}"
        yield Blocker(Unsupported, against[0].reason, against[0].item, why, ways)


def _too_long(memory_ms: int, wish: Wish) -> Blocker:
    # rounded to seconds it may be what is allowed
    near = memory_ms < (wish.max_pause + 1) * 1000
    about = f"{memory_ms} ms" if near else f"{memory_ms / 1000:.0f} s"
    most = f"more than max_pause ({wish.max_pause} s) allows"
    if not wish.max_pause:
        most = "and with a max_pause of 0 it may not at all"
    why = f"it would stand still for about {about}, {most}"
    return Blocker(Unsupported, TOO_LONG, "", why, ("no-memory", "max-pause"))


def _wish_blockers(info: DomainInfo, wish: Wish, kind: Kind) -> list[Blocker]:
    found = []
    every = {d.target for d in writable(info.disks)}
    if kind is Kind.INTERNAL and wish.disks and set(wish.disks) != every:
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
