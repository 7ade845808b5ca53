"""The way in to the verbs: who asks for what becomes a job."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import names
from ..errors import Changed
from ..hypervisor import Hypervisor
from ..inventory import Inventory
from ..model import DomainInfo, SnapshotInfo, SnapshotKey, Verb
from ..store import Store
from . import auditing, create, delete, describe, own, preview, revert
from .context import Context
from .job import DAEMON, Job, Outcome, Request
from .jobs import Jobs
from .pause import PauseMeter
from .preview import Preview
from .shortage import Gauge
from .thaw import FrozenGuests
from .waiting import News, Writers
from .wishes import DeleteWish, RevertWish, Wish

_JUDGES = {Verb.CREATE: create.settled, Verb.DELETE: delete.judge, Verb.REVERT: revert.judge}


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and how long he waits: API.md's J options. uid -1 = the daemon itself."""

    uid: int = DAEMON
    max_wait: float = 30
    request: str = ""


class Operations:
    """Submits verbs as jobs and settles their intents; one object for bus and policies.

    pause: holds all policies on a domain; None = there are none.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        inventory: Inventory,
        store: Store,
        jobs: Jobs,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.jobs = jobs
        self.frozen_guests = FrozenGuests(hypervisor, store, clock)
        self.context = Context(
            hypervisor,
            inventory,
            store,
            jobs,
            PauseMeter(hypervisor),
            self.frozen_guests,
            News(hypervisor),
            Writers(),
            Writers("merges a snapshot", "merger"),
            clock,
            lambda: secrets.token_hex(2),
            _boot_id(),
        )
        self.pause: own.Pause | None = None
        jobs.judge = self._judge

    async def _judge(self, job: Job) -> Outcome:
        return await _JUDGES[job.row.verb](self.context, job)

    async def create(self, domain: DomainInfo, wish: Wish, asker: Asker, parent: int = 0) -> Job:
        """Queue the making of a snapshot. Raises InvalidName before anything else is done."""
        if wish.name:
            names.check(wish.name)
        wish.check()
        request = _request(Verb.CREATE, domain, wish.name, 0, asker, _asked(wish), parent)
        if wish.policies:
            request = replace(request, policy=wish.policies[0])
        return await self.jobs.submit(request, lambda job: create.create(self.context, job, wish))

    async def revert(self, domain: DomainInfo, wish: RevertWish, asker: Asker) -> Job:
        """Queue a revert to a snapshot whose identity is fixed by now."""
        wish.check()
        key = wish.key
        options = {k: v for k, v in asdict(wish).items() if k != "key"}
        request = _request(Verb.REVERT, domain, key.name, key.created, asker, options)
        return await self.jobs.submit(request, lambda job: revert.revert(self.context, job, wish))

    async def delete(self, domain: DomainInfo, wish: DeleteWish, asker: Asker) -> Job:
        """Queue the deletion of a snapshot whose identity is fixed by now."""
        key = wish.key
        options = {"children": wish.children}
        request = _request(Verb.DELETE, domain, key.name, key.created, asker, options)
        return await self.jobs.submit(request, lambda job: delete.run(self.context, job, wish))

    async def preview_create(self, domain: DomainInfo, wish: Wish) -> Preview:
        """What such a snapshot would be, and what is in its way. Raises InvalidName."""
        if wish.name:
            names.check(wish.name)
        wish.check()
        return await preview.preview_create(self.context, domain.uuid, wish)

    async def preview_revert(self, wish: RevertWish) -> Preview:
        """What a revert would bring back and lose."""
        wish.check()
        return await preview.preview_revert(self.context, wish)

    async def preview_delete(self, wish: DeleteWish) -> Preview:
        """What would be deleted."""
        return await preview.preview_delete(self.context, wish)

    async def delete_within(self, parent: Job, key: SnapshotKey, reason: str) -> Job:
        """Delete as a part of a job that holds the domain already (a prune)."""
        return await delete.within(self.context, parent, key, reason)

    def gauge(self, job: Job, wish: Wish) -> Gauge:
        """Whether deletions within a job make the room that a snapshot lacks."""
        return Gauge(self.context, job, wish)

    async def describe(self, domain: DomainInfo, key: SnapshotKey, text: str, uid: int) -> None:
        """Give a snapshot another description; a short act and no job: see describe.py."""
        await describe.describe(self.context, domain, key, text, uid)

    async def delete_own(
        self, domain: DomainInfo, asker: Asker, *, dry_run: bool, manual: bool
    ) -> Job:
        """Queue the deletion of all snapshots of ours; with dry_run only say which."""
        options = {"dry_run": dry_run, "manual": manual}
        request = _request(Verb.DELETE_OWN, domain, "", 0, asker, options)
        return await self.jobs.submit(
            request,
            lambda job: own.delete_own(
                self.context, job, self.pause, dry_run=dry_run, manual=manual
            ),
        )

    async def audit(self, domain: DomainInfo | None, asker: Asker) -> Job:
        """Begin to look for what is amiss with a domain, None = with all."""
        uuid, name = (domain.uuid, domain.name) if domain else ("", "")
        request = Request(
            Verb.AUDIT,
            uuid,
            name,
            owner=asker.uid,
            max_wait=asker.max_wait,
            request=asker.request,
        )
        return await self.jobs.submit(request, lambda job: auditing.audit(self.context, job, uuid))


def identity(domain: DomainInfo, info: SnapshotInfo, created: int = 0) -> SnapshotKey:
    """What is meant, fixed before anybody is asked for a password. created: the time that the
    caller looked at, 0 = any. Raises Changed."""
    if created and created != info.created:
        raise Changed(
            f"snapshot {info.name!r} of VM {domain.name} was made at {info.created}, "
            f"not at {created}: it is another one by now; look again",
            item=info.name,
        )
    return SnapshotKey(domain.uuid, info.name, info.created)


def _request(
    verb: Verb,
    domain: DomainInfo,
    snapshot: str,
    created: int,
    asker: Asker,
    options: dict[str, Any],
    parent: int = 0,
) -> Request:
    return Request(
        verb,
        domain.uuid,
        domain.name,
        snapshot,
        created,
        owner=asker.uid,
        options=options,
        max_wait=asker.max_wait,
        request=asker.request,
        parent=parent,
    )


def _asked(wish: Wish) -> dict[str, Any]:
    return {k: v for k, v in asdict(wish).items() if k != "name"}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
