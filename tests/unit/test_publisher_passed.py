"""What is so only while a job of ours is at work is not told, but may be read: once the job is
done, what there is then is told, though it is what was told before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapd.bus import publisher as module
from snapd.bus.publisher import Publisher
from snapd.inventory import Change, DomainPicture
from snapd.model import DomainInfo, Snapshot, SnapshotInfo, State

VM = "22222222-2222-4222-8222-222222222201"
INFO = DomainInfo(VM, "vm", State.RUNNING, current="new")
OLD = SnapshotInfo("old", 1, State.RUNNING)
NEW = SnapshotInfo("new", 2, State.RUNNING, current=True)
SAFETY = SnapshotInfo("safety", 3, State.RUNNING, current=True)


class Host:
    """One VM of two snapshots, of which the newer is current, and all rooms; and what is told."""

    def __init__(self) -> None:
        self.held = False
        self.domains: dict[str, DomainPicture] = {}
        self.told: list[str] = []
        self.jobs = SimpleNamespace(listen=self.on_anything, holds=lambda _uuid: self.held)
        self.publisher = Publisher(cast(Any, self), cast(Any, self), cast(Any, self))
        self.becomes(INFO, OLD, NEW)

    def __getattr__(self, name: str) -> Any:
        return self  # a room

    def on_anything(self, *_given: Any, **_named: Any) -> None: ...

    on_change = on_status = on_event = on_load = on_run = removed = on_anything

    def of(self, picture: DomainPicture) -> list[Snapshot]:
        return [Snapshot(VM, "vm", info) for info in picture.snapshots.values()]

    def records_of(self, _uuid: str) -> list[Any]:
        return []

    def gone(self, _key: Any) -> bool:
        return False

    def snapshot_of(self, _picture: DomainPicture, snapshot: Snapshot) -> Any:
        return SimpleNamespace(path=snapshot.info.name)

    def added(self, _obj: Any) -> None: ...

    def changed(self, obj: Any, *_names: str) -> None:
        self.told.append(obj.path)

    def becomes(self, info: DomainInfo, *snapshots: SnapshotInfo) -> None:
        """A listing finds it so."""
        before = self.domains.get(VM)
        after = self.domains[VM] = DomainPicture(info, {s.name: s for s in snapshots})
        self.publisher._on_change(Change(VM, before, after, 0))

    def is_let_go(self) -> list[str]:
        """What is told when the job is done."""
        assert self.told == []
        self.held = False
        self.publisher._publish(VM)
        told, self.told = self.told, []
        self.publisher._publish(VM)
        assert self.told == []
        return told


@pytest.fixture(autouse=True)
def _its_path_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DomainObject", lambda *_: SimpleNamespace(path="domain"))


def test_what_was_otherwise_during_a_job_is_told_when_it_is_done() -> None:
    """As of a revert to the current snapshot: the safety snapshot was current before it."""

    async def main() -> None:
        vm = Host()
        vm.held = True
        vm.becomes(replace(INFO, current="safety"), OLD, replace(NEW, current=False), SAFETY)
        vm.becomes(INFO, OLD, NEW)
        assert vm.is_let_go() == ["new", "domain"]

    asyncio.run(main())


def test_what_is_as_it_was_all_through_a_job_is_not_told() -> None:
    async def main() -> None:
        vm = Host()
        vm.held = True
        vm.becomes(INFO, OLD, NEW)
        assert vm.is_let_go() == []

    asyncio.run(main())
