"""Reading values strictly: tables that notice every key they were not asked for, durations, files.

A converter is a function from the raw value to the wanted one; it raises InvalidArgument with the
reason alone, the table adds the key.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import InvalidArgument
from ..model import Floor

T = TypeVar("T")

MAX_BYTES = 65536
UNBUILT = "not supported by this version"
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"([0-9]{1,9})([A-Za-z]*)")
_LONGEST = 100 * 365 * 86400
_SIZES = {"MiB": 20, "GiB": 30, "TiB": 40}
_MOST_PERCENT = 90
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at which key (`keep.last`; "" = the whole)."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


def join_faults(faults: Sequence[Fault], most: int = 8) -> str:
    """All faults in one line, or the first ones and how many more there are."""
    shown = "; ".join(map(str, faults[:most]))
    return shown if len(faults) <= most else f"{shown}; and {len(faults) - most} more"


class Table:
    """A table whose keys are taken one by one; faults gather in one list for all its sub-tables."""

    def __init__(self, raw: Mapping[str, object], faults: list[Fault], prefix: str = "") -> None:
        self._raw = raw
        self._faults = faults
        self._prefix = prefix
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def take(self, key: str, convert: Callable[[object], T], default: T) -> T:
        """The converted value; the default where there is none, or a wrong one (a fault)."""
        self._known.add(key)
        value = self._raw.get(key, _MISSING)
        if value is _MISSING:
            return default
        try:
            return convert(value)
        except InvalidArgument as error:
            self.fault(key, error.message)
            return default

    def table(self, key: str) -> Table:
        """The sub-table of that name, empty where there is none."""
        empty: Mapping[str, object] = {}
        raw = self.take(key, _mapping, empty)
        return Table(raw, self._faults, f"{self._prefix}{key}.")

    def fault(self, key: str, message: str) -> None:
        """Note that something is wrong with a key of this table."""
        self._faults.append(Fault(self._prefix + key, message))

    def finish(self) -> None:
        """A fault for each key that was not asked for."""
        for key in self._raw:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                hint = f"; is '{near[0]}' meant?" if near else ""
                self.fault(key[:64], f"unknown key, {UNBUILT}{hint}")


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidArgument(f"must be a table, not {kind_of(value)}")
    return value


def kind_of(value: object) -> str:
    """A value's type in the words of someone who writes files."""
    names: dict[type, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a fraction",
        str: "text",
        list: "a list",
        tuple: "a list",
        dict: "a table",
    }
    return names.get(type(value), type(value).__name__)


def text(value: object) -> str:
    """Text that is not empty and has no control characters."""
    if not isinstance(value, str):
        raise InvalidArgument(f"must be text, not {kind_of(value)}")
    if not value:
        raise InvalidArgument("must not be empty")
    if not value.isprintable():
        raise InvalidArgument("must not contain control or invisible characters")
    return value


def printable(given: str) -> str:
    """Text as it is, or escaped where a line cannot hold it: file names may be anything."""
    return given if given.isprintable() else repr(given)[1:-1]


def yes_or_no(value: object) -> bool:
    """A plain true or false."""
    if not isinstance(value, bool):
        raise InvalidArgument(f"must be true or false, not {kind_of(value)}")
    return value


def whole(low: int, high: int) -> Callable[[object], int]:
    """A converter for whole numbers in a range."""

    def convert(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidArgument(f"must be a whole number, not {kind_of(value)}")
        if not low <= value <= high:
            way = "; to switch it off leave the key out" if value in (0, -1) else ""
            shown = value if abs(value) < 10**12 else "that"
            raise InvalidArgument(f"must be from {low} to {high}, not {shown}{way}")
        return int(value)

    return convert


def word(*allowed: str) -> Callable[[object], str]:
    """A converter for one of some words."""

    def convert(value: object) -> str:
        if isinstance(value, bool) and {"yes", "no"} <= {*allowed}:
            raise InvalidArgument(f'must be text; write "{"yes" if value else "no"}"')
        chosen = text(value)
        if chosen not in allowed:
            raise InvalidArgument(f"must be one of {', '.join(allowed)}, not {chosen[:64]!r}")
        return chosen

    return convert


def duration(low: int = 1) -> Callable[[object], int]:
    """A converter for durations as "90s", "5min", "1h", "30d", "2w"; the result is in seconds."""

    def convert(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            raise InvalidArgument(f'needs a unit in quotes, as "{value}s" or "{value}d"')
        given = text(value)
        found = _DURATION.fullmatch(given)
        if not found:
            raise InvalidArgument(
                f'must be a number and a unit (s, min, h, d, w) as "30d", not {given[:64]!r}'
            )
        number, unit = int(found[1]), found[2]
        if unit not in _UNITS:
            raise InvalidArgument(_unit_fault(found[1], unit))
        seconds = number * _UNITS[unit]
        if not low <= seconds <= _LONGEST:
            raise InvalidArgument(f'must be from "{low}s" to "36500d", not {given!r}')
        return seconds

    return convert


def floor(value: object) -> Floor:
    """Room that has to stay free: "5%" of a file system, or a size as "20GiB"; "0%" = none."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise InvalidArgument(f'needs a unit in quotes, as "{value}%" or "{value}GiB"')
    given = text(value)
    if percent := re.fullmatch(r"([0-9]{1,3})%", given):
        if int(percent[1]) > _MOST_PERCENT:
            raise InvalidArgument(f'must be at most "{_MOST_PERCENT}%", not {given!r}')
        return Floor(percent=int(percent[1]))
    size = re.fullmatch(r"([1-9][0-9]{0,5})(MiB|GiB|TiB)", given)
    if not size:
        raise InvalidArgument(
            f'must be a part as "5%" or a size (MiB, GiB, TiB) as "20GiB", not {given[:64]!r}'
        )
    return Floor(size=int(size[1]) << _SIZES[size[2]])


def some_of(*allowed: str) -> Callable[[object], tuple[str, ...]]:
    """A converter for a list of some of these words, each once, at least one."""

    def convert(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise InvalidArgument(f'must be a list as ["{allowed[0]}"], not {kind_of(value)}')
        chosen = tuple(word(*allowed)(item) for item in value)
        if not chosen:
            raise InvalidArgument(f"must name at least one of {', '.join(allowed)}")
        if len({*chosen}) < len(chosen):
            raise InvalidArgument("names the same one twice")
        return chosen

    return convert


def _unit_fault(number: str, unit: str) -> str:
    if unit in ("m", "M"):
        return f'{unit!r} could be minutes or months; write "{number}min", or days as "30d"'
    if not unit:
        return f'has no unit; write "{number}s", "{number}min", "{number}h", "{number}d" or so'
    return f"has the unit {unit[:16]!r}; there are s, min, h, d, w"


def read_file(path: Path) -> bytes:
    """The content of a plain file of at most 64 KiB; OSError as open() raises it.

    A pipe or device would let the reader wait for ever, so it is opened without waiting.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidArgument("is not a plain file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InvalidArgument(f"has over {MAX_BYTES} bytes")
    return content


def parse_toml(content: bytes) -> dict[str, object]:
    """The tables of a TOML text; InvalidArgument says at which byte or line it is wrong."""
    try:
        decoded = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"is not UTF-8 (byte {error.start})") from error
    try:
        return tomllib.loads(decoded.removeprefix("\ufeff"))
    except RecursionError as error:
        raise InvalidArgument("is not valid TOML: nested too deeply") from error
    except ValueError as error:
        reason = printable(str(error))[:200]
        raise InvalidArgument(f"is not valid TOML: {reason}") from error
