"""Which policy came, changed or went, when and by whom: history answers it, over restarts too."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ..errors import SnapdError
from ..journal import NOT_WRITTEN, about
from ..store import HistoryRow, Store
from .policies import Policies

log = logging.getLogger(__name__)
FACT = "policies"


class PolicyChanges:
    """Compares what is in force with what was when it was last noted."""

    def __init__(
        self, store: Store, policies: Policies, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._policies, self._clock = store, policies, clock
        self._known: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        policies.on_load(self._on_load)

    async def load(self) -> None:
        """Take up what an earlier daemon noted; before the policies are first read."""
        self._known = await self._store.fact(FACT) or {}

    def _on_load(self) -> None:
        """A file that can't be read any more is no change: its last good version is in force, or
        its problem says that it isn't."""
        bad = {e.name for e in self._policies.errors}
        now = {name: policy.revision for name, policy in self._policies.in_force.items()}
        if any(not name for name in bad):
            bad |= self._known.keys()
        now |= {n: r for n, r in self._known.items() if n in bad and n not in now}
        names = {n for n in self._known.keys() | now.keys() if self._known.get(n) != now.get(n)}
        rows = [self._row(name, self._known.get(name, ""), now) for name in sorted(names)]
        self._known = now
        if rows:
            task = asyncio.create_task(self._note(rows, dict(now)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _row(self, name: str, before: str, now: dict[str, str]) -> HistoryRow:
        verb = "set-policy" if name in now else "remove-policy"
        source = self._policies.in_force[name].source if name in now else ""
        what = [f"revision {now[name]}" if name in now else "", f"was {before}" if before else ""]
        reason = ", ".join([*filter(None, what), *([f"by {source}"] if source else [])])
        return HistoryRow(
            int(self._clock()),
            verb,
            "",
            "",
            policy=name,
            owner=self._policies.changed_by,
            reason=reason,
            result="done",
        )

    async def _note(self, rows: list[HistoryRow], now: dict[str, str]) -> None:
        try:
            for row in rows:
                await self._store.add_history(row)
            await self._store.write_fact(FACT, now)
        except SnapdError as e:
            fields = about(error=e, event=NOT_WRITTEN)
            log.error("a change of policies could not be noted: %s", e.message, extra=fields)
