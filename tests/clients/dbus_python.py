"""A client by way of dbus-python: python3 dbus_python.py ADDRESS

It prints what it listed, the results of its jobs, how it was refused, and the signals it heard.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import dbus.bus
import dbus.mainloop.glib
from gi.repository import GLib

import dbus

NAME = "org.virtsnap.Snapd1"
ROOT = "/org/virtsnap/Snapd1"
MANAGER = "org.virtsnap.Snapd1.Manager"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
WEB1 = f"{ROOT}/domains/22222222_2222_4222_8222_222222222201"
TREE = f"{ROOT}/snapshots/22222222_2222_4222_8222_222222222201"


class Client:
    def __init__(self, address: str) -> None:
        dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
        self.bus = dbus.bus.BusConnection(address)
        self.heard: list[Any] = []
        self.bus.add_signal_receiver(
            self.hear, bus_name=NAME, path_keyword="path", member_keyword="member"
        )
        self.main = dbus.Interface(self.bus.get_object(NAME, ROOT), MANAGER)

    def hear(self, *arguments: Any, path: str, member: str) -> None:
        self.heard.append([path, member, *arguments])

    def get(self, path: str, interface: str, name: str = "") -> Any:
        """A property, or all, of the types that dbus-python has for them."""
        properties = dbus.Interface(self.bus.get_object(NAME, path), dbus.PROPERTIES_IFACE)
        name_of = f"{NAME}.{interface}"
        return properties.Get(name_of, name) if name else properties.GetAll(name_of)

    def wait(self, job: str) -> Any:
        """Its result, by the signal Completed; then Wait answers at once."""
        deadline = time.monotonic() + 30
        context = GLib.MainContext.default()
        while not any(each[:2] == [job, "Completed"] for each in self.heard):
            if time.monotonic() > deadline:
                sys.exit(f"{job} is not completed: {self.heard}")
            if not context.iteration(False):
                time.sleep(0.01)
        return dbus.Interface(self.bus.get_object(NAME, job), f"{NAME}.Job").Wait({})


def refused(call: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The name and the text of the error."""
    try:
        call(*arguments)
    except dbus.DBusException as error:
        return [error.get_dbus_name(), error.get_dbus_message()]
    sys.exit(f"{arguments} was not refused")


def main() -> None:
    client = Client(sys.argv[1])
    told: dict[str, Any] = {}
    rows, info = client.main.ListSnapshots("web-1", {"limit": 10, "fields": ["Name", "Created"]})
    told["rows"], told["total"] = rows, info["Total"]
    domains = dbus.Interface(client.bus.get_object(NAME, f"{ROOT}/domains"), OBJECTS)
    objects = domains.GetManagedObjects()
    told["objects"] = {path: each[f"{NAME}.Domain"]["Name"] for path, each in objects.items()}
    options = {"memory": "no", "description": "by dbus-python", "max_wait": 20}
    told["made"] = client.wait(client.main.CreateSnapshot("web-1", "one", options))
    told["one"] = client.get(f"{TREE}/one", "Snapshot")
    told["type"] = type(told["one"]["Created"]).__name__
    job = client.main.RevertSnapshot("web-1", "by-hand", {"safety_snapshot": False})
    told["reverted"] = client.wait(job)
    told["current"] = client.get(WEB1, "Domain", "CurrentSnapshot")
    one = dbus.Interface(client.bus.get_object(NAME, f"{TREE}/one"), f"{NAME}.Snapshot")
    told["deleted"] = client.wait(one.Delete({}))
    keep = dbus.Dictionary({"last": 3}, signature="sv")
    definition = {"domains": ["*"], "schedule": "@daily", "keep": keep}
    told["revision"] = client.main.SetPolicy("nightly", definition, {})
    client.main.RemovePolicy("nightly", {})
    told["refused"] = refused(client.main.GetSnapshot, "web-1", "one", {})
    changing = dbus.Interface(client.bus.get_object(NAME, WEB1), dbus.PROPERTIES_IFACE)
    told["set"] = refused(changing.Set, f"{NAME}.Domain", "Name", "other")
    told["heard"] = client.heard
    print(json.dumps(told))


main()
