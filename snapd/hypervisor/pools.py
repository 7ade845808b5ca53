"""Files made and removed by libvirt's storage pools, as this service writes to no disk itself.

A folder's active pool is used where there is one, else one for the moment: one that rests would
stay active if we were killed in between. A pool doesn't know of files that others made since it
looked last, so it is told to look first; libvirt never writes over a file that is there. Plain
functions for a thread: each takes a connection.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import libvirt

from ..errors import AlreadyExists
from . import external_xml
from .external import NewOverlay
from .reading import gone_meanwhile

log = logging.getLogger(__name__)
PREFIX = "virtsnapd-"
_TAKEN = (libvirt.VIR_ERR_STORAGE_VOL_EXIST, libvirt.VIR_ERR_OPERATION_INVALID)
_NO_VOLUME = libvirt.VIR_ERR_NO_STORAGE_VOL


def own_name(folder: str) -> str:
    """What the pool that is made for a folder is called: always the same, so that one which was
    left behind is found again."""
    return PREFIX + hashlib.sha256(folder.encode()).hexdigest()[:16]


@contextlib.contextmanager
def covering(conn: libvirt.virConnect, folder: str) -> Iterator[libvirt.virStoragePool]:
    """The pool of the files in a folder, looked through just now; what was made for it is gone
    afterwards. Others' pools stay as they are."""
    pool = _active(conn, folder)
    if pool is None:
        pool = conn.storagePoolCreateXML(_transient(conn, folder), 0)
    mine = pool.name() == own_name(folder) and not pool.isPersistent()
    try:
        pool.refresh(0)
        yield pool
    finally:
        if mine:
            _let_go(pool)


def _active(conn: libvirt.virConnect, folder: str) -> libvirt.virStoragePool | None:
    for pool in conn.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        if _covers(pool, folder):
            return pool
    return None


def _covers(pool: libvirt.virStoragePool, folder: str) -> bool:
    with gone_meanwhile(libvirt.VIR_ERR_NO_STORAGE_POOL):
        path = external_xml.folder(pool.XMLDesc(0))
        return bool(path) and PurePath(path) == PurePath(folder)
    return False


def _transient(conn: libvirt.virConnect, folder: str) -> str:
    """libvirt allows no second pool of a path beside one that rests, and goes by its spelling."""
    rests = any(
        _covers(pool, folder)
        for pool in conn.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE)
    )
    return external_xml.pool(own_name(folder), f"{folder}/." if rests else folder)


def _let_go(pool: libvirt.virStoragePool) -> None:
    """Its files stay. That it stays itself harms nobody: the next one finds it."""
    try:
        pool.destroy()
    except libvirt.libvirtError as e:
        log.warning("storage pool %s, made for a moment, stays: %s", pool.name(), e)


def make(
    conn: libvirt.virConnect, files: Sequence[NewOverlay], encryptions: Mapping[str, str]
) -> None:
    """Make all the files or none. encryptions: target -> `<encryption>`. Raises AlreadyExists."""
    made: list[str] = []
    try:
        for file in files:
            with covering(conn, _folder(file.path)) as pool:
                _make_one(pool, file, encryptions.get(file.target, ""))
            made.append(file.path)
    except BaseException:
        for path in remove(conn, made).stay:
            log.warning("%s, begun for a snapshot that was not made, stays", PurePath(path).name)
        raise


def _make_one(pool: libvirt.virStoragePool, file: NewOverlay, encryption: str) -> None:
    name = PurePath(file.path).name
    owner: dict[str, str] = {}
    if _folder(file.base) == _folder(file.path):
        with gone_meanwhile(_NO_VOLUME):
            base = pool.storageVolLookupByName(PurePath(file.base).name)
            owner = external_xml.owner(base.XMLDesc(0))
    try:
        pool.createXML(external_xml.volume(file, owner, encryption), 0)
    except libvirt.libvirtError as e:
        if e.get_error_code() in _TAKEN and _lies_in(pool, name):
            raise AlreadyExists(
                f"there is a file {name} already, and nothing is written over it", item=name
            ) from e
        raise


def _lies_in(pool: libvirt.virStoragePool, name: str) -> bool:
    pool.refresh(0)
    return name in {volume.name() for volume in pool.listAllVolumes(0)}


@dataclass(frozen=True, slots=True)
class Removed:
    """Files that stay; and those that no pool shows: they are gone, or it doesn't see them."""

    stay: tuple[str, ...]
    unlisted: tuple[str, ...]


def remove(conn: libvirt.virConnect, paths: Sequence[str]) -> Removed:
    """Remove the files, by libvirt's word. One that isn't there is no error."""
    stay, unlisted = [], []
    for path in paths:
        name = PurePath(path).name
        try:
            with covering(conn, _folder(path)) as pool:
                pool.storageVolLookupByName(name).delete(0)
        except libvirt.libvirtError as e:
            if e.get_error_code() == _NO_VOLUME:
                unlisted.append(path)
                continue
            log.warning("%s could not be removed: %s", name, e)
            stay.append(path)
    return Removed(tuple(stay), tuple(unlisted))


def there(conn: libvirt.virConnect, path: str) -> bool:
    """Whether a file of that path is there, as libvirt sees it."""
    with covering(conn, _folder(path)) as pool:
        return _lies_in(pool, PurePath(path).name)


def _folder(path: str) -> str:
    return str(PurePath(path).parent)
