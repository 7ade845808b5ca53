"""A store of an older version: one copy of it is kept, then it is brought up, all or nothing."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from . import schema

log = logging.getLogger(__name__)


def bring_up(
    db: sqlite3.Connection,
    folder: Path,
    version: int,
    steps: Mapping[int, str] = schema.STEPS,
) -> None:
    """Make it a store of the newest of the steps, having kept it as it is where it has anything.
    version: its own, 0 = an empty file. Ended at any point, it is as it was, and the next start
    does all of it again. Raises sqlite3.DatabaseError, OSError."""
    newest = max(steps)
    if version == newest:
        return
    if version:
        kept = _keep(db, folder, version)
        log.info("bringing the store up from schema %d to %d; %s keeps it", version, newest, kept)
    schema.apply(db, [steps[step] for step in range(version + 1, newest + 1)], newest)


def _keep(db: sqlite3.Connection, folder: Path, version: int) -> str:
    """Copy it to `store-vN.db`, for whoever goes back to the older package; the copies of earlier
    upgrades go once this one is on disk."""
    kept = folder / f"store-v{version}.db"
    part = folder / f"{kept.name}.part"
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(part)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, which opens read-only, too
        _sync(part)
        part.rename(kept)
    except BaseException:
        for left in folder.glob(f"{part.name}*"):  # room for others, and no half copy
            left.unlink()
        raise
    _sync(folder)
    for older in folder.glob("store-v*.db"):
        if older != kept:
            older.unlink()
    return kept.name


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
