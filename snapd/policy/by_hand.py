"""Policies run because a person asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..errors import SnapdError
from ..inventory import DomainPicture
from ..model import Policy, Verb
from ..operations import Asker, Job, Outcome, Request
from .attempt import Attempt
from .engine import Engine
from .owed import BY_HAND, Owed
from .runs import MADE


async def run_policy(
    engine: Engine, policy: Policy, pictures: Sequence[DomainPicture], asker: Asker
) -> Job:
    """Run a policy now, whatever its schedule and conditions say; slots stay as they are."""
    request = Request(
        Verb.RUN,
        "",
        "",
        policy=policy.name,
        owner=asker.uid,
        options={"domains": [p.info.uuid for p in pictures]},
        request=asker.request,
    )

    async def work(run: Job) -> Outcome:
        run.enter("running")
        by = Asker(run.row.owner, asker.max_wait)
        rows = await asyncio.gather(*(_run_one(engine, run, policy, p, by) for p in pictures))
        return Outcome(result={"Domains": list(rows)})

    return await engine.desk.operations.jobs.submit(request, work)


async def _run_one(
    engine: Engine, run: Job, policy: Policy, picture: DomainPicture, by: Asker
) -> dict[str, object]:
    """One domain's part of a run. A failure here is that domain's alone."""
    desk, now = engine.desk, int(engine.desk.clock())
    row: dict[str, object] = {"DomainUUID": picture.info.uuid, "Job": 0, "Snapshot": ""}
    try:
        owed = await desk.runs.begin(picture.info, [Owed(policy, now, word=BY_HAND)], now)
        attempt = Attempt(desk, picture, owed, by=by, parent=run.id)
        await engine.carry_out(attempt)
        (settled,) = attempt.settled
    except SnapdError as e:
        return {**row, "Outcome": "failed", "Reason": e.message}
    row |= {"Outcome": settled.outcome, "Job": settled.job, "Snapshot": settled.snapshot}
    if settled.outcome != MADE:
        return {**row, "Reason": settled.reason}
    try:
        pruned = await desk.pruning.after(picture, policy.name, by.uid, run.id)
    except SnapdError as e:
        return {**row, "Reason": e.message}
    return {**row, "Reason": pruned.row.error_message if pruned else ""}
