"""The Manager's methods about policies."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import Any

from ..errors import InvalidArgument
from ..model import Policy
from ..planning.schedule import fires, parse
from ..policy import plan, plan_id, reasons, run_policy
from ..settings import (
    check_definition,
    load_zone,
    matches,
    policy_from_definition,
    system_timezone,
)
from ..wire import paths
from . import verbs
from .listing import Lister, Row, pick
from .pieces import SECONDS
from .reloading import reload
from .rooms import Rooms
from .router import Call
from .rows import COVERAGE_FIELDS, coverage_row, problem_row

MAX_DEFINITION = 64 << 10
MAX_FIRES = 1000
Options = dict[str, Any]


class PolicyMethods:
    """Get, set, validate, preview, run: everything that names a policy."""

    _lister: Lister

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def get_policy(self, call: Call, name: str, options: Options) -> str:
        return paths.policy(self._rooms.policies.get(name).name)

    async def set_policy(
        self,
        call: Call,
        name: str,
        definition: dict[str, Any],
        options: Options,
    ) -> str:
        _limit(definition)
        revision, by = options["if_revision"], await call.uid()
        policy = await self._rooms.policies.set(name, definition, revision, by)
        return policy.revision

    async def remove_policy(self, call: Call, name: str, options: Options) -> None:
        by = await call.uid()
        await self._rooms.policies.remove(name, options["if_revision"], by)

    async def validate_policy(
        self,
        call: Call,
        name: str,
        definition: dict[str, Any],
        options: Options,
    ) -> Row:
        _limit(definition)
        zone = await asyncio.to_thread(system_timezone)
        try:
            checked = await asyncio.to_thread(check_definition, name, definition, "api", zone)
        except InvalidArgument as e:
            return _verdict([{"Key": e.item, "Message": e.message}], [], [])
        errors = [{"Key": fault.key, "Message": fault.message} for fault in checked.faults]
        warnings = [{"Key": w.item, "Message": w.message} for w in checked.warnings]
        policy = checked.policy
        return _verdict(errors, warnings, await self._fires(policy, 0, 5) if policy else [])

    async def preview_schedule(self, call: Call, policy: str, options: Options) -> list[int]:
        if not 1 <= options["count"] <= MAX_FIRES:
            raise InvalidArgument(f"option count is {options['count']}; it is 1 to {MAX_FIRES}")
        meant = await self._meant(policy, options["definition"])
        return await self._fires(meant, options["after"], options["count"])

    async def _fires(self, policy: Policy, after: int, count: int) -> list[int]:
        if not policy.schedule:
            return []
        begin, until = after or int(self._rooms.clock()), time.monotonic() + SECONDS
        found: list[int] = []
        for slot in islice(fires(parse(policy.schedule), begin, load_zone(policy.timezone)), count):
            if time.monotonic() > until:
                until = await self._lister.pieces.next()
            found.append(slot)
        return found

    async def list_coverage(
        self, call: Call, policy: str, options: Options
    ) -> tuple[list[Row], Row]:
        await self._rooms.inventory.settled()
        policies = [*self._rooms.policies.in_force.values()]
        if policy or options["definition"]:
            policies = [await self._meant(policy, options["definition"])]
        rows, info = await self._lister.page(
            [(p, picture) for p in policies for picture in self._rooms.engine.domains_of(p)],
            lambda f: (f[0].name, f[1].info.name, f[1].info.uuid),
            lambda f: coverage_row(self._rooms.health.coverage(*f)),
            options,
        )
        return pick(rows, options, COVERAGE_FIELDS), info

    async def preview_retention(
        self,
        call: Call,
        domain: str,
        policy: str,
        options: Options,
    ) -> tuple[list[Row], Row]:
        await self._rooms.inventory.ready("cannot preview retention")
        picture = self._rooms.inventory.find(domain)
        info = picture.info
        in_force = dict(self._rooms.policies.in_force)
        if options["definition"]:
            in_force[policy or "unsaved"] = await self._meant(
                policy or "unsaved", options["definition"]
            )
        elif policy and not matches(self._rooms.policies.get(policy), info.name, info.uuid):
            raise InvalidArgument(f"policy {policy} does not match VM {info.name}")
        now = options["at"] or self._rooms.clock()
        snapshots, held = self._rooms.catalog.of(picture), self._rooms.holds.of(info.uuid)
        let_go = self._rooms.catalog.let_go(picture)
        settings = self._rooms.settings
        decisions = await asyncio.to_thread(plan, snapshots, in_force, settings, now, held, let_go)
        shown = [d for d in decisions if not policy or policy in d.candidate.labels]
        waits = self._rooms.engine.pruning.waits(info.uuid)
        rows: list[Row] = [
            {
                "Name": d.candidate.id,
                "Created": int(d.candidate.created),
                "Keep": d.keep,
                "Reasons": reasons(d, waits),
            }
            for d in shown
        ]
        page, about = await self._lister.page(
            rows, lambda r: (-r["Created"], r["Name"]), lambda r: r, options
        )
        real = not (options["definition"] or options["at"])
        about["Plan"] = plan_id(decisions) if real else ""
        return pick(page, options, ["Name", "Created", "Keep", "Reasons"]), about

    async def _meant(self, name: str, definition: dict[str, Any]) -> Policy:
        """The policy in force, or one that is not saved yet."""
        if not definition:
            return self._rooms.policies.get(name)
        _limit(definition)
        zone = await asyncio.to_thread(system_timezone)
        read = policy_from_definition
        return (await asyncio.to_thread(read, name or "unsaved", definition, "api", zone))[0]

    async def run_policy(self, call: Call, name: str, options: Options) -> str:
        await self._rooms.inventory.ready("cannot run a policy")
        policy = self._rooms.policies.get(name)
        pictures = self._rooms.engine.domains_of(policy)
        if options["domain"]:
            wanted = self._rooms.inventory.find(options["domain"])
            if wanted not in pictures:
                raise InvalidArgument(f"policy {name} does not match VM {wanted.info.name}")
            pictures = [wanted]
        asker = await verbs.asker(call, options)
        job = await run_policy(self._rooms.engine, policy, pictures, asker)
        return paths.job(job.id)

    async def confirm_prune(
        self, call: Call, domain: str, policy: str, plan: str, options: Options
    ) -> str:
        await self._rooms.inventory.ready("cannot prune")
        picture = self._rooms.inventory.find(domain)
        meant = self._rooms.policies.get(policy)
        if not plan:
            raise InvalidArgument("no plan: PreviewRetention gives the one to confirm")
        asker = await verbs.asker(call, options)
        job = await self._rooms.engine.pruning.confirm(picture, meant, plan, asker)
        return paths.job(job.id)

    async def reload(self, call: Call, options: Options) -> list[Row]:
        return [problem_row(p) for p in await reload(self._rooms)]


def _verdict(errors: list[Row], warnings: list[Row], fires: list[int]) -> Row:
    return {"Valid": not errors, "Errors": errors, "Warnings": warnings, "NextFires": fires}


def _limit(definition: dict[str, Any]) -> None:
    size = len(repr(definition).encode("utf-8", "surrogatepass"))
    if size > MAX_DEFINITION:
        raise InvalidArgument(f"the definition has {size >> 10} KiB, at most 64 are taken")
