"""When a policy is due: cron on wall time, the clock changes of its zone, missed slots. Pure.

croniter sees naive wall times only: given a zone it doubles, shifts or loses runs around clock
changes. Instants are whole seconds UTC; a slot is a scheduled instant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

from croniter import croniter

from ..errors import Internal, InvalidArgument
from .cron import Cron, parse

__all__ = [
    "DAY",
    "GRACE",
    "MAX_MISSED",
    "Cron",
    "Due",
    "clamp",
    "due",
    "fires",
    "next_fire",
    "parse",
    "shortest_gap",
    "spread",
]

MAX_MISSED = 1000
GRACE = 60
DAY = 86400

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  wall times have no zone, on purpose
_SECOND = timedelta(seconds=1)
_FIRST, _LAST = -2208988800, 221845392000  # 1900 and 9000: what zoneinfo and croniter can do


@dataclass(frozen=True, slots=True)
class Due:
    """What a schedule owes now: one run at most, whatever number of slots was missed.

    slot: the newest one that has come. missed: how many older ones were not served (at most
    MAX_MISSED are counted), oldest: the first of them, else slot. lateness: seconds since slot;
    late: more than the grace. run: whether the slot is to be run, or to be recorded as skipped.
    """

    slot: int
    missed: int
    oldest: int
    lateness: int
    late: bool
    run: bool


def next_fire(cron: Cron, after: int, zone: ZoneInfo) -> int:
    """The first slot later than `after`, in seconds UTC."""
    return next(fires(cron, after, zone))


def fires(cron: Cron, after: int, zone: ZoneInfo) -> Iterator[int]:
    """All slots later than `after`, in order, without end. InvalidArgument where the calendar ends.

    Each is later than the one before: a slot that is not would make the daemon spin.
    """
    walls = _Walls(cron)
    step = _interval_step if cron.interval else _fixed_step
    at = after
    while True:
        if not _FIRST <= at <= _LAST:
            raise InvalidArgument(f"time {at} is outside the years 1900 to 9000")
        following = step(walls, at, zone)
        if following <= at:
            raise Internal(f"schedule {cron.expression!r} does not go on after {at}")
        yield following
        at = following


class _Walls:
    """The wall times of a schedule, no zone involved."""

    def __init__(self, cron: Cron) -> None:
        self._parts = [croniter(part, _EPOCH) for part in cron.parts]

    def after(self, wall: datetime) -> datetime:
        """The first one later than `wall`."""
        found: list[datetime] = [part.get_next(datetime, start_time=wall) for part in self._parts]
        return min(found)


def _fixed_step(walls: _Walls, at: int, zone: ZoneInfo) -> int:
    local = datetime.fromtimestamp(at, zone)
    wall = local.replace(tzinfo=None, fold=0)
    if local.fold:
        # the second pass of a repeated hour: its times had their turn in the first
        before = _wall_offset(wall, zone, 0)
        change = _change(_seconds(wall) - before, at, zone)
        wall = _wall(change, before) - _SECOND
    following = walls.after(wall)
    first, second = (_wall_offset(following, zone, fold) for fold in (0, 1))
    if first < second:  # the clock skips this time
        seconds = _seconds(following)
        return _change(seconds - second, seconds - first, zone)
    return _seconds(following) - first


def _interval_step(walls: _Walls, at: int, zone: ZoneInfo) -> int:
    offset = _offset(at, zone)
    wall = _wall(at, offset)
    while True:
        following = _seconds(walls.after(wall)) - offset
        change = _first_change(at, following, zone)
        if change is None:
            return following
        at, offset = change, _offset(change, zone)
        wall = _wall(at, offset) - _SECOND


def _first_change(low: int, high: int, zone: ZoneInfo) -> int | None:
    """The first change of offset in (low, high]; zoneinfo does not tell, so look day by day."""
    offset = _offset(low, zone)
    while low < high:
        following = min(low + DAY, high)
        if _offset(following, zone) != offset:
            return _change(low, following, zone)
        low = following
    return None


def _change(low: int, high: int, zone: ZoneInfo) -> int:
    """The first instant in (low, high] with another offset than `low`, which `high` has."""
    offset = _offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high


def _offset(at: int, zone: ZoneInfo) -> int:
    return _whole(datetime.fromtimestamp(at, zone).utcoffset())


def _wall_offset(wall: datetime, zone: ZoneInfo, fold: int) -> int:
    return _whole(wall.replace(tzinfo=zone, fold=fold).utcoffset())


def _whole(offset: timedelta | None) -> int:
    return int(offset.total_seconds()) if offset else 0


def _wall(at: int, offset: int) -> datetime:
    return _EPOCH + timedelta(seconds=at + offset)


def _seconds(wall: datetime) -> int:
    return int((wall - _EPOCH).total_seconds())


def due(
    cron: Cron,
    last_slot: int,
    now: int,
    zone: ZoneInfo,
    *,
    catch_up: bool = True,
    max_lateness: int | None = None,
    grace: int = GRACE,
) -> Due | None:
    """What is due at `now` when `last_slot` was the last one dealt with; None = nothing.

    A slot no more than `grace` seconds old is on time and always run. An older one is run if
    `catch_up` is set and it is at most `max_lateness` seconds old (None = any age); else it is
    skipped. Slots before it are only counted. A new schedule starts with last_slot = now: it owes
    nothing for the past. The caller stores Due.slot as the new last_slot before it acts.
    """
    last_slot = clamp(last_slot, now)
    if last_slot >= now:
        return None
    ahead = islice(fires(cron, last_slot, zone), MAX_MISSED + 1)
    passed = list(takewhile(lambda slot: slot <= now, ahead))
    if not passed:
        return None
    slot = passed[-1] if len(passed) <= MAX_MISSED else _newest(cron, passed[-1], now, zone)
    lateness = now - slot
    late = lateness > grace
    in_time = max_lateness is None or lateness <= max_lateness
    return Due(
        slot, len(passed) - 1, passed[0], lateness, late, run=not late or (catch_up and in_time)
    )


def clamp(last_slot: int, now: int) -> int:
    """last_slot, or `now` where it lies more than a day ahead: the clock had been in the future.

    Without this the VM would have no snapshot until the clock gets there. Whoever sees another
    value come back stores it and warns.
    """
    return now if last_slot > now + DAY else last_slot


def _newest(cron: Cron, slot: int, now: int, zone: ZoneInfo) -> int:
    """The newest slot that is not after `now`; `slot` is one of them."""
    low, high = slot - 1, now  # a slot lies in (low, now], none in (high, now]
    while high - low > 1:
        middle = (low + high) // 2
        if next_fire(cron, middle, zone) <= now:
            low = middle
        else:
            high = middle
    return high


def shortest_gap(cron: Cron) -> int:
    """The shortest time between two of 64 slots in a row, in seconds: for judging, not planning."""
    first = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    return min(b - a for a, b in pairwise(islice(fires(cron, first, ZoneInfo("UTC")), 64)))


def spread(machine_id: str, domain_uuid: str, policy: str, randomized_delay: int) -> int:
    """Seconds by which a start is put off: fixed per host, VM and policy, in [0, randomized_delay).

    sha256 of the three, each followed by a newline, as a big-endian number modulo the delay.
    """
    if randomized_delay <= 0:
        return 0
    text = "".join(f"{part}\n" for part in (machine_id, domain_uuid, policy))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % randomized_delay
