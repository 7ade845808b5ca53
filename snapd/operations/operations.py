"""The way in to the verbs: who asks for what becomes a job."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from .. import names
from ..errors import Changed, InvalidArgument
from ..hypervisor import Hypervisor
from ..inventory import Inventory
from ..model import DomainInfo, SnapshotInfo, SnapshotKey, Verb
from ..store import Store
from . import create, delete, revert
from .context import Context
from .create import Wish
from .job import DAEMON, Job, Outcome, Request
from .jobs import Jobs
from .pause import PauseMeter
from .revert import RevertWish

_JUDGES = {Verb.CREATE: create.judge, Verb.DELETE: delete.judge, Verb.REVERT: revert.judge}


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and how long he waits: API.md's J options. uid -1 = the daemon itself."""

    uid: int = DAEMON
    max_wait: float = 30
    request: str = ""


class Operations:
    """Submits verbs as jobs and settles their intents; one object for bus and policies."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        inventory: Inventory,
        store: Store,
        jobs: Jobs,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.jobs = jobs
        self.context = Context(
            hypervisor,
            inventory,
            store,
            jobs,
            PauseMeter(hypervisor),
            clock,
            lambda: secrets.token_hex(2),
        )
        jobs.judge = self._judge

    async def _judge(self, job: Job) -> Outcome:
        return await _JUDGES[job.row.verb](self.context, job)

    async def create(self, domain: DomainInfo, wish: Wish, asker: Asker, parent: int = 0) -> Job:
        """Queue the making of a snapshot. Raises InvalidName before anything else is done."""
        if wish.name:
            names.check(wish.name)
        for value, words, key in (
            (wish.memory, ("auto", "yes", "no"), "memory"),
            (wish.quiesce, ("try", "require", "no"), "quiesce"),
        ):
            _one_of(value, words, key)
        request = _request(Verb.CREATE, domain, wish.name, 0, asker, _asked(wish), parent)
        if wish.policies:
            request = replace(request, policy=wish.policies[0])
        return await self.jobs.submit(request, lambda job: create.create(self.context, job, wish))

    async def revert(self, domain: DomainInfo, wish: RevertWish, asker: Asker) -> Job:
        """Queue a revert to a snapshot whose identity is fixed by now."""
        _one_of(wish.after, ("as-snapshot", "running", "paused", "stopped"), "after")
        options = {"after": wish.after, "safety": wish.safety}
        key = wish.key
        request = _request(Verb.REVERT, domain, key.name, key.created, asker, options)
        return await self.jobs.submit(request, lambda job: revert.revert(self.context, job, wish))

    async def delete(self, domain: DomainInfo, key: SnapshotKey, asker: Asker) -> Job:
        """Queue the deletion of a snapshot whose identity is fixed by now."""
        request = _request(Verb.DELETE, domain, key.name, key.created, asker, {})
        return await self.jobs.submit(request, lambda job: delete.delete(self.context, job, key))

    async def delete_within(self, parent: Job, key: SnapshotKey, reason: str) -> Job:
        """Delete as a part of a job that holds the domain already (a prune)."""
        request = Request(
            Verb.DELETE,
            key.domain,
            parent.row.domain_name,
            key.name,
            key.created,
            parent.row.policy,
            parent.row.owner,
        )
        return await self.jobs.inline(
            parent, request, lambda job: delete.delete(self.context, job, key, reason)
        )


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


def _one_of(value: str, words: tuple[str, ...], key: str) -> None:
    if value not in words:
        raise InvalidArgument(f"option {key} is {value!r}; it is one of {', '.join(words)}")
