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

_DONE_BY = {
    "systemctl reload virtsnapd": "send virtsnapd SIGHUP",
    "systemctl restart virtsnapd": "end virtsnapd and start it again",
    "systemctl edit virtsnapd, with": "where it has a unit, with",
}


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
    where = {"system": [], "session": ["--session"]}.get(_kind(bus), ["--bus-address", bus])
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


def systemctl(sentence: str, bus: str) -> str:
    """A sentence with the systemctl commands for virtsnapd in it as they are to be typed for the
    one on that bus; on a bus that is no manager's, as what they do."""
    kind = _kind(bus)
    if kind not in ("system", "session"):
        for typed, done in _DONE_BY.items():
            sentence = sentence.replace(typed, done)
        return sentence
    user = "--user " if kind == "session" else ""
    return re.sub("systemctl (?=[a-z]+ virtsnapd)", f"systemctl {user}", sentence)


def _kind(bus: str) -> str:
    """system, session, or the address of another bus."""
    return "session" if bus == os.environ.get("DBUS_SESSION_BUS_ADDRESS") else bus


def typable(text: str, other: str) -> str:
    """A name to be typed; the other one, a UUID, where it cannot be: there is none, or it has
    letters that cannot be typed, or would be taken for a UUID."""
    like_a_uuid = re.fullmatch("[0-9a-fA-F-]{36}", text)
    return text if text and text.isprintable() and not like_a_uuid else other


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
