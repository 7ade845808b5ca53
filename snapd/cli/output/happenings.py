"""Events as lines for people: when, what, of which VM, by whom. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import without_vm
from . import times
from .text import name, safe

Event = dict[str, Any]
SNAPSHOTS = {
    "SnapshotCreated": ("", " created"),
    "SnapshotDeleted": ("", " deleted"),
    "SnapshotReverted": ("reverted to ", ""),
}
"""What is said before and behind the snapshot."""
_SPECIAL = ("safety", "trial")
"""Origins that who did it does not tell."""


def line(event: Event) -> tuple[str, str]:
    """`2026-11-24 02:30:00  web-1: snapshot one created by root`, and the word whose colour it
    has, "" = none."""
    what = event["Event"]
    text, word = _LINES.get(what, _snapshot)(event)
    return f"{times.second(event['Time'])}  {safe(text)}", word


def names(event: Event, *, of_one: bool) -> list[str]:
    """The name or id of what it is about: of a snapshot (of_one: without its VM), a policy, a
    problem, a job."""
    what = event["Event"]
    if what in SNAPSHOTS:
        return [event["Name"] if of_one else f"{event['DomainName']}/{event['Name']}"]
    key = {"PolicyRunFinished": "Policy", "ProblemRaised": "ID", "ProblemCleared": "ID"}.get(what)
    if what == "JobEnded":
        return [_number(event)]
    return [event[key]] if key else []


def _snapshot(event: Event) -> tuple[str, str]:
    origin = event["Origin"]
    kind = f"{origin} snapshot" if origin in _SPECIAL else "snapshot"
    before, behind = SNAPSHOTS[event["Event"]]
    return f"{_vm(event)}{before}{kind} {name(event['Name'])}{behind}{_by(event)}", ""


def _run(event: Event) -> tuple[str, str]:
    outcome = event["Outcome"]
    made = f" snapshot {name(event['SnapshotName'])}" if event["SnapshotName"] else ""
    why = _why(event, "Reason") if outcome != "made" else ""
    told = f"policy {event['Policy']} {outcome}{made}{why}"
    return f"{_vm(event)}{told}", outcome if outcome == "failed" else ""


def _raised(event: Event) -> tuple[str, str]:
    return f"{event['Severity']}: {times.local(event['Message'])}", event["Severity"]


def _cleared(event: Event) -> tuple[str, str]:
    return f"over: {times.local(event['Message'])}", "ok"


def _job(event: Event) -> tuple[str, str]:
    of = f" {name(event['SnapshotName'])}" if event["SnapshotName"] else ""
    why = _why(event, "ErrorMessage")
    state = event["State"]
    what = f"job {_number(event)} ({event['Verb']}{of}) {state}"
    return f"{_vm(event)}{what}{_by(event)}{why}", state


def _vm(event: Event) -> str:
    return f"{name(event['DomainName'])}: " if event["DomainName"] else ""


def _why(event: Event, key: str) -> str:
    """As it reads on a line that begins with the VM."""
    why = times.local(without_vm(event[key], event["DomainName"]))
    return f": {why}" if why else ""


def _by(event: Event) -> str:
    who = f" by {name(event['By'])}" if event["By"] else ""
    return f"{who} for policy {event['Policy']}" if event["Policy"] else who


def _number(event: Event) -> str:
    return str(event["Path"].rpartition("/")[2])


_LINES: dict[str, Callable[[Event], tuple[str, str]]] = {
    "PolicyRunFinished": _run,
    "ProblemRaised": _raised,
    "ProblemCleared": _cleared,
    "JobEnded": _job,
}
