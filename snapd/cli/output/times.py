"""Times as people read them: local, to the minute, with how long ago. Input: seconds UTC."""

from __future__ import annotations

import re
import time

_chosen = {"utc": False, "iso": False}

_TOLD = re.compile(
    r"(\(|\b(?:after|at|before|made|since|until) )(\d{4}-\d\d-\d\d \d\d:\d\d)(:\d\d)? UTC\b"
)
_SCALE = ((365 * 86400, "y"), (7 * 86400, "w"), (86400, "d"), (3600, "h"), (60, "min"))


def choose(*, utc: bool, iso: bool) -> None:
    """How this process shows times from now on: in UTC, and as ISO 8601 has them."""
    _chosen.update(utc=utc, iso=iso)


def in_utc() -> bool:
    return _chosen["utc"]


def minute(seconds: int) -> str:
    """`2026-11-24 02:30` in local time, `2026-11-24 02:30Z` in UTC, to the second and with its
    offset as ISO 8601; 0 = never, and what no calendar has stays a number."""
    return _told_as("%Y-%m-%d %H:%M", seconds)


def second(seconds: int) -> str:
    """As minute(), to the second: `2026-11-24 02:30:05`."""
    return _told_as("%Y-%m-%d %H:%M:%S", seconds)


def _told_as(form: str, seconds: int) -> str:
    if not seconds:
        return "never"
    try:
        moment = time.gmtime(seconds) if _chosen["utc"] else time.localtime(seconds)
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
    if not _chosen["iso"]:
        return time.strftime(form, moment) + ("Z" if _chosen["utc"] else "")
    offset = time.strftime("%z", moment)
    zone = "Z" if _chosen["utc"] else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + zone


def local(sentence: str) -> str:
    """A sentence of the daemon's with the times in it (`since 2026-11-24 01:30 UTC`) as this
    process shows them. Only behind such a word, or a name could be taken for one."""
    return _TOLD.sub(lambda found: f"{found[1]}{_shown(found[2], found[3] or '')}", sentence)


def _shown(minute_: str, second_: str) -> str:
    from datetime import datetime

    try:
        at = datetime.fromisoformat(f"{minute_}{second_}+00:00").timestamp()
    except ValueError:
        return f"{minute_}{second_} UTC"
    return second(int(at)) if second_ else minute(int(at))


def age(seconds: int, now: float) -> str:
    """`3 h ago`, `in 20 min`, `now`; "" for never."""
    if not seconds:
        return ""
    span = abs(int(now) - seconds)
    if span < 60:
        return "now" if span < 5 else _told(f"{span} s", seconds, now)
    # a unit is used from twice its length on: `26 h` says more than `1 d`
    size, unit = next(((s, u) for s, u in _SCALE if span >= 2 * s), _SCALE[-1])
    return _told(f"{span // size} {unit}", seconds, now)


def moment(seconds: int, now: float) -> str:
    """Both: `2026-11-24 02:30 (3 h ago)`."""
    ago = age(seconds, now)
    return f"{minute(seconds)} ({ago})" if ago else minute(seconds)


def elapsed(seconds: float) -> str:
    """`5 s`, `2:05`: how long something has been going on."""
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"


def _told(span: str, seconds: int, now: float) -> str:
    return f"{span} ago" if seconds < now else f"in {span}"
