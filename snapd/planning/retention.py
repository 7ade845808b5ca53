"""What a policy keeps and what it lets go, each with its reasons. Pure and total.

restic's model: every rule keeps the newest snapshot of each of its most recent non-empty calendar
buckets, counts for itself, and the rules are ORed. So it makes no difference when or how often one
prunes, and a larger count never deletes more. Times are seconds UTC, fractions allowed.

What is foreign, pinned, not in order, from the future or of unknown age is kept and not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from math import floor
from zoneinfo import ZoneInfo

from ..model import Keep, Origin, Snapshot, Status

SKEW = 300
MIN_KEEP = 1
SAFETY_LAST = 3
SAFETY_MAX_AGE = 14 * 86400
_CALENDAR_END = 253370764800  # year 9999: what lies beyond is no time, but milliseconds or worse


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot as the planner sees it.

    id: its name. owned: our store knows it. state: model.Status' words. labels: the policies that
    it was made for.
    """

    id: str
    created: float
    owned: bool = True
    pinned: bool = False
    state: str = Status.OK.value
    time_known: bool = True
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Keep it or delete it, and why; there is always a reason (`daily 3/7`, `pinned`, ...)."""

    candidate: Candidate
    keep: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What one policy says about retention; ages in seconds, zone for the calendar buckets.

    For a round that must not go by age (the clock jumped) leave max_age out.
    """

    keep: Keep
    zone: ZoneInfo
    max_age: int | None = None
    max_count: int | None = None


def candidate(snapshot: Snapshot) -> Candidate:
    """The planner's view; labels only where a policy's slot or event made the snapshot."""
    by_policy = snapshot.origin in (Origin.POLICY, Origin.EVENT)
    return Candidate(
        id=snapshot.info.name,
        created=snapshot.info.created,
        owned=snapshot.owned,
        pinned=snapshot.pinned,
        state=snapshot.status.value,
        time_known=snapshot.info.time_known,
        labels=snapshot.policies if by_policy else (),
    )


def plan(
    candidates: Iterable[Candidate],
    keep: Keep,
    now: float,
    zone: ZoneInfo,
    *,
    max_age: int | None = None,
    max_count: int | None = None,
) -> list[Decision]:
    """One decision for each candidate, newest first.

    The newest that counts is never deleted. Without any keep rule all are kept, caps or not: only
    something that says what to keep may delete. max_age and max_count are caps after the rules;
    what is exactly max_age old goes.
    """
    return _plan(_newest_first(candidates), Rules(keep, zone, max_age, max_count), now)


def _plan(ordered: list[Candidate], rules: Rules, now: float) -> list[Decision]:
    verdicts = [_Verdict(c, [why] if (why := _exempt(c, now)) else []) for c in ordered]
    counted = [v for v in verdicts if not v.reasons]
    if rules.keep.empty:
        capped = rules.max_age is not None or rules.max_count is not None
        for v in counted:
            v.reasons.append("no-keep-rule" if capped else "no-policy")
    else:
        _apply_rules(counted, rules.keep, rules.zone)
        _apply_caps(counted, rules, now)
    return [Decision(v.candidate, not v.released, tuple(v.reasons)) for v in verdicts]


@dataclass(slots=True)
class _Verdict:
    """A decision in the making."""

    candidate: Candidate
    reasons: list[str]
    released: bool = False

    def release(self, why: str) -> None:
        self.released = True
        self.reasons = [why]


def _newest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda c: (c.created, c.id), reverse=True)


def _exempt(c: Candidate, now: float) -> str:
    """Why a candidate is outside all rules and counts; "" = it is not."""
    if not c.owned:
        return "foreign"
    if c.pinned:
        return "pinned"
    if c.state != Status.OK:
        return f"state:{c.state}"
    if not c.time_known or not 0 < c.created < _CALENDAR_END:
        return "time-unknown"
    if c.created > now + SKEW:
        return "future"
    return ""


def _apply_rules(counted: list[_Verdict], keep: Keep, zone: ZoneInfo) -> None:
    """Write down which rules keep what; `counted` is newest first."""
    last = len(counted) if keep.last < 0 else keep.last
    for n, verdict in enumerate(counted[:last], 1):
        verdict.reasons.append(_of("last", n, keep.last))
    for kind, key in _BUCKETS.items():
        if count := getattr(keep, kind):
            _apply_buckets(counted, kind, count, key, zone)
    if keep.within and counted:
        horizon = counted[0].candidate.created - keep.within
        for verdict in counted:
            if verdict.candidate.created > horizon:
                verdict.reasons.append("within")
    for verdict in counted[:MIN_KEEP]:
        verdict.reasons.append("newest")


def _apply_buckets(
    counted: list[_Verdict], kind: str, count: int, key: _Key, zone: ZoneInfo
) -> None:
    seen: set[tuple[int, ...]] = set()
    for verdict in counted:
        bucket = key(datetime.fromtimestamp(floor(verdict.candidate.created), zone))
        if bucket in seen:
            continue
        if len(seen) == count:
            return
        seen.add(bucket)
        verdict.reasons.append(_of(kind, len(seen), count))


def _of(kind: str, n: int, count: int) -> str:
    return f"{kind} {n}" if count < 0 else f"{kind} {n}/{count}"


def _hour(at: datetime) -> tuple[int, ...]:
    # with the offset, or the hour that comes twice in autumn would be one bucket
    offset = at.utcoffset()
    return (at.year, at.month, at.day, at.hour, int(offset.total_seconds()) if offset else 0)


_Key = Callable[[datetime], tuple[int, ...]]
_BUCKETS: Mapping[str, _Key] = {
    "hourly": _hour,
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: (at.year,),
}


def _apply_caps(counted: list[_Verdict], rules: Rules, now: float) -> None:
    """Release what no rule keeps, then what is over a cap, oldest first; never the newest."""
    for verdict in counted:
        if not verdict.reasons:
            verdict.release("no-rule-matches")
    unprotected = [v for v in reversed(counted[MIN_KEEP:]) if not v.released]
    if rules.max_age is not None:
        for verdict in unprotected:
            if verdict.candidate.created <= now - rules.max_age:
                verdict.release("max-age")
    if rules.max_count is not None:
        excess = max(sum(not v.released for v in counted) - rules.max_count, 0)
        for verdict in [v for v in unprotected if not v.released][:excess]:
            verdict.release("max-count")


def plan_labels(
    candidates: Iterable[Candidate],
    policies: Mapping[str, Rules],
    now: float,
    held: Collection[str] = (),
    one_more: Collection[str] = (),
) -> list[Decision]:
    """The plan of a domain under several policies, newest first; reasons are `POLICY: reason`.

    Each policy plans over the snapshots that carry its label; one that carries several goes only
    when each of them lets it go. A label that is not in `policies` never lets go, and a snapshot
    without label (made by hand, safety, trial) is kept. So the newest good one of the domain and
    of each label stays. held: policies that are to let go of nothing for now.

    one_more: as it would be with one snapshot more, made now with these labels. It isn't there, so
    nothing is decided about it, and the newest good one of each label stays all the same.
    """
    more = Candidate("", now, labels=tuple(one_more))
    ordered = _newest_first([*candidates, *([more] if one_more else [])])
    verdicts: list[list[tuple[str, Decision]]] = [[] for _ in ordered]
    for label, rules in sorted(policies.items()):
        if label in held:
            continue
        members = [n for n, c in enumerate(ordered) if label in c.labels]
        decisions = _plan([ordered[n] for n in members], rules, now)
        for n, decision in zip(members, _without(more, decisions, now), strict=True):
            verdicts[n].append((label, decision))
    return [
        _joined(c, found, now, held)
        for c, found in zip(ordered, verdicts, strict=True)
        if c is not more
    ]


def _without(more: Candidate, decisions: list[Decision], now: float) -> list[Decision]:
    """The newest good one that is there stays, though one that isn't would be newer."""
    there = (d for d in decisions if d.candidate is not more and not _exempt(d.candidate, now))
    newest = next(there, None)
    if newest is None or newest.keep:
        return decisions
    stays = replace(newest, keep=True, reasons=("newest",))
    return [stays if d is newest else d for d in decisions]


def _joined(
    c: Candidate, verdicts: list[tuple[str, Decision]], now: float, held: Collection[str]
) -> Decision:
    if why := _exempt(c, now):
        return Decision(c, True, (why,))
    if not c.labels:
        return Decision(c, True, ("no-policy",))
    known = {label for label, _ in verdicts}
    orphaned = tuple(
        f"{label}: {'held' if label in held else 'no-policy'}"
        for label in c.labels
        if label not in known
    )
    keepers = tuple(f"{label}: {r}" for label, d in verdicts if d.keep for r in d.reasons)
    if keepers or orphaned:
        return Decision(c, True, keepers + orphaned)
    return Decision(c, False, tuple(f"{label}: {r}" for label, d in verdicts for r in d.reasons))


def plan_safety(
    candidates: Iterable[Candidate],
    now: float,
    *,
    last: int = SAFETY_LAST,
    max_age: int | None = SAFETY_MAX_AGE,
) -> list[Decision]:
    """The plan for snapshots taken before reverts, newest first; give it those only.

    Kept while among the newest `last` and less than `max_age` seconds old (None = any age), the
    newest always, and those of its second: one of them is the way back from the last revert.
    """
    decisions = []
    n, newest = 0, None
    for c in _newest_first(candidates):
        if why := _exempt(c, now):
            decisions.append(Decision(c, True, (why,)))
            continue
        n += 1
        newest = c.created if newest is None else newest
        if n <= MIN_KEEP or c.created == newest:
            decisions.append(Decision(c, True, (f"safety {n}/{last}", "newest")))
        elif n > last:
            decisions.append(Decision(c, False, ("safety-last",)))
        elif max_age is not None and c.created <= now - max_age:
            decisions.append(Decision(c, False, ("safety-max-age",)))
        else:
            decisions.append(Decision(c, True, (f"safety {n}/{last}",)))
    return decisions


def needs_confirmation(deletions: int, owned: int) -> bool:
    """Whether a plan deletes so much that a person has to confirm it.

    More than 5 and more than half of the snapshots of the VM that are ours.
    """
    return deletions > 5 and 2 * deletions > owned
