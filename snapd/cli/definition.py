"""A policy's definition by its keys as they are typed, `keep.daily=14`. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import InvalidArgument
from ..settings.keys import POLICY

_KEYS = {key.name: key for key in POLICY}


class Change(NamedTuple):
    """What a key was and is to be, None = it isn't there."""

    key: str
    old: object
    new: object


def changed(definition: Mapping[str, Any], typed: Iterable[str]) -> dict[str, Any]:
    """The definition with KEY=VALUE for each that was typed; `KEY=` takes the key out. A value is
    read as the key's kind; whether it is a good one is the daemon's to say. Raises InvalidArgument.
    """
    flat = _flat(definition)
    for word in typed:
        name, sign, value = word.partition("=")
        if not sign:
            raise InvalidArgument(
                f"{word!r} changes nothing; write {name}=VALUE, or {name}= for none"
            )
        kind = _kind(name)
        flat.pop(name, None)
        if value.strip():
            flat[name] = _read(name, kind, value)
    return _nested(flat)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What is not the same in two definitions, in the order in which the keys are documented."""
    before, after = _flat(old), _flat(new)
    names = [*_KEYS, *sorted((before.keys() | after.keys()) - _KEYS.keys())]
    return [
        Change(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def shown(key: str, value: object) -> str:
    """A value as it would be typed; of a key that isn't there, what then holds."""
    if value is None:
        known = _KEYS.get(key)
        return f"{known.default.replace(chr(34), '')} (default)" if known else "none"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _kind(name: str) -> str:
    if name in _KEYS:
        return _KEYS[name].kind
    near = difflib.get_close_matches(name, _KEYS, 1)
    way = f"is {near[0]} meant?" if near else f"there are {', '.join(_KEYS)}"
    raise InvalidArgument(f"{name!r} is no key of a policy; {way}", item=name)


def _read(name: str, kind: str, value: str) -> object:
    match kind:
        case "list":
            return [part.strip() for part in value.split(",") if part.strip()]
        case "number":
            if not re.fullmatch("-?[0-9]{1,12}", value):
                raise InvalidArgument(f"{name} is a whole number, not {value!r}", item=name)
            return int(value)
    return value


def _flat(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Tables as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in definition.items():
        inner = value if isinstance(value, Mapping) else None
        flat |= {key: value} if inner is None else {f"{key}.{k}": v for k, v in inner.items()}
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in flat.items():
        table, dot, key = name.partition(".")
        if dot:
            made.setdefault(table, {})[key] = value
        else:
            made[name] = value
    return made
