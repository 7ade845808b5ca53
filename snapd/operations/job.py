"""A job: what was asked for, who asked, where it stands, what came of it."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import Internal, SnapdError, by_name
from ..journal import NOT_WRITTEN, of_job
from ..model import JobState, Record, SnapshotKey, Verb, Warned
from ..store import HistoryRow, JobRow

if TYPE_CHECKING:
    from .jobs import Jobs

log = logging.getLogger(__name__)
DAEMON = -1
WAITING = "waiting"
TOLD_SECONDS = 0.5
"""No more often is it told how much of a job is done."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks of a domain. owner: a uid, -1 = the daemon itself.

    created: the creation time of the snapshot meant, where there is one. options: what makes two
    requests different. max_wait: seconds from queueing to start. request: the caller's own id.
    """

    verb: Verb
    domain: str
    domain_name: str
    snapshot: str = ""
    created: int = 0
    policy: str = ""
    owner: int = DAEMON
    options: Mapping[str, Any] = field(default_factory=dict)
    max_wait: float = 30
    request: str = ""
    parent: int = 0

    @property
    def fingerprint(self) -> str:
        asked = [self.verb, self.domain, self.snapshot, self.created, self.policy]
        return json.dumps([*asked, dict(self.options)], sort_keys=True, default=str)

    def row(self, state: JobState, now: int) -> JobRow:
        """The first row of its job; the store gives the id."""
        return JobRow(
            id=0,
            verb=self.verb,
            domain=self.domain,
            domain_name=self.domain_name,
            snapshot=self.snapshot,
            created=self.created,
            policy=self.policy,
            owner=self.owner,
            state=state,
            queued=now,
            started=now if state is JobState.RUNNING else 0,
            parent=self.parent,
            request=self.request,
            fingerprint=self.fingerprint,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verb did. result: data for the caller (names, never paths); record, forget: what the
    store has to remember or to forget of a snapshot, in the same transaction as the job's end."""

    result: dict[str, Any] = field(default_factory=dict)
    snapshot: str = ""
    created: int = 0
    reason: str = ""
    record: Record | None = None
    forget: SnapshotKey | None = None


class Interrupted(Exception):
    """The daemon is stopping: no new step is begun, the intent stays open."""


class Undone(Exception):
    """A judge's verdict on an open intent: nothing of it has happened."""


class Job:
    """One job, alive. Work on it through enter, intend, warn; everybody else reads.

    start_by: the loop's time up to which it may wait for others before it begins. inline: it runs
    inside its parent; parts: how many jobs have begun inside this one.
    """

    def __init__(self, row: JobRow, jobs: Jobs, *, inline: bool = False) -> None:
        self.row = row
        self.inline = inline
        self.parts = 0
        self.phase = "queued" if row.state is JobState.QUEUED else ""
        self.progress = -1.0
        self._told = -math.inf
        self.reason = ""
        self.ended = asyncio.Event()
        self.start_by = 0.0
        self._jobs = jobs

    @property
    def id(self) -> int:
        return self.row.id

    @property
    def turn(self) -> str:
        """The domain whose turn it waits for and holds; "" = it only reads, or its children act."""
        return "" if self.row.verb is Verb.AUDIT else self.row.domain

    @property
    def cancellable(self) -> bool:
        """Only what has not begun can be cancelled: libvirt finishes a call whatever we do, and
        what runs inside another job is that one's."""
        if self.inline or self.parts or self.row.intent is not None:
            return False
        return self.row.state is JobState.QUEUED or self.phase == WAITING

    @property
    def stopping(self) -> bool:
        """Whether the daemon is about to end."""
        return self._jobs.stopping

    def wait_for(self, whom: str) -> None:
        """Say that it waits for somebody else; until the next step it can be cancelled."""
        vm = self.row.domain_name
        log.info("job %d on VM %s waits: %s", self.id, vm, whom, extra=of_job(self.row))
        self.phase = WAITING
        self._jobs.changed(self, "Phase", "Cancellable")

    def enter(self, phase: str, *, acting: bool = False) -> None:
        """Say what is being done now. acting: a step that changes something is about to begin."""
        if acting and self._jobs.stopping:
            raise Interrupted(phase)
        waited = self.phase == WAITING
        self.phase = phase
        self._jobs.changed(self, "Phase", *(["Cancellable"] if waited else []))

    def advance(self, share: float) -> None:
        """Say how much of it is done, 0..1: it never goes back, and is told twice a second."""
        now = asyncio.get_running_loop().time()
        share = min(1.0, max(share, self.progress, 0.0))
        if share == self.progress:
            return
        self.progress = share
        if share == 1.0 or now - self._told >= TOLD_SECONDS:
            self._told = now
            self._jobs.changed(self, "Progress")

    async def intend(self, intent: dict[str, Any], *, begun: bool = False) -> None:
        """Commit what is about to be done; returns when it is on disk. Raises where it cannot be
        written: then nothing may be done.

        begun: it tells how far the act has come already, so it is written in any case, and where
        that fails the act goes on: what is on disk is true of it, if not all.
        """
        if self._jobs.stopping and not begun:
            raise Interrupted("intend")
        before, self.row = self.row.intent, replace(self.row, intent=intent)
        try:
            await self._jobs.store.update_job(self.row)
        except SnapdError as e:
            if not begun:
                self.row = replace(self.row, intent=before)
                raise
            log.error(
                "job %d: how far it is could not be written down: %s",
                self.id,
                e.message,
                extra=of_job(self.row, e, NOT_WRITTEN),
            )

    async def name(self, snapshot: str, created: int = 0) -> None:
        """Fix which snapshot it is about, once that is known."""
        self.row = replace(self.row, snapshot=snapshot, created=created)
        self._jobs.changed(self, "Snapshot", "SnapshotName")

    def warn(self, *warnings: Warned) -> None:
        """Add what the caller should know although it works."""
        if warnings:
            self.row = replace(self.row, warnings=(*self.row.warnings, *warnings))
            self._jobs.changed(self, "Warnings")

    def error(self) -> SnapdError:
        """A failed job's own error, as an exception."""
        kind = by_name(self.row.error_name) or Internal
        return kind(self.row.error_message, **self.row.detail)


Work = Callable[[Job], Awaitable[Outcome]]


def running_alike(jobs: Iterable[Job], request: Request) -> Job | None:
    """The job of the same request that has not ended."""
    return next(
        (
            job
            for job in jobs
            if not job.row.state.finished
            and job.row.owner == request.owner
            and job.row.fingerprint == request.fingerprint
            and job.row.parent == request.parent
        ),
        None,
    )


def detail_of(error: SnapdError) -> dict[str, Any]:
    """The data beside the sentence, as every class of the tree takes it back."""
    detail: dict[str, Any] = {"reason": error.reason, "disk": error.disk, "item": error.item}
    if error.need is not None:
        detail["need"] = error.need
    if error.have is not None:
        detail["have"] = error.have
    return {**{k: v for k, v in detail.items() if v != ""}, "ways": list(error.ways)}


def history_of(row: JobRow, reason: str) -> HistoryRow | None:
    """Acts on snapshots are accounted for; runs and prunes are made of such acts."""
    if row.verb not in (Verb.CREATE, Verb.REVERT, Verb.DELETE):
        return None
    result = "done" if row.state is JobState.DONE else f"{row.error_name}: {row.error_message}"
    return HistoryRow(
        time=row.finished,
        verb=row.verb.value,
        domain=row.domain,
        domain_name=row.domain_name,
        snapshot=row.snapshot,
        created=row.created,
        policy=row.policy,
        owner=row.owner,
        reason=reason,
        result=result,
        job=row.id,
    )
