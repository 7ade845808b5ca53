"""What jobs left half made, until a later one mends it."""

from __future__ import annotations

from ..model import JobState, Verb
from ..store import JobRow

_ACTS = (Verb.CREATE, Verb.REVERT, Verb.DELETE)


class HalfMade:
    """The failed jobs' rows that nothing has mended yet: as Store.half_made() has them, in memory.

    A snapshot that a create or delete left is mended by any later job on it that succeeds; a VM
    that a revert tore by a later revert alone, be it to another snapshot.
    """

    def __init__(self) -> None:
        self._snapshots: dict[tuple[str, str], JobRow] = {}
        self._torn: dict[str, JobRow] = {}

    def note(self, row: JobRow) -> None:
        """Take a job into account that has ended; in the order in which they did."""
        if row.verb not in _ACTS:
            return
        if row.state is JobState.DONE:
            self._snapshots.pop((row.domain, row.snapshot), None)
            if row.verb is Verb.REVERT:
                self._torn.pop(row.domain, None)
        elif row.detail.get("reason") == "half-made" and row.error_name.endswith(
            (".Partial", ".Inconsistent")
        ):
            if row.verb is Verb.REVERT:
                self._torn[row.domain] = row
            else:
                self._snapshots[row.domain, row.snapshot] = row

    def rows(self) -> list[JobRow]:
        """All of them."""
        return [*self._snapshots.values(), *self._torn.values()]

    def torn(self, domain: str) -> JobRow | None:
        """The revert that may have left the domain's disks of two moments."""
        return self._torn.get(domain)
