"""What an earlier daemon has begun and not settled: made, owed still, or failed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import Internal, OutcomeUnknown, SnapdError, by_name
from ..model import JobState, Keep, Policy
from ..settings import matches
from ..store import JobRow, RunRow, Store
from .attempt import Desk, prune
from .owed import Owed
from .runs import is_missed


class Begun:
    """The runs that were open at the start. keep: has a task run."""

    def __init__(
        self, desk: Desk, store: Store, keep: Callable[[Coroutine[Any, Any, object]], None]
    ) -> None:
        self._desk, self._store, self._keep = desk, store, keep
        self._open: list[RunRow] = []

    def __bool__(self) -> bool:
        """Whether any is left."""
        return bool(self._open)

    async def load(self) -> None:
        """Before anything new is begun."""
        self._open = await self._store.open_runs()

    async def take_up(self, claims: dict[str, list[Owed]], now: int) -> None:
        """Settle those of which it is known what came of them: made, where the snapshot is there;
        added to the claims of its domain, where nothing is and there is time; else failed."""
        for run in [r for r in self._open if not is_missed(r)]:
            if run.domain in self._desk.inventory.unread:
                continue  # whether there is time for it is seen when the VM answers
            row = await self._store.create_of_run(run)
            if row and not row.state.finished:
                continue  # it is being settled; its end wakes the engine
            same = [r for r in self._open if is_missed(r) and _alike(r, run)]
            self._open = [r for r in self._open if r is not run and r not in same]
            await self._settle(run, same[0] if same else None, row, claims, now)

    async def _settle(
        self,
        run: RunRow,
        missed: RunRow | None,
        row: JobRow | None,
        claims: dict[str, list[Owed]],
        now: int,
    ) -> None:
        desk = self._desk
        picture, policy = desk.inventory.domains.get(run.domain), self._covering(run)
        known = policy or Policy(run.policy, "", "", (), Keep(), "UTC")
        claim = Owed(known, run.slot, word=run.reason, run=run, before=missed)
        if row and row.state is JobState.DONE:
            await desk.runs.made(claim, row)
            if picture:
                self._keep(prune(desk, picture, run.policy))
        elif policy and self._in_time(claim, run.domain, now):
            claims.setdefault(run.domain, []).append(claim)
        else:
            await desk.runs.failed(claim, _why(run, row), row)

    def _covering(self, run: RunRow) -> Policy | None:
        """The policy, where it covers the domain now."""
        policy = self._desk.policies.in_force.get(run.policy)
        picture = self._desk.inventory.domains.get(run.domain)
        if policy is None or picture is None:
            return None
        return policy if matches(policy, picture.info.name, run.domain) else None

    def _in_time(self, claim: Owed, uuid: str, now: int) -> bool:
        policy, slots = claim.policy, self._desk.slots
        if not claim.scheduled or not policy.schedule:
            return False
        if now >= slots.until(policy, uuid, claim.slot):
            return False
        return policy.catch_up or slots.on_time(policy, uuid, claim.slot, now)


def _why(run: RunRow, row: JobRow | None) -> SnapdError:
    """Why nothing was made, as far as that daemon came to know it."""
    if row and row.state is JobState.FAILED:
        return (by_name(row.error_name) or Internal)(row.error_message, **row.detail)
    why = f"VM {run.domain_name}: the daemon ended before the snapshot was made"
    return OutcomeUnknown(why)


def _alike(missed: RunRow, run: RunRow) -> bool:
    """Whether a row of missed slots is of the very run that was to make up for them."""
    parts = ("policy", "domain", "started")
    return all(getattr(missed, part) == getattr(run, part) for part in parts)
