"""Which objects there are: paths of the contract to objects made on demand, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from ..wire import paths


class Source(Protocol):
    """What the tree asks for; each answer is about now, None = no such thing.

    settled(): awaited before a VM or snapshot is said not to be there.
    """

    manager: Any

    async def settled(self) -> None: ...

    def domain_uuids(self) -> Iterable[str]: ...
    def domain(self, uuid: str) -> Any | None: ...
    def snapshot_names(self, uuid: str) -> Iterable[str]: ...
    def snapshot(self, uuid: str, name: str) -> Any | None: ...
    def policy_names(self) -> Iterable[str]: ...
    def policy(self, name: str) -> Any | None: ...
    def job_numbers(self) -> Iterable[int]: ...
    def job(self, number: int) -> Any | None: ...


class Tree:
    """The object tree of the contract over a source. Nothing is kept here."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def resolve(self, path: str) -> Any | None:
        """The object at a path, None where there is none (collections have none)."""
        place = paths.parse(path)
        if place is None:
            return None
        match place.kind:
            case "manager":
                return self._source.manager
            case "domain":
                return self._source.domain(place.uuid)
            case "snapshot":
                return self._source.snapshot(place.uuid, place.name)
            case "policy":
                return self._source.policy(place.name)
            case "job":
                return self._source.job(place.number)
        return None

    async def find(self, path: str) -> Any | None:
        """As resolve(), but what may only not have been read yet is waited for: a VM or snapshot
        that isn't there, and the members of a collection of them."""
        obj = self.resolve(path)
        if obj is None and path.startswith((paths.DOMAINS, paths.SNAPSHOTS)):
            await self._source.settled()
            obj = self.resolve(path)
        return obj

    def members(self, path: str) -> list[str] | None:
        """The paths of all objects of a collection; None where the path is no collection."""
        place = paths.parse(path)
        if place is None or place.kind != "collection":
            return None
        match place.name:
            case "domains":
                return [paths.domain(uuid) for uuid in self._source.domain_uuids()]
            case "policies":
                return [paths.policy(name) for name in self._source.policy_names()]
            case "jobs":
                return [paths.job(number) for number in self._source.job_numbers()]
        if self._source.domain(place.uuid) is None:
            return None
        names = self._source.snapshot_names(place.uuid)
        return [paths.snapshot(place.uuid, name) for name in names]

    def children(self, path: str) -> list[str] | None:
        """The labels right below a path; None where nothing is, neither here nor below."""
        if path == "/" or paths.ROOT.startswith(path + "/"):
            rest = paths.ROOT[len(path.rstrip("/")) + 1 :]
            return [rest.split("/")[0]]
        if path == paths.ROOT:
            return ["domains", "jobs", "policies", "snapshots"]
        if path == paths.SNAPSHOTS:
            return [paths.encode_uuid(uuid) for uuid in self._source.domain_uuids()]
        members = self.members(path)
        if members is not None:
            return [member.rpartition("/")[2] for member in members]
        return [] if self.resolve(path) is not None else None
