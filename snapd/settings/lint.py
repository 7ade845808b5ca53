"""What a definition may say and most likely does not mean: it has no effect, or a surprise. Pure.

The warnings' words are stable; their keys are those of the file (`keep.last`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache

from ..model import Policy, Warned
from ..planning import schedule

PERIODS = {
    "hourly": 3600,
    "daily": 86400,
    "weekly": 7 * 86400,
    "monthly": 30 * 86400,
    "yearly": 365 * 86400,
}
COUNTS = ("last", *PERIODS)
MANY = 1000
CHAIN = 48
"""So many external snapshots may be kept: then there is room for the next on the chain."""
_LISTED = 40  # each glob is compared with each: of longer lists only plain twins are found


def warnings(policy: Policy, cron: schedule.Cron | None) -> Iterator[Warned]:
    """All that is odd about a policy whose definition has been read. cron: its schedule, if any."""
    gap = schedule.shortest_gap(cron) if cron else None
    yield from _of_domains(policy)
    yield from _without_schedule(policy) if gap is None else _of_schedule(policy, gap)
    yield from _of_triggers(policy)
    if gap is None and policy.on == ("shutdown",):
        yield from _when_off(policy)
    elif policy.memory:
        yield from _of_memory(policy, gap)
    apart = _apart(policy, gap)
    yield from _of_keep(policy, apart)
    yield from _of_within(policy, gap, apart)
    yield from _of_caps(policy, apart)
    yield from _of_chain(policy, gap)


def _apart(policy: Policy, gap: int | None) -> int | None:
    """The least time between two snapshots in seconds, None where there is no such thing: a trigger
    may come right before a slot. gap: between two slots."""
    if policy.on:
        return policy.min_gap if gap is None else None
    return gap


# --- which VMs


def _of_domains(policy: Policy) -> Iterator[Warned]:
    if not policy.domains:
        yield Warned("matches-none", "domains", "domains is empty: the policy covers no VM")
    elif _few(policy.domains, policy.exclude) and all(
        any(_covers(wide, glob) for wide in policy.exclude) for glob in policy.domains
    ):
        what = "exclude leaves out all that domains names: the policy covers no VM"
        yield Warned("matches-none", "exclude", what)
    for key, globs in (("domains", policy.domains), ("exclude", policy.exclude)):
        if needless := list(_needless(globs)):
            glob, other = needless[0]
            more = f", and {len(needless) - 1} more are needless" if needless[1:] else ""
            what = f"{glob[:64]!r} is covered by {other[:64]!r} already{more}"
            yield Warned("needless-glob", key, what)


def _few(*lists: tuple[str, ...]) -> bool:
    return all(len(globs) <= _LISTED for globs in lists)


def _needless(globs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Globs that add nothing, each with the one that makes it so."""
    if not _few(globs):
        seen: set[str] = set()
        for glob in globs:
            if glob in seen:
                yield glob, glob
            seen.add(glob)
        return
    for n, glob in enumerate(globs):
        for m, other in enumerate(globs):
            # of two that say the same the later one is needless
            if m != n and _covers(other, glob) and (m < n or not _covers(glob, other)):
                yield glob, other
                break


def _covers(wide: str, glob: str) -> bool:
    """Whether `wide` surely matches whatever `glob` does; False also where that is hard to tell."""
    if wide == glob or not wide.strip("*"):
        return True
    if glob.startswith("uuid:") or wide.startswith("uuid:"):
        return wide.lower() == glob.lower()
    plain = not any(c in glob for c in "*?[")
    stars = not any(c in wide for c in "?[") and "[" not in glob
    return (plain or stars) and fnmatchcase(glob, wide)


# --- when


def _of_schedule(policy: Policy, gap: int) -> Iterator[Warned]:
    if gap <= 60:
        what = "the schedule fires every minute: snapshots pile up fast"
        yield Warned("every-minute", "schedule", what)
    if policy.max_lateness is not None and not policy.catch_up:
        what = 'catch_up = "skip" makes up for no slot, however late: this does not change that'
        yield Warned("no-catch-up", "max_lateness", what)
    if policy.randomized_delay >= gap:
        what = "some VMs would start when the next slot has come already"
        yield Warned("delay-over-gap", "randomized_delay", what)


def _without_schedule(policy: Policy) -> Iterator[Warned]:
    for key in ("catch_up", "max_lateness", "randomized_delay"):
        if key in policy.definition:
            yield Warned("no-schedule", key, "is about slots, and there is no schedule")
    if "timezone" in policy.definition and not any(getattr(policy.keep, k) for k in PERIODS):
        what = "there is neither a schedule nor a rule that goes by the calendar"
        yield Warned("no-schedule", "timezone", what)


def _of_triggers(policy: Policy) -> Iterator[Warned]:
    if not policy.on:
        if "min_gap" in policy.definition:
            yield Warned("no-trigger", "min_gap", "is about triggers, and there is no `on`")
        return
    if policy.min_gap <= 60:
        what = "a VM that starts and stops in a loop is snapshotted every minute or more often"
        yield Warned("every-minute", "min_gap", what)
    if "shutdown" in policy.on and policy.only_if == "running":
        what = "a VM that has shut down does not run: nothing is made on shutdown"
        yield Warned("never-running", "only_if", what)


def _when_off(policy: Policy) -> Iterator[Warned]:
    """Of a policy that acts when the VM is off, and otherwise when it is run by hand alone."""
    given = ["memory"] if policy.memory else []
    given += [key for key in ("max_pause", "quiesce") if key in policy.definition]
    for key in given:
        yield Warned("vm-off", key, "is about running VMs, and the policy acts on shutdown only")


# --- what is made and kept


def _of_memory(policy: Policy, gap: int | None) -> Iterator[Warned]:
    if "quiesce" in policy.definition:
        what = "a guest that is saved with its RAM is not quiesced"
        yield Warned("with-memory", "quiesce", what)
    most = _most(policy, gap)
    times = f"up to {most}" if most else "any number"
    what = f"every snapshot holds the RAM of the VM, and {times} of them are kept"
    yield Warned("ram-each", "memory", f"{what}: so many times its RAM lies on its disk")


def _most(policy: Policy, gap: int | None) -> int:
    """The number of snapshots that may be kept of a VM; 0 = no limit."""
    keep, caps = policy.keep, [n for n in [policy.max_count] if n]
    rates = [gap] if gap else []
    if policy.on:
        rates.append(policy.min_gap)
    if all(rates) or not keep.within:
        within = sum(-(-keep.within // rate) for rate in rates if rate)
        caps.append(within + sum(getattr(keep, kind) for kind in COUNTS))
    return min(caps, default=0)


def fits_chain(policies: Iterable[Policy]) -> bool:
    """Whether all that they may keep of a VM has room on one chain of overlays; those of one
    schedule have the same snapshots."""
    most: dict[tuple[str, str], int] = {}
    for policy in policies:
        number = _most(policy, _gap(policy.schedule) if policy.schedule else None)
        if not number:
            return False
        slots = (policy.schedule, policy.timezone) if policy.schedule else (policy.name, "")
        most[slots] = max(number, most.get(slots, 0))
    return sum(most.values()) <= CHAIN


@lru_cache(100)
def _gap(cron: str) -> int:
    return schedule.shortest_gap(schedule.parse(cron))


def _of_chain(policy: Policy, gap: int | None) -> Iterator[Warned]:
    most = _most(policy, gap)
    if policy.kind == "external" and not 0 < most <= CHAIN:
        times = f"up to {most}" if most else "any number of"
        what = (
            f"{times} external snapshots are kept, each a file that the VM's disks stand on, and "
            f"with more than {CHAIN} no other is made"
        )
        yield Warned("over-chain-limit", "keep", what)


def _of_keep(policy: Policy, apart: int | None) -> Iterator[Warned]:
    keep = policy.keep
    for kind in COUNTS:
        if getattr(keep, kind) > MANY:
            yield Warned("many", f"keep.{kind}", f"over {MANY} snapshots make every verb slow")
    if (keep.weekly or keep.monthly or keep.yearly) and not keep.daily:
        what = "weekly, monthly or yearly without daily leave few recent ones"
        yield Warned("no-daily", "keep", what)
    for kind, period in PERIODS.items():
        # the calendar's months and years are not all as long as their period here
        if getattr(keep, kind) and apart and apart > period * 1.1:
            what = f"snapshots come less often than {kind}: this keeps as many as last would"
            yield Warned("finer-than-schedule", f"keep.{kind}", what)


def _of_within(policy: Policy, gap: int | None, apart: int | None) -> Iterator[Warned]:
    within = policy.keep.within
    if not within:
        return
    if apart and within <= apart:
        what = "snapshots come less often than that: this keeps the newest one alone"
        yield Warned("within-gap", "keep.within", what)
    if gap and within // gap > MANY:
        what = f"over {MANY} snapshots come in that time, and make every verb slow"
        yield Warned("many", "keep.within", what)


def _of_caps(policy: Policy, apart: int | None) -> Iterator[Warned]:
    keep = policy.keep
    total = sum(getattr(keep, kind) for kind in COUNTS)
    if policy.max_count is not None and total > policy.max_count:
        yield Warned(
            "over-max-count",
            "limits.max_count",
            f"the keep counts sum up to {total}, max_count allows {policy.max_count}: "
            "the oldest that the rules keep are deleted",
        )
    if policy.max_age is None:
        return
    spans = {kind: getattr(keep, kind) * period for kind, period in PERIODS.items()}
    spans |= {"last": (keep.last - 1) * (apart or 0), "within": keep.within}
    for kind, span in spans.items():
        if span > policy.max_age:
            what = "max_age deletes before this rule has its number"
            yield Warned("over-max-age", f"keep.{kind}", what)
