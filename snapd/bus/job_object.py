"""Job as the contract has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..model import JobState, Verb
from ..operations import Job
from ..wire import paths
from .rooms import Rooms
from .router import Call

FOR_EVER = 2**32 - 1
INSPECT_ACTION = "org.virtsnap.snapd1.inspect"
FINDINGS = "Findings"


class JobObject:
    """org.virtsnap.Snapd1.Job."""

    interfaces: ClassVar[tuple[str, ...]] = ("org.virtsnap.Snapd1.Job",)

    def __init__(self, rooms: Rooms, job: Job) -> None:
        self._rooms, self._job = rooms, job
        row = job.row
        self.path = paths.job(row.id)
        self.verb, self.state, self.phase = row.verb.value, row.state.value, job.phase
        self.domain = paths.domain(row.domain) if row.domain else paths.NONE
        self.domain_uuid, self.domain_name = row.domain, row.domain_name
        self.snapshot_name, self.policy = row.snapshot, row.policy
        self.snapshot = _snapshot(row.domain, row.snapshot)
        self.parent = paths.job(row.parent) if row.parent else paths.NONE
        self.progress, self.cancellable = job.progress, job.cancellable
        self.error_name, self.error_message = row.error_name, row.error_message
        self.owner_uid, self.started, self.finished = row.owner, row.started, row.finished

    verb: str
    parent: str
    domain: str
    snapshot: str
    domain_uuid: str
    domain_name: str
    snapshot_name: str
    policy: str
    state: str
    phase: str
    progress: float
    error_name: str
    error_message: str
    owner_uid: int
    started: int
    finished: int
    cancellable: bool

    @property
    def error_detail(self) -> dict[str, Any]:
        return {key.capitalize(): value for key, value in self._job.row.detail.items()}

    @property
    def warnings(self) -> list[dict[str, str]]:
        return [
            {"Reason": w.reason, "Item": w.item, "Message": w.message}
            for w in self._job.row.warnings
        ]

    @property
    def result(self) -> dict[str, Any]:
        """The store's names and numbers as paths; what an audit found is for Wait alone."""
        row = self._job.row
        result = {key: value for key, value in row.result.items() if key != FINDINGS}
        if "Consistency" in result:
            result["Snapshot"] = self.snapshot
        if "SafetySnapshot" in result:
            result["SafetySnapshot"] = _snapshot(row.domain, result["SafetySnapshot"])
        if "Domains" in result:
            result["Domains"] = [
                {
                    **each,
                    "Job": paths.job(each["Job"]) if each["Job"] else paths.NONE,
                    "Snapshot": _snapshot(each["DomainUUID"], each["Snapshot"]),
                }
                for each in result["Domains"]
            ]
        return result

    async def wait(self, call: Call, options: dict[str, Any]) -> dict[str, Any]:
        if self.verb == Verb.AUDIT and await call.uid() != self.owner_uid:
            await call.authorize(INSPECT_ACTION, self.details("Wait", {}))
        timeout = None if options["timeout"] == FOR_EVER else float(options["timeout"])
        job = await self._rooms.jobs.wait(self._job, timeout)
        if job.row.state is not JobState.DONE:
            raise job.error()
        found = {key: value for key, value in job.row.result.items() if key == FINDINGS}
        return {**JobObject(self._rooms, job).result, **found}

    def details(self, method: str, _arguments: Mapping[str, Any]) -> dict[str, str]:
        """What the job is about, for whoever has to allow the call."""
        return {"verb": method, "domain": self.domain_name, "uuid": self.domain_uuid}

    async def cancel(self, call: Call, options: dict[str, Any]) -> None:
        self._rooms.jobs.cancel(self._job)


def _snapshot(domain: str, name: str) -> str:
    return paths.snapshot(domain, name) if domain and name else paths.NONE
