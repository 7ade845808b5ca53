"""Safety snapshots have a retention of their own, carried out when a revert has made one more."""

from __future__ import annotations

import asyncio
import logging

from ..errors import SnapdError
from ..inventory import Inventory
from ..journal import of_job
from ..model import JobState, Verb
from ..operations import Job, Jobs, Request
from .prune import Pruner, victims

log = logging.getLogger(__name__)
MAX_WAIT = 3600.0


class SafetyKeeper:
    """Listens for reverts; no policy has to cover the VM."""

    def __init__(self, jobs: Jobs, inventory: Inventory, pruner: Pruner) -> None:
        self._jobs, self._inventory, self._pruner = jobs, inventory, pruner
        self._tasks: set[asyncio.Task[None]] = set()
        jobs.listen(ended=self._on_ended)

    def _on_ended(self, job: Job) -> None:
        made = job.row.result.get("SafetySnapshot")
        if job.row.verb is Verb.REVERT and job.row.state is JobState.DONE and made:
            task = asyncio.create_task(self._prune(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _prune(self, revert: Job) -> None:
        row = revert.row
        picture = self._inventory.domains.get(row.domain)
        if picture is None or not victims(self._pruner.plan_safety(picture)):
            return
        request = Request(
            Verb.PRUNE,
            row.domain,
            row.domain_name,
            options={"after": row.id},
            max_wait=MAX_WAIT,
        )
        try:
            await self._jobs.submit(request, self._pruner.prune_safety)
        except SnapdError as e:
            fields = of_job(row, e)
            log.warning(
                "safety snapshots of VM %s stay: %s", row.domain_name, e.message, extra=fields
            )
