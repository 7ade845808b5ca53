"""Slots: the last one that each policy has settled on each domain, and what it owes since."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import SnapdError
from ..model import Policy
from ..planning.schedule import Due, clamp, due, next_fire, parse, spread
from ..store import SlotRow, Store
from .prune import zone_of

log = logging.getLogger(__name__)
CACHED = 10_000


def machine_id() -> str:
    """The host's id, for a spread that is the same every day; "" where there is none."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


class Slots:
    """The store's slots, by (policy, domain UUID). host: what spreads runs over hosts."""

    def __init__(self, store: Store, host: str) -> None:
        self.rows: dict[tuple[str, str], SlotRow] = {}
        self._store, self._host = store, host
        self._next: dict[tuple[str, str, int], int] = {}

    async def load(self) -> None:
        """Take up what an earlier daemon settled."""
        self.rows.update({(r.policy, r.domain): r for r in await self._store.slots()})

    async def settle(self, slot: SlotRow) -> None:
        """Write it down, before the run that it is for: a crash never doubles one. Where it can't
        be written it is still owed."""
        key = (slot.policy, slot.domain)
        before = self.rows.get(key)
        self.rows[key] = slot
        try:
            await self._store.write_slot(slot)
        except SnapdError:
            self.rows.pop(key)
            self.rows.update({key: before} if before else {})
            raise

    def next_run(self, policy: Policy, uuids: Iterable[str], now: int) -> int:
        """When the policy's next slot is on any of the domains; 0 = never."""
        if not policy.schedule:
            return 0
        slots = [self.rows.get((policy.name, u)) for u in uuids]
        return min((self.next_fire(policy, s.last_slot if s else now) for s in slots), default=0)

    def next_fire(self, policy: Policy, last_slot: int) -> int:
        """The slot after that one."""
        key = (policy.schedule, policy.timezone, last_slot)
        if key not in self._next:
            if len(self._next) > CACHED:
                self._next.clear()
            self._next[key] = next_fire(parse(policy.schedule), last_slot, zone_of(policy))
        return self._next[key]

    async def due(self, policy: Policy, uuid: str, now: int) -> Due | None:
        """What the policy owes the domain; None = nothing yet."""
        key = (policy.name, uuid)
        slot = self.rows.get(key)
        if slot is None:  # new: it owes nothing for the past
            await self.settle(SlotRow(policy.name, uuid, now))
            return None
        if clamp(slot.last_slot, now) != slot.last_slot:
            log.warning("policy %s: its last slot lay in the future; it goes on from now", key[0])
            await self.settle(replace(slot, last_slot=now))
            return None
        if self.next_fire(policy, slot.last_slot) > now:
            return None
        found = due(
            parse(policy.schedule),
            slot.last_slot,
            now,
            zone_of(policy),
            catch_up=policy.catch_up,
            max_lateness=policy.max_lateness,
        )
        late = spread(self._host, uuid, policy.name, policy.randomized_delay)
        return found if found and now >= found.slot + late else None
