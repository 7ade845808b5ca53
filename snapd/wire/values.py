"""Variants: made without a second check, taken apart, and options read by their spec."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from typing import Any, NamedTuple

from dbus_next.signature import SignatureTree, Variant

from ..errors import InvalidArgument

__all__ = ["Option", "Variant", "parse_options", "unwrap", "variant"]

INTEGERS = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}


# dbus_next keeps every signature that it ever saw, and a peer can make up millions.
SignatureTree._get = staticmethod(  # type: ignore[method-assign]
    lru_cache(maxsize=1024)(lambda signature="": SignatureTree(signature))
)


def variant(signature: str, value: Any) -> Variant:
    """A Variant that is checked when it is marshalled and not already now: three times faster."""
    made: Variant = Variant.__new__(Variant)
    made.type = SignatureTree._get(signature).types[0]
    made.signature = signature
    made.value = value
    return made


def unwrap(value: Any) -> Any:
    """The value without its variants, at any depth."""
    if isinstance(value, Variant):
        return unwrap(value.value)
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unwrap(item) for item in value]
    return value


class Option(NamedTuple):
    """What a method takes under one key of its options.

    type: one complete D-Bus type. choices: the words allowed, () = any value. supported: False
    for what API.md names and this version does not do yet.
    """

    type: str
    default: Any = None
    choices: tuple[str, ...] = ()
    supported: bool = True


def parse_options(spec: Mapping[str, Option], given: Mapping[str, Variant]) -> dict[str, Any]:
    """All options of a method, without variants, defaults filled in.

    Any D-Bus integer type is taken for another where the value is in range. Raises
    InvalidArgument that names the key: unknown, of a wrong type, or not supported.
    """
    options = {name: copy(option.default) for name, option in spec.items() if option.supported}
    for name, value in given.items():
        option = spec.get(name)
        if option is None:
            known = ", ".join(sorted(options)) or "none"
            raise InvalidArgument(f"no option {name[:64]!r} here; known: {known}", item=name[:64])
        if not option.supported:
            raise InvalidArgument(f"option {name!r}: not supported by this version", item=name)
        options[name] = _option(name, option, value)
    return options


def _option(name: str, option: Option, given: Variant) -> Any:
    value = unwrap(given)
    if option.type in INTEGERS and given.signature in INTEGERS:
        low, high = INTEGERS[option.type]
        if not low <= value <= high:
            raise InvalidArgument(
                f"option {name!r}: {value} is out of range, {low} to {high}", item=name
            )
    elif given.signature != option.type:
        raise InvalidArgument(
            f"option {name!r} has the type {option.type}, not {given.signature}", item=name
        )
    if option.choices and value not in option.choices:
        raise InvalidArgument(
            f"option {name!r}: {value[:64]!r} is none of {', '.join(option.choices)}", item=name
        )
    return value
