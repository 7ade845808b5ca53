"""Opening the store: nobody else's meanwhile, what is broken or of another version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from snapd.store import (
    Store,
    StoreBroken,
    StoreInUse,
    asides,
    set_aside,
)
from tests.unit.stores import JOB, play


def test_open_folder_in_use_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(StoreInUse):
            await Store.open(tmp_path)
        assert await store.add_job(JOB) == 1

    async def later(store: Store) -> None:
        assert await store.add_job(JOB) == 2

    play(tmp_path, body, later)


def test_open_is_private_and_durable(tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        await store.write_fact("x", 1)

    folder = tmp_path / "made" / "deep"
    play(folder, body)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "store.sqlite").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(folder / "store.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


async def nothing(_store: Store) -> None: ...


@pytest.mark.parametrize("harm", ["garbage", "newer", "row", "torn"])
def test_open_broken_store_is_refused_and_can_be_set_aside(tmp_path: Path, harm: str) -> None:
    play(tmp_path, nothing)
    path = tmp_path / "store.sqlite"
    if harm == "garbage":
        path.write_bytes(b"x" * 5000)
    elif harm == "torn":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        with sqlite3.connect(path) as db:
            db.execute(
                "PRAGMA user_version = 99"
                if harm == "newer"
                else "INSERT INTO snapshots (domain, name, created, origin, state, consistency)"
                " VALUES ('a', 'b', 1, 'nobody', 'running', 'crash')"
            )
        db.close()
    content = path.read_bytes()
    with pytest.raises(StoreBroken):
        play(tmp_path, nothing)
    aside = set_aside(tmp_path, "123")
    assert asides(tmp_path) == [aside]
    assert aside.read_bytes() == content
    play(tmp_path, nothing)


# ---- acts on records
