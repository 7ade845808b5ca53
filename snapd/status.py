"""What `systemctl status` says that the daemon is doing: one line in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from .bus.rooms import Rooms
from .model import JobState, Verb
from .operations import Job
from .wire.text import one_line

SHOWN = 3
PROBLEM_BYTES = 200
_DOING = {
    Verb.CREATE: "making a snapshot of VM {}",
    Verb.REVERT: "reverting VM {}",
    Verb.DELETE: "deleting a snapshot of VM {}",
    Verb.PRUNE: "deleting old snapshots of VM {}",
    Verb.DELETE_OWN: "deleting snapshots of VM {}",
    Verb.AUDIT: "looking for what is left over",
}
"""Not run: the jobs that it begins say what is done."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What there is to tell. error: why libvirt isn't connected; next_run: seconds UTC, 0 = never;
    at_work, problems: in words, what matters most first."""

    uri: str
    error: str = ""
    connected: bool = True
    loading: bool = False
    vms: int = 0
    policies: int = 0
    next_policy: str = ""
    next_run: int = 0
    at_work: Sequence[str] = ()
    problems: Sequence[str] = ()


def told(doing: Doing, zone: tzinfo | None = None) -> str:
    """The line. zone: of the times in it, None = the system's."""
    parts = [_libvirt(doing)]
    if doing.at_work:
        parts.append(", ".join(_some(doing.at_work)))
    if doing.next_run:
        when = datetime.fromtimestamp(doing.next_run, zone).astimezone(zone)
        parts.append(f"next: policy {doing.next_policy} on {when:%a %Y-%m-%d %H:%M %Z}")
    if doing.problems:
        first, more = one_line(doing.problems[0], PROBLEM_BYTES), len(doing.problems) - 1
        parts.append(f"problem: {first}" + (f" (and {more} more)" if more else ""))
    return one_line("; ".join(parts))


def _libvirt(doing: Doing) -> str:
    if not doing.connected:
        return f"no connection to libvirt at {doing.uri} ({doing.error})"
    if doing.loading:
        return f"reading VMs at {doing.uri}"
    return f"{_count(doing.vms, 'VM', 'VMs')}, {_count(doing.policies, 'policy', 'policies')}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number or 'no'} {one if number == 1 else many}"


def _some(words: Sequence[str]) -> list[str]:
    more = len(words) - SHOWN
    return [*words[:SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _work(job: Job) -> str:
    """What it does, in words; "" = nothing now, or it is a part of another one that does."""
    verb, name = job.row.verb, job.row.domain_name
    if job.row.state is JobState.UNKNOWN:
        return f"finding out what became of the {verb} of VM {name}"
    if job.row.state is not JobState.RUNNING or job.inline or verb not in _DOING:
        return ""
    return _DOING[verb].replace("{}", name)


def status(rooms: Rooms) -> str:
    """The line for the daemon as it is now."""
    inventory, policies = rooms.inventory, rooms.policies.in_force
    runs = [(run, name) for name, p in policies.items() if (run := rooms.engine.next_run(p))]
    run, name = min(runs, default=(0, ""))
    jobs = [word for job in rooms.jobs.all.values() if (word := _work(job))]
    found = rooms.health.latest().problems
    problems = [p.message for p in found if p.problem != "not-connected"]
    return told(
        Doing(
            uri=rooms.hypervisor.uri,
            error=rooms.hypervisor.error,
            connected=inventory.connected,
            loading=inventory.loading,
            vms=len(inventory.domains),
            policies=len(policies),
            next_policy=name,
            next_run=run,
            at_work=jobs,
            problems=problems,
        )
    )
