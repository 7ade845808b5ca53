"""What listeners hear: objects that come, change and go, and the Manager's signals.

What is shown of a domain is compared with what was shown before, once no job of ours is at work
on it: a snapshot that is still being made is not signalled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..hypervisor import DomainEvent, EventKind
from ..inventory import Change, DomainPicture
from ..journal import about
from ..model import DomainInfo, JobState, Policy, Problem, Snapshot, SnapshotKey, Status, Verb
from ..operations import Job
from ..policy import Look, Telling
from ..store import REMOVED_OUTSIDE, HistoryRow, RunRow
from ..wire import paths
from .house import House
from .manager import Manager
from .objects import DomainObject, PolicyObject, SnapshotObject
from .rooms import Rooms
from .rows import problem_row, run_row
from .signals import Signals

log = logging.getLogger(__name__)
MANAGER = "org.virtsnap.Snapd1.Manager"
JOB = "org.virtsnap.Snapd1.Job"
REVIEW_SECONDS = 0.2
REVIEW_PART = 0.1
"""At most so much of the loop's time is for comparing problems: that is work for each VM."""
AT_ONCE, BREATH_SECONDS = 200, 0.001
"""Snapshots of a domain that is new, told of in one turn of the loop; until the next such turn."""
LATEST_REVIEW_SECONDS = 60.0
DOMAIN_NAMES = ("Name", "State", "Support", "CurrentSnapshot", "Policies")
RESULT_NAMES = ("LastSuccess", "LastErrorName", "LastErrorMessage")
SNAPSHOT_NAMES = (
    "Description",
    "DomainName",
    "State",
    "Status",
    "Kind",
    "Consistency",
    "Disks",
    "DisksLeftOut",
    "Notes",
    "Parent",
    "Current",
    "Origin",
    "Policies",
    "Pinned",
    "PinReason",
    "PauseMilliseconds",
)


@dataclass
class _Shown:
    """What listeners know of a domain. untold: those of its snapshots that they are about to hear
    of: they were there when it was first read. passed: those that were otherwise while a job of
    ours was at work, None = the domain was: that is told no more, but may have been read."""

    info: DomainInfo
    snapshots: dict[tuple[str, int], Snapshot] = field(default_factory=dict)
    untold: list[Snapshot] = field(default_factory=list)
    passed: set[tuple[str, int] | None] = field(default_factory=set)


class Publisher:
    """Listens to the rooms and sends. Nothing is kept but what was shown. news: called when the
    problems have come to be others."""

    def __init__(
        self,
        rooms: Rooms,
        house: House,
        signals: Signals,
        news: Callable[[], None] = lambda: None,
    ) -> None:
        self._rooms, self._house, self._signals, self._news = rooms, house, signals, news
        self._shown: dict[str, _Shown] = {}
        self._problems: dict[str, Problem] = {}
        self._telling = Telling()
        self._reverted: set[str] = set()
        self._review_due, self._review_took = False, 0.0
        self._later: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        rooms.inventory.on_change(self._on_change)
        rooms.inventory.on_status(self._on_status)
        rooms.hypervisor.on_event(self._on_event)
        rooms.operations.frozen_guests.on_change(self._review)
        rooms.policies.on_change(self._on_policy)
        rooms.policies.on_load(self._review)
        rooms.engine.on_run(self._on_run)
        rooms.holds.on_change(self._on_holds)
        rooms.ownership.on_change(self._on_owned)
        rooms.jobs.listen(
            added=lambda job: signals.added(house.job_of(job)),
            changed=lambda job, names: signals.changed(house.job_of(job), *names),
            ended=self._on_job_ended,
            removed=lambda job: signals.removed(house.job_of(job)),
            freed=self._publish,
        )

    # --- domains and snapshots

    def _on_change(self, change: Change) -> None:
        if not self._rooms.jobs.holds(change.uuid):
            self._publish(change.uuid, change.since)
        elif change.after and (shown := self._shown.get(change.uuid)):
            now = self._snapshots_now(change.after)
            shown.passed |= {key for key, was in shown.snapshots.items() if now.get(key) != was}
            if shown.info != change.after.info or shown.snapshots.keys() != now.keys():
                shown.passed.add(None)
        self._review()

    def _on_event(self, event: DomainEvent) -> None:
        """The only sign that somebody else's revert has ended (LIBVIRT.md 5)."""
        reverted = event.kind is EventKind.DEFINED and event.from_snapshot
        if reverted and not self._rooms.jobs.holds(event.uuid):
            self._reverted.add(event.uuid)

    def _publish(self, uuid: str, since: int = 0) -> None:
        picture = self._rooms.inventory.domains.get(uuid)
        shown = self._shown.get(uuid)
        if picture is None:
            if shown:
                self._gone(uuid, shown)
            return
        now = self._snapshots_now(picture)
        self._came_back(now.values())
        if shown is None:
            self._shown[uuid] = shown = _Shown(picture.info, now, list(now.values()))
            self._went_unseen(picture)
            self._signals.added(DomainObject(self._rooms, picture))
            self._introduce(picture, shown, AT_ONCE)
            return
        self._introduce(picture, shown, len(shown.untold))
        before, self._shown[uuid] = shown, _Shown(picture.info, now)
        for key in before.snapshots.keys() - now.keys():
            self._snapshot_gone(before.snapshots[key], since)
        for key, snapshot in now.items():
            if key in before.passed or before.snapshots.get(key) != snapshot:
                self._snapshot_here(picture, before.snapshots.get(key), snapshot)
        others = before.snapshots.keys() != now.keys()
        if None in before.passed or before.info != picture.info or others:
            self._signals.changed(DomainObject(self._rooms, picture), *DOMAIN_NAMES)
        if uuid in self._reverted and picture.info.current:
            self._reverted.discard(uuid)
            current = next((s for s in now.values() if s.info.current), None)
            if current:
                self._tell("SnapshotReverted", current, 0)

    def _introduce(self, picture: DomainPicture, shown: _Shown, most: int) -> None:
        """Tell of so many that were there already, and of the rest in turns of the loop to come;
        before anything else is told of their domain, all are."""
        told, shown.untold = shown.untold[:most], shown.untold[most:]
        for snapshot in told:
            self._signals.added(self._house.snapshot_of(picture, snapshot))
        if shown.untold:
            loop = asyncio.get_running_loop()
            loop.call_later(BREATH_SECONDS, self._introduce, picture, shown, AT_ONCE)

    def _snapshots_now(self, picture: DomainPicture) -> dict[tuple[str, int], Snapshot]:
        return {
            (s.info.name, s.info.created): s
            for s in self._rooms.catalog.of(picture)
            if s.status is not Status.CREATING
        }

    def _snapshot_here(
        self, picture: DomainPicture, before: Snapshot | None, now: Snapshot
    ) -> None:
        obj = self._house.snapshot_of(picture, now)
        if before is None:
            self._signals.added(obj)
            self._tell("SnapshotCreated", now, self._job_of(now, Verb.CREATE))
        else:
            self._signals.changed(obj, *SNAPSHOT_NAMES)

    def _on_owned(self, key: SnapshotKey) -> None:
        """A record of ours has changed: that waits for no job that is at work on the domain."""
        shown = self._shown.get(key.domain)
        picture = self._rooms.inventory.domains.get(key.domain)
        before = shown.snapshots.get((key.name, key.created)) if shown else None
        if shown and picture and before:
            self._introduce(picture, shown, len(shown.untold))
            now = replace(before, record=self._rooms.store.record(key))
            shown.snapshots[key.name, key.created] = now
            self._snapshot_here(picture, before, now)

    def _snapshot_gone(self, gone: Snapshot, since: int) -> None:
        picture = DomainPicture(DomainInfo(gone.domain, gone.domain_name, gone.state))
        self._signals.removed(SnapshotObject(self._rooms, picture, gone))
        job = self._job_of(gone, Verb.DELETE)
        self._tell("SnapshotDeleted", gone, job)
        if not job and self._rooms.store.record(gone.key) is not None:
            self._keep(self._removed_outside(gone.key, gone.domain_name, since))

    def _went_unseen(self, picture: DomainPicture) -> None:
        """What our records know and libvirt doesn't went while nobody looked."""
        here = {(s.name, s.created) for s in picture.snapshots.values()}
        for record in self._rooms.store.records_of(picture.info.uuid):
            if (record.key.name, record.key.created) not in here:
                self._keep(self._removed_outside(record.key, picture.info.name, 0))

    async def _removed_outside(self, key: SnapshotKey, domain_name: str, since: int) -> None:
        """Our record stays true: another tool removed it between two times."""
        row = HistoryRow(
            time=int(self._rooms.clock()),
            not_before=since,
            verb=Verb.DELETE.value,
            domain=key.domain,
            domain_name=domain_name,
            snapshot=key.name,
            created=key.created,
            reason=REMOVED_OUTSIDE,
            result="done",
        )
        await self._rooms.store.mark_gone(key, row)

    def _came_back(self, here: Iterable[Snapshot]) -> None:
        """A snapshot that was gone is what it was, by its name and time; and so it is pinned."""
        for snapshot in here:
            if self._rooms.store.gone(snapshot.key):
                vm, name = snapshot.domain_name, snapshot.info.name
                fields = about(vm, uuid=snapshot.domain, snapshot=name)
                log.info("VM %s has %s again", vm, name, extra=fields)
                self._keep(self._rooms.store.mark_back(snapshot.key))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("what another tool did could not be noted: %s", error)

    def _gone(self, uuid: str, shown: _Shown) -> None:
        del self._shown[uuid]
        picture = DomainPicture(shown.info)
        for untold in shown.untold:
            del shown.snapshots[untold.info.name, untold.info.created]
        shown.untold = []
        for snapshot in shown.snapshots.values():
            self._signals.removed(SnapshotObject(self._rooms, picture, snapshot))
        self._signals.removed(DomainObject(self._rooms, picture))

    def _tell(self, signal: str, snapshot: Snapshot, job: int) -> None:
        detail = {
            "Name": snapshot.info.name,
            "DomainName": snapshot.domain_name,
            "Origin": snapshot.origin.value,
            "Created": snapshot.info.created,
            "Job": paths.job(job) if job else paths.NONE,
        }
        path = paths.snapshot(snapshot.domain, snapshot.info.name)
        self._signals.signal(paths.ROOT, MANAGER, signal, snapshot.domain, path, detail)

    def _job_of(self, snapshot: Snapshot, verb: Verb) -> int:
        """The newest job of ours that did this to the snapshot; 0 = somebody else did."""
        for job in reversed(self._rooms.jobs.all.values()):
            row = job.row
            same = SnapshotKey(row.domain, row.snapshot, row.created) == snapshot.key
            if same and row.verb is verb and row.state is JobState.DONE:
                return job.id
        return 0

    # --- jobs, policies, problems

    def _on_job_ended(self, job: Job) -> None:
        row = job.row
        if row.domain:
            self._publish(row.domain)
        if row.verb is Verb.REVERT and row.state is JobState.DONE:
            self._revert_done(job)
        obj = self._house.job_of(job)
        values = (obj.state, obj.error_name, obj.error_message, obj.error_detail)
        self._signals.signal(obj.path, JOB, "Completed", *values)
        self._review()

    def _revert_done(self, job: Job) -> None:
        self._reverted.discard(job.row.domain)
        shown = self._shown.get(job.row.domain)
        target = (job.row.snapshot, job.row.created)
        if shown and target in shown.snapshots:
            self._tell("SnapshotReverted", shown.snapshots[target], job.id)

    def _on_policy(self, name: str, old: Policy | None, new: Policy | None) -> None:
        if new is None and old is not None:
            self._rooms.known.forget(paths.policy(name))
            self._signals.removed(_Named(paths.policy(name), self._policy_interfaces))
        elif (obj := self._house.policy(name)) is not None:
            if old is None:
                self._signals.added(obj)
            else:
                names = ("Source", "Revision", "Definition", "NextRun", "Health")
                self._signals.changed(obj, *names)
        for picture in self._rooms.inventory.domains.values():
            self._signals.changed(DomainObject(self._rooms, picture), "Policies")
        self._review()

    _policy_interfaces = ("org.virtsnap.Snapd1.Policy",)

    def _on_run(self, run: RunRow) -> None:
        values = (run.domain, run.policy, run_row(run))
        self._signals.signal(paths.ROOT, MANAGER, "PolicyRunFinished", *values)
        if domain := self._house.domain(run.domain):
            self._signals.changed(domain, *RESULT_NAMES)
        self._review()

    def _on_holds(self) -> None:
        for name in self._rooms.policies.in_force:
            if policy := self._house.policy(name):
                self._signals.changed(policy, "Holds", "Health")
        self._review()

    def _on_status(self) -> None:
        names = ("Connected", "Loading", "LibvirtVersion", "HypervisorVersion")
        self._signals.changed(self._house.manager, *names)
        self._review()

    def _review(self) -> None:
        """Compare the problems with those that were told, soon: one look for many changes, and no
        more of them than leave the loop to others where each takes long."""
        if not self._review_due:
            self._review_due = True
            pause = max(REVIEW_SECONDS, self._review_took / REVIEW_PART)
            asyncio.get_running_loop().call_later(pause, self._compare_problems)

    def _compare_problems(self) -> None:
        self._review_due = False
        begun = time.thread_time()
        if self._later:
            self._later.cancel()
        # some come and go by the clock alone, as what is overdue
        loop = asyncio.get_running_loop()
        self._later = loop.call_later(LATEST_REVIEW_SECONDS, self._review)
        look = self._rooms.health.look()
        now = {p.id: p for p in look.problems}
        before, self._problems = self._problems, now
        inventory = self._rooms.inventory
        self._telling.look(now.values(), whole=inventory.connected and not inventory.loading)
        for signal, problem in _differences(before, now, self._rooms.known.listed):
            values = (problem.domain, problem.id, problem_row(problem))
            self._signals.signal(paths.ROOT, MANAGER, signal, *values)
        self._rooms.known.listed.clear()
        self._all_fare(look)
        if now != before:
            self._news()
        self._review_took = time.thread_time() - begun

    def _all_fare(self, look: Look) -> None:
        """Tell how the policies fare, and all together, where clients may know otherwise."""
        known, manager = self._rooms.known, self._house.manager
        for name, policy in self._rooms.policies.in_force.items():
            fares = look.of_policy(name)
            if known.outdated(paths.policy(name), fares):
                shown = PolicyObject(self._rooms, policy, fares)
                self._signals.changed(shown, "NextRun", "LastRun", *RESULT_NAMES, "Health")
        health, next_run = look.overall, manager.next_run
        if known.outdated("Health", health) | known.outdated("NextRun", next_run):
            self._signals.changed(_Reviewed(manager, health, next_run), "Health", "NextRun")


def _differences(
    before: dict[str, Problem], now: dict[str, Problem], listed: dict[str, Problem]
) -> Iterator[tuple[str, Problem]]:
    for key in now.keys() - before.keys():
        yield "ProblemRaised", now[key]
    for key, problem in (before | listed).items():
        if key not in now:
            yield "ProblemCleared", problem


@dataclass(frozen=True)
class _Reviewed:
    """The Manager, with what a look has found just now."""

    manager: Manager
    health: str
    next_run: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.manager, name)


@dataclass(frozen=True)
class _Named:
    """An object that is gone: its path and what it had served."""

    path: str
    interfaces: tuple[str, ...]
