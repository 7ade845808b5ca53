"""What became of each slot: a row of the store for it, and the policy's last result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from ..errors import SnapdError
from ..inventory import DomainPicture
from ..model import JobState, Policy
from ..operations import Job
from ..store import RunRow, SlotRow, Store
from .clock import ClockGuard
from .slots import Slots

log = logging.getLogger(__name__)


class Runs:
    """Writes runs down and tells of them."""

    def __init__(
        self, store: Store, slots: Slots, guard: ClockGuard, clock: Callable[[], float]
    ) -> None:
        self._store, self._slots, self._guard, self._clock = store, slots, guard, clock
        self._listeners: list[Callable[[RunRow], None]] = []

    def listen(self, call: Callable[[RunRow], None]) -> None:
        """Have each settled run told."""
        self._listeners.append(call)

    async def skipped(
        self, policy: Policy, picture: DomainPicture, slot: int, now: int, why: str
    ) -> None:
        """Note that nothing was run for a slot, and why."""
        log.warning("policy %s on VM %s: slot skipped: %s", policy.name, picture.info.name, why)
        await self.add(policy, picture, slot, now, "skipped", why, None)

    async def settled(
        self,
        policy: Policy,
        picture: DomainPicture,
        slot: int,
        started: int,
        job: Job | None,
        error: SnapdError | None = None,
    ) -> None:
        """Note what became of a slot: by its job, or by the error that kept it from being one."""
        uuid, now = picture.info.uuid, int(self._clock())
        done = job is not None and job.row.state is JobState.DONE
        name, message = (job.row.error_name, job.row.error_message) if job else ("", "")
        if error:
            name, message = error.name, error.message
        row = self._slots.rows.get((policy.name, uuid), SlotRow(policy.name, uuid, started))
        row = replace(
            row,
            last_run=now,
            last_success=now if done else row.last_success,
            error_name=name,
            error_message=message,
        )
        self._slots.rows[policy.name, uuid] = row
        outcome, reason = ("made", job.reason) if job and done else ("failed", message)
        await self.add(policy, picture, slot, started, outcome, reason, job, row)
        if done and now > self._guard.last:
            self._guard.last = now
            await self._store.write_fact("clock", now)

    async def add(
        self,
        policy: Policy,
        picture: DomainPicture,
        slot: int,
        started: int,
        outcome: str,
        reason: str,
        job: Job | None,
        row: SlotRow | None = None,
    ) -> None:
        """Note a run. row: the policy's last result, written with it."""
        run = RunRow(
            0,
            policy.name,
            picture.info.uuid,
            picture.info.name,
            slot,
            started,
            int(self._clock()),
            outcome,
            reason,
            job.row.snapshot if job else "",
            job.id if job else 0,
        )
        (run,) = await self._store.write_runs([run], [row] if row else [])
        for call in self._listeners:
            call(run)
