"""A VM in memory that goes over to overlays, for faults that no real libvirt makes on demand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from snapd.errors import AlreadyExists
from snapd.hypervisor import (
    Beside,
    ChainFacts,
    DomainFacts,
    ExternalSnapshot,
    FoundFile,
    NewOverlay,
)
from snapd.model import Disk, DomainInfo, Kind, SnapshotInfo, State
from tests.unit.standin import StandIn
from tests.unit.vms import image_of

SIZE = 64 << 20
NOW = 1800000000


class OverlayStandIn(StandIn):
    """files: path -> (backing file, its format) of the images that there are; saved: the memory
    files. strange: files that are no images, which no look shows; stays: files that cannot be
    removed. calls: what was asked of it, in order."""

    def __init__(self, info: DomainInfo, snapshots: Sequence[SnapshotInfo] = ()) -> None:
        super().__init__(info, snapshots)
        self.files = {d.source: ("", "") for d in info.disks if d.writable}
        self.inactive: tuple[Disk, ...] | None = None
        self.saved: set[str] = set()
        self.stays: set[str] = set()
        self.strange: set[str] = set()
        self.unread: dict[str, str] = {}
        self.calls: list[str] = []
        self.wrong_backing = self.unlisted = False

    @property
    def overlays(self) -> OverlayStandIn:
        return self

    async def facts(self, uuid: str, snapshot: str = "") -> DomainFacts:
        facts = await super().facts(uuid, snapshot)
        images = {}
        for disk in self.info.disks:
            if disk.writable and disk.source in self.files:
                backing, form = self.files[disk.source]
                images[disk.target] = image_of(
                    virtual_size=SIZE, backing=backing, backing_format=form
                )
        stored = self.info.disks if self.inactive is None else self.inactive
        chains = ChainFacts(capable=True)
        return replace(facts, images=images, inactive=stored, chains=chains, version=(11, 3, 0))

    async def beside(self, folders: Collection[str], named: Collection[str]) -> Beside:
        here = {p: b for p, (b, _form) in self.files.items() if str(Path(p).parent) in folders}
        images = [FoundFile(path, backing=backing) for path, backing in here.items()]
        saved = [FoundFile(path, saved=self.info.uuid) for path in self.saved]
        return Beside((*images, *saved), {n: n for n in named}, self.unread)

    async def make(self, _uuid: str, files: Sequence[NewOverlay]) -> None:
        self.calls.append("make")
        self._step("make", done=False)
        if taken := [f.path for f in files if {f.path} & (self.files.keys() | self.strange)]:
            raise AlreadyExists(f"{taken[0]} is there already")
        for file in files:
            assert file.size == SIZE
            backing = "/elsewhere.qcow2" if self.wrong_backing else file.base
            self.files[file.path] = (backing, file.base_format)
        self._step("make", done=True)

    async def remove(self, _uuid: str, paths: Sequence[str]) -> tuple[str, ...]:
        self.calls.append("remove")
        for path in set(paths) - self.stays:
            assert path not in self.strange
            self.files.pop(path, None)
            self.saved.discard(path)
        return tuple(path for path in paths if path in self.stays)

    async def create(self, _uuid: str, wanted: ExternalSnapshot) -> None:
        self.calls.append("create")
        self._step("create", done=False)
        if wanted.memory_file in self.strange:
            raise AlreadyExists("there is a file already")
        before = {d.target: d.source for d in self.info.disks}
        over = dict(wanted.overlays)
        assert set(over.values()) <= self.files.keys(), "REUSE_EXT wants files that are there"
        moved = tuple(
            replace(d, source=over[d.target], format="qcow2") if d.target in over else d
            for d in self.info.disks
        )
        self.info = replace(self.info, disks=moved)
        if wanted.memory_file:
            self.saved.add(wanted.memory_file)
        if not self.unlisted:
            self._note(wanted, before)
        self._step("create", done=True)

    def _note(self, wanted: ExternalSnapshot, before: dict[str, str]) -> None:
        self.snapshots = [replace(s, current=False) for s in self.snapshots]
        self.list(
            SnapshotInfo(
                wanted.name,
                NOW,
                State.RUNNING if self.info.state.active else State.SHUTOFF,
                Kind.EXTERNAL,
                parent=self.info.current,
                current=True,
                memory=bool(wanted.memory_file),
                disks=tuple(target for target, _path in wanted.overlays),
                left_out=wanted.left_out,
                overlays=wanted.overlays,
                bases=tuple((target, before[target]) for target, _path in wanted.overlays),
                memory_file=wanted.memory_file,
            )
        )
