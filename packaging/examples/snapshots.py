#!/usr/bin/python3
"""A live list of all snapshots: what a client of virtsnapd looks like, in one page.

    packaging/examples/snapshots.py [--system | --session | --address ADDR]

It prints the list, and again whenever something in it changes, until Ctrl-C. It needs
python3-gi and gir1.2-glib-2.0, and nothing of virtsnapd's own: all comes over D-Bus.

How it is done, for an app of your own:

- VMs are few, so they are held as objects: Gio's object manager keeps a proxy of each, with its
  properties always up to date, and says when one comes, changes or goes.
- Snapshots can be thousands, so they are listed: one call gives all of them, in pages. Signals
  say when to list again. (A window that shows a single VM would rather have an object manager at
  /org/virtsnap/Snapd1/snapshots/UUID, too. One for each VM of a big host is too much: each takes
  match rules of the bus, and the system bus gives a client 512.)
- Nothing here waits for an answer: every call has a callback, so that a window would never hang.
- To act, call CreateSnapshot, RevertSnapshot or DeleteSnapshot of the Manager with
  DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION: polkit may ask for a password then. The answer
  is the path of a job at once; its signal Completed tells how it ended.
"""

import argparse
import signal
import sys
import time

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.virtsnap.Snapd1"
ROOT = "/org/virtsnap/Snapd1"
FIELDS = ["DomainUUID", "Name", "Created", "State", "Kind", "Origin", "Current"]
# The reason words are part of the contract, so that a client can say them in its own language.
# New ones may come: show the word itself where you don't know it.
REASONS = {
    "raw-disk": "a writable disk is raw; only qcow2 can hold snapshots",
    "no-disk": "it has no disk for it",
    "network-disk": "a disk is on the network",
    "mixed-tree": "it has snapshots of another kind, and they don't go together",
    "external-unsupported": "this libvirt can't do it well enough",
    "unchecked": "not looked at yet",
}


class Snapshots:
    """The list, printed anew when something has changed."""

    def __init__(self, bus, quit):
        self.bus, self.quit = bus, quit
        self.rows = []
        self.listing = False  # or about to
        self.stale = False  # something has changed since it began
        self.shown = ""
        flags = Gio.DBusObjectManagerClientFlags.NONE  # it is started where it isn't running
        Gio.DBusObjectManagerClient.new(
            bus, flags, NAME, f"{ROOT}/domains", None, None, None, self.on_domains
        )

    def on_domains(self, _source, result):
        try:
            self.domains = Gio.DBusObjectManagerClient.new_finish(result)
        except GLib.Error as error:  # as where the bus lets this user see nothing
            print(f"no VMs to show: {plain(error.message)}", file=sys.stderr)
            self.quit()
            return
        self.domains.connect("object-added", self.on_news)
        self.domains.connect("object-removed", self.on_news)
        self.domains.connect("interface-proxy-properties-changed", self.on_news)
        # The service may go and come back: the object manager forgets and reads all by itself.
        self.domains.connect("notify::name-owner", self.on_news)
        # Signals are heard by their interface here, whichever snapshot they are about.
        self.hear("org.freedesktop.DBus.ObjectManager", "InterfacesAdded", None)
        self.hear("org.freedesktop.DBus.ObjectManager", "InterfacesRemoved", None)
        self.hear("org.freedesktop.DBus.Properties", "PropertiesChanged", f"{NAME}.Snapshot")
        self.on_news()

    def hear(self, interface, member, arg0):
        flags = Gio.DBusSignalFlags.NONE
        self.bus.signal_subscribe(NAME, interface, member, None, arg0, flags, self.on_news)

    def on_news(self, *_what):
        """List again soon: changes come in bursts, and one look is enough for all of them."""
        self.stale = True
        if not self.listing:
            self.listing = True
            GLib.timeout_add(100, self.list)

    def list(self):
        self.stale = False
        if self.domains.get_name_owner() is None:
            self.listed([])
        else:
            self.ask_page("", [])
        return GLib.SOURCE_REMOVE

    def ask_page(self, start, before):
        """Ask for the rows from there on; before: those that came already."""
        options = {"fields": GLib.Variant("as", FIELDS), "from": GLib.Variant("s", start)}
        what = GLib.Variant("(sa{sv})", ("", options))  # "" = of all VMs
        answer = GLib.VariantType("(aa{sv}a{sv})")
        call = (NAME, ROOT, f"{NAME}.Manager", "ListSnapshots", what, answer)
        # -1: the usual time-out; None: nothing that cancels it
        self.bus.call(*call, Gio.DBusCallFlags.NONE, -1, None, self.on_page, before)

    def on_page(self, bus, result, before):
        try:
            rows, info = bus.call_finish(result).unpack()
        except GLib.Error as error:
            # As org.virtsnap.Error.Unavailable, while libvirt isn't there: a line for people.
            Gio.DBusError.strip_remote_error(error)
            print(f"can't list: {plain(error.message)}", file=sys.stderr)
            self.listed(self.rows)
            return
        if info["Next"]:  # where the next page begins
            self.ask_page(info["Next"], before + rows)
        else:
            self.listed(before + rows)

    def listed(self, rows):
        self.rows = rows
        self.listing = False
        if self.stale:
            self.on_news()
        text = "\n".join(self.lines())
        if text != self.shown:  # much that changes isn't in this list
            self.shown = text
            top = "\033[H\033[2J" if sys.stdout.isatty() else ""
            print(f"{top}{text}\n", flush=True)

    def lines(self):
        if self.domains.get_name_owner() is None:
            yield "virtsnapd is not running"
            return
        objects = self.domains.get_objects()
        vms = [properties(each.get_interface(f"{NAME}.Domain")) for each in objects]
        if not vms:
            yield "no VMs"
        for vm in sorted(vms, key=lambda vm: vm["Name"]):
            yield f"{plain(vm['Name'])}, {vm['State']}{why_not(vm['Support'])}"
            for row in self.rows:
                if row["DomainUUID"] == vm["UUID"]:
                    yield snapshot_line(row)


def properties(proxy):
    """All properties, as the proxy knows them: no call is made."""
    names = proxy.get_cached_property_names()
    return {name: proxy.get_cached_property(name).unpack() for name in names}


def why_not(support):
    """Why a VM can't be snapshotted: empty where there is at least one way."""
    if "yes" in support.values():
        return ""
    # One reason for each way; that of the plainest way says it best.
    reason = support.get("internal", "unchecked")
    return f": can't be snapshotted, {REASONS.get(reason, reason)} ({reason})"


def snapshot_line(row):
    mark = "*" if row["Current"] else " "
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["Created"]))
    return f"  {mark} {plain(row['Name'])}  {day}  {row['State']}, {row['Kind']}, {row['Origin']}"


def plain(text):
    """Names come from others: nothing in them may reach the terminal as a command."""
    return text if text.isprintable() else ascii(text)


def connect(given):
    if not given.address:
        return Gio.bus_get_sync(Gio.BusType.SESSION if given.session else Gio.BusType.SYSTEM)
    flags = Gio.DBusConnectionFlags
    both = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
    return Gio.DBusConnection.new_for_address_sync(given.address, both, None, None)


def main():
    parser = argparse.ArgumentParser(description="Show all snapshots, as they come and go.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--system", action="store_true", help="the system bus (the default)")
    which.add_argument("--session", action="store_true", help="the session bus")
    which.add_argument("--address", metavar="ADDR", help="the bus at that address")
    try:
        bus = connect(parser.parse_args())
    except GLib.Error as error:
        sys.exit(f"no bus: {error.message}")
    loop = GLib.MainLoop()
    bus.connect("closed", lambda *_: loop.quit())
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT, loop.quit)
    Snapshots(bus, loop.quit)
    loop.run()


if __name__ == "__main__":
    main()
