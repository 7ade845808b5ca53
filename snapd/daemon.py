"""Builds the rooms, connects them, runs until SIGTERM or until something vital is gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bus import contract
from .bus.authority import same_user
from .bus.house import House
from .bus.job_object import JobObject
from .bus.manager import Manager
from .bus.objects import DomainObject, PolicyObject, SnapshotObject
from .bus.polkit import Polkit
from .bus.publisher import Publisher
from .bus.reloading import reload
from .bus.rooms import Rooms
from .bus.router import Router
from .bus.signals import Signals
from .bus.tree import Tree
from .errors import InvalidArgument
from .hypervisor import Hypervisor
from .hypervisor.libvirt_driver import LibvirtHypervisor
from .inventory import Inventory
from .journal import STARTED, STOPPED, about
from .leaving import Leaver
from .logind import HostStop, Inhibitor
from .model import Problem
from .operations import Catalog, Jobs, Operations, Ownership
from .policy import (
    ClockGuard,
    Engine,
    Health,
    Holds,
    Newcomers,
    Policies,
    PolicyChanges,
    Pruner,
    Resting,
    SafetyKeeper,
    machine_id,
    problem,
)
from .service import Notifier
from .settings import Settings, load_daemon
from .status import status
from .store import Store, StoreBroken, asides, set_aside
from .units import LibvirtUnits
from .wire.paths import NAME
from .wire.transport import Transport

log = logging.getLogger(__name__)
STOP_SECONDS = 20.0
THAW_SECONDS = 3.0
COLLECT, SELDOM = gc.get_threshold(), 1000
"""When garbage is looked for, and how seldom in all there is: once for 7 million new objects."""
OBJECTS = (Manager, DomainObject, SnapshotObject, PolicyObject, JobObject)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemon lives. bus: `system`, `session` or an address; uri None = by settings, else
    default_uri; config: the admin's folder; state: ours; linger: seconds after which it ends when
    nobody needs it, 0 = never."""

    bus: str
    uri: str | None
    default_uri: str
    config: Path
    state: Path
    linger: float = 0.0


async def run(place: Place) -> None:
    """Run the daemon. Raises StoreInUse, WireError (bus gone, name taken), OSError."""
    interfaces = contract.load()
    interfaces.verify(OBJECTS)
    notifier = Notifier()
    settings, found = await _settings(place)
    store, lost = await _store(place.state)
    try:
        hypervisor = LibvirtHypervisor(
            place.uri or settings.uri or place.default_uri, monitor=settings.monitor
        )
        host = HostStop()
        rooms = await build(
            place, settings, store, [*found, *lost], hypervisor, stopping=lambda: host.stopping
        )
        await _serve(place, rooms, interfaces, notifier, host)
    finally:
        await store.close()


async def _settings(place: Place) -> tuple[Settings, list[Problem]]:
    """A broken file is replaced by defaults and said; nothing is pruned then."""
    try:
        return await asyncio.to_thread(load_daemon, place.config / "virtsnapd.toml"), []
    except InvalidArgument as e:
        log.error("%s; the defaults are used, nothing is pruned", e.message)
        why = f"{e.message}; the defaults are used and nothing is pruned until it is mended"
        return Settings(), [problem("settings-file", why, "critical", ways=("fix-file", "restart"))]


async def _store(state: Path) -> tuple[Store, list[Problem]]:
    """A broken store is set aside and a new one begun; nothing is pruned then."""
    try:
        store = await Store.open(state)
    except StoreBroken as e:
        aside = await asyncio.to_thread(set_aside, state, f"{time.time():.0f}")
        log.error("%s; it is kept as %s, and a new one is begun", e.message, aside.name)
        store = await Store.open(state)
    return store, [
        problem(
            "store-lost",
            f"an unusable store was set aside as {path.name}: the snapshots that it knew count as "
            "foreign, and nothing is pruned; adopt them or restore it, then remove that file",
            "critical",
            key=path.name,
            ways=("adopt", "remove-file"),
        )
        for path in await asyncio.to_thread(asides, state)
    ]


async def build(
    place: Place,
    settings: Settings,
    store: Store,
    standing: list[Problem],
    hypervisor: Hypervisor,
    clock: Callable[[], float] = time.time,
    clocks: Callable[[int], ClockGuard] = ClockGuard,
    stopping: Callable[[], bool] = lambda: False,
) -> Rooms:
    """All rooms, connected, with what an earlier daemon left. standing: what the start found wrong;
    clocks: makes the guard, given the newest time that was seen; stopping: whether the host is."""
    jobs = Jobs(store, settings.parallel, clock)
    inventory = Inventory(hypervisor, jobs.holds, clock)
    jobs.listen(ended=lambda job: inventory.let_go(job.row.domain), freed=inventory.let_go)
    operations = Operations(hypervisor, inventory, store, jobs, clock)
    catalog = Catalog(inventory, store, jobs)
    guard = clocks(int(await store.fact("clock") or 0))
    policies = Policies(place.config / "policies.d", place.state / "policies.d")
    holds, pruner = _retention(operations, catalog, policies, settings, guard, standing)
    host = await asyncio.to_thread(machine_id)
    resting = Resting(store, inventory, catalog, jobs, clock)
    changes = PolicyChanges(store, policies, clock)
    engine = Engine(
        policies, operations, inventory, store, pruner, guard, holds, resting, clock, host, stopping
    )
    inventory.on_trigger(engine.trigger)
    records = store.records_of
    health = Health(inventory, policies, engine, pruner, jobs, holds, guard, records, clock)
    Newcomers(inventory, policies, engine)
    health.standing, health.frozen = standing, operations.frozen_guests.listed
    for room in (operations.frozen_guests, holds, resting, changes, policies, engine):
        await room.load()
    return Rooms(
        hypervisor=hypervisor,
        inventory=inventory,
        store=store,
        jobs=jobs,
        operations=operations,
        catalog=catalog,
        ownership=Ownership(store, catalog),
        policies=policies,
        engine=engine,
        holds=holds,
        pruner=pruner,
        health=health,
        settings=settings,
        config=place.config,
        clock=clock,
    )


def _retention(
    operations: Operations,
    catalog: Catalog,
    policies: Policies,
    settings: Settings,
    guard: ClockGuard,
    standing: list[Problem],
) -> tuple[Holds, Pruner]:
    """What may go, what must not, and who sees to it after a revert."""
    ctx = operations.context
    holds = Holds(ctx.store, ctx.clock)
    operations.pause = lambda vm, why, uid: holds.hold("", vm, reason=why, owner=uid)
    in_force = lambda: policies.in_force  # noqa: E731
    pruner = Pruner(
        operations, ctx.inventory, catalog, in_force, settings, guard, ctx.clock, holds.of
    )
    pruner.blocked = standing[0].message if standing else ""
    SafetyKeeper(ctx.jobs, ctx.inventory, pruner)
    return holds, pruner


async def _serve(
    place: Place,
    rooms: Rooms,
    interfaces: contract.Contract,
    notifier: Notifier,
    host: HostStop,
) -> None:
    """Own the name, say READY, work until stopped, and leave in order."""
    stop = _stop_asked()
    bus = await Transport.connect(place.bus)
    signals = Signals(bus, interfaces)
    house = House(rooms, interfaces)
    authorize = Polkit(bus).authorize if place.bus == "system" else same_user
    router = Router(bus, interfaces, signals, Tree(house), authorize)
    Publisher(rooms, house, signals, notifier.look)
    rooms.inventory.on_status(lambda: _spare_collector(rooms.inventory))
    rooms.inventory.on_status(notifier.look)
    rooms.jobs.listen(changed=lambda *_: notifier.look(), ended=lambda _: notifier.look())
    leaver = Leaver(place.linger, rooms, bus, router, notifier.stopping)
    inhibitor = Inhibitor(rooms.jobs, host)
    libvirt = None
    try:
        inhibitor.start()
        await rooms.jobs.load()
        await bus.request_name(NAME)
        notifier.ready(f"reading VMs at {rooms.hypervisor.uri}")
        log.info("owns %s on the %s bus", NAME, place.bus, extra=about(event=STARTED))
        server = LibvirtUnits(rooms.hypervisor.uri)
        libvirt = asyncio.create_task(_libvirt(rooms).keep(server), name="libvirt")
        with _hangup(rooms, notifier):
            await _work(rooms, bus, notifier, stop, libvirt, host, leaver)
    finally:
        notifier.stopping()
        await rooms.jobs.stop(STOP_SECONDS)  # still connected: what ends now is verified now
        await rooms.engine.stop()
        await inhibitor.stop()
        await rooms.operations.frozen_guests.stop(THAW_SECONDS)
        if libvirt:
            await _cancel(libvirt)
        await router.close()
        await bus.close()
        await _libvirt(rooms).close()


def _spare_collector(inventory: Inventory) -> None:
    """What the first full read has made stays: collections of garbage that look at it, too, hold
    up the loop for 30 ms where there are 10,000 snapshots. Meanwhile they come seldom: each would
    look at all that was read so far."""
    reading = inventory.loading and inventory.connected
    gc.set_threshold(*COLLECT[:2], SELDOM if reading else COLLECT[2])
    if not inventory.loading:
        gc.freeze()


def _stop_asked() -> asyncio.Event:
    """Set by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _work(
    rooms: Rooms,
    bus: Transport,
    notifier: Notifier,
    stop: asyncio.Event,
    libvirt: asyncio.Task[None],
    host: HostStop,
    leaver: Leaver,
) -> None:
    """Until SIGTERM, SIGINT or nobody needs it; a vital task that ends takes the daemon along."""
    alive = _libvirt(rooms).alive
    vital = [
        asyncio.create_task(work, name=name)
        for name, work in (
            ("stop", stop.wait()),
            ("bus", bus.wait_disconnected()),
            ("inventory", rooms.inventory.run()),
            ("policies", _policies(rooms, host)),
            ("logind", host.run()),
            ("idle", leaver.run()),
            ("watchdog", notifier.watch(alive, lambda: status(rooms))),
        )
    ]
    try:
        done, _ = await asyncio.wait([*vital, libvirt], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            name = task.get_name()
            level = logging.INFO if name in ("stop", "idle") else logging.ERROR
            log.log(level, "leaving: %s", name, extra=about(event=STOPPED))
            task.result()
    finally:
        rooms.jobs.stopping = True
        await _cancel(*vital)


async def _policies(rooms: Rooms, host: HostStop) -> None:
    """Run them, but begin nothing before it is known that the host goes on."""
    await host.asked.wait()
    await rooms.engine.run()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _libvirt(rooms: Rooms) -> LibvirtHypervisor:
    """The hypervisor as we built it; the other rooms know its Protocol only."""
    assert isinstance(rooms.hypervisor, LibvirtHypervisor)
    return rooms.hypervisor


async def _reload(rooms: Rooms, notifier: Notifier) -> None:
    """Read the files again. A bad one is said, but is no failure of the service."""
    notifier.reloading()
    try:
        await reload(rooms)
    finally:
        notifier.ready(status(rooms))


@contextlib.contextmanager
def _hangup(rooms: Rooms, notifier: Notifier) -> Iterator[None]:
    """SIGHUP reads the files again; what is wrong stands in the journal and the status."""
    tasks: set[asyncio.Task[None]] = set()

    def again() -> None:
        log.info("SIGHUP: reading the files again")
        task = asyncio.create_task(_reload(rooms, notifier), name="reload")
        tasks.add(task)
        task.add_done_callback(done)

    def done(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("the files could not be read again", exc_info=error)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, again)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as it was before: see main()
        for task in tasks:
            task.cancel()


def leave(code: int) -> None:
    """End the process now: a thread may wait in a libvirt call that libvirt will finish anyway."""
    logging.shutdown()
    os._exit(code)
