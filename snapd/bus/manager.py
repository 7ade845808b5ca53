"""Manager: lists and verbs. Policies' methods stand in policy_methods.py."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from .. import __version__
from ..errors import NoSuchSnapshot
from ..inventory import DomainPicture
from ..model import Snapshot
from ..wire import paths
from . import verbs
from .contract import Contract
from .job_object import JobObject
from .listing import MANY, Lister, Row, cursor, later, limit_of, number, pick
from .objects import DomainObject, PolicyObject, SnapshotObject
from .ownership_methods import METHODS, OwnershipMethods
from .pieces import SECONDS
from .policy_methods import PolicyMethods
from .preview_methods import PreviewMethods
from .rooms import Rooms
from .router import Call
from .rows import HISTORY_FIELDS, PROBLEM_FIELDS, RUN_FIELDS, history_row, problem_row, run_row
from .upkeep_methods import UpkeepMethods

INTERFACE = "org.virtsnap.Snapd1"
Page = tuple[list[Row], Row]
Options = dict[str, Any]


class Manager(PolicyMethods, UpkeepMethods, PreviewMethods, OwnershipMethods):
    """org.virtsnap.Snapd1.Manager."""

    interfaces: ClassVar[tuple[str, ...]] = (f"{INTERFACE}.Manager",)
    path = paths.ROOT
    version = __version__
    features: ClassVar[list[str]] = ["coverage-why", "ram-kept", "time-set"]

    def __init__(self, rooms: Rooms, contract: Contract) -> None:
        super().__init__(rooms)
        self._lister = Lister(contract, rooms.inventory)

    # --- properties

    @property
    def libvirt_uri(self) -> str:
        return self._rooms.hypervisor.uri

    @property
    def connected(self) -> bool:
        return self._rooms.inventory.connected

    @property
    def loading(self) -> bool:
        return self._rooms.inventory.connected and self._rooms.inventory.loading

    @property
    def libvirt_version(self) -> str:
        return self._rooms.inventory.versions[0]

    @property
    def hypervisor_version(self) -> str:
        return self._rooms.inventory.versions[1]

    @property
    def health(self) -> str:
        return self._rooms.known.read("Health", self._rooms.health.overall())

    @property
    def next_run(self) -> int:
        policies = self._rooms.policies.in_force.values()
        runs = [run for p in policies if (run := self._rooms.engine.next_run(p))]
        return self._rooms.known.read("NextRun", min(runs, default=0))

    # --- lists

    async def list_domains(self, call: Call, options: Options) -> Page:
        await self._rooms.inventory.settled()
        pictures = list(self._rooms.inventory.domains.values())
        return await self._lister.objects(
            f"{INTERFACE}.Domain",
            pictures,
            lambda p: (p.info.name, p.info.uuid),
            lambda p: DomainObject(self._rooms, p),
            options,
        )

    async def list_snapshots(self, call: Call, domain: str, options: Options) -> Page:
        await self._rooms.inventory.settled()
        inventory = self._rooms.inventory
        pictures = [inventory.find(domain)] if domain else list(inventory.domains.values())
        found, total = await self._for_page(pictures, options)
        return await self._lister.objects(
            f"{INTERFACE}.Snapshot",
            found,
            lambda f: (f[0].info.name, f[0].info.uuid, f[1].info.created, f[1].info.name),
            lambda f: SnapshotObject(self._rooms, *f),
            options,
            total,
        )

    async def _for_page(
        self, pictures: list[DomainPicture], options: Options
    ) -> tuple[list[tuple[DomainPicture, Snapshot]], int]:
        """The snapshots that a page may hold and at least one more, and how many there are in all:
        a page of many costs no more for those that are not on it, but where they are sifted."""
        sifted = any(options[name] for name in ("origin", "policy", "kind"))
        after, room = cursor(options)[:2], limit_of(options)
        found: list[tuple[DomainPicture, Snapshot]] = []
        total, until = 0, time.monotonic() + SECONDS
        for picture in sorted(pictures, key=lambda p: (p.info.name, p.info.uuid)):
            place = [picture.info.name, picture.info.uuid]
            on_page = room >= 0 and (place == after or later(place, after))
            if not (on_page or sifted):
                total += len(picture.snapshots)
                continue
            if len(picture.snapshots) >= MANY or time.monotonic() > until:
                until = await self._lister.pieces.next()
            here = [s for s in self._rooms.catalog.of(picture) if _wanted(s, options)]
            total += len(here)
            if on_page:
                found += ((picture, snapshot) for snapshot in here)
                room -= len(here) if place != after else 0
        return found, total

    async def list_policies(self, call: Call, options: Options) -> Page:
        await self._rooms.inventory.settled()
        return await self._lister.objects(
            f"{INTERFACE}.Policy",
            list(self._rooms.policies.in_force.values()),
            lambda p: (p.name,),
            lambda p: PolicyObject(self._rooms, p),
            options,
        )

    async def list_jobs(self, call: Call, options: Options) -> Page:
        uuid = self._uuid(options["domain"])
        jobs = [
            job
            for job in self._rooms.jobs.all.values()
            if (not uuid or job.row.domain == uuid)
            and (not options["state"] or job.row.state == options["state"])
        ]
        return await self._lister.objects(
            f"{INTERFACE}.Job",
            jobs,
            lambda job: (job.id,),
            lambda job: JobObject(self._rooms, job),
            options,
        )

    async def list_problems(self, call: Call, options: Options) -> Page:
        await self._rooms.inventory.settled()
        problems = self._rooms.health.problems()
        self._rooms.known.listed.update((p.id, p) for p in problems)
        rows, info = await self._lister.page(
            problems,
            lambda p: (p.severity != "critical", p.since, p.id),
            problem_row,
            options,
        )
        return pick(rows, options, PROBLEM_FIELDS), info

    async def list_runs(self, call: Call, domain: str, options: Options) -> Page:
        after, limit = number(options)
        equal = self._equal(domain, options)
        found, total = await self._rooms.store.runs(
            equal, options["since"], options["until"], after, limit
        )
        rows = pick(await self._lister.fitting(found, run_row), options, RUN_FIELDS)
        more = rows and (len(rows) < len(found) or len(found) == limit)
        following = str(found[len(rows) - 1].id) if more else ""
        return rows, self._lister.info(following, total)

    async def list_history(self, call: Call, domain: str, options: Options) -> Page:
        after, limit = number(options)
        equal = self._equal(domain, options)
        found, total = await self._rooms.store.history(
            equal, options["since"], options["until"], after, limit
        )
        acts = await self._lister.fitting(found, lambda act: history_row(act[1]))
        rows = pick(acts, options, HISTORY_FIELDS)
        more = rows and (len(rows) < len(found) or len(found) == limit)
        following = str(found[len(rows) - 1][0]) if more else ""
        return rows, self._lister.info(following, total)

    def _uuid(self, domain: str) -> str:
        return self._rooms.inventory.find(domain).info.uuid if domain else ""

    def _equal(self, domain: str, options: Options) -> dict[str, object]:
        """What the store's rows have to equal. A domain that is gone keeps its history: then the
        argument is taken as its UUID, or as the name that it had."""
        equal: dict[str, object] = {}
        if domain:
            if here := self._rooms.inventory.known(domain):
                equal["domain"] = here.info.uuid
            elif _is_uuid(domain):
                equal["domain"] = domain.lower()
            else:
                equal["domain_name"] = domain
        for key in ("policy", "snapshot"):
            if options[key]:
                equal[key] = options[key]
        return equal

    async def get_domain(self, call: Call, name: str, options: Options) -> str:
        await self._rooms.inventory.settled()
        return paths.domain(self._rooms.inventory.find(name).info.uuid)

    async def get_snapshot(self, call: Call, domain: str, name: str, options: Options) -> str:
        await self._rooms.inventory.settled()
        picture, info = self._rooms.inventory.find_snapshot(domain, name)
        return paths.snapshot(picture.info.uuid, info.name)

    # --- verbs

    async def create_snapshot(self, call: Call, domain: str, name: str, options: Options) -> str:
        return await verbs.create(self._rooms, call, domain, name, options)

    async def revert_snapshot(self, call: Call, domain: str, name: str, options: Options) -> str:
        return await verbs.revert(self._rooms, call, domain, name, options)

    async def delete_snapshot(self, call: Call, domain: str, name: str, options: Options) -> str:
        return await verbs.delete(self._rooms, call, domain, name, options)

    async def prepare(self, method: str, arguments: Mapping[str, Any]) -> None:
        """A verb lists its domain anew first: what other tools did sends no event. What names a
        domain waits for the first full read, or it would be about another thing after it."""
        if method == "CreateSnapshot":
            await self._rooms.inventory.ready("cannot make a snapshot")
        if method in ("Hold", "Unhold", "Audit", "RunPolicy", "ConfirmPrune"):
            await self._rooms.inventory.settled()
        if method in ("RevertSnapshot", "DeleteSnapshot", "DeleteOwnSnapshots", "Adopt"):
            await verbs.look_again(self._rooms, arguments["domain"])

    def details(self, method: str, arguments: Mapping[str, Any]) -> dict[str, str]:
        """What the act is about: (UUID, name, creation time) as they are now."""
        if method in METHODS:
            return self._about(method, arguments)
        inventory = self._rooms.inventory
        if method == "CreateSnapshot" and inventory.domains:
            about = verbs.domain_details(method, inventory.find(arguments["domain"]).info)
            return {**about, "snapshot": arguments["name"]}
        if method in ("RevertSnapshot", "DeleteSnapshot") and inventory.domains:
            try:
                found = inventory.find_snapshot(arguments["domain"], arguments["name"])
            except NoSuchSnapshot:
                if not arguments["options"]["request"]:
                    raise
                info = inventory.find(arguments["domain"]).info  # the request may have deleted it
                return verbs.domain_details(method, info) | {"snapshot": arguments["name"]}
            return verbs.snapshot_details(method, found[0].info, found[1])
        about = {"verb": method, "policy": arguments.get("policy", arguments.get("name", ""))}
        domain = arguments.get("domain") or arguments["options"].get("domain")
        if domain and inventory.domains:
            about |= verbs.domain_details(method, inventory.find(domain).info)
        return about


def _wanted(snapshot: Snapshot, options: Options) -> bool:
    return (
        (not options["origin"] or snapshot.origin == options["origin"])
        and (not options["policy"] or options["policy"] in snapshot.policies)
        and (not options["kind"] or snapshot.info.kind == options["kind"])
    )


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4
