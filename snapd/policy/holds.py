"""Holds: no run and no prune of a policy on a domain, for a while or until they are taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..errors import InvalidArgument
from ..model import DomainInfo, told_time
from ..operations import DAEMON
from ..store import HistoryRow, HoldRow, Store


class Holds:
    """The holds in force. One that ends by itself is gone at the first look past its end.

    They count from the call on, before they are on disk: the engine must not begin meanwhile.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._rows: dict[tuple[str, str], HoldRow] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, call: Callable[[], None]) -> None:
        """Have it told when a hold comes, changes or ends."""
        self._listeners.append(call)

    async def load(self) -> None:
        """Take up what an earlier daemon was told."""
        self._rows = {_key(row): row for row in await self._store.holds()}

    # --- asking

    def in_force(self) -> list[HoldRow]:
        """By policy, then domain UUID."""
        now = self._clock()
        return [row for _, row in sorted(self._rows.items()) if not row.until or row.until > now]

    def of(self, uuid: str) -> frozenset[str]:
        """The policies held on a domain; "" among them = all."""
        return frozenset(row.policy for row in self.in_force() if row.domain in ("", uuid))

    def covering(self, policy: str, uuid: str) -> HoldRow | None:
        """What holds a policy on a domain; of several the one that ends last."""
        found = [row for row in self.in_force() if row.covers(policy, uuid)]
        return max(found, key=lambda row: row.until or 1 << 62, default=None)

    def next_end(self) -> int:
        """When the next hold ends by itself; 0 = none does."""
        return min((row.until for row in self._rows.values() if row.until), default=0)

    # --- acting

    async def hold(
        self,
        policy: str,
        domain: DomainInfo | None,
        *,
        until: int = 0,
        reason: str = "",
        owner: int = DAEMON,
    ) -> HoldRow:
        """Hold a policy ("" = all) on a domain (None = all), in place of an earlier hold of the
        same two. until: seconds UTC, 0 = until unhold(). Raises InvalidArgument."""
        now = int(self._clock())
        if until and until <= now:
            raise InvalidArgument(
                f"a hold until {told_time(until)} would be over already; give a later time, or 0"
            )
        row = HoldRow(policy, domain.uuid if domain else "", reason, now, until, owner)
        why = f"{reason} (until {told_time(until)})".strip() if until else reason
        act = _act("hold", now, policy, domain, owner, why)
        await self._replace([row], [], [act])
        return row

    async def unhold(
        self, policy: str, domain: DomainInfo | None, *, owner: int = DAEMON
    ) -> list[HoldRow]:
        """Take back every hold of the policy ("" = of any) on the domain (None = on any); those
        that were taken back, none where there was none. Raises InvalidArgument where only a wider
        hold holds it, which stays."""
        uuid = domain.uuid if domain else ""
        rows = self.in_force()
        gone = [r for r in rows if policy in ("", r.policy) and uuid in ("", r.domain)]
        if not gone:
            self._refuse_narrower(rows, policy, domain)
            return []
        now = int(self._clock())
        reasons = "; ".join(r.reason for r in gone if r.reason)
        await self._replace([], gone, [_act("unhold", now, policy, domain, owner, reasons)])
        return gone

    def _refuse_narrower(
        self, rows: Sequence[HoldRow], policy: str, domain: DomainInfo | None
    ) -> None:
        uuid = domain.uuid if domain else ""
        for row in rows:
            same_policy = not policy or row.policy in ("", policy)
            if same_policy and (not uuid or row.domain in ("", uuid)):
                of = f"policy {row.policy}" if row.policy else "all policies"
                on = "that VM" if row.domain else "all VMs"
                where = f" {domain.name}" if row.domain and domain else ""
                where += f" --policy {row.policy}" if row.policy else ""
                raise InvalidArgument(
                    f"{domain.name if domain else 'it'} is held by the hold of {of} on {on}, which "
                    "cannot be taken back in part; take that one back: virtsnap unhold"
                    f"{where}"
                )

    async def expire(self) -> None:
        """Let go of those that have ended."""
        now = self._clock()
        over = [row for row in self._rows.values() if row.until and row.until <= now]
        if over:
            await self._replace([], over, [])

    async def _replace(
        self, added: Sequence[HoldRow], gone: Sequence[HoldRow], history: Sequence[HistoryRow]
    ) -> None:
        before = dict(self._rows)
        for row in gone:
            self._rows.pop(_key(row), None)
        self._rows.update((_key(row), row) for row in added)
        try:
            await self._store.change_holds(added, gone, history)
        except Exception:
            self._rows = before
            raise
        finally:
            for call in self._listeners:
                call()


def told(row: HoldRow) -> str:
    """`held until 2026-11-26 02:30 UTC: the reason`."""
    until = f"held until {told_time(row.until)}" if row.until else "held"
    return f"{until}: {row.reason}" if row.reason else until


def _act(
    verb: str, now: int, policy: str, domain: DomainInfo | None, owner: int, reason: str
) -> HistoryRow:
    uuid, name = (domain.uuid, domain.name) if domain else ("", "")
    return HistoryRow(
        now, verb, uuid, name, policy=policy, owner=owner, reason=reason, result="done"
    )


def _key(row: HoldRow) -> tuple[str, str]:
    return row.policy, row.domain
