"""A person's own editor, on a file."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import Cancelled, InvalidArgument

FALLBACKS = ("sensible-editor", "editor", "nano", "vim", "vi")


def edit(file: Path) -> None:
    """Let a person edit it; return when they are done.

    Raises Cancelled where the editor says that it failed (vim's :cq), InvalidArgument where there
    is none.
    """
    words = command(os.environ, shutil.which)
    # Ctrl-C is the editor's. A handler, for an ignored signal would be ignored by the editor, too
    ours = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        # standard output may be somebody's pipe; standard error is the terminal
        code = subprocess.call([*words, str(file)], stdout=sys.stderr)
    except OSError as error:
        raise InvalidArgument(
            f"the editor {words[0]!r} cannot be started: {error.strerror}; set VISUAL or EDITOR"
        ) from error
    finally:
        signal.signal(signal.SIGINT, ours)
    if code:
        raise Cancelled(f"the editor {words[0]!r} ended with {code}: nothing was done")


def command(environment: Mapping[str, str], find: Callable[[str], str | None]) -> list[str]:
    """The words of $VISUAL or $EDITOR, else an editor that there is. find: as shutil.which.

    Raises InvalidArgument.
    """
    for variable in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(environment.get(variable, ""))
        except ValueError as error:
            raise InvalidArgument(f"{variable} cannot be read as a command: {error}") from error
        if words:
            return words
    for name in FALLBACKS:
        if find(name):
            return [name]
    raise InvalidArgument("there is no editor here; set VISUAL or EDITOR to one")
