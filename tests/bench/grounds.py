"""What a bench of many VMs stands on: a private libvirtd, or libvirt's test driver; both grow."""

from __future__ import annotations

import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import libvirt

from tests.bed.private import PrivateLibvirt
from tests.bench import beds
from tests.driver import house

DOMAINS = Path("/etc/libvirt/qemu")
RECORDS = Path("/var/lib/libvirt/qemu/snapshot")
START_SECONDS = 300
"""libvirtd reads all its records when it starts: 50,000 take it some 10 s on a free machine."""
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>
<memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='{image}'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""


class Ground(ABC):
    """VMs vm-0, vm-1, ... with a number of snapshots s-0, s-1, ... each."""

    name = ""

    def __init__(self, uri: str, uuid_of: Callable[[int], str]) -> None:
        self.uri, self.uuid_of = uri, uuid_of

    @abstractmethod
    def grow(self, count: int) -> None:
        """Have that many VMs; no daemon runs meanwhile."""

    @abstractmethod
    def close(self) -> None:
        """Nobody needs it any more."""


class Hosted(Ground):
    """A private libvirtd. The VMs are off and have a disk; only vm-0 has a file for it.

    vm-0 and its snapshots are made by libvirt's calls. Of the others libvirtd finds, when it
    starts, the files that it would have written of them: 50,000 calls would take minutes.
    """

    name = "libvirtd"

    def __init__(self, bed: PrivateLibvirt, snapshots: int) -> None:
        """bed: runs, and has no VM yet."""
        super().__init__(beds.QEMU, beds.uuid_of)
        self._bed, self._count = bed, 1
        image = bed.images / f"{beds.name_of(0)}.qcow2"
        make = ["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"]
        subprocess.run(make, check=True)
        parts = {"name": beds.name_of(0), "uuid": beds.uuid_of(0), "image": str(image)}
        conn = libvirt.open(self.uri)
        try:
            domain = conn.defineXML(DOMAIN.format(**parts))
            text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            for n in range(snapshots):
                beds.redefine(domain, n, text)
        finally:
            conn.close()

    def grow(self, count: int) -> None:
        self._bed.stop_libvirtd()
        for number in range(self._count, count):
            name = beds.name_of(number)
            self._copy(DOMAINS / "vm-0.xml", DOMAINS / f"{name}.xml", number)
            (RECORDS / name).mkdir()
            for file in (RECORDS / "vm-0").iterdir():
                self._copy(file, RECORDS / name / file.name, number)
        self._count = max(self._count, count)
        self._bed.start_libvirtd(START_SECONDS)

    def _copy(self, file: Path, to: Path, number: int) -> None:
        text = file.read_text().replace(beds.uuid_of(0), beds.uuid_of(number))
        to.write_text(text.replace(beds.name_of(0), beds.name_of(number)))

    def restart(self) -> None:
        """End libvirt and start it, under a daemon that runs."""
        self._bed.stop_libvirtd()
        self._bed.start_libvirtd(START_SECONDS)

    def close(self) -> None:
        """Remove what the bed, which waits for that 30 s only, would have to."""
        self._bed.stop_libvirtd()
        shutil.rmtree(RECORDS)


class Driven(Ground):
    """The test driver, which lives in the process that asks it. The VMs run and have no disk."""

    name = "test driver"

    def __init__(self, folder: Path, snapshots: int) -> None:
        self._file, self._snapshots = folder / "host.xml", snapshots
        super().__init__(f"test://{self._file}", house.uuid_of)

    def grow(self, count: int) -> None:
        self._file.write_text(house.many(count, self._snapshots))

    def close(self) -> None:
        self._file.unlink()


class Bare:
    """The libvirt calls that a reading of everything needs and no others, over one connection, in
    one thread; what they answer is thrown away."""

    def __init__(self, uri: str) -> None:
        self._conn = libvirt.open(uri)

    def read(self) -> tuple[int, float, float]:
        """How many snapshots there are; milliseconds of the clock, and of this thread's CPU
        time."""
        clock, cpu, count = time.monotonic(), time.thread_time(), 0
        for domain in self._conn.listAllDomains(0):
            domain.XMLDesc(0)
            for snapshot in domain.listAllSnapshots(0):
                snapshot.getXMLDesc(0)
                count += 1
        return count, (time.monotonic() - clock) * 1000, (time.thread_time() - cpu) * 1000

    def close(self) -> None:
        self._conn.close()
