"""The only room that imports dbus_next: hardened transport, marshalling, paths, options.

Importing the room makes dbus_next safe to import, but does not import it: `wire.paths` and
`wire.text` cost nothing.
"""

from __future__ import annotations

import sys
import typing
from types import ModuleType

# dbus_next decorates with typing.no_type_check_decorator, which Python 3.15 no longer has.
if not hasattr(typing, "no_type_check_decorator"):
    typing.no_type_check_decorator = lambda decorator: decorator

# dbus_next imports its GLib half, and with it PyGObject, wherever that is installed: 40 ms of a
# client's start for a main loop that nobody runs.
sys.modules.setdefault("dbus_next.glib", ModuleType("dbus_next.glib"))
