"""Jobs on a real store, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from snapd.model import Verb
from snapd.operations import Job, Jobs, Outcome, Request
from snapd.store import Store

VM = "22222222-2222-4222-8222-222222222201"
OTHER = "22222222-2222-4222-8222-222222222202"
Body = Callable[[Jobs, Store], Coroutine[Any, Any, None]]


def play(folder: Path, body: Body, **how: Any) -> None:
    """Run a test's body with jobs on a store in that folder; then stop them."""

    async def main() -> None:
        store = await Store.open(folder)
        jobs = Jobs(store, **how)
        try:
            async with asyncio.timeout(20):
                await body(jobs, store)
                await jobs.stop(1)
        finally:
            await store.close()

    asyncio.run(main())


def wanted(name: str = "one", domain: str = VM, **how: Any) -> Request:
    return Request(Verb.CREATE, domain, f"vm {domain[-1]}", name, **how)


async def at_once(job: Job) -> Outcome:
    return Outcome(result={"Name": job.row.snapshot})


def until(event: asyncio.Event) -> Callable[[Job], Awaitable[Outcome]]:
    async def work(job: Job) -> Outcome:
        await event.wait()
        return Outcome()

    return work


async def ended(job: Job) -> Job:
    await job.ended.wait()
    return job
