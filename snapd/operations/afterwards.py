"""What happens to a VM after the verb itself: stopped, restarted, its clock set."""

from __future__ import annotations

import asyncio

from ..errors import AgentUnavailable, Partial, SnapdError
from ..model import State, Warned
from .context import Context
from .job import Job

AGENT_SECONDS = 5.0
AGENT_PAUSE = 1.0


async def carry_on(ctx: Context, job: Job, then: str) -> None:
    """Stop or restart a VM whose broken state is safe now. Raises Partial where that failed: the
    snapshot is made all the same."""
    if then == "continue":
        return
    uuid, vm = job.row.domain, job.row.domain_name
    wanted = State.SHUTOFF if then == "stop" else State.RUNNING
    job.enter("stopping", acting=True)
    await ctx.hypervisor.stop(uuid)
    if wanted is State.RUNNING:
        job.enter("starting", acting=True)
        await ctx.hypervisor.start(uuid)
    info = (await ctx.inventory.refresh(uuid)).info
    if info.state is not wanted:
        raise Partial(f"VM {vm} is {info.state} instead of {wanted} after then={then}", item=vm)
    await job.intend({**(job.row.intent or {}), "then": "continue"}, begun=True)


async def set_clock(ctx: Context, job: Job, *, agent: bool) -> bool:
    """Set the guest's time once, by its agent: RAM that comes back brings its old clock along
    (FIELD_REPORTS 55). Best effort. agent: there was one before, so it is waited for a little, and
    said where it doesn't do it. Returns whether it was set."""
    vm, loop = job.row.domain_name, asyncio.get_running_loop()
    job.enter("setting-time")
    until = loop.time() + (AGENT_SECONDS if agent else 0)
    while True:
        try:
            await ctx.hypervisor.set_time(job.row.domain, int(ctx.clock()))
            return True
        except SnapdError as e:
            why, final = e.message, not isinstance(e, AgentUnavailable)
        if final or loop.time() >= until:  # one that cannot set the time never will
            break
        await asyncio.sleep(AGENT_PAUSE)
    if agent:
        text = f"the clock of VM {vm} is old: its agent did not set it ({why})"
        job.warn(Warned("guest-time", vm, text))
    return False
