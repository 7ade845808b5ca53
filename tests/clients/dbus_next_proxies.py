"""A client by way of dbus-next's own proxies, as it comes: python3 dbus_next_proxies.py ADDRESS

It prints what it listed, the results of its jobs, how it was refused, and the signals it heard.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from dbus_next import DBusError, Variant
from dbus_next.aio import MessageBus

NAME = "org.virtsnap.Snapd1"
ROOT = "/org/virtsnap/Snapd1"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
PROPERTIES = "org.freedesktop.DBus.Properties"
TREE = f"{ROOT}/snapshots/22222222_2222_4222_8222_222222222201"
WEB1 = f"{ROOT}/domains/22222222_2222_4222_8222_222222222201"


class Client:
    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.heard: list[Any] = []
        self.proxies: dict[str, Any] = {}  # a proxy that nobody holds hears nothing

    async def proxy(self, path: str, interface: str) -> Any:
        if path not in self.proxies:
            shape = await self.bus.introspect(NAME, path)
            self.proxies[path] = self.bus.get_proxy_object(NAME, path, shape)
        return self.proxies[path].get_interface(interface)

    def hear(self, path: str, member: str, count: int) -> Callable[..., None]:
        """What records a signal; dbus-next counts the arguments of a handler."""

        def two(first: Any, _second: Any) -> None:
            self.heard.append([path, member, first])

        def three(first: Any, _second: Any, _third: Any) -> None:
            two(first, None)

        return two if count == 2 else three

    async def listen(self) -> Any:
        for path in (TREE, f"{ROOT}/jobs"):
            objects = await self.proxy(path, OBJECTS)
            objects.on_interfaces_added(self.hear(path, "InterfacesAdded", 2))
            objects.on_interfaces_removed(self.hear(path, "InterfacesRemoved", 2))
        manager = await self.proxy(ROOT, f"{NAME}.Manager")
        manager.on_snapshot_created(self.hear(ROOT, "SnapshotCreated", 3))
        manager.on_snapshot_reverted(self.hear(ROOT, "SnapshotReverted", 3))
        manager.on_snapshot_deleted(self.hear(ROOT, "SnapshotDeleted", 3))
        domain = await self.proxy(WEB1, PROPERTIES)
        domain.on_properties_changed(self.hear(WEB1, "PropertiesChanged", 3))
        return manager

    async def wait(self, path: str) -> Any:
        """A job's result."""
        job = await self.proxy(path, f"{NAME}.Job")
        return plain(await job.call_wait({"timeout": Variant("u", 30)}))


def plain(value: Any) -> Any:
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


async def refused(work: Awaitable[Any]) -> str:
    try:
        await work
    except DBusError as error:
        return str(error.type)
    sys.exit("it was not refused")


async def main() -> None:
    client = Client(await MessageBus(bus_address=sys.argv[1]).connect())
    manager = await client.listen()
    told: dict[str, Any] = {}
    told["rows"], told["info"] = plain(
        await manager.call_list_snapshots("", {"fields": Variant("as", ["Name", "DomainName"])})
    )
    domains = await client.proxy(f"{ROOT}/domains", OBJECTS)
    objects = plain(await domains.call_get_managed_objects())
    told["objects"] = {path: each[f"{NAME}.Domain"]["Name"] for path, each in objects.items()}
    options = {"memory": Variant("s", "no")}
    job = await manager.call_create_snapshot("web-1", "one", options)
    told["made"] = await client.wait(job)
    one = await client.proxy(f"{TREE}/one", f"{NAME}.Snapshot")
    told["one"] = [await one.get_parent(), await one.get_current(), await one.get_disks()]
    by_hand = await client.proxy(f"{TREE}/by_2dhand", f"{NAME}.Snapshot")
    job = await by_hand.call_revert({"safety_snapshot": Variant("b", False)})
    told["reverted"] = await client.wait(job)
    domain = await client.proxy(WEB1, f"{NAME}.Domain")
    told["current"] = await domain.get_current_snapshot()
    told["support"] = (await domain.get_support())["internal"]
    told["deleted"] = await client.wait(await one.call_delete({}))
    told["refused"] = await refused(manager.call_get_snapshot("web-1", "one", {}))
    told["set"] = await refused(
        (await client.proxy(WEB1, PROPERTIES)).call_set(
            f"{NAME}.Domain", "Name", Variant("s", "other")
        )
    )
    told["heard"] = client.heard
    print(json.dumps(told))


asyncio.run(main())
