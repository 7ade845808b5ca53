"""The attempts that go on, found by their domain without a look at those of all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from .attempt import Attempt


class Going:
    """Attempts by the UUID of their domain, each domain's in the order in which they came."""

    def __init__(self) -> None:
        self._of: dict[str, list[Attempt]] = {}

    def __iter__(self) -> Iterator[Attempt]:
        """All that go on now, whatever comes or ends meanwhile."""
        return iter(list(chain.from_iterable(self._of.values())))

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def of(self, uuid: str) -> Sequence[Attempt]:
        return tuple(self._of.get(uuid, ()))

    def add(self, attempt: Attempt) -> None:
        self._of.setdefault(attempt.uuid, []).append(attempt)

    def remove(self, attempt: Attempt) -> None:
        left = [a for a in self._of[attempt.uuid] if a is not attempt]
        if left:
            self._of[attempt.uuid] = left
        else:
            del self._of[attempt.uuid]
