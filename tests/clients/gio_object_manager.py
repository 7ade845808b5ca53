"""A client by way of Gio's GDBusObjectManagerClient: python3 gio_object_manager.py ADDRESS

It has an object manager at each kind of collection, and calls by the proxies that these make. In
the end it prints what it found at first, what it heard, and what its proxies know then.
"""

import json
import sys
import time
from typing import Any

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.virtsnap.Snapd1"
ROOT = "/org/virtsnap/Snapd1"
UUID = "22222222_2222_4222_8222_222222222201"
TREE = f"{ROOT}/snapshots/{UUID}"
COLLECTIONS = (f"{ROOT}/domains", TREE, f"{ROOT}/policies", f"{ROOT}/jobs")
NO_OPTIONS = GLib.Variant("(a{sv})", ({},))


class Client:
    def __init__(self, address: str) -> None:
        flags = Gio.DBusConnectionFlags
        both = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
        self.bus = Gio.DBusConnection.new_for_address_sync(address, both, None, None)
        self.heard: list[Any] = []
        self.managers = {path: self.manager(path) for path in COLLECTIONS}
        self.first = self.known()
        self.main = Gio.DBusProxy.new_sync(
            self.bus, Gio.DBusProxyFlags.NONE, None, NAME, ROOT, f"{NAME}.Manager", None
        )
        self.main.connect("g-signal", self.on_main_signal)

    def manager(self, path: str) -> Any:
        made = Gio.DBusObjectManagerClient.new_sync(
            self.bus, Gio.DBusObjectManagerClientFlags.NONE, NAME, path, None, None, None
        )
        made.connect("object-added", lambda _m, o: self.hear(o, "added"))
        made.connect("object-removed", lambda _m, o: self.hear(o, "removed"))
        made.connect("interface-proxy-properties-changed", self.on_changed)
        made.connect("interface-proxy-signal", self.on_signal)
        return made

    def hear(self, obj: Any, what: str, *more: Any) -> None:
        self.heard.append([obj.get_object_path(), what, *more])

    def on_changed(self, _m: Any, obj: Any, _proxy: Any, changed: Any, _gone: Any) -> None:
        self.hear(obj, "changed", changed.unpack())

    def on_signal(self, _m: Any, obj: Any, _p: Any, _sender: str, name: str, args: Any) -> None:
        self.hear(obj, name, *args.unpack())

    def on_main_signal(self, _proxy: Any, _sender: str, name: str, args: Any) -> None:
        self.heard.append([ROOT, name, *args.unpack()])

    def known(self) -> dict[str, Any]:
        """Path -> properties of all objects, as the proxies have them."""
        found = {}
        for manager in self.managers.values():
            for obj in manager.get_objects():
                (proxy,) = obj.get_interfaces()
                names = proxy.get_cached_property_names()
                values = {name: proxy.get_cached_property(name).unpack() for name in names}
                found[obj.get_object_path()] = values
        return found

    def until(self, path: str, what: str) -> None:
        """Run the loop until that was heard."""
        deadline = time.monotonic() + 30
        context = GLib.MainContext.default()
        while not any(each[:2] == [path, what] for each in self.heard):
            if time.monotonic() > deadline:
                sys.exit(f"no {what} of {path}: {self.heard}")
            if not context.iteration(False):
                time.sleep(0.01)

    def job(self, answer: Any) -> None:
        self.until(answer.unpack()[0], "Completed")

    def call(self, method: str, signature: str, *arguments: Any) -> Any:
        what = GLib.Variant(signature, arguments)
        return self.main.call_sync(method, what, Gio.DBusCallFlags.NONE, -1, None)


def main() -> None:
    client = Client(sys.argv[1])
    memory = {"memory": GLib.Variant("s", "no")}
    client.job(client.call("CreateSnapshot", "(ssa{sv})", "web-1", "one", memory))
    safety = {"safety_snapshot": GLib.Variant("b", False)}
    client.job(client.call("RevertSnapshot", "(ssa{sv})", "web-1", "by-hand", safety))
    middle = client.known()
    one = client.managers[TREE].get_object(f"{TREE}/one").get_interface(f"{NAME}.Snapshot")
    client.job(one.call_sync("Delete", NO_OPTIONS, Gio.DBusCallFlags.NONE, -1, None))
    definition = {
        "domains": GLib.Variant("as", ["*"]),
        "schedule": GLib.Variant("s", "@daily"),
        "keep": GLib.Variant("a{sv}", {"last": GLib.Variant("i", 3)}),
    }
    client.call("SetPolicy", "(sa{sv}a{sv})", "nightly", definition, {})
    client.until(f"{ROOT}/policies/nightly", "added")
    client.call("RemovePolicy", "(sa{sv})", "nightly", {})
    client.until(f"{ROOT}/policies/nightly", "removed")
    told = {"first": client.first, "middle": middle, "last": client.known(), "heard": client.heard}
    print(json.dumps(told))


main()
