"""What clients know of things whose change is no event, but found by a look now and then."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from ..model import Problem

T = TypeVar("T", bound=Hashable)


class Known:
    """The values that some client may take for the present one, by what they are of: the last that
    all were told, and those that were read since. What is as it was needs not be told; but what
    was otherwise between two looks, and was read then, does. listed: the problems that were listed
    since the last look, by ID."""

    def __init__(self) -> None:
        self.listed: dict[str, Problem] = {}
        self._values: dict[str, set[Hashable]] = {}

    def read(self, what: str, value: T) -> T:
        """A client reads the value, which is returned."""
        self._values.setdefault(what, set()).add(value)
        return value

    def outdated(self, what: str, value: Hashable) -> bool:
        """Whether some may know another value than this one, which is to be told then."""
        known, self._values[what] = self._values.get(what, set()), {value}
        return bool(known - {value})

    def forget(self, what: str) -> None:
        """There is no such thing any more."""
        self._values.pop(what, None)
