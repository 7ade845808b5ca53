"""What an admin must act on, and how each policy fares. Derived anew from the facts each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from ..inventory import DomainPicture, Inventory
from ..model import DomainInfo, Policy, Problem, Record
from ..operations import FrozenGuest, Jobs, Outlook
from ..settings import matches
from ..store import SlotRow
from . import problems
from .clock import ClockGuard
from .coverage import Coverage, coverage, outlook_of, worst
from .engine import Engine
from .holds import Holds, told
from .policies import Policies
from .problems import problem
from .prune import Pruner

MAX_OUTLOOKS = 100  # of a domain; definitions that are only tried out come and go
_WORST = ("critical", "warning")


@dataclass(frozen=True, slots=True)
class PolicyHealth:
    """How a policy fares over all its domains; times 0 = never."""

    next_run: int
    last_run: int
    last_success: int
    error_name: str
    error_message: str
    health: str

    @classmethod
    def of(cls, rows: Sequence[Coverage]) -> PolicyHealth:
        """The worst of its domains, its newest success, its newest failure."""
        failed = [row for row in rows if row.error_name]
        latest = max(failed, key=lambda row: row.last_run, default=Coverage())
        return cls(
            min((row.next_run for row in rows if row.next_run), default=0),
            max((row.last_run for row in rows), default=0),
            max((row.last_success for row in rows), default=0),
            latest.error_name,
            latest.error_message,
            worst([row.health for row in rows]),
        )


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at everything found: the problems, the critical ones first, and how each policy
    in force, by name, fares on each of its domains."""

    problems: list[Problem]
    rows: Mapping[str, Sequence[Coverage]]

    @property
    def overall(self) -> str:
        """ok, warning or critical: the worst of them."""
        found = {p.severity for p in self.problems}
        return next((severity for severity in _WORST if severity in found), "ok")

    def of_policy(self, name: str) -> PolicyHealth:
        return PolicyHealth.of(self.rows[name])


class Health:
    """Problems and their `since`, and what each policy covers.

    standing: what the start of the daemon found wrong; frozen: lists the guests that are not known
    to be thawed. records: ours of a domain.
    """

    def __init__(
        self,
        inventory: Inventory,
        policies: Policies,
        engine: Engine,
        pruner: Pruner,
        jobs: Jobs,
        holds: Holds,
        guard: ClockGuard,
        records: Callable[[str], Sequence[Record]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.standing: list[Problem] = []
        self.frozen: Callable[[], Sequence[FrozenGuest]] = list
        self._inventory, self._policies, self._engine = inventory, policies, engine
        self._pruner, self._jobs, self._clock = pruner, jobs, clock
        self._holds, self._guard, self._records = holds, guard, records
        self._since: dict[str, int] = {}
        self._latest: Look | None = None
        self._outlooks: dict[str, tuple[DomainPicture, dict[tuple[str, str], Outlook]]] = {}

    def look(self) -> Look:
        """All there is to tell now, which is work for each VM. Each problem keeps the time it was
        first seen."""
        now = int(self._clock())
        for uuid in self._outlooks.keys() - self._inventory.domains.keys():
            del self._outlooks[uuid]
        rows = self._rows()
        found = {p.id: p for p in self._all(now, rows)}
        self._since = {i: self._since.get(i, now) for i in found}
        dated = [replace(p, since=p.since or self._since[p.id]) for p in found.values()]
        dated.sort(key=lambda p: (_WORST.index(p.severity), p.since, p.id))
        self._latest = Look(dated, rows)
        return self._latest

    def latest(self) -> Look:
        """What the last look found; each change has another one made, soon after it."""
        return self._latest or self.look()

    def problems(self) -> list[Problem]:
        """All problems now, the critical ones first."""
        return self.look().problems

    def overall(self) -> str:
        """ok, warning or critical."""
        return self.look().overall

    def _rows(self) -> dict[str, list[Coverage]]:
        return {
            name: [self.coverage(policy, p) for p in self._engine.domains_of(policy)]
            for name, policy in self._policies.in_force.items()
        }

    def coverage(self, policy: Policy, picture: DomainPicture) -> Coverage:
        """How a policy, be it in force or not saved yet, fares on a domain that it matches."""
        engine, uuid = self._engine, picture.info.uuid
        saved = self._policies.in_force.get(policy.name) == policy
        retry_at = engine.retry_at(policy.name, uuid) if saved else 0
        return coverage(
            policy,
            picture.info,
            self._outlook(policy, picture),
            engine.slots.get((policy.name, uuid)),
            int(self._clock()),
            next_run=retry_at or engine.next_run(policy, uuid),
            refused=(engine.refused(policy.name, uuid) if saved else None)
            or engine.pruning.full(uuid),
            held=self._holds.covering(policy.name, uuid) is not None,
        )

    def _outlook(self, policy: Policy, picture: DomainPicture) -> Outlook:
        """Known until the domain is another: lists and problems ask often, for all of them."""
        uuid, hypervisor = picture.info.uuid, self._inventory.hypervisor
        seen, known = self._outlooks.get(uuid, (picture, {}))
        if seen is not picture or len(known) > MAX_OUTLOOKS:
            same = (seen.info, seen.snapshots) == (picture.info, picture.snapshots)
            known = known if same and len(known) <= MAX_OUTLOOKS else {}
        self._outlooks[uuid] = (picture, known)
        key = (policy.name, policy.revision)
        if key not in known:
            known[key] = outlook_of(
                policy,
                picture,
                self._records(uuid),
                monitor=hypervisor.has_monitor,
                has_images=hypervisor.has_images,
                chains=hypervisor.chains,
                version=hypervisor.version,
            )
        return known[key]

    def of_policy(self, policy: Policy) -> PolicyHealth:
        """How a policy fares now."""
        return PolicyHealth.of([self.coverage(policy, p) for p in self._engine.domains_of(policy)])

    def last_of_domain(self, uuid: str) -> SlotRow:
        """What its policies last got of a domain: the newest success, and the newest failure."""
        rows = self._engine.slots.of_domain(uuid)
        failed = max((r for r in rows if r.error_name), key=lambda r: r.last_run, default=None)
        return SlotRow(
            "",
            uuid,
            0,
            last_success=max((r.last_success for r in rows), default=0),
            error_name=failed.error_name if failed else "",
            error_message=failed.error_message if failed else "",
        )

    def policies_of(self, info: DomainInfo) -> list[str]:
        """The policies in force that match a domain."""
        return sorted(
            p.name for p in self._policies.in_force.values() if matches(p, info.name, info.uuid)
        )

    # --- what is wrong

    def _all(self, now: int, rows: Mapping[str, Sequence[Coverage]]) -> Iterator[Problem]:
        yield from self.standing
        yield from self._of_connection()
        yield from problems.storage_that_hangs(self._inventory.hypervisor.hanging())
        yield from self._of_files()
        if self._inventory.connected and not self._inventory.loading:
            yield from self._of_coverage(rows)
            yield from self._of_domains()
            yield from self._of_chains(now)
        yield from problems.still_frozen(self.frozen(), now)
        yield from self._of_clock()
        yield from self._of_policies(rows, now)
        yield from self._of_holds()
        yield from self._of_half_made()

    def _of_connection(self) -> Iterator[Problem]:
        hypervisor = self._inventory.hypervisor
        if hypervisor.tried and not self._inventory.connected:
            what = f"no connection to libvirt at {hypervisor.uri}"
            yield problem("not-connected", what, "critical")

    def _of_clock(self) -> Iterator[Problem]:
        if why := self._guard.distrust():
            yield problem("clock", f"nothing is pruned, {why}")

    def _of_files(self) -> Iterator[Problem]:
        for error in self._policies.errors:
            yield problem(
                "policy-file",
                f"{error.message}; {self._policies.consequence(error)}",
                "critical",
                policy=error.name,
                key=error.name + error.source,
                ways=("fix-file", "reload"),
            )
        for error in self._policies.shadowed:
            yield problem("policy-shadowed", error.message, policy=error.name, key=error.source)

    def _of_coverage(self, rows: Mapping[str, Sequence[Coverage]]) -> Iterator[Problem]:
        in_force = self._policies.in_force.values()
        pictures = self._inventory.domains.values()
        if not in_force:
            if pictures and not self._policies.errors:
                what = "no policy is in force: nothing is snapshotted by itself"
                yield problem("no-policy", what, ways=("policy-enable",))
            return
        for policy in in_force:
            if not rows[policy.name]:
                what = f"policy {policy.name} matches no VM"
                yield problem("policy-matches-nothing", what, policy=policy.name)
        for picture in pictures:
            slots = self._engine.slots.of_domain(picture.info.uuid)
            if found := problems.uncovered(picture.info, in_force, slots):
                yield found

    def _of_domains(self) -> Iterator[Problem]:
        for picture in self._inventory.domains.values():
            if picture.error:
                what = f"VM {picture.info.name} does not answer: {picture.error.message}"
                yield problem("unread", what, domain=picture.info)
            yield from problems.disk_problems(picture.info, list(picture.snapshots.values()))
        for uuid, plan in self._pruner.held.items():
            if held := self._inventory.domains.get(uuid):
                what = (
                    f"retention on VM {held.info.name} would delete more than half of its "
                    f"snapshots: plan {plan} waits for ConfirmPrune"
                )
                yield problem("prune-held", what, domain=held.info, ways=("confirm-prune",))

    def _of_chains(self, now: int) -> Iterator[Problem]:
        pruning = self._engine.pruning
        for uuid, heap in pruning.heaps.items():
            picture, waits = self._inventory.domains.get(uuid), pruning.waits(uuid)
            found = problems.cannot_prune(picture, heap, now) if picture and waits else None
            yield from filter(None, [found])

    def _of_policies(self, rows: Mapping[str, Sequence[Coverage]], now: int) -> Iterator[Problem]:
        for row in chain.from_iterable(rows.values()):
            info = self._inventory.domains[row.domain].info
            refused = self._engine.refused(row.policy, row.domain) if row.error_name else None
            retry_at = self._engine.retry_at(row.policy, row.domain) if row.error_name else 0
            found = (
                problems.cannot_work(row, info),
                problems.overdue(row, info, now),
                problems.run_failed(row, info, refused, retry_at),
            )
            yield from filter(None, found)

    def _of_holds(self) -> Iterator[Problem]:
        for row in self._holds.in_force():
            picture = self._inventory.domains.get(row.domain)
            if row.domain and picture is None:
                continue
            of = f"policy {row.policy}" if row.policy else "every policy"
            on = f"VM {picture.info.name}" if picture else "all VMs"
            found = problem(
                "held",
                f"{of} is kept from {on}, nothing is made and nothing pruned there: {told(row)}",
                policy=row.policy,
                domain=picture.info if picture else None,
                ways=("unhold",),
            )
            yield replace(found, since=row.since)

    def _of_half_made(self) -> Iterator[Problem]:
        for row in self._jobs.half_made.rows():
            yield Problem(
                id=problems.identity("needs-attention", f"{row.domain}/{row.snapshot}"),
                problem="needs-attention",
                message=row.error_message,
                severity="critical",
                domain=row.domain,
                domain_name=row.domain_name,
                ways=tuple(row.detail.get("ways", ())),
            )
