"""A snapshot that was made, as its job tells and records it; and a VM that a making left behind."""

from __future__ import annotations

from typing import Any

from ..errors import Partial
from ..model import (
    Consistency,
    DomainInfo,
    Origin,
    Record,
    SnapshotInfo,
    SnapshotKey,
    State,
    Warned,
)
from .context import Context
from .job import Job, Outcome
from .plan import Way


def outcome_of(ctx: Context, job: Job, listed: SnapshotInfo) -> Outcome:
    """The job's end, by its intent, of a snapshot that was looked at and found good."""
    intent, vm = job.row.intent or {}, job.row.domain_name
    state, consistency, pause = State(intent["state"]), _consistency(intent), intent["pause_ms"]
    if intent["memory"] and pause < 0:
        pause = ctx.pauses.last(job.row.domain)
    if not_quiesced := _not_quiesced(intent, consistency):
        job.warn(Warned("not-quiesced", vm, f"VM {vm} is not quiesced: {not_quiesced}"))
    record = Record(
        SnapshotKey(job.row.domain, listed.name, listed.created),
        Origin(intent["origin"]),
        tuple(intent["policies"]),
        state,
        consistency,
        pause if state is State.RUNNING else 0,
        None,
        tuple(intent["notes"]),
    )
    return Outcome(
        result={"Name": listed.name, "Consistency": consistency.value},
        snapshot=listed.name,
        created=listed.created,
        reason=intent["reason"],
        record=record,
    )


def _not_quiesced(intent: dict[str, Any], got: Consistency) -> str:
    """Why a snapshot that was to be quiesced is not; "" = it is, or that wasn't asked for."""
    if intent["quiesce"] == "no" or got is not Consistency.CRASH:
        return ""
    if intent["way"] == Way.LIBVIRT or not State(intent["state"]).active:
        return ""
    return intent.get("shortfall") or "its making broke off, so whether it stayed frozen is unknown"


def _consistency(intent: dict[str, Any]) -> Consistency:
    if intent["memory"]:
        return Consistency.MEMORY
    if not State(intent["state"]).active:
        return Consistency.CRASH if intent.get("saved_state") else Consistency.OFFLINE
    return Consistency(intent["consistency"] or Consistency.CRASH)


def left_behind(intent: dict[str, Any], info: DomainInfo) -> None:
    """Raise Partial where libvirt died while it saved the RAM of a guest that nobody will have run
    on. Whether to run it is a person's to say."""
    was = intent["state"] if intent["memory"] else ""
    if was == State.RUNNING and info.state is State.PAUSED:
        left, way = "was left paused", "resume"
    elif was and not info.state.active:
        left, way = "is off now", "start"
    else:
        return
    name = intent["name"]
    raise Partial(
        f"VM {info.name}: snapshot {name!r} was not made, since its making broke off, and "
        f"the VM {left}",
        item=name,
        ways=(way,),
    )
