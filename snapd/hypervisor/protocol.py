"""What the rest of the daemon may ask of a hypervisor, and nothing more.

Behind it stands libvirt; tests put a stand-in there only for faults that can't be made for real.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ..model import Disk, DomainInfo, SnapshotInfo
from .beside import Beside
from .external import ChainFacts, Overlays
from .images import ImageCheck, ImageInfo
from .unseen import Unseen


class EventKind(StrEnum):
    """What happened to a domain; `from_snapshot`: a revert, by us or others, did it. RECORDED: one
    of its snapshots was made, changed or deleted, by us or others."""

    DEFINED = "defined"
    UNDEFINED = "undefined"
    RENAMED = "renamed"
    STARTED = "started"
    STOPPED = "stopped"
    PAUSED = "paused"
    RESUMED = "resumed"
    CRASHED = "crashed"
    RECORDED = "recorded"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """A lifecycle event: a hint to look again, never a fact to act on by itself.

    trigger: the word of a policy's `on` that it is an instance of: start, shutdown, crash; "" = of
    none (a migration, a managed save, a revert). at: when it was over, by the monotonic clock, for
    one that is told later than that; 0 = it is told at once.
    """

    uuid: str
    kind: EventKind
    from_snapshot: bool = False
    trigger: str = ""
    at: float = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Space:
    """Room on the file system of a file: bytes and inodes free for QEMU, and its size. Inodes that
    the file system doesn't count (btrfs) are a huge number. device: the
    file system's number, 0 = not known.
    """

    free: int
    total: int
    inodes: int
    device: int = 0


@dataclass(frozen=True, slots=True)
class FileUse:
    """Somebody else who needs the file of a disk: who (a VM or volume), and how: `active` (a
    running VM's own disk), `backing` (an image that is backed by it), `unchecked` (it could not be
    told in time; target is ""). file: the one that is needed: a disk's present one, or one that an
    external snapshot names."""

    target: str
    who: str
    how: str
    file: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a saved domain needs to run and that isn't there.

    kind: `file`, `emulator`, `network`, `bridge`, `device`, `folder` or `volume`; name: as a person
    knows it, of files the base name; told: False = whether it is there could not be told.
    """

    kind: str
    name: str
    told: bool = True


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """All that a preflight needs of one domain, read at one time.

    inactive: the disks that the next start would have; holder: who has a job on it (`backup`,
    `block job on vda`, `another job`), "" = nobody; images: target -> image, for the disks that
    could be read; unreadable: target -> why not; misdeclared: targets whose image is not of the
    declared format; space: target -> room beside its image; metadata: room for libvirt's own
    records, None = not known; users: others who need these disks' files; missing: files of any of
    these disks, or of external snapshots, that aren't there; unknown: those of which that, or the
    room beside them, could not be told; whys: path -> why that, or what is in it, is not known;
    version: libvirt's, (9, 0, 0); has_images: as Hypervisor.has_images. Of the snapshot that was
    asked about: saved: the disks in its domain XML; live_bitmaps: target -> bitmaps that a running
    QEMU has for its image, where it may be asked; saved_tpm: saved has an emulated TPM; needs:
    what that domain lacks to run; rolled_back: parts of the configuration that are not now as they
    were then (`memory`, `interfaces`).
    """

    info: DomainInfo
    snapshots: tuple[SnapshotInfo, ...]
    inactive: tuple[Disk, ...]
    inactive_xml: str
    holder: str = ""
    checkpoints: tuple[str, ...] = ()
    images: dict[str, ImageInfo] = field(default_factory=dict)
    live_bitmaps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    misdeclared: set[str] = field(default_factory=set)
    space: dict[str, Space] = field(default_factory=dict)
    metadata: Space | None = None
    users: list[FileUse] = field(default_factory=list)
    saved: tuple[Disk, ...] = ()
    saved_tpm: bool = False
    needs: list[Need] = field(default_factory=list)
    rolled_back: tuple[str, ...] = ()
    missing: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    whys: dict[str, Unseen] = field(default_factory=dict)
    chains: ChainFacts = field(default_factory=ChainFacts)
    version: tuple[int, int, int] = (0, 0, 0)
    has_images: bool = True


@dataclass(frozen=True, slots=True)
class BareFacts:
    """What a look after an act needs whatever came of it; as DomainFacts has them. names: of the
    snapshots that libvirt lists; what these are is not asked, one by one."""

    info: DomainInfo
    names: frozenset[str]
    inactive: tuple[Disk, ...]
    inactive_xml: str
    holder: str = ""


class Hypervisor(Protocol):
    """One libvirt. Domains are named by UUID. Every call may raise Unavailable, NoSuchDomain,
    TimedOut or LibvirtError; those that change something, also OutcomeUnknown."""

    uri: str

    @property
    def connected(self) -> bool: ...

    @property
    def tried(self) -> bool:
        """Whether it was connected once, or could not be."""

    @property
    def error(self) -> str:
        """Why it isn't connected, in words; empty while it is."""

    @property
    def has_images(self) -> bool:
        """Whether there are real images behind the disks (QEMU), or none (the test driver)."""

    @property
    def has_monitor(self) -> bool:
        """Whether a running VM's disks can be snapshotted without its RAM."""

    @property
    def version(self) -> tuple[int, int, int]:
        """libvirt's, (9, 0, 0); zeros until it was connected once."""

    @property
    def chains(self) -> ChainFacts:
        """What can be done there with external snapshots, of no domain."""

    @property
    def overlays(self) -> Overlays:
        """The part of it that external snapshots need."""

    def on_event(self, call: Callable[[DomainEvent], None]) -> None:
        """Have lifecycle events handed over, on the loop; where libvirt's records can be watched,
        RECORDED too, within a second."""

    def on_connection(self, call: Callable[[bool], None]) -> None:
        """Have it told, on the loop, when the connection comes and goes."""

    def hanging(self) -> Mapping[str, int]:
        """Mount point -> how many questions to its files hang, and have been left behind."""

    async def versions(self) -> tuple[str, str]:
        """libvirt's and the hypervisor's version, `9.0.0`."""

    async def list_domains(self) -> dict[str, str]:
        """UUID -> name of every domain; never waits for a VM."""

    async def read(self, uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
        """A domain and its snapshots; waits for a stuck VM at most 5 s. For the inventory alone,
        since `unchanged` is about what was answered here last."""

    async def domain(self, uuid: str) -> DomainInfo:
        """The same without the snapshots."""

    async def unchanged(self, uuids: Collection[str]) -> set[str]:
        """Those that are proven to be as they were when they were last read, without a question, by
        what list_domains has said right before. Of the others nothing is known."""

    async def facts(self, uuid: str, snapshot: str = "") -> DomainFacts:
        """A deep look, for a preflight of a snapshot; waits for a stuck VM at most 20 s."""

    async def bare_facts(self, uuid: str) -> BareFacts:
        """The same without what files, images and each snapshot say, but who writes to the images
        of a VM that is off."""

    async def tags(self, info: DomainInfo, disks: Sequence[Disk]) -> dict[str, tuple[str, ...]]:
        """target -> names of the internal snapshots in its image, now. A disk whose image can't
        be read is an error."""

    async def stamp(self, info: DomainInfo) -> str:
        """What the images of a VM that is off look like: opaque, and another one after every
        write to any of them. "" = it can't be told, in time or at all (no plain files). Raises
        nothing."""

    async def create(self, uuid: str, name: str, description: str) -> None:
        """libvirt's own internal snapshot: with RAM where the VM is active."""

    async def take(self, uuid: str, disks: Sequence[Disk], name: str) -> int:
        """The monitor's snapshot of all disks at once, not yet registered; milliseconds taken.
        Raises Unsupported where QEMU refused and rolled back."""

    async def register(
        self,
        uuid: str,
        name: str,
        description: str,
        created: int,
        parent: str,
        disks: Sequence[str],
        left_out: Sequence[str],
        domain_xml: str,
        *,
        current: bool,
    ) -> None:
        """Have libvirt know a snapshot that `take` made."""

    async def revert(
        self,
        uuid: str,
        name: str,
        *,
        running: bool,
        paused: bool,
        force: bool = False,
        created: int | None = None,
    ) -> None:
        """libvirt's own revert. running, paused: the state wanted whatever the snapshot says;
        force: also where libvirt calls it risky (its code 77); created: raises Changed where the
        snapshot of that name was made at another time."""

    async def delete(
        self,
        uuid: str,
        name: str,
        *,
        metadata_only: bool = False,
        created: int | None = None,
        active: bool | None = None,
    ) -> None:
        """libvirt's own delete. created: as revert's; active: raises Busy where the VM has been
        started or stopped since."""

    async def remove_tags(
        self, uuid: str, disks: Sequence[Disk], name: str, *, created: int | None = None
    ) -> None:
        """Delete the snapshot from the images of a running VM, disk by disk; repeatable. created:
        as revert's."""

    async def describe(self, uuid: str, name: str, text: str) -> None:
        """Give a snapshot another description, everything else as it was (its secrets too)."""

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        """A snapshot's XML, without secrets."""

    async def check_image(self, disk: Disk) -> ImageCheck:
        """Whether the image of a VM that is off is sound; reads only."""

    async def beside(self, folders: Collection[str], named: Collection[str]) -> Beside:
        """The images and memory files that lie in these folders, and the real paths of the files
        named; headers only."""

    async def discard_saved_state(self, uuid: str) -> None:
        """Remove the managed save of a VM that is off: its RAM is lost."""

    async def set_time(self, uuid: str, seconds: int) -> None:
        """Set the guest's clock by its agent, whose own time-out is set first."""

    async def start(self, uuid: str) -> None:
        """Start a VM that is off."""

    async def stop(self, uuid: str) -> None:
        """Cut a VM's power."""

    async def freeze(self, uuid: str, agent_timeout: int) -> int:
        """Freeze the guest's file systems, the agent's own time-out (seconds) set first."""

    async def thaw(self, uuid: str, agent_timeout: int) -> int:
        """Thaw them, the agent's own time-out (seconds) set first; how many were thawed."""
