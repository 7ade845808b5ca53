"""Strings that came from elsewhere, made fit for the wire and for one line of a log."""

from __future__ import annotations

import re

_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def clean(text: str, limit: int | None = None) -> str:
    """The text with what no bus or no reader can take replaced by U+FFFD.

    Unfit are NUL (dbus-daemon drops whoever sends it), lone surrogates (no UTF-8) and control
    characters other than tab and line breaks. limit: bytes of UTF-8, cut between characters.
    """
    text = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)
    if limit is not None and len(text.encode()) > limit:
        text = text.encode()[:limit].decode(errors="ignore")
    return text


def one_line(text: str, limit: int = 1024) -> str:
    """The text as one line without control characters, at most `limit` bytes of UTF-8."""
    return clean(_BREAKS.sub(" ", text).strip(), limit)
