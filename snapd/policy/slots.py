"""Slots: the last one that each policy has settled on each domain, and what it owes since."""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import SnapdError
from ..journal import about
from ..model import DomainInfo, Policy
from ..planning.schedule import GRACE, Due, clamp, due, next_fire, parse, spread
from ..store import SlotRow, Store
from .prune import zone_of

log = logging.getLogger(__name__)
CACHED = 10_000
_NEVER = 1 << 62


def machine_id() -> str:
    """The host's id, for a spread that is the same every day; "" where there is none."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


class SlotRows(UserDict[tuple[str, str], SlotRow]):
    """By (policy, domain UUID); those of one domain are found without a look at all."""

    def __init__(self) -> None:
        self._policies: dict[str, set[str]] = {}  # of each domain
        super().__init__()

    def __setitem__(self, key: tuple[str, str], row: SlotRow) -> None:
        super().__setitem__(key, row)
        self._policies.setdefault(key[1], set()).add(key[0])

    def __delitem__(self, key: tuple[str, str]) -> None:
        super().__delitem__(key)
        self._policies[key[1]].discard(key[0])

    def of_domain(self, uuid: str) -> list[SlotRow]:
        return [self[policy, uuid] for policy in sorted(self._policies.get(uuid, ()))]


class Slots:
    """The store's slots, by (policy, domain UUID). host: what spreads runs over hosts."""

    def __init__(self, store: Store, host: str) -> None:
        self.rows = SlotRows()
        self._store, self._host = store, host
        self._next: dict[tuple[str, str, int], int] = {}
        self._late: dict[tuple[str, str], tuple[Due, int]] = {}

    async def load(self) -> None:
        """Take up what an earlier daemon settled."""
        self.rows.update({(r.policy, r.domain): r for r in await self._store.slots()})

    def row(self, policy: str, info: DomainInfo, now: int) -> SlotRow:
        """What a policy last did for a domain; a new row for one that it hasn't seen before."""
        new = SlotRow(policy, info.uuid, now, domain_name=info.name, last_ok=now)
        return self.rows.get((policy, info.uuid), new)

    async def join(self, policy: str, info: DomainInfo, now: int, *, anew: bool = False) -> None:
        """Write down that a policy covers a domain, under this name, from now on at the latest: it
        owes nothing for the past. anew: it did not until now, or by another schedule."""
        row = self.rows.get((policy, info.uuid))
        same = row and row.domain_name == info.name
        if row and same and not anew and clamp(row.last_slot, now) == row.last_slot:
            return
        row = replace(self.row(policy, info, now), domain_name=info.name)
        if clamp(row.last_slot, now) != row.last_slot:
            log.warning(
                "policy %s: its last slot lay in the future; it goes on from now",
                policy,
                extra=about(info, policy=policy),
            )
            row = replace(row, last_slot=now, last_ok=min(row.last_ok, now))
        if anew:
            last_ok = row.last_ok if row.error_name else max(row.last_ok, now)
            row = replace(row, last_slot=max(row.last_slot, now), last_ok=last_ok)
        await self.write(row)

    async def write(self, row: SlotRow) -> None:
        """Change a row, here and in the store; where it can't be written, nowhere."""
        key = (row.policy, row.domain)
        before = self.rows.get(key)
        self.rows[key] = row
        try:
            await self._store.write_slot(row)
        except SnapdError:
            self.rows.pop(key)
            self.rows.update({key: before} if before else {})
            raise

    # --- when

    def next_run(self, policy: Policy, uuids: Iterable[str], now: int) -> int:
        """When the policy's next slot is begun on any of the domains; 0 = never."""
        if not policy.schedule:
            return 0
        return min((self._next_run(policy, uuid, now) for uuid in uuids), default=0)

    def _next_run(self, policy: Policy, uuid: str, now: int) -> int:
        row = self.rows.get((policy.name, uuid))
        starts = self.following(policy, uuid, row.last_slot if row else now)
        found = self._late.get((policy.name, uuid))
        if starts > now or found is None:
            return starts
        missed, since = found
        again = since + self.put_off(policy, uuid)
        return min(again, self.following(policy, uuid, missed.slot)) if again > now else starts

    def next_fire(self, policy: Policy, last_slot: int) -> int:
        """The slot after that one."""
        key = (policy.schedule, policy.timezone, last_slot)
        if key not in self._next:
            if len(self._next) > CACHED:
                self._next.clear()
            self._next[key] = next_fire(parse(policy.schedule), last_slot, zone_of(policy))
        return self._next[key]

    def put_off(self, policy: Policy, uuid: str) -> int:
        """Seconds by which a slot's start is put off on a domain, so that not all begin at once."""
        return spread(self._host, uuid, policy.name, policy.randomized_delay)

    def due(self, policy: Policy, uuid: str, now: int) -> Due | None:
        """What the policy owes a domain that it has joined; None = nothing yet. Slots come there
        by what their starts are put off; what was missed is put off as long from when it is found,
        or all of them would start at once."""
        slot, late = self.rows.get((policy.name, uuid)), self.put_off(policy, uuid)
        at = now - late
        if slot is None or not policy.schedule or self.next_fire(policy, slot.last_slot) > at:
            return None
        found = due(
            parse(policy.schedule),
            slot.last_slot,
            at,
            zone_of(policy),
            catch_up=policy.catch_up,
            max_lateness=policy.max_lateness,
        )
        if not found or not found.late or not late:
            return found
        first, since = self._late.get((policy.name, uuid), (found, now))
        if first.slot != found.slot:
            first, since = found, now
        self._late[policy.name, uuid] = first, since
        return None if 0 <= now - since < late else first

    def following(self, policy: Policy, uuid: str, slot: int) -> int:
        """When the next slot comes on a domain."""
        return self.next_fire(policy, slot) + self.put_off(policy, uuid)

    def until(self, policy: Policy, uuid: str, slot: int) -> int:
        """Up to when a slot can still be served: the next one, or max_lateness."""
        following = self.following(policy, uuid, slot)
        if policy.max_lateness is None:
            return following
        return min(following, slot + self.put_off(policy, uuid) + policy.max_lateness)

    def on_time(self, policy: Policy, uuid: str, slot: int, now: int) -> bool:
        """Whether a slot that is served now is served when it comes, and not made up for."""
        return now - slot <= GRACE + self.put_off(policy, uuid)
