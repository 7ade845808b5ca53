"""Files made and removed by libvirt's storage pools, as this service writes to no disk itself.

A folder's own pool is used where there is one (one that rests is put to rest again), else one for
the moment. A pool doesn't know of files that others made since it looked last, so it is told to
look first; libvirt never writes over a file that is there. Plain functions for a thread: each takes
a connection.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
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
    pool = _of(conn, folder)
    resting = pool is not None and not pool.isActive()
    if pool is None:
        pool = conn.storagePoolCreateXML(external_xml.pool(own_name(folder), folder), 0)
    elif resting:  # libvirt allows no second pool of that folder beside it
        pool.create(0)
    mine = resting or (pool.name() == own_name(folder) and not pool.isPersistent())
    try:
        pool.refresh(0)
        yield pool
    finally:
        if mine:
            _let_go(pool)


def _of(conn: libvirt.virConnect, folder: str) -> libvirt.virStoragePool | None:
    """An active one before one that rests; of those that rest, none that would be mounted."""
    wanted, resting = folder.rstrip("/") or "/", None
    for pool in conn.listAllStoragePools(0):
        with gone_meanwhile(libvirt.VIR_ERR_NO_STORAGE_POOL):
            kind, path = external_xml.folder(pool.XMLDesc(0))
            if path == wanted and pool.isActive():
                return pool
            if path == wanted and kind == "dir":
                resting = pool
    return resting


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
        for path in remove(conn, made):
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


def remove(conn: libvirt.virConnect, paths: Sequence[str]) -> tuple[str, ...]:
    """Remove the files; those that stay. One that isn't there is no error."""
    return tuple(path for path in paths if not _removed(conn, path))


def _removed(conn: libvirt.virConnect, path: str) -> bool:
    name = PurePath(path).name
    try:
        with covering(conn, _folder(path)) as pool, gone_meanwhile(_NO_VOLUME):
            pool.storageVolLookupByName(name).delete(0)
    except libvirt.libvirtError as e:
        log.warning("%s could not be removed: %s", name, e)
        return False
    return True


def there(conn: libvirt.virConnect, path: str) -> bool:
    """Whether a file of that path is there, as libvirt sees it."""
    with covering(conn, _folder(path)) as pool:
        return _lies_in(pool, PurePath(path).name)


def _folder(path: str) -> str:
    return str(PurePath(path).parent)
