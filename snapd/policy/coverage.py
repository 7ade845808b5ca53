"""How a policy fares on a domain that it covers: will it work, when did it, is it overdue. Pure."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from ..errors import SnapdError
from ..inventory import DomainPicture
from ..model import DomainInfo, Policy, Record
from ..operations import NO_CHAINS, ChainFacts, Outlook, Wish, outlook
from ..planning.schedule import GRACE, fires, parse, shortest_gap
from ..store import SlotRow
from .owed import kind_of

YES = "yes"
UNCHECKED = "unchecked"
OK, WARNING, CRITICAL = "ok", "warning", "critical"
PERIODS = 1000
_NEVER = 1 << 62
_COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


@dataclass(frozen=True, slots=True)
class Coverage:
    """A policy on a domain. verdict: `yes`, or the reason word against it, with why and ways; of
    `yes`, why: why it is of that kind, where that isn't the usual one;
    pause_ms: the guest's standstill, -1 = unknown; overdue: since when, 0 = it isn't; ram_kept:
    the most bytes of RAM that its snapshots come to hold; found_by_run: the verdict is what a run
    came upon, which no list can tell. Times are seconds UTC, 0 = never.
    """

    policy: str = ""
    domain: str = ""
    domain_name: str = ""
    verdict: str = YES
    kind: str = ""
    pause_ms: int = -1
    next_run: int = 0
    last_run: int = 0
    last_success: int = 0
    error_name: str = ""
    error_message: str = ""
    health: str = OK
    ram_kept: int = 0
    overdue: int = 0
    why: str = ""
    ways: tuple[str, ...] = ()
    found_by_run: bool = False


def coverage(
    policy: Policy,
    info: DomainInfo,
    prospect: Outlook,
    slot: SlotRow | None,
    now: int,
    *,
    next_run: int = 0,
    refused: SnapdError | None = None,
    held: bool = False,
) -> Coverage:
    """How it fares. prospect: outlook_of(); slot: what it last did there, None = nothing yet;
    refused: what it is not tried again for; held: it is to leave the domain alone for now."""
    word, why, ways = _against(prospect, refused)
    slot = slot or SlotRow(policy.name, info.uuid, now, last_ok=now)
    late = 0 if held else overdue(policy, slot.last_ok, now)
    waited_for = not slot.last_run and not held and _missed(policy, slot.last_ok, now, 1)
    health = OK
    if word != YES or held or waited_for:
        health = WARNING
    if slot.error_name or late:
        health = CRITICAL
    return Coverage(
        policy.name,
        info.uuid,
        info.name,
        word,
        prospect.kind if word == YES else "",
        prospect.pause_ms,
        next_run,
        slot.last_run,
        slot.last_success,
        slot.error_name,
        slot.error_message,
        health,
        ram_kept(policy, info),
        late,
        why,
        ways,
        prospect.blocker is None and refused is not None,
    )


def _against(prospect: Outlook, refused: SnapdError | None) -> tuple[str, str, tuple[str, ...]]:
    if blocker := prospect.blocker:
        return blocker.reason, blocker.message, blocker.ways
    if refused:
        return refused.reason or UNCHECKED, refused.message, refused.ways
    return YES, prospect.why, ()


def worst(healths: Sequence[str]) -> str:
    """Of several; of none, warning: nothing is done there."""
    return next((h for h in (CRITICAL, WARNING, OK) if h in healths), WARNING)


def outlook_of(
    policy: Policy,
    picture: DomainPicture,
    records: Sequence[Record] = (),
    *,
    monitor: bool,
    has_images: bool,
    chains: ChainFacts = NO_CHAINS,
    version: tuple[int, int, int] = (0, 0, 0),
) -> Outlook:
    """How the policy's snapshot of a domain would fare now, as far as a list can tell. records:
    ours of the domain; monitor, has_images, chains, version: as Hypervisor's."""
    wish = Wish(
        kind=kind_of(policy),
        memory="yes" if policy.memory else "no",
        quiesce=policy.quiesce,
        max_pause=policy.max_pause,
        policies=(policy.name,),
    )
    snapshots = tuple(picture.snapshots.values())
    return outlook(
        picture.info,
        snapshots,
        records,
        wish,
        monitor=monitor,
        has_images=has_images,
        chains=chains,
        version=version,
    )


# --- overdue


def overdue(policy: Policy, last_ok: int, now: int) -> int:
    """The second slot after the time when nothing was owed, where it has passed and by more than
    what a run may be put off; 0 = not overdue. It does not matter who was down meanwhile."""
    return _missed(policy, last_ok, now, 2)


def _missed(policy: Policy, last_ok: int, now: int, count: int) -> int:
    """The count-th slot after that, where it has passed for long; else 0."""
    patience = GRACE + policy.randomized_delay
    if not policy.schedule or not last_ok or now <= last_ok + patience:
        return 0
    slot = _calendar(policy.schedule, policy.timezone).after(last_ok)[count - 1]
    return slot if now > slot + patience else 0


class _Calendar:
    """The two slots that follow a time. Many domains ask for times of the same period, of which
    each has its own: what is known of a period serves them all."""

    def __init__(self, schedule: str, timezone: str) -> None:
        self._cron, self._zone = parse(schedule), ZoneInfo(timezone)
        self._known: list[
            tuple[int, int, int]
        ] = []  # from, first, second: for from <= time < first

    def after(self, time: int) -> tuple[int, int]:
        place = bisect(self._known, (time, _NEVER, _NEVER))
        if place and time < self._known[place - 1][1]:
            return self._known[place - 1][1:]
        first, second = islice(fires(self._cron, time, self._zone), 2)
        if place < len(self._known) and self._known[place][1] == first:
            self._known[place] = (time, first, second)
        else:
            if len(self._known) >= PERIODS:
                self._known.clear()
            insort(self._known, (time, first, second))
        return first, second


@lru_cache(100)
def _calendar(schedule: str, timezone: str) -> _Calendar:
    return _Calendar(schedule, timezone)


# --- what it costs


def ram_kept(policy: Policy, info: DomainInfo) -> int:
    """The most bytes of the VM's RAM that the snapshots which the policy keeps can hold."""
    if not policy.memory:
        return 0
    kept = sum(int(getattr(policy.keep, kind)) for kind in _COUNTS)
    if policy.keep.within:
        kept += policy.keep.within // _gap(policy.schedule, policy.min_gap) + 1
    if policy.max_count is not None:
        kept = min(kept, max(policy.max_count, 1))
    return kept * info.memory


@lru_cache(100)
def _gap(schedule: str, min_gap: int) -> int:
    """The shortest time between two runs, in seconds."""
    return max(1, shortest_gap(parse(schedule)) if schedule else min_gap)
