"""A VM in memory whose snapshots are merged as libvirt 11.3 does it, or not to the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapd.errors import SnapdError
from snapd.hypervisor import ChainFacts, DomainFacts, ImageCheck
from snapd.model import Disk, DomainInfo, Kind, SnapshotInfo, SnapshotKey, State, Status
from snapd.operations import Asker, Catalog, DeleteWish, Job, Jobs, Operations, delete, merge
from snapd.store import Store
from tests.unit.overlay_standin import OverlayStandIn
from tests.unit.standin import play
from tests.unit.vms import UUID


def chain_of(info: DomainInfo, *names: str, targets: Sequence[str] = ("vda",)) -> MergeStandIn:
    """A VM with these external snapshots, one made upon the other, the last one current."""
    vm = MergeStandIn(info)
    for number, name in enumerate(names):
        vm.snapshot(name, targets, created=1700000000 + number)
    return vm


class MergeStandIn(OverlayStandIn):
    """steps: what its next merge does before it ends or raises: see merge(). written: path -> how
    often. checks: path -> what qemu-img check says. left_job: the block job that nobody ends.
    is_starting: libvirt has a QEMU of it for starting."""

    def __init__(self, info: DomainInfo) -> None:
        super().__init__(info)
        self.steps: list[str] | None = None
        self.raises: SnapdError | None = None
        self.checks: dict[str, ImageCheck] = {}
        self.times: dict[str, int] = {}
        self.holder = self.left_job = ""
        self.is_starting = False
        self.stored: dict[str, tuple[str, ...]] = {}
        self.shares: tuple[float, ...] = (0.25, 1.0)

    def snapshot(self, name: str, targets: Sequence[str], created: int) -> None:
        before = {d.target: d.source for d in self.info.disks}
        over = {t: f"/images/web-1-{t}.{name}.qcow2" for t in targets}
        for target, path in over.items():
            self.files[path] = (before[target], "qcow2")
        self.info = replace(self.info, disks=self._on(over))
        self.snapshots = [replace(s, current=False) for s in self.snapshots]
        self.list(
            SnapshotInfo(
                name,
                created,
                State.SHUTOFF,
                Kind.EXTERNAL,
                parent=self.info.current,
                current=True,
                disks=tuple(targets),
                overlays=tuple(over.items()),
                bases=tuple((t, before[t]) for t in targets),
            )
        )

    def _on(self, files: dict[str, str]) -> tuple[Disk, ...]:
        disks = self.info.disks
        return tuple(replace(d, source=files.get(d.target, d.source)) for d in disks)

    def chain(self, target: str) -> tuple[str, ...]:
        path = next(d.source for d in self.info.disks if d.target == target)
        found = []
        while path:
            found.append(path)
            path = self.files[path][0] if path in self.files else ""
        return tuple(found)

    async def facts(self, uuid: str, snapshot: str = "") -> DomainFacts:
        facts = await super().facts(uuid, snapshot)
        here = {d.target: self.chain(d.target) for d in self.info.disks if d.writable}
        named = {path for s in self.snapshots for path in s.files}
        listed = self.snapshots != []  # as libvirt's chains are read: only where there are any
        chains = ChainFacts(
            capable=True,
            layers={t: tuple((p, "qcow2") for p in c) for t, c in here.items()} if listed else {},
            live=here if self.info.state.active else {},
            stored={t: self.stored.get(t, c[:1]) for t, c in here.items()},
        )
        holder = self.holder or self.left_job
        missing = named - set(self.files) - self.saved
        return replace(facts, chains=chains, holder=holder, missing=missing)

    async def stamp(self, info: DomainInfo) -> str:
        return repr([(d.source, self.times.get(d.source, 0)) for d in info.disks])

    async def check_image(self, disk: Disk) -> ImageCheck:
        self.calls.append(f"check {disk.source}")
        return self.checks.get(disk.source, ImageCheck())

    async def merge(
        self, uuid: str, name: str, *, created: int, active: bool, progress: Callable[[float], None]
    ) -> None:
        """Of each target what `steps` names: `write vda` (a byte went into the base), `pivot vda`,
        `unlink vda`; then `list`: libvirt's list; `error` is raised at the end. None = all."""
        self.calls.append(f"merge {name}")
        found = next(s for s in self.snapshots if s.name == name)
        targets = [t for t, _base in found.bases]
        every = [f"{what} {t}" for what in ("write", "pivot", "unlink") for t in targets]
        for share in self.shares:
            progress(share)
        for step in [*every, "list"] if self.steps is None else self.steps:
            self._merge_step(found, *step.split())
        self.steps = None
        if self.raises:
            error, self.raises = self.raises, None
            raise error

    def _merge_step(self, found: SnapshotInfo, what: str, target: str = "") -> None:
        base = dict(found.bases).get(target, "")
        over = next((p for p, (backing, _form) in self.files.items() if backing == base), "")
        if what == "write":
            self.times[base] = self.times.get(base, 0) + 1
        elif what == "pivot":
            self.gone = {**getattr(self, "gone", {}), target: over}
            if over == next(d.source for d in self.info.disks if d.target == target):
                self.info = replace(self.info, disks=self._on({target: base}))
            for path, (backing, form) in list(self.files.items()):
                if backing == over:
                    self.files[path] = (base, form)
        elif what == "unlink":
            self.files.pop(self.gone[target], None)
        else:
            self._take_off(found)

    def _take_off(self, found: SnapshotInfo) -> None:
        gone = {*getattr(self, "gone", {}).values()}
        bases = dict(found.bases)
        rest = [s for s in self.snapshots if s.name != found.name]
        self.snapshots = [
            replace(
                s,
                parent=found.parent if s.parent == found.name else s.parent,
                current=s.current or (found.current and s.name == found.parent),
                bases=tuple((t, bases[t] if b in gone else b) for t, b in s.bases),
            )
            for s in rest
        ]
        current = next((s.name for s in self.snapshots if s.current), "")
        self.info = replace(self.info, current=current)

    async def delete(self, _uuid: str, name: str, **how: Any) -> None:
        self.calls.append(f"delete {name} {sorted(k for k, v in how.items() if v is True)}")
        self._take_off(next(s for s in self.snapshots if s.name == name))

    async def stop(self, _uuid: str) -> None:
        self.calls.append("stop")
        self.left_job = ""
        self.info = replace(self.info, state=State.SHUTOFF)

    async def starting(self, _uuid: str) -> bool:
        return self.is_starting

    async def abandon(self, _uuid: str, targets: Sequence[str]) -> None:
        self.calls.append(f"abandon {' '.join(targets)}")
        self.left_job = ""

    async def commit(self, _uuid: str, target: str, top: str, base: str) -> None:
        self.calls.append(f"commit {target} {top} {base}")
        self.info = replace(self.info, disks=self._on({target: base}))
        del self.files[top]


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the verdicts say is tested elsewhere; and nothing is waited for."""
    monkeypatch.setattr(delete, "merge_blockers", lambda *_a, **_k: [])
    monkeypatch.setattr(merge, "LEFT_SECONDS", 0.01)


def deleted(folder: Path, vm: MergeStandIn, *names: str, **wish: Any) -> list[tuple[Job, Status]]:
    """The jobs, and how each snapshot is shown after its own, one after the other."""
    found = []

    async def body(operations: Operations, jobs: Jobs, store: Store) -> None:
        catalog = Catalog(operations.context.inventory, store, jobs)
        for name in names:
            created = next(s.created for s in vm.snapshots if s.name == name)
            key = SnapshotKey(UUID, name, created)
            job = await operations.delete(vm.info, DeleteWish(key, **wish), Asker(1000))
            await job.ended.wait()
            picture = operations.context.inventory.domains[UUID]
            shown = {s.info.name: s.status for s in catalog.of(picture)}
            found.append((job, shown.get(name, Status.OK)))

    play(folder, vm, body)
    return found
