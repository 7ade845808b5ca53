"""External snapshots, as the rest of the daemon may ask for them: files and calls of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .images import ImageInfo


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """What external snapshots ask of libvirt, and what the disks stand on.

    capable: this libvirt creates, reverts and deletes them (`<externalSnapshot/>` in its
    capabilities, 9.9 and newer); security: the host's models, `apparmor`, `selinux`. layers: target
    -> (path, format) of each file that its image stands on, the disk's own first, by the headers,
    one layer at a time; read only where the domain has external snapshots. A chain that can't be
    read to its end stops at the file that can't: it is in `missing` or `unknown`. live, stored:
    target -> the same by libvirt's running and stored XML, () = that XML doesn't say; live_ends,
    stored_ends: targets of which it says that nothing lies below, where libvirt else goes by the
    header. images: path -> its header, of these files, of those that external snapshots name, and
    of all below them, as far as they could be read.
    """

    capable: bool = False
    security: frozenset[str] = frozenset()
    layers: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    live: dict[str, tuple[str, ...]] = field(default_factory=dict)
    stored: dict[str, tuple[str, ...]] = field(default_factory=dict)
    images: dict[str, ImageInfo] = field(default_factory=dict)
    live_ends: frozenset[str] = frozenset()
    stored_ends: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NewOverlay:
    """A file to make for a disk: path: absolute, ends in .qcow2; base and base_format: what it is
    backed by; size: the disk's virtual size in bytes."""

    target: str
    path: str
    base: str
    base_format: str
    size: int


@dataclass(frozen=True, slots=True)
class ExternalSnapshot:
    """What is to be made: overlays: (target, path) of files that are there already; left_out:
    targets of all other disks; memory_file: where the RAM goes, "" = not saved; live: the guest
    runs on while its RAM is written; encrypted: target -> the `<encryption>` of its source."""

    name: str
    description: str
    overlays: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...] = ()
    memory_file: str = ""
    live: bool = True
    encrypted: Mapping[str, str] = field(default_factory=dict)


class Overlays(Protocol):
    """External snapshots by libvirt. Domains are named by UUID; errors as Hypervisor's."""

    async def make(self, uuid: str, files: Sequence[NewOverlay]) -> None:
        """Make the files by the pool that covers their folder, else by a transient one: QEMU's
        owner and label, mode 0600. Raises AlreadyExists, where nothing was overwritten and what
        this call had made is gone again."""

    async def remove(self, uuid: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Remove such files, by a pool; those that stay, or that no pool shows and no look can tell
        of. One that isn't there is no error."""

    async def create(self, uuid: str, wanted: ExternalSnapshot) -> None:
        """All disks at one instant onto the overlays; with memory_file RAM, too."""

    async def merge(
        self,
        uuid: str,
        name: str,
        *,
        created: int,
        active: bool,
        progress: Callable[[float], None],
    ) -> None:
        """libvirt's own delete of an external snapshot, which merges an overlay into what is below
        it. progress: called on the loop with 0..1. created, active: as Hypervisor.delete."""

    async def put_back(self, uuid: str, xml: str) -> None:
        """Define a VM that is off by the XML that it had, secrets too, where libvirt's revert broke
        off and left it on other files. Raises Busy where it isn't off."""

    async def mark(self, uuid: str, name: str, *, created: int) -> None:
        """Make one without children the current one of a VM that is off. Raises Busy where it
        isn't off."""

    async def starting(self, uuid: str) -> bool:
        """Whether libvirt has a QEMU for it that is not started yet; waits for a stuck VM at most
        40 s."""

    async def abandon(self, uuid: str, targets: Sequence[str]) -> None:
        """End the merges of these disks that wait for their last step, which a libvirtd that died
        in the middle never takes: the disks stay on their overlays."""

    async def commit(self, uuid: str, target: str, top: str, base: str) -> None:
        """Merge one overlay of a running VM into the file below it, and have the disk stand there;
        the overlay is removed."""
