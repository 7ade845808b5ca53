"""What the object tree asks for (tree.py, Source): objects made anew for each call."""

from __future__ import annotations

from collections.abc import Sequence

from ..inventory import DomainPicture
from ..model import Snapshot
from ..operations import Job
from .contract import Contract
from .job_object import JobObject
from .manager import Manager
from .objects import DomainObject, PolicyObject, SnapshotObject
from .rooms import Rooms


class House:
    """All objects of the contract, by what names them; None = no such thing now."""

    def __init__(self, rooms: Rooms, contract: Contract) -> None:
        self._rooms = rooms
        self.manager = Manager(rooms, contract)

    async def settled(self) -> None:
        await self._rooms.inventory.settled()

    def domain_uuids(self) -> Sequence[str]:
        return list(self._rooms.inventory.domains)

    def domain(self, uuid: str) -> DomainObject | None:
        picture = self._rooms.inventory.domains.get(uuid)
        return DomainObject(self._rooms, picture) if picture else None

    def snapshot_names(self, uuid: str) -> Sequence[str]:
        picture = self._rooms.inventory.domains.get(uuid)
        return list(picture.snapshots) if picture else []

    def snapshot(self, uuid: str, name: str) -> SnapshotObject | None:
        picture = self._rooms.inventory.domains.get(uuid)
        info = picture.snapshots.get(name) if picture else None
        if picture is None or info is None:
            return None
        return self.snapshot_of(picture, self._rooms.catalog.one(picture, info))

    def snapshot_of(self, picture: DomainPicture, snapshot: Snapshot) -> SnapshotObject:
        return SnapshotObject(self._rooms, picture, snapshot)

    def policy_names(self) -> Sequence[str]:
        return list(self._rooms.policies.in_force)

    def policy(self, name: str) -> PolicyObject | None:
        policy = self._rooms.policies.in_force.get(name)
        return PolicyObject(self._rooms, policy) if policy else None

    def job_numbers(self) -> Sequence[int]:
        return list(self._rooms.jobs.all)

    def job(self, number: int) -> JobObject | None:
        job = self._rooms.jobs.all.get(number)
        return self.job_of(job) if job else None

    def job_of(self, job: Job) -> JobObject:
        return JobObject(self._rooms, job)
