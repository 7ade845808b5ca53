"""A store that cannot be used is kept, out of the way of a new one."""

from __future__ import annotations

from pathlib import Path

ASIDE = "set-aside"


def set_aside(folder: Path, stamp: str) -> Path:
    """Move a broken file out of the way, keeping it, so that a new store can be opened."""
    aside = folder / f"store.sqlite.{ASIDE}-{stamp}"
    (folder / "store.sqlite").rename(aside)
    for suffix in ("-wal", "-shm"):
        part = folder / f"store.sqlite{suffix}"
        if part.exists():
            part.rename(f"{aside}{suffix}")
    return aside


def asides(folder: Path) -> list[Path]:
    """Stores that were set aside and that nobody has removed yet."""
    return [p for p in sorted(folder.glob(f"store.sqlite.{ASIDE}-*")) if p.name[-1].isdigit()]
