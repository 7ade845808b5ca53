"""The verbs as methods take them, for the Manager and the Snapshot object alike."""

from __future__ import annotations

import contextlib
from typing import Any

from ..errors import InvalidArgument, NoSuchSnapshot, TimedOut
from ..model import DomainInfo, Origin, SnapshotInfo, SnapshotKey
from ..names import stem_of
from ..operations import Asker, DeleteWish, RevertWish, Wish, identity
from ..wire import paths
from .rooms import Rooms
from .router import Call

MAX_DESCRIPTION = 4096
MAX_REQUEST = 64
DELETE_ACTION = "org.virtsnap.snapd1.delete"


async def asker(call: Call, options: dict[str, Any]) -> Asker:
    """Who calls, and his J options. Raises InvalidArgument."""
    request: str = options["request"]
    if len(request.encode("utf-8", "surrogatepass")) > MAX_REQUEST:
        raise InvalidArgument(f"option request has more than {MAX_REQUEST} bytes")
    return Asker(await call.uid(), options["max_wait"], request)


async def look_again(rooms: Rooms, domain: str) -> None:
    """List the domain anew; one that doesn't answer, or is at work for us, stays as it was."""
    await rooms.inventory.ready("cannot look at the VM")
    uuid = rooms.inventory.find(domain).info.uuid
    if not rooms.jobs.holds(uuid):
        with contextlib.suppress(TimedOut):
            await rooms.inventory.refresh(uuid)


def checked_description(text: str, vm: str, snapshot: str) -> str:
    """A description that libvirt's XML can hold; snapshot: a name, "" = one that is to be made.
    Raises InvalidArgument."""
    of = f"snapshot {snapshot} of VM {vm}" if snapshot else f"a snapshot of VM {vm}"
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_DESCRIPTION:
        raise InvalidArgument(
            f"{of}: the description has {size} bytes, at most {MAX_DESCRIPTION}; shorten it"
        )
    bad = next((c for c in text if (c < " " and c not in "\n\t") or c in "\ufffe\uffff"), None)
    if bad:
        raise InvalidArgument(
            f"{of}: the description has {bad!a}, which XML cannot hold; leave it out"
        )
    return text


async def create(rooms: Rooms, call: Call, domain: str, name: str, options: dict[str, Any]) -> str:
    await rooms.inventory.ready("cannot make a snapshot")
    info = rooms.inventory.find(domain).info
    wish = create_wish(info.name, name, options)
    job = await rooms.operations.create(info, wish, await asker(call, options))
    return paths.job(job.id)


def create_wish(vm: str, name: str, options: dict[str, Any]) -> Wish:
    """A create's arguments as a wish. Raises InvalidArgument."""
    origin = Origin.TRIAL if options["trial"] else Origin.MANUAL
    return Wish(
        name=name,
        stem=stem_of(origin),
        description=checked_description(options["description"], vm, name),
        kind=options["kind"],
        disks=tuple(options["disks"]),
        memory=options["memory"],
        quiesce=options["quiesce"],
        max_pause=options["max_pause"],
        then=options["then"],
        origin=origin,
    )


def revert_wish(key: SnapshotKey, options: dict[str, Any]) -> RevertWish:
    return RevertWish(
        key,
        options["after"],
        options["safety_snapshot"],
        options["delete_after"],
        options["force"],
        options["discard_saved_state"],
    )


async def revert(rooms: Rooms, call: Call, domain: str, name: str, options: dict[str, Any]) -> str:
    await rooms.inventory.ready("cannot revert")
    info, key = await _meant(rooms, call, domain, name, options)
    wish = revert_wish(key, options)
    if wish.delete_after:
        await call.authorize(DELETE_ACTION, snapshot_details("RevertSnapshot", info, key))
    job = await rooms.operations.revert(info, wish, await asker(call, options))
    return paths.job(job.id)


async def delete(rooms: Rooms, call: Call, domain: str, name: str, options: dict[str, Any]) -> str:
    await rooms.inventory.ready("cannot delete a snapshot")
    info, key = await _meant(rooms, call, domain, name, options)
    wish = DeleteWish(key, options["children"])
    job = await rooms.operations.delete(info, wish, await asker(call, options))
    return paths.job(job.id)


async def _meant(
    rooms: Rooms, call: Call, domain: str, name: str, options: dict[str, Any]
) -> tuple[DomainInfo, SnapshotKey]:
    """The snapshot that a verb is about, fixed; one that is gone where the same request was about
    it, which may have seen to that. Raises NoSuchSnapshot, Changed."""
    try:
        picture, info = rooms.inventory.find_snapshot(domain, name)
    except NoSuchSnapshot:
        vm, request = rooms.inventory.find(domain).info, options["request"]
        job = await rooms.jobs.of_request(await call.uid(), request) if request else None
        if job is None or (job.row.domain, job.row.snapshot) != (vm.uuid, name):
            raise
        if options["created"] not in (0, job.row.created):
            raise
        return vm, SnapshotKey(vm.uuid, name, job.row.created)
    return picture.info, identity(picture.info, info, options["created"])


def domain_details(verb: str, info: DomainInfo) -> dict[str, str]:
    """What an act on a domain is about, for whoever has to allow it."""
    return {"verb": verb, "domain": info.name, "uuid": info.uuid}


def snapshot_details(
    verb: str, info: DomainInfo, snapshot: SnapshotInfo | SnapshotKey
) -> dict[str, str]:
    """What an act on a snapshot is about; its time with it, since names can be used again."""
    about = {"snapshot": snapshot.name, "created": str(snapshot.created)}
    return {**domain_details(verb, info), **about}
