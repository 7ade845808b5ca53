"""A VM on external snapshots as libvirt 11.3 keeps them, by what was measured: which deletes it
takes, which file each of them merges or unlinks, what a revert begins and throws away."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from snapd.errors import LibvirtError
from snapd.hypervisor import ChainFacts, DomainFacts
from snapd.inventory import DomainPicture
from snapd.model import Disk, DomainInfo, Kind, SnapshotInfo, State
from tests.unit.vms import image_of

VM = "22222222-2222-4222-8222-222222222201"
BASE = "/images/web-1.raw"


@dataclass
class Overlay:
    """An image: what it is backed by, and what was written to it."""

    backing: str
    written: set[int] = field(default_factory=set)


class ChainModel:
    """One running VM with one disk. content: snapshot -> what the guest had written by then."""

    def __init__(self) -> None:
        self.files = {BASE: Overlay("")}
        self.on = BASE
        self.current = ""
        self.snapshots: dict[str, SnapshotInfo] = {}
        self.content: dict[str, set[int]] = {}
        self.merges = 0

    # --- what libvirt tells

    @property
    def picture(self) -> DomainPicture:
        listed = {n: replace(s, current=n == self.current) for n, s in self.snapshots.items()}
        return DomainPicture(self._info(), listed)

    def facts(self) -> DomainFacts:
        info = self._info()
        chain = tuple(self.chain(self.on))
        images = {
            path: image_of(backing=file.backing, virtual_size=64 << 20, actual_size=1 << 20)
            for path, file in self.files.items()
        }
        layers = tuple((path, "raw" if path == BASE else "qcow2") for path in chain)
        chains = ChainFacts(
            capable=True,
            layers={"vda": layers},
            live={"vda": chain},
            stored={"vda": chain},
            images=images,
        )
        return DomainFacts(
            info=info,
            snapshots=tuple(self.picture.snapshots.values()),
            inactive=info.disks,
            inactive_xml="<domain/>",
            images={"vda": images[self.on]},
            chains=chains,
            version=(11, 3, 0),
        )

    def _info(self) -> DomainInfo:
        disk = Disk("vda", self.on, "raw" if self.on == BASE else "qcow2")
        return DomainInfo(
            VM, "web-1", State.RUNNING, current=self.current, disks=(disk,), instance=3
        )

    def chain(self, path: str) -> list[str]:
        found = []
        while path:
            found.append(path)
            path = self.files[path].backing
        return found

    def read(self, path: str) -> set[int]:
        """What a guest that is on this file sees."""
        return set[int]().union(*(self.files[p].written for p in self.chain(path)))

    # --- what is done

    def create(self, name: str, created: int) -> None:
        path = f"/images/web-1-vda.{name}.qcow2"
        assert path not in self.files
        self.snapshots[name] = SnapshotInfo(
            name,
            created,
            State.RUNNING,
            Kind.EXTERNAL,
            parent=self.current,
            disks=("vda",),
            overlays=(("vda", path),),
            bases=(("vda", self.on),),
            sources=(("vda", self.on),),
        )
        self.content[name] = self.read(self.on)
        if parent := self.snapshots.get(self.current):
            self.snapshots[self.current] = replace(parent, reverted=())
        self.files[path] = Overlay(self.on)
        self.on, self.current = path, name

    def revert(self, name: str, now: int) -> None:
        """The file that the disk is on goes; one with children has its new file in revertDisks, a
        leaf gets another one in the place of its own."""
        base = dict(self.snapshots[name].bases)["vda"]
        self._unlink(self.on)
        self.snapshots[self.current] = replace(self.snapshots[self.current], reverted=())
        path = f"{base.rsplit('.', 1)[0]}.{now}"
        assert path not in self.files
        self.files[path] = Overlay(base)
        new = (("vda", path),)
        if self._children(name):
            self.snapshots[name] = replace(self.snapshots[name], reverted=new)
        else:
            self.snapshots[name] = replace(self.snapshots[name], overlays=new, reverted=())
        self.on, self.current = path, name

    def delete(self, name: str) -> None:
        """Raises LibvirtError where libvirt refuses."""
        below, snapshot = self._children(name), self.snapshots[name]
        line = self._line()
        if name == self.current and below:
            raise LibvirtError("deletion of active external snapshot that is not a leaf")
        if below and name not in line:
            raise LibvirtError("deletion of non-leaf external snapshot that is not in active chain")
        if len(below) > 1:
            raise LibvirtError("deletion of external disk snapshot with multiple children")
        base = dict(snapshot.bases)["vda"]
        if name not in line:
            self._unlink(base)
        else:
            chain = self.chain(self.on)
            self._merge(chain[chain.index(base) - 1], base)
        for child in below:
            self.snapshots[child] = replace(self.snapshots[child], parent=snapshot.parent)
        if name == self.current:
            self.current = snapshot.parent
            if parent := self.snapshots.get(self.current):
                self.snapshots[self.current] = replace(parent, reverted=())
        del self.snapshots[name], self.content[name]
        self.merges += 1

    def _merge(self, above: str, base: str) -> None:
        """The headers of branches that stand on it are rewritten, too."""
        self.files[base].written |= self.files[above].written
        for file in self.files.values():
            file.backing = base if file.backing == above else file.backing
        for other, s in self.snapshots.items():
            if ("vda", above) in s.bases:
                self.snapshots[other] = replace(s, bases=(("vda", base),))
        self.on = base if self.on == above else self.on
        del self.files[above]

    def _unlink(self, path: str) -> None:
        users = [p for p, file in self.files.items() if file.backing == path]
        assert not users, f"{users} stood on {path}, which was unlinked"
        del self.files[path]

    def _children(self, name: str) -> list[str]:
        return [s.name for s in self.snapshots.values() if s.parent == name]

    def _line(self) -> list[str]:
        found, name = [], self.current
        while name:
            found.append(name)
            name = self.snapshots[name].parent
        return found

    def wrong(self) -> list[str]:
        """Snapshots whose content is not what it was when they were made, and files of nobody."""
        bad = [
            n
            for n, s in self.snapshots.items()
            if self.read(dict(s.bases)["vda"]) != self.content[n]
        ]
        used = {p for s in self.snapshots.values() for p in self.chain(dict(s.bases)["vda"])}
        return bad + sorted(self.files.keys() - used - set(self.chain(self.on)))
