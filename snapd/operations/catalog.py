"""Snapshots as we show and count them: libvirt's entries beside our records."""

from __future__ import annotations

from collections.abc import Sequence

from ..inventory import DomainPicture, Inventory
from ..model import JobState, Snapshot, SnapshotInfo, SnapshotKey, Status, Verb
from ..store import Store
from .job import Job
from .jobs import Jobs

CLOCKS_APART = 2  # seconds: one is rounded, the other measured


class Catalog:
    """Joins the picture, the store and the jobs; holds nothing itself."""

    def __init__(self, inventory: Inventory, store: Store, jobs: Jobs) -> None:
        self._inventory, self._store, self._jobs = inventory, store, jobs

    def of(self, picture: DomainPicture) -> list[Snapshot]:
        """A domain's snapshots, oldest first."""
        jobs = self._jobs.open_on(picture.info.uuid)
        return [self._one(picture, info, jobs) for info in picture.snapshots.values()]

    def one(self, picture: DomainPicture, info: SnapshotInfo) -> Snapshot:
        """One of them."""
        return self._one(picture, info, self._jobs.open_on(picture.info.uuid))

    def _one(self, picture: DomainPicture, info: SnapshotInfo, jobs: Sequence[Job]) -> Snapshot:
        key = SnapshotKey(picture.info.uuid, info.name, info.created)
        record = self._store.record(key)
        status = self._status(key, jobs)
        ours = record is not None and record.owned
        if not ours and status is Status.OK and _in_the_making(picture, info):
            status = Status.CREATING
        return Snapshot(picture.info.uuid, picture.info.name, info, record, status)

    def _status(self, key: SnapshotKey, jobs: Sequence[Job]) -> Status:
        """Listed is not made: what an open job is about is neither good nor gone, and one that a
        job left half made or half deleted is no way back."""
        for job in jobs:
            if job.row.snapshot != key.name or job.row.state is JobState.QUEUED:
                continue
            if job.row.verb is Verb.CREATE:
                return Status.CREATING
            if job.row.verb is Verb.DELETE:
                return Status.DELETING
        return self._jobs.half_made.status(key)

    def let_go(self, picture: DomainPicture) -> set[str]:
        """Those of a domain whose deletion by retention broke off."""
        return {s.info.name for s in self.of(picture) if self._jobs.half_made.let_go(s.key)}


def _in_the_making(picture: DomainPicture, info: SnapshotInfo) -> bool:
    """Whether another tool may still be making it: libvirt lists a snapshot when it begins to, and
    drops it if QEMU dies (LIBVIRT.md 9)."""
    since = picture.info.busy_since
    return since > 0 and info.created >= since - CLOCKS_APART and not info.current
