"""The grammar of cron expressions: only what every croniter from 1.3.5 on reads alike. Pure.

An expression is checked and taken apart here, so that croniter sees nothing but numbers: the same
text (`59/15`, `5-5`, both day fields, a sixth field) means different things in its versions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InvalidArgument

MAX_LENGTH = 256

_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_STAR = re.compile(r"\*(?:/([0-9]{1,4}))?")
_RANGE = re.compile(r"([a-z]{3}|[0-9]{1,2})(?:-([a-z]{3}|[0-9]{1,2})(?:/([0-9]{1,4}))?)?")


@dataclass(frozen=True, slots=True)
class Cron:
    """A checked schedule.

    expression: as it was written. parts: what croniter is given; the earliest of them counts.
    interval: the minute or hour field starts with `*`: every wall time that matches is a slot. Of
    other schedules a time that a clock change skips is a slot at the change, and a time that comes
    twice is one once (Debian cron's rule).
    """

    expression: str
    parts: tuple[str, ...]
    interval: bool


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: Mapping[str, int] = field(default_factory=dict)
    sunday: bool = False  # 7 is the other name of 0

    @property
    def span(self) -> int:
        return self.high - self.low + 1


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, {name: n for n, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 0, 6, {name: n for n, name in enumerate(_DAYS)}, sunday=True),
)


def parse(expression: str) -> Cron:
    """Check a cron expression: 5 fields or a macro as `@daily`; InvalidArgument says what is wrong.

    Only what every croniter reads alike: `*`, `*/n`, `a`, `a-b`, `a-b/n`, lists, the names jan..dec
    and sun..sat, `L` as a day of the month.
    """
    fields = _split(expression)
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        raise _bad(
            expression,
            "sets both day of month and day of week, which programs read differently; "
            "leave one of them '*', or write two policies",
        )
    last = "l" in day.split(",")
    plain = ",".join(token for token in day.split(",") if token != "l")
    texts = (minute, hour, plain, month, weekday)
    values = [
        _values(expression, f, text) if text else [] for f, text in zip(_FIELDS, texts, strict=True)
    ]
    canon = [
        "*" if len(v) == f.span else ",".join(map(str, v))
        for f, v in zip(_FIELDS, values, strict=True)
    ]
    days = _day_parts(values[2], values[3], last)
    if not days:
        raise _bad(expression, "never fires: no such month has such a day")
    parts = tuple(f"{canon[0]} {canon[1]} {d} {canon[3]} {canon[4]}" for d in days)
    return Cron(expression, parts, interval=minute.startswith("*") or hour.startswith("*"))


def _split(expression: str) -> list[str]:
    """The five fields in lower case, macros expanded."""
    text = expression.strip(" \t").lower()
    if not text:
        raise InvalidArgument(
            "an empty schedule never fires; write for example '30 2 * * *' or '@daily'"
        )
    if len(expression) > MAX_LENGTH:
        raise InvalidArgument(f"a schedule of over {MAX_LENGTH} characters is refused")
    if not all(" " <= c <= "~" or c == "\t" for c in text):
        raise _bad(expression, "has characters that are not plain ASCII")
    if text in _MACROS:
        return _MACROS[text].split()
    if "@" + text in _MACROS:
        raise _bad(expression, f"is no cron expression; '@{text}' is meant")
    if text.startswith("@"):
        raise _bad(expression, f"is no known macro; there are {', '.join(_MACROS)}")
    if ":" in text or "*-" in text:
        raise _bad(
            expression, "is systemd's calendar syntax, not cron; '30 2 * * *' is 02:30 every day"
        )
    fields = text.split()
    if len(fields) in (6, 7):
        raise _bad(expression, f"has {len(fields)} fields; seconds and years are not supported")
    if len(fields) != 5:
        raise _bad(
            expression,
            f"has {len(fields)} fields; 5 are needed: minute hour day-of-month month day-of-week",
        )
    return fields


def _values(expression: str, f: _Field, text: str) -> list[int]:
    """The numbers that a field stands for, sorted."""
    found: set[int] = set()
    tokens = text.split(",")
    for token in tokens:
        if token == "*" and len(tokens) > 1:
            raise _bad(expression, f"has '*' beside other values in {f.name}")
        found.update(_token(expression, f, token))
    return sorted({n % 7 for n in found} if f.sunday else found)


def _token(expression: str, f: _Field, token: str) -> range:
    """One item of a list as a range of numbers."""
    if star := _STAR.fullmatch(token):
        return range(f.low, f.high + 1, _step(expression, f, star[1]))
    found = _RANGE.fullmatch(token)
    if not found:
        raise _bad(expression, f"has {token!r} in {f.name}; {_hint(f, token)}")
    first = _number(expression, f, found[1])
    if found[2] is None:
        return range(first, first + 1)
    end = _number(expression, f, found[2])
    if end <= first:
        raise _bad(
            expression,
            f"has the range {token!r} in {f.name}, which does not rise; {_rising(f, first, end)}",
        )
    return range(first, end + 1, _step(expression, f, found[3]))


def _rising(f: _Field, first: int, end: int) -> str:
    if first == end:
        return f"write '{first}'"
    if f.sunday and end == 0:
        return f"write '{first}-7'"
    return f"write '{first}-{f.high},{f.low}-{end}'"


def _hint(f: _Field, token: str) -> str:
    if re.fullmatch(r"[0-9]{1,2}/[0-9]{1,4}", token):
        start, step = token.split("/")
        return f"write '{start}-{f.high}/{step}'"
    if re.search(r"[?hrw#l]", token):
        return "'H', 'R', '?', 'W', '#' and 'L' outside day of month are not supported"
    return "allowed are *, */n, a, a-b, a-b/n and lists of them"


def _number(expression: str, f: _Field, text: str) -> int:
    number = f.words.get(text, -1) if text.isalpha() else int(text)
    if not f.low <= number <= f.high + f.sunday:
        raise _bad(
            expression, f"has {text!r} in {f.name}, which goes from {f.low} to {f.high + f.sunday}"
        )
    return number


def _step(expression: str, f: _Field, text: str | None) -> int:
    step = 1 if text is None else int(text)
    if not 1 <= step <= f.span:
        raise _bad(expression, f"has the step {text} in {f.name}; 1 to {f.span} make sense")
    return step


def _day_parts(days: list[int], months: list[int], last: bool) -> list[str]:
    """Day fields that croniter gets right one by one, without days that no chosen month has.

    croniter up to 6.0.0 skips 1 March where a list has the 1st and the 30th or 31st.
    """
    if len(days) == 31:
        return ["*"]
    longest = max(_LONGEST[m - 1] for m in months)
    common = ",".join(str(d) for d in days if d <= 28)
    rare = [str(d) for d in days if 28 < d <= longest]
    return [part for part in (common, *rare, "L" if last else "") if part]


def _bad(expression: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{expression[:64]!r} {why}")
