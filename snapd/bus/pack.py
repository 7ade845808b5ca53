"""Plain Python values to what the wire takes, by the types that the contract gives.

Objects and methods hold str, int, bool, float, lists and dicts; only here do they become
variants. A dict's value of None is left out: nothing is invented for what isn't known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..wire.marshal import Rows
from ..wire.values import Variant, variant
from .contract import ContractError, Keys, Member


def results(member: Member, result: Any) -> list[Any]:
    """The out arguments of a method from what its code returned: nothing, a value, a tuple."""
    if not member.outs:
        values: tuple[Any, ...] = ()
    elif len(member.outs) == 1:
        values = (result,)
    else:
        values = tuple(result)
    _count(member, values)
    return [
        _rows(member.keys, arg.name, value)
        if arg.type == "aa{sv}" and arg.name in member.keys
        else _pack(arg.type, member.keys, arg.name, value)
        for arg, value in zip(member.outs, values, strict=True)
    ]


def arguments(member: Member, values: tuple[Any, ...]) -> list[Any]:
    """Out arguments of a method, or the arguments of a signal, in their order."""
    _count(member, values)
    return [
        _pack(arg.type, member.keys, arg.name, value)
        for arg, value in zip(member.outs, values, strict=True)
    ]


def _count(member: Member, values: tuple[Any, ...]) -> None:
    if len(values) != len(member.outs):
        raise ContractError(f"{member.name} has {len(member.outs)} values, got {len(values)}")


def property_value(member: Member, value: Any) -> Variant:
    """A property as the variant that Get, GetAll and PropertiesChanged carry."""
    (arg,) = member.outs
    return variant(arg.type, _pack(arg.type, member.keys, arg.name, value))


_OF_PARTS = ("a{sv}", "aa{sv}", "as")


def _pack(kind: str, keys: Keys, place: str, value: Any) -> Any:
    if kind == "a{sv}":
        return _dict(keys, place, value)
    if kind == "aa{sv}":
        return [_dict(keys, place, row) for row in value]
    if kind == "as" and not isinstance(value, (str, bytes)):
        return list(value)
    return value


def _rows(keys: Keys, place: str, rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows of a list: there are thousands, so that nothing is made of each of their values but
    where it has parts."""
    types = keys[place]
    of_parts = {key: kind for key, kind in types.items() if kind in _OF_PARTS}
    packed = []
    for row in rows:
        if not row.keys() <= types.keys():
            unknown = next(key for key in row if key not in types)
            raise ContractError(f"{place} has no key {unknown}")
        parts = {
            key: _pack(kind, keys, f"{place}.{key}", row[key])
            for key, kind in of_parts.items()
            if row.get(key) is not None and not (kind == "as" and type(row[key]) in (tuple, list))
        }
        packed.append({**row, **parts} if parts else row)
    return Rows(types, packed)


def _dict(keys: Keys, place: str, value: Mapping[str, Any]) -> dict[str, Variant]:
    types = keys.get(place)
    if types is None:
        return {key: infer(item) for key, item in value.items() if item is not None}
    packed = {}
    for key, item in value.items():
        kind = types.get(key)
        if kind is None:
            raise ContractError(f"{place} has no key {key}")
        if item is None:
            continue
        if kind in _OF_PARTS:
            item = _pack(kind, keys, f"{place}.{key}", item)
        packed[key] = variant(kind, item)
    return packed


def infer(value: Any) -> Variant:
    """A variant of a value whose type the contract leaves open (a policy's definition)."""
    if isinstance(value, Variant):
        return value
    if isinstance(value, bool):
        return variant("b", value)
    if isinstance(value, int):
        return variant("x", value)
    if isinstance(value, float):
        return variant("d", value)
    if isinstance(value, str):
        return variant("s", value)
    if isinstance(value, Mapping):
        return variant("a{sv}", {key: infer(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return variant("as", list(value))
    if isinstance(value, (list, tuple)):
        return variant("av", [infer(item) for item in value])
    raise ContractError(f"no D-Bus type for {type(value).__name__}")
