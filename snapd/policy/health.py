"""What an admin must act on, and how each policy fares. Derived anew from the facts each time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ..inventory import Inventory
from ..model import DomainInfo, Policy, Problem, SnapshotInfo
from ..operations import FrozenGuest, Jobs, redefined
from ..settings import matches
from ..store import SlotRow
from .engine import Engine
from .holds import Holds, told
from .policies import Policies
from .prune import Pruner

FROZEN_SECONDS = 30
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


class Health:
    """Problems and their `since`. standing: what the start of the daemon found wrong; frozen: lists
    the guests that are not known to be thawed."""

    def __init__(
        self,
        inventory: Inventory,
        policies: Policies,
        engine: Engine,
        pruner: Pruner,
        jobs: Jobs,
        holds: Holds,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.standing: list[Problem] = []
        self.frozen: Callable[[], Sequence[FrozenGuest]] = list
        self._inventory, self._policies, self._engine = inventory, policies, engine
        self._pruner, self._jobs, self._clock = pruner, jobs, clock
        self._holds = holds
        self._since: dict[str, int] = {}

    def problems(self) -> list[Problem]:
        """All problems now, the critical ones first; each keeps the time it was first seen."""
        now = int(self._clock())
        found = {p.id: p for p in self._all()}
        self._since = {i: self._since.get(i, now) for i in found}
        dated = [replace(p, since=p.since or self._since[p.id]) for p in found.values()]
        return sorted(dated, key=lambda p: (_WORST.index(p.severity), p.since, p.id))

    def overall(self) -> str:
        """ok, warning or critical."""
        found = {p.severity for p in self.problems()}
        return next((severity for severity in _WORST if severity in found), "ok")

    def of_policy(self, policy: Policy) -> PolicyHealth:
        rows = [
            row
            for picture in self._engine.domains_of(policy)
            if (row := self._engine.slots.get((policy.name, picture.info.uuid)))
        ]
        last_run = max((r.last_run for r in rows), default=0)
        failed = [r for r in rows if r.error_name]
        latest = max(failed, key=lambda r: r.last_run, default=SlotRow("", "", 0))
        return PolicyHealth(
            self._engine.next_run(policy),
            last_run,
            max((r.last_success for r in rows), default=0),
            latest.error_name,
            latest.error_message,
            "critical" if failed else ("ok" if rows else "warning"),
        )

    def last_of_domain(self, uuid: str) -> SlotRow:
        """What its policies last got of a domain: the newest success, and the newest failure."""
        rows = [r for (_, u), r in self._engine.slots.items() if u == uuid]
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

    def _all(self) -> Iterator[Problem]:
        yield from self.standing
        yield from self._of_connection()
        yield from self._of_files()
        if self._inventory.connected and not self._inventory.loading:
            yield from self._of_coverage()
            yield from self._of_domains()
        yield from still_frozen(self.frozen(), self._clock())
        yield from self._of_runs()
        yield from self._of_holds()
        yield from self._of_half_made()

    def _of_connection(self) -> Iterator[Problem]:
        if not self._inventory.connected:
            uri = self._inventory.hypervisor.uri
            yield problem("not-connected", f"no connection to libvirt at {uri}", "critical")

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

    def _of_coverage(self) -> Iterator[Problem]:
        in_force = self._policies.in_force.values()
        pictures = self._inventory.domains.values()
        if not in_force:
            if pictures and not self._policies.errors:
                what = "no policy is in force: nothing is snapshotted by itself"
                yield problem("no-policy", what, ways=("policy-enable",))
            return
        for policy in in_force:
            if not self._engine.domains_of(policy):
                what = f"policy {policy.name} matches no VM"
                yield problem("policy-matches-nothing", what, policy=policy.name)
        for picture in pictures:
            info = picture.info
            if not self.policies_of(info) and not any(_excludes(p, info) for p in in_force):
                what = f"VM {info.name} is covered by no policy, and excluded by none"
                yield problem("uncovered", what, domain=info)

    def _of_domains(self) -> Iterator[Problem]:
        for picture in self._inventory.domains.values():
            if picture.error:
                what = f"VM {picture.info.name} does not answer: {picture.error.message}"
                yield problem("unread", what, domain=picture.info)
            yield from disk_problems(picture.info, list(picture.snapshots.values()))
        for uuid, plan in self._pruner.held.items():
            if held := self._inventory.domains.get(uuid):
                what = (
                    f"retention on VM {held.info.name} would delete more than half of its "
                    f"snapshots: plan {plan} waits for ConfirmPrune"
                )
                yield problem("prune-held", what, domain=held.info, ways=("confirm-prune",))

    def _of_runs(self) -> Iterator[Problem]:
        for (name, uuid), row in self._engine.slots.items():
            picture = self._inventory.domains.get(uuid)
            if row.error_name and picture and name in self._policies.in_force:
                what = f"policy {name} failed on VM {picture.info.name}: {row.error_message}"
                yield problem("run-failed", what, "critical", policy=name, domain=picture.info)

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
                id=_id("needs-attention", f"{row.domain}/{row.snapshot}"),
                problem="needs-attention",
                message=row.error_message,
                severity="critical",
                domain=row.domain,
                domain_name=row.domain_name,
                ways=tuple(row.detail.get("ways", ())),
            )


def disk_problems(info: DomainInfo, snapshots: Sequence[SnapshotInfo]) -> Iterator[Problem]:
    """A domain whose disks must not be written on, or could not be."""
    for found in redefined(info, snapshots):
        what = f"VM {info.name}: {found.message}; define it on its overlay again"
        yield problem("redefined", what, "critical", domain=info, ways=found.ways)
    if info.io_error:
        what = (
            f"VM {info.name} is paused since a disk of it could not be written (a full file "
            "system?); make room, then resume it"
        )
        yield problem("io-error", what, "critical", domain=info, ways=("make-room", "resume"))


def _excludes(policy: Policy, info: DomainInfo) -> bool:
    """Whether a policy names a domain as one that it leaves out."""
    named = replace(policy, domains=policy.exclude, exclude=())
    return bool(policy.exclude) and matches(named, info.name, info.uuid)


def still_frozen(guests: Sequence[FrozenGuest], now: float) -> Iterator[Problem]:
    """Guests that nobody has got thawed for long. now: seconds UTC."""
    for guest in guests:
        if now - guest.since <= FROZEN_SECONDS:
            continue
        since = f"{datetime.fromtimestamp(guest.since, UTC):%Y-%m-%d %H:%M:%S} UTC"
        how = "was to be frozen and may be" if guest.late else "is frozen"
        yield Problem(
            id=_id("frozen", guest.domain),
            problem="frozen",
            message=f"VM {guest.name} {how}, since {since}: its guest agent does not answer "
            "that it is thawed, which is asked again and again; meanwhile what writes in it hangs",
            severity="critical",
            domain=guest.domain,
            domain_name=guest.name,
            since=guest.since,
            ways=("restart-agent", "reset"),
        )


def problem(
    word: str,
    message: str,
    severity: str = "warning",
    *,
    domain: DomainInfo | None = None,
    policy: str = "",
    key: str = "",
    ways: tuple[str, ...] = (),
) -> Problem:
    """A problem whose id is the same as long as word, domain, policy and key are."""
    uuid = domain.uuid if domain else ""
    return Problem(
        id=_id(word, uuid, policy, key),
        problem=word,
        message=message,
        severity=severity,
        domain=uuid,
        domain_name=domain.name if domain else "",
        policy=policy,
        ways=ways,
    )


def _id(*parts: str) -> str:
    return f"{parts[0]}-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:12]}"
