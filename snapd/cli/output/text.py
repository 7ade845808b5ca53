"""Strings that came from elsewhere, made fit for a terminal.

libvirt takes newlines, escape sequences and bidi controls in names: printed as they are, one name
is two rows, or the terminal obeys it.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence


def safe(text: str) -> str:
    """The text on one line: all that is no printable character (controls, bidi, breaks, spaces
    other than U+0020) as its escape, `\\n` or `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def can_print(text: str) -> bool:
    """Whether standard output has letters for it."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def name(text: str) -> str:
    """A name, so that different names never look the same for their escapes or spaces."""
    shown = safe(text.replace("\\", "\\\\"))
    return f"'{shown}'" if not text or shown != shown.strip() else shown


def command(bus: str, *words: str, options: Sequence[str] = ()) -> str:
    """A virtsnap command to type, on the same bus: `words` quoted for the shell, and names that
    begin with a dash kept from being taken for options. options: stand behind the first word."""
    session = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    where = {"system": [], "session": ["--session"], session: ["--session"]}.get(
        bus, ["--bus-address", bus]
    )
    guarded = list(words)
    dashed = next((n for n, word in enumerate(words) if word.startswith("-")), None)
    if dashed is not None:
        guarded.insert(dashed, "--")
    guarded[1:1] = options
    return shlex.join(["virtsnap", *where, *guarded])


def on_bus(sentence: str, bus: str) -> str:
    """A sentence with the commands in it, `'virtsnap policy list'`, as they are to be typed on the
    same bus: the daemon does not know by which one it was asked."""
    return re.sub(
        "'virtsnap ([A-Za-z][A-Za-z ]*)'",
        lambda found: f"'{command(bus, *found[1].split())}'",
        sentence,
    )


def typable(text: str, other: str) -> str:
    """A name to be typed; the other one, a UUID, where it cannot be."""
    return text if text.isprintable() else other


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
