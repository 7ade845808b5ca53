"""Standard output and error, as text or as JSON. Every line passes through here and is safe."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from . import text

CLEAR = "\r\x1b[K"


class Screen:
    """Where a command shows what it found.

    json: one document on standard output and nothing else. bus: the one that was asked for, for
    the commands that are shown. now: seconds UTC, for ages.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.bus = "system"
        self.now = time.time()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # what the locale has no letter for is escaped
                stream.reconfigure(errors="backslashreplace")

    @property
    def live(self) -> bool:
        """Whether a line may be drawn over while something is at work."""
        return not self.json and sys.stderr.isatty()

    @property
    def can_ask(self) -> bool:
        return sys.stdin.isatty() and sys.stderr.isatty()

    def say(self, line: str = "") -> None:
        """A line of the answer; nothing with --json."""
        if not self.json:
            _write(sys.stdout, line)

    def note(self, line: str) -> None:
        """A line beside the answer; nothing with --json."""
        if not self.json:
            _write(sys.stderr, line)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of cells, each cell as it is to be read, in aligned columns; a column in which
        nothing stands is left out."""
        if self.json or not rows:
            return
        import tabulate

        tabulate.PRESERVE_WHITESPACE = True  # spaces are part of a name
        used = [n for n in range(len(headers)) if any(row[n] for row in rows)]
        shown = [[text.safe(row[n]) for n in used] for row in rows]
        titles = [headers[n] for n in used]
        print(tabulate.tabulate(shown, titles, tablefmt="plain", disable_numparse=True))

    def document(self, value: Any) -> None:
        """The answer for programs; nothing without --json."""
        if self.json:
            print(_json(value, indent=2))

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
            _write(sys.stderr, _json(document))
            return
        for line in lines:
            _write(sys.stderr, line)

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


def _write(stream: TextIO, line: str) -> None:
    print(text.safe(line), file=stream)
