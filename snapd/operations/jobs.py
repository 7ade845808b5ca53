"""Jobs: what was asked for, who asked, where it stands; one at a time for each domain.

A job and its intent are one row of the store, written before anything is done. A job outlives its
caller, and one whose call broke off stays open until it is settled against the facts.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from ..errors import (
    Busy,
    Cancelled,
    InvalidArgument,
    LimitExceeded,
    OutcomeUnknown,
    SnapdError,
    TimedOut,
    Unavailable,
)
from ..journal import of_job
from ..model import DomainInfo, JobState
from ..store import JobRow, Store
from .ending import Closing, Last, broken_off, fault, last_row
from .halfmade import HalfMade
from .job import WAITING, Interrupted, Job, Outcome, Request, Work, history_of, running_alike
from .settling import settle
from .turns import Turns

log = logging.getLogger(__name__)

QUEUE_LENGTH = 16
LINGER_SECONDS = 600
LINGER_COUNT = 1000
STOPPING = "cancelled: the daemon is stopping"


class Jobs:
    """All jobs: the queue of each domain, and a cap on domains at work at once.

    judge(job): says what came of an open intent: an Outcome (done), Undone, or the error that an
    admin has to know; Unavailable and TimedOut have it asked again.
    """

    def __init__(
        self,
        store: Store,
        parallel: int = 4,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.stopping = False
        self.all: dict[int, Job] = {}
        self.judge: Work | None = None
        self.half_made = HalfMade()
        self._clock = clock
        self._turns = Turns(parallel)
        self._closing = Closing(store, self._tell_freed)
        self._occupants: dict[str, tuple[str, int]] = {}
        self._submitting = asyncio.Lock()
        self._queued: dict[str, list[Job]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._on_added: list[Callable[[Job], None]] = []
        self._on_changed: list[Callable[[Job, tuple[str, ...]], None]] = []
        self._on_ended: list[Callable[[Job], None]] = []
        self._on_removed: list[Callable[[Job], None]] = []
        self._on_freed: list[Callable[[str], None]] = []

    # --- who listens

    def listen(
        self,
        *,
        added: Callable[[Job], None] | None = None,
        changed: Callable[[Job, tuple[str, ...]], None] | None = None,
        ended: Callable[[Job], None] | None = None,
        removed: Callable[[Job], None] | None = None,
        freed: Callable[[str], None] | None = None,
    ) -> None:
        """Have jobs' comings and goings told. changed: with the names of D-Bus properties; freed:
        with the UUID of a domain on which an act that is no job has ended."""
        self._on_added += [added] if added else []
        self._on_changed += [changed] if changed else []
        self._on_ended += [ended] if ended else []
        self._on_removed += [removed] if removed else []
        self._on_freed += [freed] if freed else []

    def changed(self, job: Job, *properties: str) -> None:
        for call in self._on_changed:
            call(job, properties)

    def _tell_freed(self, domain: str) -> None:
        for call in self._on_freed:
            call(domain)

    # --- asking

    def holds(self, domain: str) -> bool:
        """Whether a job or another act of ours is at work on the domain."""
        return self._turns.taken(domain)

    def holder(self, domain: str) -> Job | None:
        """The job that is at work on the domain."""
        jobs = self._queued.get(domain, [])
        return next((j for j in jobs if j.row.state is not JobState.QUEUED), None)

    def open_on(self, domain: str) -> list[Job]:
        """The jobs of a domain that have not ended."""
        return [j for j in self.all.values() if j.row.domain == domain and not j.ended.is_set()]

    async def submit(self, request: Request, work: Work) -> Job:
        """Queue a job, or find the one that is the same request. Raises LimitExceeded,
        InvalidArgument (the request id was used for something else), Unavailable (stopping)."""
        async with self._submitting:  # or two at once would not see each other
            if same := await self._same(request):
                return same
            if self.stopping:
                raise Unavailable("virtsnapd is stopping; call again when it is back")
            if request.domain and len(self._queued.get(request.domain, ())) >= QUEUE_LENGTH:
                raise LimitExceeded(
                    f"VM {request.domain_name} has {QUEUE_LENGTH} requests waiting; try later"
                )
            job = self._remember(Job(await self._row(request, JobState.QUEUED), self))
            job.start_by = asyncio.get_running_loop().time() + request.max_wait
            self._queued.setdefault(job.turn, []).append(job)
            self._start(job, self._run(job, request, work))
            return job

    async def _same(self, request: Request) -> Job | None:
        if not request.request:
            return running_alike(self.all.values(), request)
        job = await self.of_request(request.owner, request.request)
        if job and job.row.fingerprint != request.fingerprint:
            raise InvalidArgument(
                f"request id {request.request!r} was used for something else (job {job.id})"
            )
        return job

    async def of_request(self, owner: int, request: str) -> Job | None:
        """The job of a caller's own id, of the last day; an ended one stays a while from now on."""
        row = await self.store.job_of_request(owner, request, self._now())
        if row is None or row.id in self.all:
            return self.all[row.id] if row else None
        return self._remember(Job(row, self), ended=True, since=self._now())

    async def _row(self, request: Request, state: JobState) -> JobRow:
        row = request.row(state, self._now())
        return replace(row, id=await self.store.add_job(row))

    def _remember(self, job: Job, *, ended: bool = False, since: int = 0) -> Job:
        self.all[job.id] = job
        if ended:
            job.ended.set()
            self._linger(job, since)
        for call in self._on_added:
            call(job)
        return job

    def _start(self, job: Job, run: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await run
            except SnapdError as e:
                await self._broke(job, e)
            except Exception as e:  # noqa: BLE001 - fault() logs it
                await self._broke(job, fault(job.row, e))
            finally:
                self._tasks.pop(job.id, None)
                waiting = self._queued.get(job.turn, [])
                with contextlib.suppress(ValueError):
                    waiting.remove(job)
                if not waiting:
                    self._queued.pop(job.turn, None)

        self._tasks[job.id] = asyncio.create_task(guarded(), name=f"job {job.id}")

    async def _broke(self, job: Job, error: SnapdError) -> None:
        """Whatever went wrong with the job itself, who waits for it hears of its end. An intent
        that is on disk stays there, for the next start to settle."""
        if job.row.intent is None and not job.row.state.finished:
            await self._end(job, JobState.FAILED, error=error)
        elif not job.ended.is_set():
            job.row = last_row(job.row, JobState.FAILED, self._now(), Outcome(), error)
            self._tell_end(job)

    async def inline(self, parent: Job, request: Request, work: Work) -> Job:
        """Run a job of its own inside another one, which holds the domain. Raises its error."""
        row = await self._row(replace(request, parent=parent.id), JobState.RUNNING)
        job = self._remember(Job(row, self, inline=True))
        job.start_by = parent.start_by
        parent.parts += 1
        try:
            await self._work(job, work)
        except asyncio.CancelledError:  # the daemon is stopping, or nobody could have
            if job.row.intent is None and not job.row.state.finished:
                await self._end(job, JobState.CANCELLED, error=Cancelled(STOPPING))
            raise
        if job.row.state is not JobState.DONE:
            raise job.error()
        return job

    def cancel(self, job: Job) -> None:
        """Cancel what has not begun. Raises Busy where it has."""
        task = self._tasks.get(job.id)
        if not job.cancellable or task is None:
            raise Busy(f"job {job.id} ({job.row.verb}) has begun and cannot be cancelled")
        coro = task.get_coro()
        if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
            # a task that never began could not say that it is cancelled
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            task.cancel()

    async def wait(self, job: Job, timeout: float | None) -> Job:
        """Wait for a job's end; raises TimedOut (the job goes on)."""
        try:
            async with asyncio.timeout(timeout):
                await job.ended.wait()
        except TimeoutError as e:
            raise TimedOut(f"job {job.id} is still {job.row.state} ({job.phase})") from e
        return job

    # --- running

    async def _run(self, job: Job, request: Request, work: Work) -> None:
        try:
            async with contextlib.AsyncExitStack() as held:
                if job.turn:  # a run waits for nobody: its domains' jobs do
                    await self._turn(job, request.max_wait, held)
                job.row = replace(job.row, state=JobState.RUNNING, started=self._now())
                await self.store.update_job(job.row)
                self.changed(job, "State", "Started", "Cancellable")
                await self._work(job, work)
        except asyncio.CancelledError:
            if job.row.intent is not None or job.row.state.finished:
                raise
            error = Cancelled("cancelled: it had not begun")
            if self.stopping:
                error = await broken_off(self.store, job.row, STOPPING)
            await self._end(job, JobState.CANCELLED, error=error)

    async def _turn(self, job: Job, max_wait: float, held: contextlib.AsyncExitStack) -> None:
        try:
            await self._turns.take(job.row.domain, max_wait, held)
        except TimeoutError as e:
            raise self._busy(job.row.domain, job.row.domain_name, max_wait) from e

    @contextlib.asynccontextmanager
    async def occupied(self, domain: DomainInfo, what: str, max_wait: float) -> AsyncIterator[None]:
        """Hold a domain, in its turn, for a short act that is no job. what: its words for whoever
        has to wait for it. Raises Busy with who holds it, past max_wait seconds."""
        async with contextlib.AsyncExitStack() as held:
            try:
                await self._turns.take(domain.uuid, max_wait, held)
            except TimeoutError as e:
                raise self._busy(domain.uuid, domain.name, max_wait) from e
            held.callback(self._tell_freed, domain.uuid)
            self._occupants[domain.uuid] = (what, self._now())
            held.callback(self._occupants.pop, domain.uuid)
            yield

    def _busy(self, uuid: str, vm: str, waited: float) -> Busy:
        who = "the limit of VMs at work at once is reached"
        if other := self.holder(uuid):
            since = max(0, self._now() - other.row.started)
            who = f"job {other.id} ({other.row.verb} {other.row.snapshot}) since {since} s"
        elif occupant := self._occupants.get(uuid):
            who = f"{occupant[0]} since {max(0, self._now() - occupant[1])} s"
        return Busy(f"VM {vm} is busy: {who}; waited {waited:g} s", item=who)

    async def _work(self, job: Job, work: Work) -> None:
        """Do it. Whatever goes wrong once an intent is open, the facts decide how it ended."""
        try:
            outcome = await work(job)
        except Interrupted as e:
            if job.row.intent is not None:
                raise asyncio.CancelledError from e
            stopped = await broken_off(self.store, job.row, STOPPING)
            await self._end(job, JobState.CANCELLED, error=stopped)
        except SnapdError as e:
            await self._failed(job, e)
        except Exception as e:  # noqa: BLE001 - fault() logs it
            await self._failed(job, fault(job.row, e))
        else:
            await self._end(job, JobState.DONE, outcome=outcome)

    async def _failed(self, job: Job, error: SnapdError) -> None:
        if job.row.intent is None or self.judge is None:
            await self._end(job, JobState.FAILED, error=error)
            return
        fields = of_job(job.row, error)
        log.info("job %d: %s; looking at what came of it", job.id, error.message, extra=fields)
        if isinstance(error, OutcomeUnknown | Unavailable):
            job.row = replace(job.row, state=JobState.UNKNOWN)
            await self._closing.note(job.row)
            self.changed(job, "State")
        await self._settle(job, error)

    async def _settle(self, job: Job, cause: SnapdError) -> None:
        assert self.judge is not None
        try:
            outcome = await settle(job, self.judge, cause)
        except SnapdError as e:
            await self._end(job, JobState.FAILED, error=e)
        else:
            await self._end(job, JobState.DONE, outcome=outcome)

    async def _end(
        self,
        job: Job,
        state: JobState,
        *,
        outcome: Outcome | None = None,
        error: SnapdError | None = None,
    ) -> None:
        outcome = outcome or Outcome()
        job.row = row = last_row(job.row, state, self._now(), outcome, error)
        job.phase = ""
        history = history_of(row, outcome.reason or job.reason)
        try:
            await self._closing.write(Last(row, history, outcome.record, outcome.forget))
        finally:
            self._tell_end(job)

    def _tell_end(self, job: Job) -> None:
        self.half_made.note(job.row)
        job.ended.set()
        self.changed(job, "State", "Phase", "ErrorName", "ErrorMessage", "ErrorDetail", "Snapshot")
        self.changed(job, "SnapshotName", "Result", "Finished", "Cancellable")
        for call in self._on_ended:
            call(job)
        self._linger(job)

    def _linger(self, job: Job, since: int = 0) -> None:
        ended = [j for j in self.all.values() if j.row.state.finished]
        for old in ended[: max(0, len(ended) - LINGER_COUNT)]:
            self._remove(old.id)
        left = max(0, (since or job.row.finished) + LINGER_SECONDS - self._now())
        asyncio.get_running_loop().call_later(left, self._remove, job.id)

    def _remove(self, number: int) -> None:
        if job := self.all.pop(number, None):
            for call in self._on_removed:
                call(job)

    # --- start and end of the daemon

    async def load(self) -> None:
        """Take up what an earlier daemon left: ended jobs linger on, open intents are settled
        before anything else is done to their domains."""
        now = self._now()
        for row in await self.store.half_made():
            self.half_made.note(row)
        for row in await self.store.finished_jobs(now - LINGER_SECONDS, LINGER_COUNT):
            self._remember(Job(row, self), ended=True)
        for row in await self.store.open_jobs():
            job = self._remember(Job(row, self))
            if row.intent is None:
                error = await broken_off(self.store, row, "the daemon ended before this job")
                await self._end(job, JobState.CANCELLED, error=error)
            else:
                self._queued.setdefault(row.domain, []).append(job)
                self._start(job, self._take_up(job))

    async def _take_up(self, job: Job) -> None:
        job.row = replace(job.row, state=JobState.UNKNOWN)
        async with self._turns.of(job.row.domain):
            what = f"{job.row.verb} of VM {job.row.domain_name}: the daemon ended in the middle"
            await self._settle(job, OutcomeUnknown(f"{what}; nothing had been done"))

    async def stop(self, timeout: float) -> None:
        """Begin nothing new, give running calls that long, and leave their intents open."""
        self.stopping = True
        async with self._submitting:
            await asyncio.sleep(0)  # a task that never began could not say that it is cancelled
        for job in list(self.all.values()):
            if job.id in self._tasks and self._idle(job):
                self._tasks[job.id].cancel()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._closing.stop()

    def _idle(self, job: Job) -> bool:
        """Whether it does nothing now but wait: itself, or what runs inside it."""
        waits = job.row.state in (JobState.QUEUED, JobState.UNKNOWN) or job.cancellable
        inside = (j for j in self.all.values() if j.inline and j.row.parent == job.id)
        return waits or any(j.phase == WAITING and not j.ended.is_set() for j in inside)

    def _now(self) -> int:
        return int(self._clock())
