"""How an open intent ended: asked of the facts, until they can be read and are sure."""

from __future__ import annotations

import asyncio
import logging

from ..errors import (
    Busy,
    Inconsistent,
    LibvirtError,
    OutcomeUnknown,
    PreflightFailed,
    SnapdError,
    TimedOut,
    Unavailable,
)
from ..journal import of_job
from .job import Job, Outcome, Undone, Work

log = logging.getLogger(__name__)
RETRY = (1.0, 30.0)
LOOK_AGAIN = 3.0
UNREADABLE_SECONDS = 300.0  # an image on a mount that comes late, a VM that libvirt can't look at
_UNREADABLE = (PreflightFailed, LibvirtError, Busy)


async def settle(job: Job, judge: Work, cause: SnapdError) -> Outcome:
    """What was done, or the error that the job ends with: `cause` where nothing was.

    After a call that broke off it is looked at twice before anything but success is said: libvirt
    may still be at it, or may not have begun with what is on its way.
    """
    delay, level = RETRY[0], logging.INFO
    sure = not isinstance(cause, OutcomeUnknown)
    loop = asyncio.get_running_loop()
    readable_by = loop.time() + UNREADABLE_SECONDS
    while True:
        job.enter("settling")
        try:
            return await judge(job)
        except (Unavailable, TimedOut, OutcomeUnknown, *_UNREADABLE) as e:
            if isinstance(e, _UNREADABLE) and loop.time() > readable_by:
                raise _unknown(job, e.message) from e
            fields = of_job(job.row, e)
            log.log(level, "job %d cannot be settled yet: %s", job.id, e.message, extra=fields)
            level = logging.DEBUG
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY[1])
            continue
        except (Undone, SnapdError) as e:
            if sure:
                raise (cause if isinstance(e, Undone) else e) from e
        except Exception as e:
            log.exception("job %d (%s)", job.id, job.row.verb, extra=of_job(job.row))
            raise _unknown(job, f"internal error ({type(e).__name__})") from e
        sure = True
        await asyncio.sleep(LOOK_AGAIN * RETRY[0])


def _unknown(job: Job, why: str) -> Inconsistent:
    what = (
        f"what came of job {job.id} ({job.row.verb}) on VM {job.row.domain_name} is not known: "
        f"{why}; look at VM and journal"
    )
    return Inconsistent(what, reason="half-made", item=job.row.snapshot)
