"""What policies owe a domain, and the one snapshot that serves them all. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..model import Floor, Origin, Policy
from ..operations import Wish
from ..planning.schedule import Due
from ..settings import fits_chain
from ..store import RunRow

BY_HAND = "by hand"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Owed:
    """One policy's claim on a domain.

    slot: the scheduled instant, or when the trigger or a person came. missed: older slots that
    this one makes up for, oldest: the first of them. word: what it is for where that is no slot: a
    trigger (start, shutdown, crash) or `by hand`. run: its row in the store, open until settled;
    before: the row of those that were missed.
    """

    policy: Policy
    slot: int
    missed: int = 0
    oldest: int = 0
    late: bool = False
    word: str = ""
    run: RunRow | None = None
    before: RunRow | None = None

    @classmethod
    def of(cls, policy: Policy, due: Due) -> Owed:
        return cls(policy, due.slot, due.missed, due.oldest, due.late)

    @property
    def scheduled(self) -> bool:
        return not self.word

    @property
    def demands(self) -> tuple[str, bool, str, int, Floor]:
        """What its snapshot has to be like: those that agree fare alike."""
        p = self.policy
        return kind_of(p), p.memory, p.quiesce, p.max_pause, p.min_free

    @property
    def reason(self) -> str:
        """As history has it: `policy nightly, slot 1795600800`."""
        if self.word == BY_HAND:
            return f"policy {self.policy.name}, run by hand"
        if self.word:
            return f"policy {self.policy.name}, on {self.word}"
        return f"policy {self.policy.name}, slot {self.slot}"


def together(several: Sequence[Owed]) -> list[list[Owed]]:
    """Those that one snapshot can serve. It is of one kind, and to a policy that leaves the kind
    open any other's will do; it goes along with the first by name."""
    first = _kind([o.policy for o in several])
    groups: dict[str, list[Owed]] = {}
    for owed in several:
        kind = kind_of(owed.policy)
        groups.setdefault(first if kind == AUTO else kind, []).append(owed)
    return list(groups.values())


def kind_of(policy: Policy) -> str:
    """The kind that its snapshots have to be of. With RAM they are internal: an external one with
    RAM leaves a second file that nobody looks after, and is made by hand only."""
    return "internal" if policy.memory and policy.kind == AUTO else policy.kind


def _kind(policies: Sequence[Policy]) -> str:
    named = sorted((p.name, kind_of(p)) for p in policies if kind_of(p) != AUTO)
    return named[0][1] if named else AUTO


def wish_of(several: Sequence[Owed], covering: Sequence[Policy] = ()) -> Wish:
    """What several policies want together(): the most careful of each. covering: all that the VM is
    under, due or not, whose snapshots are on the same chain."""
    policies = sorted((o.policy for o in several), key=lambda p: p.name)
    first = min(several, key=lambda o: (o.policy.name, o.word))
    quiesce = next((q for q in ("require", "try") if any(p.quiesce == q for p in policies)), "no")
    events = all(o.word not in ("", BY_HAND) for o in several)
    return Wish(
        kind=_kind(policies),
        stem=policies[0].name,
        at=0 if first.word == BY_HAND else first.slot,
        memory="yes" if any(p.memory for p in policies) else "no",
        quiesce=quiesce,
        many=not fits_chain({p.name: p for p in (*policies, *covering)}.values()),
        max_pause=min(p.max_pause for p in policies),
        min_free=_floor(policies),
        origin=Origin.EVENT if events else Origin.POLICY,
        policies=tuple(dict.fromkeys(p.name for p in policies)),
        reason=_reason(several),
    )


def _floor(policies: Sequence[Policy]) -> Floor:
    floors = [p.min_free for p in policies]
    return Floor(max(f.percent for f in floors), max(f.size for f in floors))


def _reason(several: Sequence[Owed]) -> str:
    told = "; ".join(o.reason for o in sorted(several, key=lambda o: o.policy.name))
    missed = max(o.missed for o in several)
    if missed or any(o.late for o in several):
        told += f", caught up ({missed} missed before)"
    return told
