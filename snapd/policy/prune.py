"""Retention carried out: one plan, one victim, plan again. Only what the store says we made.
Overlays go in the order in which libvirt merges them; those that it can't merge now stay.

What decides is planning/retention.py; here is what has to hold around it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from ..errors import Changed, NoSuchSnapshot, Protected, SnapdError
from ..inventory import DomainPicture, Inventory
from ..model import Origin, Policy, Snapshot, Status
from ..operations import Catalog, HalfMade, Job, Operations, Outcome, Wish, merge_order
from ..planning.retention import (
    Decision,
    Rules,
    candidate,
    needs_confirmation,
    plan_labels,
    plan_safety,
)
from ..settings import Settings, rules_of
from .chains import external
from .clock import ClockGuard

log = logging.getLogger(__name__)


def plan(
    snapshots: Sequence[Snapshot],
    policies: dict[str, Policy],
    settings: Settings,
    now: float,
    held: Collection[str] = (),
    let_go: Collection[str] = (),
    one_more: Collection[str] = (),
) -> list[Decision]:
    """What retention would do to a domain, newest first: policies' snapshots by their rules, safety
    snapshots by theirs, all others kept. Pure: the preview's and the executor's one plan.

    held: policies that are held on the domain; "" among them = all, safety snapshots as well.
    let_go: snapshots that retention has half deleted: they count for nothing, and go. one_more:
    the policies of a snapshot that counts as if it were made now.
    """
    stopped = {*policies, *held} if "" in held else held
    rules: dict[str, Rules] = {name: rules_of(p) for name, p in policies.items()}
    safety = [s for s in snapshots if s.origin is Origin.SAFETY]
    rest = [s for s in snapshots if s.origin is not Origin.SAFETY]
    decisions = plan_labels([candidate(s) for s in rest], rules, now, stopped, one_more)
    of_safety = plan_safety(
        [candidate(s) for s in safety],
        now,
        last=settings.safety_last,
        max_age=settings.safety_max_age,
    )
    if "" in held:
        of_safety = [d if d.keep else replace(d, keep=True, reasons=("held",)) for d in of_safety]
    decisions = [_to_the_end(d, policies, stopped, let_go) for d in (*decisions, *of_safety)]
    return sorted(decisions, key=lambda d: (d.candidate.created, d.candidate.id), reverse=True)


def plan_room(
    snapshots: Sequence[Snapshot],
    policies: dict[str, Policy],
    settings: Settings,
    names: Collection[str],
    at: float,
    held: Collection[str] = (),
    let_go: Collection[str] = (),
) -> list[Decision]:
    """What may go so that a snapshot of the policies `names` finds room: what plan() lets go once
    that one is there, save the newest good ones that are there now.

    at: the first slot that was refused since the last success. It is the plan's now as well, so
    that no age marches on while nothing succeeds: asked again, be it after some of it was deleted,
    it lets go of nothing else.
    """
    return plan(snapshots, policies, settings, at, held, let_go, one_more=names)


def room_time(snapshots: Sequence[Snapshot], names: Collection[str], at: int, now: int) -> int:
    """The time for plan_room(): `at`, unless a policy of `names` has had a success since. That one
    stays, so it is the same however often room is made."""
    good = (c for c in map(candidate, snapshots) if c.owned and c.state == Status.OK)
    made = [int(c.created) for c in good if c.time_known and set(names) & set(c.labels)]
    return min(now, max([at, *(created for created in made if created <= now)]))


def _to_the_end(
    decision: Decision,
    policies: Collection[str],
    stopped: Collection[str],
    let_go: Collection[str],
) -> Decision:
    """A deletion that broke off is finished, unless somebody has it kept now."""
    c = decision.candidate
    kept = "" in stopped or any(p in stopped or p not in policies for p in c.labels)
    broken = decision.reasons == (f"state:{Status.BROKEN}",)
    if c.id not in let_go or not broken or kept:
        return decision
    return replace(decision, keep=False, reasons=("half-deleted",))


def victims(decisions: Sequence[Decision]) -> list[Decision]:
    """Those that go, oldest first."""
    return [d for d in reversed(decisions) if not d.keep]


def plan_id(decisions: Sequence[Decision]) -> str:
    """The same as long as the same snapshots would go; "" = none would."""
    going = sorted((d.candidate.id, d.candidate.created) for d in decisions if not d.keep)
    return hashlib.sha256(repr(going).encode()).hexdigest()[:16] if going else ""


class Pruner:
    """Carries plans out. held: the plans, by domain, that wait for a person to confirm them.
    blocked: why nothing is pruned at all, "" = nothing is in the way. holds(uuid): the policies
    that are held on a domain, as plan() takes them.
    """

    def __init__(
        self,
        operations: Operations,
        inventory: Inventory,
        catalog: Catalog,
        policies: Callable[[], dict[str, Policy]],
        settings: Settings,
        guard: ClockGuard,
        clock: Callable[[], float] = time.time,
        holds: Callable[[str], Collection[str]] = lambda _uuid: (),
    ) -> None:
        self.held: dict[str, str] = {}
        self.blocked = ""
        self._operations, self._inventory, self._catalog = operations, inventory, catalog
        self._policies, self._settings = policies, settings
        self._guard, self._clock, self._holds = guard, clock, holds

    def plan(self, picture: DomainPicture) -> list[Decision]:
        """The domain's plan as things stand."""
        return self._planned(picture, self._policies())

    def plan_safety(self, picture: DomainPicture) -> list[Decision]:
        """The same for safety snapshots alone; what the VM was reverted to last is left."""
        decisions = self._planned(picture, {})
        return [d for d in decisions if d.candidate.id != picture.info.current]

    def _planned(self, picture: DomainPicture, policies: dict[str, Policy]) -> list[Decision]:
        snapshots, held = self._catalog.of(picture), self._holds(picture.info.uuid)
        let_go = self._catalog.let_go(picture)
        return plan(snapshots, policies, self._settings, self._clock(), held, let_go)

    async def prune(
        self,
        job: Job,
        confirmed: str = "",
        only: Collection[str] | None = None,
        waits: Collection[str] = (),
    ) -> Outcome:
        """The work of a prune job. confirmed: the plan that a person has looked at. only: what an
        earlier prune could not delete; no other victim is looked for. waits: what earlier ones had
        let go and libvirt would not merge: no person has to confirm that anew.

        Raises Protected where a plan deletes so much that a person has to confirm it.
        """
        picture = await self._look(job)
        uuid, vm = job.row.domain, job.row.domain_name
        decisions = self.plan(picture)
        if confirmed and {"", job.row.policy} & set(self._holds(uuid)):
            raise Protected(
                f"nothing is pruned on VM {vm}: policy {job.row.policy} is held there",
                item=vm,
                ways=("unhold",),
            )
        if confirmed and confirmed != plan_id(decisions):
            raise Changed(f"the plan for VM {vm} is another one by now: look again", item=vm)
        going = victims(decisions)
        owned = sum(s.owned for s in self._catalog.of(picture))
        fresh = sum(d.candidate.id not in waits for d in going)
        if needs_confirmation(fresh, owned) and not confirmed:
            self.held[uuid] = plan_id(decisions)
            raise Protected(
                f"retention would delete {fresh} of {owned} snapshots of VM {vm} at once; "
                "look at PreviewRetention, then ConfirmPrune",
                item=vm,
                ways=("confirm-prune",),
            )
        self.held.pop(uuid, None)
        going = [d for d in going if only is None or d.candidate.id in only]
        return await self._delete_each(job, going, self.plan)

    async def make_room(self, job: Job, names: tuple[str, ...], at: int, wish: Wish) -> Outcome:
        """The work of a prune job where a run of the policies `names` was refused for space: what
        plan_room() lets go, until there is room for the wish or a deletion has brought none.

        at: the first slot that was refused since the last success. Deleting an internal one needs
        next to no room itself, and gives its blocks back to the host while the image keeps its
        length; merging an overlay may need as much as it holds, so that of a chain on a full disk
        all may stay for `no-space`. Raises Protected as prune() does, and what is in the way
        beside the room.
        """
        picture = await self._look(job)
        uuid, vm = job.row.domain, job.row.domain_name
        at = room_time(self._catalog.of(picture), names, at, int(self._clock()))

        def room(picture: DomainPicture) -> list[Decision]:
            snapshots, held = self._catalog.of(picture), self._holds(uuid)
            let_go = self._catalog.let_go(picture)
            policies, settings = self._policies(), self._settings
            return plan_room(snapshots, policies, settings, names, at, held, let_go)

        going, owned = victims(room(picture)), sum(s.owned for s in self._catalog.of(picture))
        many = max(len(going), len(victims(self.plan(picture))))
        if needs_confirmation(many, owned):
            raise Protected(
                f"no room is made on VM {vm}: retention would delete {many} of {owned} snapshots "
                "at once; make room in another way, or delete those that can go by hand",
                item=vm,
                ways=("make-room",),
            )
        gauge = self._operations.gauge(job, wish)
        return await self._delete_each(job, going, room, "room", gauge.helps)

    async def prune_safety(self, job: Job) -> Outcome:
        """The work of a prune job after a revert: it makes one safety snapshot more."""
        picture = await self._look(job)
        return await self._delete_each(job, victims(self.plan_safety(picture)), self.plan_safety)

    async def _look(self, job: Job) -> DomainPicture:
        job.enter("planning")
        if distrust := self.blocked or self._guard.distrust():
            raise Protected(
                f"nothing is pruned on VM {job.row.domain_name}: {distrust}",
                reason="" if self.blocked else "clock",
            )
        picture = await self._inventory.refresh(job.row.domain)
        if why := torn(self._operations.jobs.half_made, job.row.domain):
            raise Protected(
                f"nothing is pruned on VM {picture.info.name}: {why}",
                reason="half-made",
                ways=("revert",),
            )
        if picture.info.io_error:
            raise Protected(
                f"nothing is pruned on VM {picture.info.name}: it is paused since a disk could "
                "not be written; make room and resume it",
                reason="io-error",
                ways=("make-room", "resume"),
            )
        return picture

    async def _delete_each(
        self,
        job: Job,
        going: Sequence[Decision],
        planner: Callable[[DomainPicture], list[Decision]],
        why: str = "retention",
        goes_on: Callable[[int], Awaitable[bool]] | None = None,
    ) -> Outcome:
        """Planned anew after each; a failure skips and never finds another victim. goes_on: whether
        one more is wanted after so many."""
        allowed = {d.candidate.id for d in going}
        deleted: list[str] = []
        stays: list[dict[str, str]] = []
        while True:
            picture = self._inventory.domains[job.row.domain]
            by_name = {s.info.name: s for s in self._catalog.of(picture)}
            left = [d for d in victims(planner(picture)) if d.candidate.id in allowed]
            if not left or (goes_on and not await goes_on(len(deleted))):
                break
            first, waits = await self._turn(job.row.domain, left, by_name)
            if first is None:
                stays += [{"Name": name, "Reason": word} for name, word in waits.items()]
                break
            name = first.candidate.id
            allowed.discard(name)
            reason = f"{why}: {', '.join(first.reasons)}"
            job.enter("deleting", acting=True)
            try:
                await self._operations.delete_within(job, by_name[name].key, reason)
            except NoSuchSnapshot:
                continue
            except SnapdError as e:
                stays.append({"Name": name, "Reason": e.reason or e.name})
            else:
                deleted.append(name)
        return Outcome(result={"Deleted": deleted, "Stays": stays})

    async def _turn(
        self, uuid: str, left: Sequence[Decision], by_name: Mapping[str, Snapshot]
    ) -> tuple[Decision | None, dict[str, str]]:
        """Whose turn it is: the oldest; of overlays, the one that libvirt merges first. None: none
        of them can be merged now, each for a word."""
        outside = {d.candidate.id: d for d in external(left, by_name)}
        inside = [d for d in left if d.candidate.id not in outside]
        if inside:
            return inside[0], {}
        facts = await self._inventory.hypervisor.facts(uuid)
        order = merge_order(facts, outside, by_policy=True)
        if order.now:
            return outside[order.now[0]], {}
        return None, {name: blocker.reason for name, blocker in order.deferred.items()}


def torn(half_made: HalfMade, uuid: str) -> str:
    """Why nothing is made or pruned by policies on a domain whose disks may be of two moments; ""
    = they aren't."""
    row = half_made.torn(uuid)
    if row is None:
        return ""
    return f"the revert to {row.snapshot!r} (job {row.id}) broke off, and no other has mended it"


def zone_of(policy: Policy) -> ZoneInfo:
    return ZoneInfo(policy.timezone)
