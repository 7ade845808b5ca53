"""Lists: rows of named fields, in pages that stay in order while things change.

A cursor is the place of the last row in the order, so that a page begins right after it whatever
came or went meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import InvalidArgument
from ..inventory import Inventory
from .contract import Contract, snake
from .pieces import FEW, SECONDS, Pieces

T = TypeVar("T")
Row = dict[str, Any]
MAX_LIMIT = 10_000
MAX_FIELDS = 64
PAGE_BYTES = 20 << 20
MANY = 1000
"""Items that are worth a piece of their own before there are rows of them."""


class Lister:
    """Makes pages. contract: which fields an object's rows have; pieces: all lists share its turns,
    and what else takes long."""

    def __init__(self, contract: Contract, inventory: Inventory) -> None:
        self._contract, self._inventory = contract, inventory
        self.pieces = Pieces()

    async def objects(
        self,
        interface: str,
        items: Sequence[T],
        place: Callable[[T], Sequence[Any]],
        make: Callable[[T], Any],
        options: Mapping[str, Any],
        total: int | None = None,
    ) -> tuple[list[Row], Row]:
        """A page of objects: their properties and Path. place: an item's place in the order;
        total: see page()."""
        known = [m.name for m in self._contract[interface].properties.values()]
        names = {name: snake(name) for name in _fields(options, [*known, "Path"])}

        def row(item: T) -> Row:
            obj = make(item)
            return {name: getattr(obj, attribute) for name, attribute in names.items()}

        return await self.page(items, place, row, options, total)

    async def page(
        self,
        items: Sequence[T],
        place: Callable[[T], Sequence[Any]],
        row: Callable[[T], Row],
        options: Mapping[str, Any],
        total: int | None = None,
    ) -> tuple[list[Row], Row]:
        """A page of any rows, in the order of their places. total: how many there are, where the
        items are only those that the page may hold and one more."""
        limit = limit_of(options)
        if len(items) >= MANY:
            await self.pieces.next()
        ordered = sorted(((list(place(item)), n) for n, item in enumerate(items)))
        if options["from"]:
            after = cursor(options)
            if ordered and len(after) != len(ordered[0][0]):
                raise _bad_cursor(options["from"])
            ordered = [entry for entry in ordered if later(entry[0], after)]
        rows = await self.fitting((items[n] for _place, n in ordered[:limit]), row)
        left = len(rows) < len(ordered)
        following = json.dumps(ordered[len(rows) - 1][0]) if rows and left else ""
        return rows, self.info(following, len(items) if total is None else total)

    async def fitting(self, items: Iterable[T], row: Callable[[T], Row]) -> list[Row]:
        """The rows of as many items, from the first, as a page holds."""
        rows: list[Row] = []
        size, until = 0, time.monotonic() + SECONDS
        for count, item in enumerate(items):
            if count == FEW or time.monotonic() > until:
                until = await self.pieces.next()
            rows.append(row(item))
            size += _size(rows[-1])
            if size > PAGE_BYTES:
                break
        return rows

    def info(self, following: str, total: int) -> Row:
        """What every list says beside its rows."""
        incomplete = [
            {
                "DomainUUID": uuid,
                "DomainName": name,
                "ErrorName": error.name,
                "ErrorMessage": error.message,
            }
            for uuid, (name, error) in sorted(self._inventory.incomplete().items())
        ]
        return {
            "Next": following,
            "Total": total,
            "Incomplete": incomplete,
            "Checked": self._inventory.checked,
        }


def pick(rows: list[Row], options: Mapping[str, Any], known: Sequence[str]) -> list[Row]:
    """Rows with only the fields that were asked for."""
    names = _fields(options, known)
    return [{name: row[name] for name in names} for row in rows]


def number(options: Mapping[str, Any]) -> tuple[int, int]:
    """(cursor, limit) of a list whose rows are numbered by the store."""
    text = options["from"]
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _bad_cursor(text)
    return int(text or 0), limit_of(options)


def _fields(options: Mapping[str, Any], known: Sequence[str]) -> Sequence[str]:
    wanted: list[str] = options["fields"]
    if len(wanted) > MAX_FIELDS:
        raise InvalidArgument(f"option fields has {len(wanted)} items, at most {MAX_FIELDS}")
    for name in wanted:
        if name not in known:
            raise InvalidArgument(
                f"no field {name[:64]!r} here; known: {', '.join(known)}", item=name[:64]
            )
    return wanted or known


def limit_of(options: Mapping[str, Any]) -> int:
    """How many rows a page may have."""
    limit: int = options["limit"]
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgument(f"option limit is {limit}; it is 1 to {MAX_LIMIT}")
    return limit


def cursor(options: Mapping[str, Any]) -> list[Any]:
    """The place that the page is to begin after, [] = none is."""
    text = options["from"]
    try:
        place = json.loads(text) if text else []
    except (ValueError, RecursionError):
        place = None
    if not isinstance(place, list):
        raise _bad_cursor(text)
    return place


def later(place: list[Any], after: list[Any]) -> bool:
    """Whether a place is after another one, of which nobody knows what is in it."""
    try:
        return place > after
    except TypeError as e:
        raise _bad_cursor(json.dumps(after)) from e


def _bad_cursor(text: str) -> InvalidArgument:
    return InvalidArgument(f"option from: {text[:64]!r} is no cursor of this list")


def _size(row: Row) -> int:
    """About the bytes that a row takes in a message."""
    size = 16 + 32 * len(row) + sum(map(len, row))
    for value in row.values():
        kind = type(value)
        if kind is str and value.isascii():  # first what is quick, and nearly all
            size += len(value)
        elif not (kind is int or kind is bool or value is None or value == []):
            size += _content(value)
    return size


def _content(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Mapping):
        return _size(dict(value))
    if isinstance(value, (list, tuple)):
        return sum(16 + _content(each) for each in value)
    return 0
