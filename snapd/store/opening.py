"""How the store's folder is locked and its file opened; what can be wrong with them."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from ..errors import Internal, NoSpace, SnapdError
from . import schema, upgrade

_PASSING = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
}


class StoreInUse(SnapdError):
    """Another daemon holds the lock of this state folder."""


class StoreBroken(SnapdError):
    """The file cannot be used: damaged, or written by a newer version."""


def lock(folder: Path) -> int:
    """Make the folder and lock it; the lock goes with this descriptor. Raises StoreInUse."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(held)
        raise StoreInUse(f"another virtsnapd uses {folder}; stop it first") from e
    return held


def connect(path: Path, steps: Mapping[int, str] = schema.STEPS) -> sqlite3.Connection:
    """Open the file, a new one where there is none, and bring it up to the newest of the steps.
    Raises StoreBroken, OSError or sqlite3.DatabaseError, of which those that `passes` tell nothing
    of what is in the file."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _bring_up(db, path, steps)
    except BaseException:
        db.close()
        raise
    return db


def _bring_up(db: sqlite3.Connection, path: Path, steps: Mapping[int, str]) -> None:
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise StoreBroken(f"the store {path.name} fails SQLite's check")
    version, newest = db.execute("PRAGMA user_version").fetchone()[0], max(steps)
    if version > newest:
        raise StoreBroken(
            f"the store has schema {version}, this virtsnapd knows {newest}: "
            "it was written by a newer one"
        )
    try:
        upgrade.bring_up(db, path.parent, version, steps)
    except sqlite3.DatabaseError as e:
        if passes(e):
            raise
        raise StoreBroken(
            f"the store {path.name} could not be brought up from schema {version} to {newest} and "
            f"is left as it was: {e}"
        ) from e


def passes(error: sqlite3.Error) -> bool:
    """Whether it tells of the disk, or of others who use the file, and not of what is in it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING


def failure(error: sqlite3.Error) -> SnapdError:
    """What a caller is told of a store that could not be read or written."""
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return NoSpace(
            "virtsnapd's own store cannot be written: the disk of its state folder is full; make "
            "room there",
            ways=("make-room",),
        )
    return Internal(f"virtsnapd's own store cannot be read or written: {error}; see the journal")
