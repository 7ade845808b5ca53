"""Random values: of any D-Bus type, and the strings, numbers and policies that break naive code."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from snapd.wire.values import INTEGERS, Variant
from tests.driver.house import DATA

DEEPEST = 48
"""Variants in each other; a bus takes 64 levels, and there are others around them."""
_BASIC = "ybnqiuxtdsog"
_RARELY = 0.02
_HUGE = 65_536


def sendable(text: str) -> bool:
    """Whether a client's library sends it at all: no NUL, no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


ODD: tuple[str, ...] = (
    *(
        case["name"]
        for case in json.loads((DATA / "names" / "snapshot_names.json").read_text())
        if sendable(case["name"])
    ),
    "",
    " ",
    "\n",
    "\x01\x1b[31mred\x7f\x9b",
    "../../etc/passwd",
    "%s%n{0}{domain!r}",
    "'; DROP TABLE jobs; --",
    "<domain>&amp;]]>",
    "\u202eabc\u200b\ufeff",
    "\ufffe\uffff",
    "\U0001f40d" * 40,
    "e\u0301" * 100,
    "[]",
    '["a", 1, null, {"b": 1e999}]',
    "[" * 5000,
    "[[[],[[1]]],NaN,-Infinity,1" + "0" * 5000 + "]",
    "9" * 5000,
    "-1",
    "0",
    "999999999999999999",
    "1e309",
    "\u0662\u0663",  # digits, not ASCII's
    "x" * 255,
    "x" * 4097,
    "* * * * *",
    "@reboot",
    "0 0 31 2 *",
    "Europe/Berlin",
    "../zoneinfo/UTC",
    "99999999999999999999d",
)
_PATHS = ("/", "/a", "/org/virtsnap/Snapd1", "/" + "x" * 300, "/a" * 200)


def odd_string(random: Random) -> str:
    """Any string at all; now and then one of 64 KiB."""
    if random.random() < _RARELY:
        return random.choice("x\u2603\n[") * (_HUGE // 3)
    if random.random() < 0.5:
        return random.choice(ODD)
    return "".join(_character(random) for _ in range(random.randrange(1, 30)))


def _character(random: Random) -> str:
    while True:
        top = random.choice((0x7F, 0x7F, 0x17F, 0x2FFF, 0x10FFFF))
        if sendable(made := chr(random.randint(1, top))):
            return made


def integer(random: Random, kind: str) -> int:
    """Any number of the type; most often one at an edge of this or another type."""
    low, high = INTEGERS[kind]
    if random.random() < 0.3:
        return random.randint(low, high)
    edges = [0, 1, -1, 60, 255, 1000, 10_000, 10_001, 2**31 - 1, 2**31, 2**32 - 1, 2**53]
    edges += [2**62, 2**63 - 1, 253402300800, -62135596801, low, high]
    return random.choice([n for n in edges if low <= n <= high])


def signature(random: Random, depth: int = 3) -> str:
    """One complete type."""
    shape = random.random()
    if depth == 0 or shape < 0.55:
        return random.choice(_BASIC)
    if shape < 0.7:
        return "a" + signature(random, depth - 1)
    if shape < 0.82:
        return f"a{{{random.choice('sxuo')}{signature(random, depth - 1)}}}"
    if shape < 0.9:
        parts = random.randrange(1, 4)
        return "(" + "".join(signature(random, depth - 1) for _ in range(parts)) + ")"
    return "v"


def value(random: Random, kind: str, depth: int = 3) -> Any:
    """A value of a complete type."""
    if kind in INTEGERS:
        return integer(random, kind)
    if kind[0] == "a":
        return _array(random, kind[1:], depth)
    if kind[0] == "(":
        return [value(random, each, depth - 1) for each in split(kind[1:-1])]
    return _OTHERS[kind](random, depth)


def _array(random: Random, item: str, depth: int) -> Any:
    count = random.choice((0, 1, 1, 2, 5)) if depth > 0 else random.randrange(2)
    if random.random() < _RARELY / 4 and item in _BASIC:
        count = 1500
    if item[0] == "{":
        key, rest = item[1], item[2:-1]
        return {
            value(random, key, depth): value(random, rest, depth - 1) for _ in range(min(count, 5))
        }
    if item == "y":
        return random.randbytes(count)
    return [value(random, item, depth - 1) for _ in range(count)]


def variant(random: Random, depth: int = 3) -> Variant:
    """Anything; now and then as deep as a bus lets through."""
    if random.random() < _RARELY:
        made = Variant("s", "the bottom")
        for _ in range(random.choice((30, DEEPEST))):
            made = Variant("v", made)
        return made
    kind = signature(random, max(depth, 0))
    return Variant(kind, value(random, kind, depth - 1))


_OTHERS: dict[str, Callable[[Random, int], Any]] = {
    "b": lambda random, _depth: random.random() < 0.5,
    "d": lambda random, _depth: random.choice((0.0, -1.5, 1e308, float("inf"), float("nan"))),
    "s": lambda random, _depth: odd_string(random),
    "o": lambda random, _depth: random.choice(_PATHS),
    "g": lambda random, _depth: random.choice(("", "s", "a{sv}", "(ss)", "a" * 30 + "y")),
    "v": variant,
}


def split(kinds: str) -> list[str]:
    """The complete types that stand in a row."""
    found, at = [], 0
    while at < len(kinds):
        end = at
        while kinds[end] == "a":
            end += 1
        if kinds[end] in "({":
            open_, close = kinds[end], {"(": ")", "{": "}"}[kinds[end]]
            depth = 0
            while True:
                depth += (kinds[end] == open_) - (kinds[end] == close)
                if depth == 0:
                    break
                end += 1
        found.append(kinds[at : end + 1])
        at = end + 1
    return found
