"""Rows of the store as frozen data, and their way to and from SQLite."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from ..model import Consistency, JobState, Origin, Record, SnapshotKey, State, Verb, Warned

REMOVED_OUTSIDE = "removed outside of virtsnapd"


@dataclass(frozen=True, slots=True)
class _Row:
    @classmethod
    def read(cls, row: sqlite3.Row) -> Self:
        return cls(**{f.name: row[f.name] for f in fields(cls)})

    def columns(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SlotRow(_Row):
    """What a policy last did for a domain.

    last_slot: the newest scheduled instant settled. domain_name: what the domain was called when
    the policy last covered it. last_ok: when nothing was owed: at the first look, after a success,
    or where there was nothing to do. short_since: the first slot since the last success that was
    refused for want of room, 0 = none.
    """

    policy: str
    domain: str
    last_slot: int
    last_run: int = 0
    last_success: int = 0
    error_name: str = ""
    error_message: str = ""
    domain_name: str = ""
    last_ok: int = 0
    short_since: int = 0


@dataclass(frozen=True, slots=True)
class RunRow(_Row):
    """One slot of one policy on one domain. outcome: made, caught-up, skipped, failed; of one that
    is under way it is "" and finished is 0."""

    id: int
    policy: str
    domain: str
    domain_name: str
    slot: int
    started: int
    finished: int
    outcome: str
    reason: str
    snapshot: str
    job: int


@dataclass(frozen=True, slots=True)
class HistoryRow(_Row):
    """One act: what others did lies between `not_before` and `time`; owner -1 is the daemon."""

    time: int
    verb: str
    domain: str
    domain_name: str
    snapshot: str = ""
    created: int = 0
    policy: str = ""
    owner: int = -1
    reason: str = ""
    result: str = ""
    job: int = 0
    not_before: int = 0


@dataclass(frozen=True, slots=True)
class HoldRow(_Row):
    """No run and no prune of a policy on a domain, "" in either = all, until then (0 = until
    somebody takes it back). owner: who has put it there."""

    policy: str
    domain: str
    reason: str
    since: int
    until: int = 0
    owner: int = -1

    def covers(self, policy: str, domain: str) -> bool:
        return self.policy in ("", policy) and self.domain in ("", domain)


@dataclass(frozen=True, slots=True)
class RestRow(_Row):
    """How a domain that is off was left: its newest snapshot, and what its images looked like then.
    stamp: opaque, equal as long as nobody has written to any of them."""

    domain: str
    name: str
    created: int
    stamp: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job and its intent: one row, so that neither can be there without the other.

    intent: what is about to be done, committed before the call; None once there is nothing to
    settle. request, fingerprint: the caller's own id and what it asked for (API.md, J).
    """

    id: int
    verb: Verb
    domain: str
    domain_name: str
    snapshot: str
    policy: str
    owner: int
    state: JobState
    queued: int
    parent: int = 0
    created: int = 0
    intent: dict[str, Any] | None = None
    error_name: str = ""
    error_message: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[Warned, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    started: int = 0
    finished: int = 0
    request: str = ""
    fingerprint: str = ""

    @classmethod
    def read(cls, row: sqlite3.Row) -> JobRow:
        columns = {f.name: row[f.name] for f in fields(cls)}
        columns["verb"] = Verb(row["verb"])
        columns["state"] = JobState(row["state"])
        columns["intent"] = json.loads(row["intent"]) if row["intent"] else None
        columns["detail"] = json.loads(row["detail"])
        columns["result"] = json.loads(row["result"])
        columns["warnings"] = tuple(Warned(*w) for w in json.loads(row["warnings"]))
        return cls(**columns)

    def columns(self) -> dict[str, Any]:
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        columns["verb"] = self.verb.value
        columns["state"] = self.state.value
        columns["intent"] = None if self.intent is None else json.dumps(self.intent)
        columns["detail"] = json.dumps(self.detail)
        columns["result"] = json.dumps(self.result)
        columns["warnings"] = json.dumps([[w.reason, w.item, w.message] for w in self.warnings])
        return columns


def record_columns(record: Record) -> dict[str, Any]:
    return {
        "domain": record.key.domain,
        "name": record.key.name,
        "created": record.key.created,
        "origin": record.origin.value,
        "policies": json.dumps(record.policies),
        "state": record.state.value,
        "consistency": record.consistency.value,
        "pause_ms": record.pause_ms,
        "pin_reason": record.pin_reason,
        "notes": json.dumps(record.notes),
    }


def read_record(row: sqlite3.Row) -> Record:
    return Record(
        SnapshotKey(row["domain"], row["name"], row["created"]),
        Origin(row["origin"]),
        tuple(json.loads(row["policies"])),
        State(row["state"]),
        Consistency(row["consistency"]),
        row["pause_ms"],
        row["pin_reason"],
        tuple(json.loads(row["notes"])),
    )
