"""Times as people type them: by the calendar and the clock, or how long ago or from now."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

from ..output import times

_DIGITS = 6
_SECOND_DIGITS = 12
_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
}
_PART = re.compile(r"([0-9]+) *([A-Za-z]+) *")
_DAYS = {"yesterday": -1, "today": 0}
_FORMS = "2026-11-24 02:30 (Z behind it for UTC), 10:00 (of today), today, yesterday, @SECONDS"
_SPANS = "30min, 2h30min, 3d, 1w"


def instant(text: str) -> int:
    """A time in seconds UTC: `2026-11-24 02:30`, `10:00` of today, `today` or `yesterday` from
    their midnight on, all local unless they have an offset or --utc is given; seconds since 1970
    as `@1763973300`, or as a number."""
    found = _known(text, _DAYS)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write {_FORMS}")
    return found


def past(text: str) -> int:
    """A time in seconds UTC, also as how long ago: `90min`, `3h`, `2d`, `2h30min`."""
    import time

    now = int(time.time())
    if (span := _span(text)) is not None:
        return now - span
    found = _known(text, _DAYS)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write {_FORMS}, or how long ago: {_SPANS}"
        )
    if _is_clock(text) and found > now:
        raise argparse.ArgumentTypeError(
            f"{text!r} of today is still to come; for another day write its date before it"
        )
    return found


def coming(text: str) -> int:
    """A time in seconds UTC, also as how long from now: `90min`, `3h`, `2d`, `2h30min`."""
    import time

    now = int(time.time())
    if (span := _span(text)) is not None:
        return now + span
    found = _known(text, {"today": 0, "tomorrow": 1})
    if found is None:
        forms = _FORMS.replace("today, yesterday", "tomorrow")
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write {forms}, or how long from now: {_SPANS}"
        )
    if _is_clock(text) and found < now:
        raise argparse.ArgumentTypeError(
            f"{text!r} of today is over; for another day write its date before it"
        )
    return found


def _span(text: str) -> int | None:
    """Seconds; None = it is none. Raises ArgumentTypeError for one that may mean two things."""
    if not re.fullmatch(f"(?:{_PART.pattern})+", text):
        return None
    seconds = 0
    for many, unit in _PART.findall(text):
        if unit in ("m", "M"):
            raise argparse.ArgumentTypeError(
                f"{text!r}: {unit} may be minutes or months; write {many}min for minutes, or days"
            )
        if unit not in _UNITS:
            return None
        if len(many) > _DIGITS:
            most = f"{10**_DIGITS - 1}w"
            raise argparse.ArgumentTypeError(f"{text!r} is too far away; the most is {most}")
        seconds += int(many) * _UNITS[unit]
    return seconds


def _is_clock(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text) is not None


def _known(text: str, days: Mapping[str, int]) -> int | None:
    """None = it is no time."""
    from datetime import UTC, datetime, timedelta

    if re.fullmatch(r"@?-?[0-9]+", text) and len(text) != 8:  # 20261124 is a date
        if len(text.lstrip("@-")) > _SECOND_DIGITS:
            most = f"a number of seconds has at most {_SECOND_DIGITS} digits"
            raise argparse.ArgumentTypeError(f"{text!r} is too far away; {most}")
        return int(text.lstrip("@"))
    zone = UTC if times.in_utc() else None  # None = local
    midnight = datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if text in days:
            return int((midnight + timedelta(days=days[text])).timestamp())
        if _is_clock(text):
            hour, minute, *second = map(int, text.split(":"))
            clock = midnight.replace(hour=hour, minute=minute, second=second[0] if second else 0)
            return int(clock.timestamp())
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=zone)).timestamp())
    except (ValueError, OverflowError, OSError):
        return None
