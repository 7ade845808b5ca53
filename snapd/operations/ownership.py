"""Pin, unpin, adopt: acts on our own records, for which nothing is asked of libvirt or the VM.

They need no turn on the domain, or nobody could pin what a long prune is about to come to. What
keeps them apart from a delete at work: its status is shown before it looks for a pin, and a pin
counts before it is on disk (Store.change_records); each looks and acts without a wait between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import AlreadyExists, Busy, SnapdError, Unsupported
from ..inventory import DomainPicture
from ..model import (
    Kind,
    Origin,
    Record,
    Snapshot,
    SnapshotInfo,
    SnapshotKey,
    Status,
    told_consistency,
)
from ..store import HistoryRow, Store
from .catalog import Catalog


class Ownership:
    """What is ours and what nobody may delete. clock: seconds UTC."""

    def __init__(
        self, store: Store, catalog: Catalog, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._catalog, self._clock = store, catalog, clock
        self._listeners: list[Callable[[SnapshotKey], None]] = []

    def on_change(self, call: Callable[[SnapshotKey], None]) -> None:
        """Have each snapshot told whose record has changed."""
        self._listeners.append(call)

    async def pin(self, picture: DomainPicture, info: SnapshotInfo, reason: str, uid: int) -> None:
        """Have it deleted by nobody until it is unpinned; another reason takes the place of an
        earlier one. A foreign one stays foreign. Raises Busy where it is being made or deleted."""
        snapshot = self._settled("pin", picture, info)
        record = snapshot.record or Record(snapshot.key, Origin.FOREIGN)
        act = self._act("pin", snapshot, uid, reason)
        await self._change([replace(record, pin_reason=reason)], [], [act])

    async def unpin(self, picture: DomainPicture, info: SnapshotInfo, uid: int) -> None:
        """Take the pin off; nothing is done where there is none."""
        snapshot = self._catalog.one(picture, info)
        record = snapshot.record
        if record is None or record.pin_reason is None:
            return
        act = self._act("unpin", snapshot, uid, f"was pinned: {record.pin_reason}")
        if snapshot.owned:
            await self._change([replace(record, pin_reason=None)], [], [act])
        else:
            await self._change([], [record.key], [act])

    async def adopt(
        self, picture: DomainPicture, infos: Sequence[SnapshotInfo], policy: str, uid: int
    ) -> None:
        """Have foreign snapshots count as made for a policy, on an admin's word; pins stay.

        All or none: raises AlreadyExists, Unsupported or Busy with the one that is in the way.
        """
        snapshots = [self._settled("adopt", picture, info) for info in infos]
        for snapshot in snapshots:
            if error := _adoptable(snapshot):
                raise error
        why = f"adopted for policy {policy}"
        acts = [self._act("adopt", s, uid, why, policy) for s in snapshots]
        await self._change([_adopted(s, policy) for s in snapshots], [], acts)

    def _settled(self, verb: str, picture: DomainPicture, info: SnapshotInfo) -> Snapshot:
        """The snapshot as it is; Busy where a job is about to make or to delete it."""
        snapshot = self._catalog.one(picture, info)
        if snapshot.status in (Status.CREATING, Status.DELETING):
            doing = "made" if snapshot.status is Status.CREATING else "deleted"
            raise Busy(
                f"cannot {verb} snapshot {info.name!r} of VM {picture.info.name}: it is just being "
                f"{doing}; look again when that is done",
                item=info.name,
            )
        return snapshot

    def _act(
        self, verb: str, snapshot: Snapshot, uid: int, reason: str, policy: str = ""
    ) -> HistoryRow:
        return HistoryRow(
            time=int(self._clock()),
            verb=verb,
            domain=snapshot.domain,
            domain_name=snapshot.domain_name,
            snapshot=snapshot.info.name,
            created=snapshot.info.created,
            policy=policy,
            owner=uid,
            reason=reason,
            result="done",
        )

    async def _change(
        self, records: Sequence[Record], forget: Sequence[SnapshotKey], acts: Sequence[HistoryRow]
    ) -> None:
        try:
            await self._store.change_records(records, forget, acts)
        finally:
            for key in (*(r.key for r in records), *forget):
                for call in self._listeners:
                    call(key)


def _adoptable(snapshot: Snapshot) -> SnapdError | None:
    """Why it cannot be adopted."""
    name, vm = snapshot.info.name, snapshot.domain_name
    what = f"cannot adopt snapshot {name!r} of VM {vm}"
    if snapshot.owned:
        whose = f" for policy {', '.join(snapshot.policies)}" if snapshot.policies else ""
        return AlreadyExists(f"{what}: it is ours already ({snapshot.origin}{whose})", item=name)
    if snapshot.info.kind is Kind.EXTERNAL:
        return Unsupported(
            f"{what}: it is external, and this version deletes none of that kind, so no policy can "
            "keep house among them",
            reason="external-unsupported",
            item=name,
        )
    return None


def _adopted(snapshot: Snapshot, policy: str) -> Record:
    """Its record, of what libvirt tells about it."""
    return Record(
        snapshot.key,
        Origin.POLICY,
        (policy,),
        snapshot.info.state,
        told_consistency(snapshot.info),
        pin_reason=snapshot.record.pin_reason if snapshot.record else None,
    )
