"""What jobs left half made, until a later one mends it."""

from __future__ import annotations

from collections.abc import Iterable

from ..model import JobState, SnapshotKey, Status, Verb
from ..store import JobRow
from .job import DAEMON

_ACTS = (Verb.CREATE, Verb.REVERT, Verb.DELETE)


class HalfMade:
    """The failed jobs' rows that nothing has mended yet: as Store.half_made() has them, in memory.

    A snapshot that a create or delete left is mended by any later job on it that succeeds; a VM
    that a revert tore by a later revert alone, be it to another snapshot.
    """

    def __init__(self) -> None:
        self._snapshots: dict[tuple[str, str], JobRow] = {}
        self._torn: dict[str, JobRow] = {}
        self._lacking: dict[str, frozenset[SnapshotKey]] = {}

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

    def audited(self, domain: str, lacking: Iterable[SnapshotKey]) -> None:
        """Take what an audit has proved: these are gone from an image, and no others of the
        domain's; until the next one, or until the daemon ends."""
        self._lacking[domain] = frozenset(lacking)

    def rows(self) -> list[JobRow]:
        """All of them."""
        return [*self._snapshots.values(), *self._torn.values()]

    def torn(self, domain: str) -> JobRow | None:
        """The revert that may have left the domain's disks of two moments."""
        return self._torn.get(domain)

    def status(self, key: SnapshotKey) -> Status:
        """Whether the snapshot can be counted on, as far as our jobs know."""
        if row := self._of(key):
            gone = row.verb is Verb.DELETE and row.error_name.endswith(".Partial")
            return Status.BROKEN if gone or row.detail.get("disk") else Status.NEEDS_ATTENTION
        if key in self._lacking.get(key.domain, ()):
            return Status.BROKEN
        torn = self._torn.get(key.domain)
        lacks = torn and torn.error_name.endswith(".Inconsistent")
        if torn and lacks and (torn.snapshot, torn.created) == (key.name, key.created):
            return Status.NEEDS_ATTENTION
        return Status.OK

    def in_doubt(self, key: SnapshotKey) -> bool:
        """Whether a delete of it had begun, or it is not known that it hadn't."""
        row = self._of(key)
        return row is not None and row.verb is Verb.DELETE

    def let_go(self, key: SnapshotKey) -> bool:
        """Whether retention had begun to delete it: it may finish that, but not what a person
        began."""
        row = self._of(key)
        half = row is not None and row.verb is Verb.DELETE and row.error_name.endswith(".Partial")
        return row is not None and half and (row.policy != "" or row.owner == DAEMON)

    def _of(self, key: SnapshotKey) -> JobRow | None:
        """The job that left the snapshot so. A create that failed didn't learn when it was made:
        before it ended, or it is another one of that name."""
        row = self._snapshots.get((key.domain, key.name))
        if row is None:
            return None
        same = row.created == key.created if row.created else key.created <= row.finished
        return row if same else None
