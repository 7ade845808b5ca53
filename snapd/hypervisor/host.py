"""Asking libvirt about what VMs share: networks, host devices, volumes, each other's images."""

from __future__ import annotations

import contextlib
import errno
import time
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

import libvirt

from ..model import DomainInfo
from .chains import Chain, Chains, Volume
from .chains import chains as chains_of
from .chains import volume as volume_of
from .needs import Want
from .protocol import Need
from .reading import gone_meanwhile

_NO_VOLUME = (libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL)


def lacking(conn: libvirt.virConnect, wants: Iterable[Want]) -> list[Need]:
    """Those of the wants that libvirt is to be asked about and doesn't have."""
    have = {"network": _has_network, "device": _has_device, "volume": _has_volume}
    return [
        Need(want.kind, want.name)
        for want in wants
        if want.kind in have and not have[want.kind](conn, want)
    ]


def _has_network(conn: libvirt.virConnect, want: Want) -> bool:
    with gone_meanwhile(libvirt.VIR_ERR_NO_SUPPORT):
        with gone_meanwhile(libvirt.VIR_ERR_NO_NETWORK):
            return bool(conn.networkLookupByName(want.name).isActive())
        return False
    return True  # no network driver: whether it is there can't be told


def _has_device(conn: libvirt.virConnect, want: Want) -> bool:
    with gone_meanwhile(libvirt.VIR_ERR_NO_SUPPORT):
        with gone_meanwhile(libvirt.VIR_ERR_NO_NODE_DEVICE):
            conn.nodeDeviceLookupByName(want.node_device)
            return True
        return False
    return True


def _has_volume(_conn: libvirt.virConnect, want: Want) -> bool:
    return bool(want.path)


def sees(dom: libvirt.virDomain, info: DomainInfo, files: Collection[str]) -> set[str]:
    """Those of the files that libvirt finds: disks of a VM that is off (of one that runs it tells
    what QEMU has open), and volumes of its pools."""
    found = set()
    for disk in info.disks:
        if disk.source in files and not info.state.active:
            with contextlib.suppress(libvirt.libvirtError):
                dom.blockInfo(disk.target)
                found.add(disk.source)
    for path in set(files) - found:
        with contextlib.suppress(libvirt.libvirtError):
            dom.connect().storageVolLookupByPath(path).info()
            found.add(path)
    return found


def resolved(conn: libvirt.virConnect, wants: Iterable[Want]) -> tuple[Want, ...]:
    """The wants, with the paths of the volumes among them, "" = none is there."""

    def path(want: Want) -> str:
        with gone_meanwhile(*_NO_VOLUME):
            pool, _, volume = want.name.partition("/")
            found = conn.storagePoolLookupByName(pool)
            return _volume_path(found, volume) if found.isActive() else ""
        return ""

    return tuple(replace(w, path=path(w)) if w.kind == "volume" else w for w in wants)


def _volume_path(pool: libvirt.virStoragePool, volume: str) -> str:
    """Also where the pool is not active: there a file of that name may be all the same."""
    if pool.isActive():
        return str(pool.storageVolLookupByName(volume).path())
    folder = ET.fromstring(pool.XMLDesc(0)).findtext("./target/path")
    return f"{folder}/{volume}" if folder else ""


def chains(dom: libvirt.virDomain) -> Chains:
    """The files that its disks stand on. XMLDesc may wait behind a stuck VM."""

    def read(flags: int) -> tuple[Chain, ...]:
        root = ET.fromstring(dom.XMLDesc(flags))
        for source in root.findall("./devices/disk[@type='volume']/source"):
            with gone_meanwhile(*_NO_VOLUME):
                pool = dom.connect().storagePoolLookupByName(source.get("pool", ""))
                source.set("file", _volume_path(pool, source.get("volume", "")))
        return chains_of(root)

    return Chains(
        live=read(0) if dom.isActive() else (),
        stored=read(libvirt.VIR_DOMAIN_XML_INACTIVE) if dom.isPersistent() else (),
    )


def volumes(conn: libvirt.virConnect, seconds: float) -> tuple[dict[str, list[Volume]], list[str]]:
    """Active pool -> its volumes that are backed by something, and the pools that could not be
    read in that time."""
    deadline = time.monotonic() + seconds
    found: dict[str, list[Volume]] = {}
    unread: list[str] = []
    active: list[libvirt.virStoragePool] = []
    with gone_meanwhile(libvirt.VIR_ERR_NO_SUPPORT), _no_daemon():
        active = conn.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    for pool in active:
        try:
            found[pool.name()] = _backed(pool, deadline)
        except (libvirt.libvirtError, TimeoutError):
            unread.append(pool.name())
    return found, unread


@contextlib.contextmanager
def _no_daemon() -> Iterator[None]:
    """Let virtqemud say that nobody listens where the daemon is to which it passes this on: not
    installed or turned off, so that nothing of its can be active."""
    try:
        yield
    except libvirt.libvirtError as e:
        if (e.get_error_code(), e.get_int1()) != (libvirt.VIR_ERR_SYSTEM_ERROR, errno.ENOENT):
            raise


def _backed(pool: libvirt.virStoragePool, deadline: float) -> list[Volume]:
    found = []
    for vol in pool.listAllVolumes(0):
        if time.monotonic() > deadline:
            raise TimeoutError
        with gone_meanwhile(libvirt.VIR_ERR_NO_STORAGE_VOL):
            if backed := volume_of(pool.name(), vol.XMLDesc(0)):
                found.append(backed)
    return found
