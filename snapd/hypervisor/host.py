"""Asking libvirt about what VMs share: networks, host devices, volumes, each other's images."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable

import libvirt

from .chains import Chain, Chains, Volume
from .chains import chains as chains_of
from .chains import volume as volume_of
from .needs import Want
from .protocol import Need
from .reading import gone_meanwhile


def lacking(conn: libvirt.virConnect, wants: Iterable[Want]) -> list[Need]:
    """Those of the wants that libvirt is to be asked about and doesn't have."""
    have = {"network": _has_network, "device": _has_device}
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


def chains(dom: libvirt.virDomain) -> Chains:
    """The files that its disks stand on. XMLDesc may wait behind a stuck VM."""

    def read(flags: int) -> tuple[Chain, ...]:
        root = ET.fromstring(dom.XMLDesc(flags))
        for source in root.findall("./devices/disk[@type='volume']/source"):
            with gone_meanwhile(libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL):
                pool = dom.connect().storagePoolLookupByName(source.get("pool", ""))
                source.set("file", pool.storageVolLookupByName(source.get("volume", "")).path())
        return chains_of(root)

    return Chains(
        live=read(0) if dom.isActive() else (),
        stored=read(libvirt.VIR_DOMAIN_XML_INACTIVE) if dom.isPersistent() else (),
    )


def volumes(conn: libvirt.virConnect, seconds: float) -> tuple[list[Volume], list[str]]:
    """The volumes of all active pools that are backed by something, and the pools that could not
    be read in that time."""
    deadline = time.monotonic() + seconds
    found: list[Volume] = []
    unread: list[str] = []
    active: list[libvirt.virStoragePool] = []
    with gone_meanwhile(libvirt.VIR_ERR_NO_SUPPORT):
        active = conn.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    for pool in active:
        try:
            found += _backed(pool, deadline)
        except (libvirt.libvirtError, TimeoutError):
            unread.append(pool.name())
    return found, unread


def _backed(pool: libvirt.virStoragePool, deadline: float) -> list[Volume]:
    found = []
    for vol in pool.listAllVolumes(0):
        if time.monotonic() > deadline:
            raise TimeoutError
        with gone_meanwhile(libvirt.VIR_ERR_NO_STORAGE_VOL):
            if backed := volume_of(pool.name(), vol.XMLDesc(0)):
                found.append(backed)
    return found
