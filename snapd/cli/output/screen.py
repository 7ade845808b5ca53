"""Standard output and error, as text or as JSON. Every line passes through here and is safe."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from . import colours, text

if TYPE_CHECKING:
    from .tables import Column

CLEAR = "\r\x1b[K"
VERSION = 1
"""Of the documents: keys are only added to one, what is there keeps its meaning."""


class Screen:
    """Where a command shows what it found.

    json: one document on standard output and nothing else. quiet: names or ids and nothing else,
    each on a line, or with a NUL behind it. bus: the one that was asked for, for the commands that
    are shown. format: what the document is, as `list`. now: seconds UTC, for ages.
    """

    def __init__(self, *, json: bool, quiet: bool = False, nul: bool = False) -> None:
        self.json, self.quiet, self.nul = json, quiet and not json, nul
        self.bus = "system"
        self.format = ""
        self.now = time.time()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # what the locale has no letter for is escaped
                stream.reconfigure(errors="backslashreplace")

    @property
    def text(self) -> bool:
        """Whether people read the answer: neither --json nor --quiet."""
        return not (self.json or self.quiet)

    @property
    def live(self) -> bool:
        """Whether a line may be drawn over while something is at work."""
        able = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        return self.text and able and sys.stderr.isatty()

    @property
    def can_ask(self) -> bool:
        return sys.stdin.isatty() and sys.stderr.isatty()

    def say(self, line: str = "", word: str = "") -> None:
        """A line of the answer, in the colour of that word; nothing with --json or --quiet."""
        if self.text:
            _write(sys.stdout, line, word)

    def note(self, line: str, word: str = "") -> None:
        """A line beside the answer; nothing with --json or --quiet."""
        if self.text:
            _write(sys.stderr, line, word)

    def aside(self, line: str, word: str = "") -> None:
        """A line that a person is to have read before a question, whatever the answer's form."""
        _write(sys.stderr, line, word)

    def table(self, columns: Sequence[Column | str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of cells, each cell as it is to be read, in aligned columns that fit the terminal,
        by what the columns say of themselves; without a terminal all is shown."""
        if not self.text or not rows:
            return
        from .tables import Column, lines

        told = [Column(each) if isinstance(each, str) else each for each in columns]
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        made, gone = lines(told, rows, width=width, colour=colours.wanted(sys.stdout))
        print("\n".join(made))
        if gone:
            self.note(f"(too narrow for {', '.join(gone)})")

    def names(self, names: Iterable[str]) -> None:
        """What the answer is with --quiet: names or ids, as they are; made safe on a terminal."""
        if not self.quiet:
            return
        if sys.stdout.isatty():
            for each in names:
                _write(sys.stdout, each)
            return
        end = "\0" if self.nul else "\n"
        self.flush()
        sys.stdout.buffer.write("".join(f"{each}{end}" for each in names).encode())

    def document(self, value: Mapping[str, Any]) -> None:
        """The answer for programs; nothing without --json. Its format and what is in it are what
        virtsnap.schema.json says."""
        if self.json:
            print(_json({"format": f"{self.format}/{VERSION}", **value}, indent=2))

    def event(self, value: Mapping[str, Any]) -> None:
        """One of many documents, on a line of its own; nothing without --json."""
        if self.json:
            print(_json({"format": f"{self.format}/{VERSION}", **value}), flush=True)

    def export(self, lines: str) -> None:
        """Text in a format of its own, as it is and in UTF-8 whatever the locale; made safe where
        a terminal reads it."""
        if sys.stdout.isatty():
            for line in lines.splitlines():
                _write(sys.stdout, line)
        else:
            sys.stdout.buffer.write(lines.encode())

    def failure(self, lines: Sequence[str], document: dict[str, Any]) -> None:
        """An error: lines for people, one document for programs, on standard error."""
        if self.json:
            _write(sys.stderr, _json({"format": f"error/{VERSION}", **document}))
            return
        for n, line in enumerate(lines):
            _write(sys.stderr, line, "way" if n else "critical")

    def draw(self, line: str = "") -> None:
        """Draw over the line that is being drawn; without one, wipe it away."""
        sys.stderr.write(CLEAR + text.safe(line))
        sys.stderr.flush()

    def command(self, *words: str, options: Sequence[str] = ()) -> str:
        """A virtsnap command to type on the bus of this one."""
        return text.command(self.bus, *words, options=options)

    def flush(self) -> None:
        """Raises BrokenPipeError where nobody reads any more."""
        sys.stdout.flush()


def _json(value: Any, **how: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=True, **how)


def _write(stream: TextIO, line: str, word: str = "") -> None:
    shown = text.safe(line)
    if word and colours.wanted(stream):
        shown = colours.painted(shown, word)
    if stream is not sys.stderr:
        print(shown, file=stream)
        return
    try:
        print(shown, file=stream)
    except OSError:
        _give_up_beside()


def flush_beside() -> None:
    """Write what standard error has left to write, if it can be."""
    try:
        sys.stderr.flush()
    except OSError:
        _give_up_beside()


def _give_up_beside() -> None:
    """Let nothing more be written on standard error, which takes no more: that changes neither the
    answer nor the exit code, and Python's own flush at the exit would."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
