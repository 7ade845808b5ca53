"""The Protocol, by libvirt: each method is one call in a thread, with its VM named in errors."""

from __future__ import annotations

import asyncio
import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import libvirt
import libvirt_qemu  # noqa: F401  (found at start or not at all, not at the first snapshot)

from ..errors import Busy, LibvirtError, SnapdError, TimedOut, Unsupported
from ..model import Disk, DomainInfo, SnapshotInfo
from . import agent, events, external_xml, host, layers, monitor, reading, xml
from .beside import Beside
from .chains import Chains, Volume
from .connection import Connections, Server
from .external import ChainFacts
from .facts import Gatherer
from .files import Files, metadata_folder
from .images import ImageCheck, Images
from .needs import Want, wanted
from .outline import rolled_back
from .overlays import LibvirtOverlays
from .pictures import Picture, Pictures
from .protocol import BareFacts, DomainEvent, DomainFacts
from .unchanged import Unchanged
from .users import Sources, Users
from .watch import watching

T = TypeVar("T")
READ_SECONDS = 5.0
FACTS_SECONDS = 20.0
CHAINS_SECONDS = 3.0
BESIDE_SECONDS = 20.0


class LibvirtHypervisor:
    """One libvirt URI. `keep` has to run for it to be connected.

    monitor: whether the four monitor commands may be used (`[libvirt] monitor`).
    """

    def __init__(self, uri: str, *, monitor: bool = True) -> None:
        self.uri = uri
        self._monitor_allowed = monitor
        self._on_event: list[Callable[[DomainEvent], None]] = []
        self._on_connection: list[Callable[[bool], None]] = []
        self._connections = Connections(uri, self._opened, self._connection_changed)
        self._images = Images()
        self._files = Files(self._images.lanes)
        sources = Sources(self.list_domains, self._chains, self._volumes)
        self._users = Users(sources, self._images, self._files)
        self._gatherer = Gatherer(self._images, self._files, self._users)
        self.overlays = LibvirtOverlays(self._act, self._look, self._files)
        self.version, self.chains, self.tried = (0, 0, 0), ChainFacts(), False
        self._asked: asyncio.Task[ChainFacts] | None = None
        self._looking: dict[str, asyncio.Event] = {}
        self._names: dict[str, str] = {}
        self._unchanged, self._pictures = Unchanged.at(uri), Pictures(images=self.has_images)
        self._loop = asyncio.get_running_loop()

    def _name(self, uuid: str) -> str:
        """What a person calls a domain, for errors; its UUID where it was never listed."""
        return self._names.get(uuid, uuid)

    @property
    def connected(self) -> bool:
        return self._connections.connected

    @property
    def error(self) -> str:
        return self._connections.error

    @property
    def has_images(self) -> bool:
        return not self._connections.shared

    @property
    def has_monitor(self) -> bool:
        return self._monitor_allowed or self._connections.shared

    def hanging(self) -> Mapping[str, int]:
        return self._images.lanes.hanging()

    def alive(self) -> bool:
        """Whether libvirt's event thread turns."""
        return self._connections.events.alive()

    def on_event(self, call: Callable[[DomainEvent], None]) -> None:
        self._on_event.append(call)

    def on_connection(self, call: Callable[[bool], None]) -> None:
        self._on_connection.append(call)

    async def keep(self, server: Server | None = None) -> None:
        async with watching(self.uri, self.list_domains, self._tell):
            await self._connections.keep(server)

    async def close(self) -> None:
        await self._connections.close()

    # --- events

    def _opened(self, conn: libvirt.virConnect) -> None:
        self.version, self.chains = reading.version(conn.getLibVersion()), ChainFacts()
        self._unchanged = Unchanged.at(self.uri)

        def tell(event: DomainEvent) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are leaving
                self._loop.call_soon_threadsafe(self._tell, event)

        events.register(conn, tell)

    def _tell(self, event: DomainEvent) -> None:
        for call in self._on_event:
            call(event)

    def _connection_changed(self, connected: bool) -> None:
        self.tried = True
        self._asked = self._loop.create_task(self._host()) if connected else None
        for call in self._on_connection:
            call(connected)

    # --- reading

    async def versions(self) -> tuple[str, str]:
        return await self._connections.read("cannot ask libvirt for its version", reading.versions)

    async def list_domains(self) -> dict[str, str]:
        self._names, off = await self._connections.read("cannot list the VMs", reading.names)
        self._pictures.forget(self._names)
        self._unchanged.listed(off)
        return dict(self._names)

    async def read(self, uuid: str) -> tuple[DomainInfo, list[SnapshotInfo]]:
        def ask(dom: libvirt.virDomain) -> tuple[bytes, Picture]:
            return self._unchanged.around(dom.name(), partial(self._pictures.read, dom))

        files, (info, snapshots, chains) = await self._look(uuid, "cannot read", ask, READ_SECONDS)
        self._names[uuid] = info.name  # it may be new since all were listed
        self._unchanged.note(info, snapshots, files)
        if chains:
            self._users.remember(uuid, chains)
        return info, snapshots

    async def unchanged(self, uuids: Collection[str]) -> set[str]:
        return await self._unchanged.of(uuids)

    async def domain(self, uuid: str) -> DomainInfo:
        return await self._look(uuid, "cannot read", reading.domain, READ_SECONDS)

    async def facts(self, uuid: str, snapshot: str = "") -> DomainFacts:
        metadata = None
        if self.has_images and (folder := metadata_folder(self.uri)):
            metadata = await self._files.room_for(folder)
        every = await self._host()

        def ask(dom: libvirt.virDomain) -> tuple[DomainFacts, tuple[Want, ...]]:
            info = reading.domain(dom)
            text, inactive = reading.inactive(dom)
            saved = reading.saved(dom, snapshot) if snapshot else None
            wants = host.resolved(dom.connect(), wanted(saved)) if saved is not None else ()
            facts = DomainFacts(
                info=info,
                snapshots=tuple(reading.snapshots(dom, info.current)),
                inactive=inactive,
                inactive_xml=text,
                holder=reading.holder(dom, info.disks) if self.has_images else "",
                checkpoints=reading.checkpoints(dom),
                metadata=metadata,
                saved=xml.disks(saved) if saved is not None else (),
                saved_tpm=saved is not None and xml.emulated_tpm(saved),
                rolled_back=(rolled_back(saved, ET.fromstring(text)) if saved is not None else ()),
                needs=host.lacking(dom.connect(), wants) if self.has_images else [],
                chains=layers.said(dom, text, every) if self.has_images else ChainFacts(),
                version=self.version,
                has_images=self.has_images,
            )
            free = info.state.active and not facts.holder  # QEMU answers by the monitor, at once
            if snapshot and free and self.has_images and self._monitor_allowed:
                facts.live_bitmaps.update(monitor.bitmaps(dom, info.disks))
            return facts, wants

        facts, wants = await self._look(uuid, "cannot look at", ask, FACTS_SECONDS)
        if self.has_images:
            await self._gatherer.add(facts, wants if snapshot else None)
            await self._gatherer.doubt(facts, lambda call: self._look(uuid, "", call, READ_SECONDS))
        if self.has_images and not facts.info.state.active:
            facts = replace(facts, holder=await self._gatherer.writer(facts.info))
        return facts

    async def bare_facts(self, uuid: str) -> BareFacts:
        ask = partial(reading.bare, images=self.has_images)
        facts = await self._look(uuid, "cannot look at", ask, FACTS_SECONDS)
        if self.has_images and not facts.info.state.active:
            facts = replace(facts, holder=await self._gatherer.writer(facts.info))
        return facts

    async def _host(self) -> ChainFacts:
        """Asked by itself: libvirt may try every QEMU there is before it answers the first time."""
        if not self.chains.capable and self.version >= external_xml.FIRST_VERSION:
            with contextlib.suppress(SnapdError):  # asked again when it is needed
                text = await self._alone("host", "", reading.capabilities, FACTS_SECONDS)
                self.chains = external_xml.host(text, self.version)
        return self.chains

    async def _chains(self, uuid: str) -> Chains:
        return await self._look(uuid, "cannot read", host.chains, CHAINS_SECONDS)

    async def _volumes(self, seconds: float) -> tuple[dict[str, list[Volume]], list[str]]:
        def ask(conn: libvirt.virConnect) -> tuple[dict[str, list[Volume]], list[str]]:
            return host.volumes(conn, seconds)

        return await self._alone("pools", "cannot list the storage volumes", ask, seconds)

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        def ask(dom: libvirt.virDomain) -> str:
            return str(dom.snapshotLookupByName(name, 0).getXMLDesc(0))

        return await self._look(uuid, f"cannot read snapshot {name} of", ask, READ_SECONDS)

    async def check_image(self, disk: Disk) -> ImageCheck:
        return await self._images.check(disk.source, disk.format)

    async def beside(self, folders: Collection[str], named: Collection[str]) -> Beside:
        return await self._files.beside(folders, named, BESIDE_SECONDS)

    async def tags(self, info: DomainInfo, disks: Sequence[Disk]) -> dict[str, tuple[str, ...]]:
        if not self.has_images:
            return {}
        if info.state.active and self._monitor_allowed:

            def ask(dom: libvirt.virDomain) -> dict[str, tuple[tuple[str, str], ...]]:
                return monitor.tags(dom, disks, monitor.nodes(dom, disks))

            listed = await self._look(info.uuid, "cannot ask QEMU for", ask, FACTS_SECONDS)
        else:
            listed = {d.target: (await self._gatherer.image(d)).tags for d in disks}
        return {target: tuple(name for _id, name in tags) for target, tags in listed.items()}

    async def stamp(self, info: DomainInfo) -> str:
        return await self._files.stamp(info) if self.has_images else ""

    async def _look(
        self, uuid: str, what: str, ask: Callable[[libvirt.virDomain], T], timeout: float
    ) -> T:
        def call(conn: libvirt.virConnect) -> T:
            return ask(conn.lookupByUUIDString(uuid))

        return await self._alone(uuid, f"{what} VM {self._name(uuid)}", call, timeout)

    async def _alone(
        self, subject: str, what: str, call: Callable[[libvirt.virConnect], T], timeout: float
    ) -> T:
        """At most one look at a VM at a time: a stuck one holds one thread, not all of them."""
        deadline = self._loop.time() + timeout
        while earlier := self._looking.get(subject):
            try:
                async with asyncio.timeout_at(deadline):
                    await earlier.wait()
            except TimeoutError as e:
                raise TimedOut(f"{what}: libvirt has not answered an earlier question yet") from e
        done = self._looking[subject] = asyncio.Event()

        def answered() -> None:
            self._looking.pop(subject, None)
            done.set()

        left = max(0.1, deadline - self._loop.time())
        try:
            return await self._connections.look(what, call, left, answered)
        except monitor.MonitorRefused as e:
            raise LibvirtError(f"{what}: {e}") from e

    # --- acting

    async def _act(self, uuid: str, what: str, call: Callable[[libvirt.virDomain], T]) -> T:
        what = f"cannot {what} VM {self._name(uuid)}"
        try:
            return await self._connections.act(
                what, lambda conn: call(conn.lookupByUUIDString(uuid))
            )
        except monitor.MonitorRefused as e:
            raise LibvirtError(f"{what}: {e}") from e

    async def create(self, uuid: str, name: str, description: str) -> None:
        text = xml.new_snapshot(name, description)
        await self._act(uuid, f"make snapshot {name} of", lambda d: d.snapshotCreateXML(text, 0))

    async def take(self, uuid: str, disks: Sequence[Disk], name: str) -> int:
        if not self.has_images:  # the test driver has no monitor: registering is all there is
            return 0

        def call(dom: libvirt.virDomain) -> int:
            _held, nodes = monitor.with_nvram(dom, disks)
            try:
                return monitor.take(dom, nodes, name).milliseconds
            except monitor.MonitorRefused as e:
                raise Unsupported(f"{e}; nothing was made") from e

        return await self._act(uuid, f"make snapshot {name} of", call)

    async def register(
        self,
        uuid: str,
        name: str,
        description: str,
        created: int,
        parent: str,
        disks: Sequence[str],
        left_out: Sequence[str],
        domain_xml: str,
        *,
        current: bool,
    ) -> None:
        text = xml.taken_snapshot(name, description, created, parent, disks, left_out, domain_xml)
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        if current:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
        what = f"register snapshot {name} of"
        await self._act(uuid, what, lambda d: d.snapshotCreateXML(text, flags))

    async def revert(
        self,
        uuid: str,
        name: str,
        *,
        running: bool,
        paused: bool,
        force: bool = False,
        created: int | None = None,
    ) -> None:
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING if running else 0
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED if paused else 0
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE if force else 0

        def call(dom: libvirt.virDomain) -> None:
            dom.revertToSnapshot(reading.same_snapshot(dom, name, created), flags)

        await self._act(uuid, f"revert to snapshot {name}", call)

    async def delete(
        self,
        uuid: str,
        name: str,
        *,
        metadata_only: bool = False,
        created: int | None = None,
        active: bool | None = None,
    ) -> None:
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY if metadata_only else 0

        def call(dom: libvirt.virDomain) -> None:
            snapshot = reading.same_snapshot(dom, name, created)
            if active is not None and bool(dom.isActive()) != active:
                raise Busy(f"VM {dom.name()} was {'stopped' if active else 'started'} meanwhile")
            snapshot.delete(flags)

        await self._act(uuid, f"delete snapshot {name} of", call)

    async def remove_tags(
        self, uuid: str, disks: Sequence[Disk], name: str, *, created: int | None = None
    ) -> None:
        def call(dom: libvirt.virDomain) -> None:
            if created is not None:
                reading.same_snapshot(dom, name, created)
            held, nodes = monitor.with_nvram(dom, disks)
            for target, listed in monitor.tags(dom, held, nodes).items():
                if any(tag == name for _id, tag in listed):
                    monitor.remove(dom, nodes[target], name)

        await self._act(uuid, f"delete snapshot {name} of", call)

    async def describe(self, uuid: str, name: str, text: str) -> None:
        what = f"describe snapshot {name} of"
        await self._act(uuid, what, lambda d: reading.described(d, name, text))

    async def discard_saved_state(self, uuid: str) -> None:
        await self._act(uuid, "discard the saved state of", lambda d: d.managedSaveRemove(0))

    async def set_time(self, uuid: str, seconds: int) -> None:
        await self._act(uuid, "set the clock of", lambda d: agent.set_time(d, seconds))

    async def start(self, uuid: str) -> None:
        await self._act(uuid, "start", lambda d: d.create())

    async def stop(self, uuid: str) -> None:
        await self._act(uuid, "stop", lambda d: d.destroy())

    async def freeze(self, uuid: str, agent_timeout: int) -> int:
        return await self._act(uuid, "freeze", lambda d: agent.freeze(d, agent_timeout))

    async def thaw(self, uuid: str, agent_timeout: int) -> int:
        return await self._act(uuid, "thaw", lambda d: agent.thaw(d, agent_timeout))
