"""Errors of the bus itself; ours are in snapd.errors."""

from __future__ import annotations

FREEDESKTOP = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"
DISCONNECTED = f"{FREEDESKTOP}.Error.Disconnected"
NO_REPLY = f"{FREEDESKTOP}.Error.NoReply"
NO_SERVER = f"{FREEDESKTOP}.Error.NoServer"
SERVICE_UNKNOWN = f"{FREEDESKTOP}.Error.ServiceUnknown"
NAME_HAS_NO_OWNER = f"{FREEDESKTOP}.Error.NameHasNoOwner"


class WireError(Exception):
    """An error by its D-Bus name that is none of ours. name: the D-Bus error name; text: one
    line."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


def standard(word: str, text: str) -> WireError:
    """`org.freedesktop.DBus.Error.` and the word."""
    return WireError(f"{FREEDESKTOP}.Error.{word}", text)
