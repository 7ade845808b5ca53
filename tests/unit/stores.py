"""A store for each test, and rows to put into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from snapd.model import (
    Consistency,
    JobState,
    Origin,
    Record,
    SnapshotKey,
    State,
    Verb,
    Warned,
)
from snapd.store import (
    JobRow,
    Store,
)

VM = "22222222-2222-4222-8222-222222222201"
KEY = SnapshotKey(VM, 'one "quoted" \u00fc', 1795600000)
RECORD = Record(
    KEY,
    Origin.POLICY,
    ("a", "b"),
    State.RUNNING,
    Consistency.QUIESCED,
    42,
    "why, with \n lines",
    ("memory-left-out",),
)
JOB = JobRow(
    id=0,
    verb=Verb.CREATE,
    domain=VM,
    domain_name="web-1",
    snapshot="one",
    policy="nightly",
    owner=1000,
    state=JobState.RUNNING,
    queued=1795600000,
    parent=3,
    created=7,
    intent={"name": "one", "disks": {"vda": "/a"}},
    warnings=(Warned("nvram-left-out", "web-1", "told"),),
    request="mine",
    fingerprint="print",
)
DAY = 86400
Body = Callable[[Store], Coroutine[Any, Any, None]]


def play(folder: Path, *bodies: Body) -> None:
    """Each body with a store of its own, one after the other."""

    async def main(body: Body) -> None:
        store = await Store.open(folder)
        try:
            await body(store)
        finally:
            await store.close()

    for body in bodies:
        asyncio.run(main(body))
