"""Domain, Snapshot and Policy as the contract has them: made for each call, nothing is kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from ..inventory import DomainPicture
from ..model import Policy, Snapshot
from ..operations import Tree, delete_blocker, revert_blocker, support
from ..policy import PolicyHealth
from ..store import SlotRow
from ..wire import paths
from . import verbs
from .rooms import Rooms
from .router import Call
from .rows import hold_row
from .snapshot_methods import SnapshotMethods


class DomainObject:
    """org.virtsnap.Snapd1.Domain."""

    interfaces: ClassVar[tuple[str, ...]] = ("org.virtsnap.Snapd1.Domain",)

    def __init__(self, rooms: Rooms, picture: DomainPicture) -> None:
        self._rooms, self._picture, self._info = rooms, picture, picture.info
        self.path = paths.domain(picture.info.uuid)
        self.uuid = picture.info.uuid
        self.name = picture.info.name
        self.state = picture.info.state.value

    uuid: str
    name: str
    state: str

    @property
    def support(self) -> dict[str, str]:
        return support(
            self._info,
            tuple(self._picture.snapshots.values()),
            monitor=self._rooms.hypervisor.has_monitor,
            has_images=self._rooms.hypervisor.has_images,
            chains=self._rooms.hypervisor.chains,
        )

    @property
    def current_snapshot(self) -> str:
        return paths.snapshot(self.uuid, self._info.current) if self._info.current else paths.NONE

    @property
    def policies(self) -> list[str]:
        return self._rooms.health.policies_of(self._info)

    @cached_property
    def _last(self) -> SlotRow:
        return self._rooms.health.last_of_domain(self.uuid)

    @property
    def last_success(self) -> int:
        return self._last.last_success

    @property
    def last_error_name(self) -> str:
        return self._last.error_name

    @property
    def last_error_message(self) -> str:
        return self._last.error_message


class SnapshotObject(SnapshotMethods):
    """org.virtsnap.Snapd1.Snapshot. Its values are tuples, not lists: a row of them is nothing that
    the collector of garbage looks at, which took 40 ms where many list thousands at once."""

    interfaces: ClassVar[tuple[str, ...]] = ("org.virtsnap.Snapd1.Snapshot",)

    def __init__(self, rooms: Rooms, picture: DomainPicture, snapshot: Snapshot) -> None:
        self._rooms, self._picture, self._snapshot = rooms, picture, snapshot
        info, record = snapshot.info, snapshot.record
        self.path = paths.snapshot(snapshot.domain, info.name)
        self.name, self.description, self.created = info.name, info.description, info.created
        self.domain = paths.domain(snapshot.domain)
        self.domain_uuid, self.domain_name = snapshot.domain, snapshot.domain_name
        self.time_known, self.current = info.time_known, info.current
        self.kind, self.status = info.kind.value, snapshot.status.value
        self.state, self.consistency = snapshot.state.value, snapshot.consistency.value
        self.disks, self.disks_left_out = info.disks, info.left_out
        self.notes = record.notes if record else ()
        self.parent = paths.snapshot(snapshot.domain, info.parent) if info.parent else paths.NONE
        self.origin, self.policies = snapshot.origin.value, snapshot.policies
        self.pinned = snapshot.pinned
        self.pin_reason = (record.pin_reason or "") if record else ""
        self.pause_milliseconds = record.pause_ms if record else -1

    name: str
    description: str
    domain: str
    domain_uuid: str
    domain_name: str
    created: int
    time_known: bool
    state: str
    status: str
    kind: str
    consistency: str
    disks: tuple[str, ...]
    disks_left_out: tuple[str, ...]
    notes: tuple[str, ...]
    parent: str
    current: bool
    origin: str
    policies: tuple[str, ...]
    pinned: bool
    pin_reason: str
    pause_milliseconds: int

    @property
    def _tree(self) -> Tree:
        known = self._picture.derived
        if "tree" not in known:
            known["tree"] = Tree.of(self._picture.info, self._picture.snapshots.values())
        tree: Tree = known["tree"]
        return tree

    @property
    def revert_blocker(self) -> str:
        return revert_blocker(
            self._picture.info,
            self._snapshot.info,
            self._tree,
            has_images=self._rooms.hypervisor.has_images,
            chains=self._rooms.hypervisor.chains,
        )

    @property
    def delete_blocker(self) -> str:
        return delete_blocker(
            self._picture.info,
            self._snapshot.info,
            self._tree,
            pinned=self._snapshot.pinned,
            has_images=self._rooms.hypervisor.has_images,
            chains=self._rooms.hypervisor.chains,
        )

    async def revert(self, call: Call, options: dict[str, Any]) -> str:
        return await verbs.revert(self._rooms, call, self.domain_uuid, self.name, options)

    async def delete(self, call: Call, options: dict[str, Any]) -> str:
        return await verbs.delete(self._rooms, call, self.domain_uuid, self.name, options)

    async def prepare(self, _method: str, _arguments: Mapping[str, Any]) -> None:
        await verbs.look_again(self._rooms, self.domain_uuid)

    def details(self, method: str, _arguments: Mapping[str, Any]) -> dict[str, str]:
        return verbs.snapshot_details(method, self._picture.info, self._snapshot.info)


class PolicyObject:
    """org.virtsnap.Snapd1.Policy."""

    interfaces: ClassVar[tuple[str, ...]] = ("org.virtsnap.Snapd1.Policy",)

    def __init__(self, rooms: Rooms, policy: Policy, health: PolicyHealth | None = None) -> None:
        self._rooms, self._policy, self._known = rooms, policy, health
        self.path = paths.policy(policy.name)
        self.name, self.source, self.revision = policy.name, policy.source, policy.revision
        self.definition = dict(policy.definition)
        holding = [row for row in rooms.holds.in_force() if row.policy in ("", policy.name)]
        self.holds = [hold_row(row) for row in holding]

    name: str
    source: str
    revision: str
    definition: dict[str, object]
    holds: list[dict[str, object]]

    @cached_property
    def _health(self) -> PolicyHealth:
        if self._known:
            return self._known
        return self._rooms.known.read(self.path, self._rooms.health.of_policy(self._policy))

    @property
    def next_run(self) -> int:
        return self._health.next_run

    @property
    def last_run(self) -> int:
        return self._health.last_run

    @property
    def last_success(self) -> int:
        return self._health.last_success

    @property
    def last_error_name(self) -> str:
        return self._health.error_name

    @property
    def last_error_message(self) -> str:
        return self._health.error_message

    @property
    def health(self) -> str:
        return self._health.health
