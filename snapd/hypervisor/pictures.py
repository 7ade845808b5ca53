"""What a list shows of a VM and its snapshots, read again and again. Plain functions for a thread.

Parsing the snapshots' XML takes most of that, and it hardly ever changes: so what a text says is
kept, by the hash of the text, and told again where libvirt tells that text again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection

import libvirt

from ..model import DomainInfo, SnapshotInfo
from . import host, reading
from .chains import Chains

Picture = tuple[DomainInfo, list[SnapshotInfo], Chains | None]


class Pictures:
    """images: whether VMs have any. Reads a VM in one thread at a time."""

    def __init__(self, *, images: bool) -> None:
        self._images = images
        self._texts: dict[str, dict[bytes, SnapshotInfo]] = {}

    def read(self, dom: libvirt.virDomain) -> Picture:
        """A domain, its snapshots and, where there are any, its images. Keeps only the texts of
        this time, and none of a VM that is off: it is seldom read (see unchanged)."""
        info, found = reading.domain(dom), None
        with contextlib.suppress(libvirt.libvirtError):  # a pool's, which is not ours to tell
            found = host.chains(dom) if self._images else None
        texts = _Texts(self._texts.pop(info.uuid, {}))
        snapshots = reading.snapshots(dom, info.current, texts.say)
        if info.state.active:
            self._texts[info.uuid] = texts.now
        return info, snapshots, found

    def forget(self, listed: Collection[str]) -> None:
        """Forget VMs that are no longer listed."""
        for uuid in self._texts.keys() - listed:
            self._texts.pop(uuid, None)


class _Texts:
    """before: what those of the last time said."""

    def __init__(self, before: dict[bytes, SnapshotInfo]) -> None:
        self._before = before
        self.now: dict[bytes, SnapshotInfo] = {}

    def say(self, text: str) -> SnapshotInfo:
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        said = self.now[key] = self._before.get(key) or reading.snapshot(text)
        return said
