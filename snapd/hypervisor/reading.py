"""Reading a domain and its snapshots. Plain functions for a thread: each takes a connection."""

from __future__ import annotations

import contextlib
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import replace

import libvirt

from ..errors import Changed
from ..model import Disk, DomainInfo, SnapshotInfo, State
from . import xml
from .protocol import BareFacts

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: State.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: State.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: State.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: State.RUNNING,
    libvirt.VIR_DOMAIN_SHUTOFF: State.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: State.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: State.SUSPENDED,
}
_IO_ERROR = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
JOB_GRACE = 1.0
RAW_NVRAM_OFF = 9_003_000  # libvirt that snapshots a VM with a raw NVRAM while it is off


def names(conn: libvirt.virConnect) -> tuple[dict[str, str], dict[str, str]]:
    """UUID -> name of every domain, and those that are off; one question to libvirt."""
    found = [(dom.UUIDString(), dom.name(), dom.ID()) for dom in conn.listAllDomains(0)]
    return {u: name for u, name, _ in found}, {u: name for u, name, n in found if n < 0}


def domain(dom: libvirt.virDomain) -> DomainInfo:
    """What a list shows of a domain. XMLDesc may wait behind a stuck VM (LIBVIRT.md 9)."""
    state, reason = dom.state()
    root = ET.fromstring(dom.XMLDesc(0))
    raw_nvram = xml.raw_nvram(root)
    return DomainInfo(
        uuid=dom.UUIDString(),
        name=dom.name(),
        state=_STATES.get(state, State.UNKNOWN),
        persistent=bool(dom.isPersistent()),
        current=_current(dom),
        managed_save=bool(dom.hasManagedSaveImage(0)),
        memory=xml.memory(root),
        disks=xml.disks(root),
        raw_nvram=raw_nvram,
        raw_nvram_off=raw_nvram and dom.connect().getLibVersion() >= RAW_NVRAM_OFF,
        nvram=xml.nvram_image(root),
        unmigratable=xml.unmigratable(root),
        agent=xml.has_agent(root),
        tpm=xml.emulated_tpm(root),
        io_error=(state, reason) == _IO_ERROR,
        busy_since=_busy_since(dom),
        instance=dom.ID(),
    )


def versions(conn: libvirt.virConnect) -> tuple[str, str]:
    """libvirt's and the hypervisor's."""
    return dotted(conn.getLibVersion()), dotted(conn.getVersion())


def capabilities(conn: libvirt.virConnect) -> str:
    """The XML of what the host can do."""
    return str(conn.getCapabilities())


def snapshot(text: str) -> SnapshotInfo:
    """What its XML says, which is not whether it is the current one."""
    return xml.snapshot(text, current=False)


def snapshots(
    dom: libvirt.virDomain,
    current: str | None = None,
    say: Callable[[str], SnapshotInfo] = snapshot,
) -> list[SnapshotInfo]:
    """Its snapshots, oldest first, as libvirt lists them; answers at once. current: which of them
    is, "" = none, where that has just been asked; say: what an XML says."""
    if current is None:
        current = _current(dom)
    found = []
    for snap in dom.listAllSnapshots(0):
        with gone_meanwhile(libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT):
            said = say(snap.getXMLDesc(0))
            found.append(replace(said, current=True) if snap.getName() == current else said)
    return sorted(found, key=lambda s: (s.created, s.name))


def _current(dom: libvirt.virDomain) -> str:
    return dom.snapshotCurrent(0).getName() if dom.hasCurrentSnapshot(0) else ""


def inactive(dom: libvirt.virDomain) -> tuple[str, tuple[Disk, ...]]:
    """The secure inactive XML (never for the bus or a log), and the disks in it."""
    text = dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    return text, xml.disks(ET.fromstring(text))


def bare(dom: libvirt.virDomain, *, images: bool) -> BareFacts:
    """What costs the same however many snapshots there are. images: there may be a holder. The
    names come last: of what a holder made that is done by now, they have it."""
    info = domain(dom)
    text, disks = inactive(dom)
    at_work = holder(dom, info.disks) if images else ""
    names = frozenset(snap.getName() for snap in dom.listAllSnapshots(0))
    return BareFacts(info, names, disks, text, at_work)


def described(dom: libvirt.virDomain, name: str, text: str) -> None:
    """Give a snapshot another description."""
    before = dom.snapshotLookupByName(name, 0).getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)
    # with CURRENT, libvirt forgets what an external tree's reverts wrote (LIBVIRT.md 9.8)
    redefine = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    dom.snapshotCreateXML(xml.described(before, text), redefine)


def saved(dom: libvirt.virDomain, snapshot: str) -> ET.Element | None:
    """The `<domain>` inside a snapshot: what a revert would start."""
    text = dom.snapshotLookupByName(snapshot, 0).getXMLDesc(0)
    return ET.fromstring(text).find("domain")


def same_snapshot(
    dom: libvirt.virDomain, name: str, created: int | None
) -> libvirt.virDomainSnapshot:
    """The snapshot to act on, looked up right before. Raises Changed where it is another one."""
    snapshot = dom.snapshotLookupByName(name, 0)
    now = xml.snapshot(snapshot.getXMLDesc(0), current=False).created
    if created not in (None, now):
        raise Changed(
            f"snapshot {name!r} of VM {dom.name()} is not the one that was asked about: "
            "it was made anew; look again",
            item=name,
        )
    return snapshot


def holder(
    dom: libvirt.virDomain, disks: tuple[Disk, ...], sleep: Callable[[float], None] = time.sleep
) -> str:
    """Who has a job on an active domain, "" = nobody. A block job of libvirt's own merge is that
    merge's: `another job`, until libvirt has done the rest of it, too.

    A backup holds the job lock all its life, and asking for its XML answers at once; so does
    controlInfo, where a passing query of somebody else looks like a job: hence the grace.
    """
    if not dom.isActive():
        return ""
    with gone_meanwhile(libvirt.VIR_ERR_NO_DOMAIN_BACKUP, libvirt.VIR_ERR_NO_SUPPORT):
        dom.backupGetXMLDesc(0)
        return "backup"
    deadline = time.monotonic() + JOB_GRACE
    while _has_job(dom):
        if time.monotonic() > deadline:
            return "another job"
        sleep(0.1)
    for disk in disks:
        if disk.source and disk.writable and dom.blockJobInfo(disk.target, 0):
            return "another job" if _in_long_job(dom) else f"block job on {disk.target}"
    # for a merge of a VM that is off libvirt starts QEMU paused, and has no block job at first
    paused = dom.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    return "another job" if paused and _in_long_job(dom) else ""


def _in_long_job(dom: libvirt.virDomain) -> bool:
    """Whether libvirt is at work on a snapshot, backup or the like: between its steps, controlInfo
    doesn't say so."""
    with gone_meanwhile(libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID):
        return bool(dom.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    return False


def _has_job(dom: libvirt.virDomain) -> bool:
    with gone_meanwhile(libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID):
        return bool(dom.controlInfo(0)[0] != libvirt.VIR_DOMAIN_CONTROL_OK)
    return False


def _busy_since(dom: libvirt.virDomain) -> int:
    with gone_meanwhile(libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID):
        state, _details, milliseconds = dom.controlInfo(0)
        if state != libvirt.VIR_DOMAIN_CONTROL_OK:
            return int(time.time() - milliseconds / 1000)
    return 0


def checkpoints(dom: libvirt.virDomain) -> tuple[str, ...]:
    """Names of its backup checkpoints."""
    with gone_meanwhile(libvirt.VIR_ERR_NO_SUPPORT):
        return tuple(sorted(c.getName() for c in dom.listAllCheckpoints(0)))
    return ()


@contextlib.contextmanager
def gone_meanwhile(*codes: int) -> Iterator[None]:
    """Let libvirt say, by one of these numbers, that there is none."""
    try:
        yield
    except libvirt.libvirtError as e:
        if e.get_error_code() not in codes:
            raise


def version(number: int) -> tuple[int, int, int]:
    """libvirt's way to write a version, taken apart."""
    return number // 1000000, number // 1000 % 1000, number % 1000


def dotted(number: int) -> str:
    """The same as people write it, `9.0.0`."""
    return ".".join(map(str, version(number)))
