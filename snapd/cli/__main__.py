"""virtsnap's entry: parse, act, and turn every error into a sentence and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import sys
from argparse import Namespace
from importlib import import_module
from typing import Any

from ..errors import SnapdError
from ..wire.fault import WireError
from . import failures
from .output import times
from .output.screen import Screen, flush_beside
from .parser import command_of, parse

NOTHING_RUN = 125
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code (`virtsnap --help` lists them)."""
    # each a tenth of the start: garbage that isn't there, and TLS, which asyncio can do without
    gc.disable()
    _open_what_is_closed()
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    if shell := os.environ.get("_ARGCOMPLETE"):
        from . import complete

        complete.main(shell, sys.argv[1:])
    code = run(sys.argv[1:] if arguments is None else arguments)
    flush_beside()
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Have standard streams that were closed by who started us read and write nothing. In this
    order each gets its own number again, which no socket may have."""
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def run(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    # argparse may stumble before it knows: errors have their form from the first one on
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    screen = Screen(json="--json" in options)
    screen.format = command_of(arguments)
    times.choose(utc="--utc" in options, iso="--iso" in options)
    try:
        try:
            args = parse(arguments)
        except SystemExit:  # --help, --version: written, as far as argparse cares
            screen.flush()
            raise
        args.typed = arguments
        screen = Screen(json=args.json, quiet=args.quiet or args.nul, nul=args.nul)
        screen.bus, screen.format = args.bus, args.format
        code = _act(args, screen)
        screen.flush()
        return code
    except (SnapdError, WireError, failures.JobFailed) as error:
        if command_of(arguments) == "check":  # monitoring has exit codes of its own
            return int(_action("check", "unknown")(screen, error))
        code = failures.report(screen, error)
        return NOTHING_RUN if command_of(arguments) == "with" else code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        return _without_output(PIPE_CLOSED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        return _without_output(failures.unwritten(screen, error))


def _without_output(code: int) -> int:
    """That exit code, without another flush at the exit, which would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _act(args: Namespace, screen: Screen) -> int:
    module, _, name = args.action.partition(".")
    action = _action(module, name)
    if not args.daemon:
        return int(action(args, screen))
    from .client import with_daemon

    return with_daemon(action, args, screen)


def _action(module: str, name: str) -> Any:
    return getattr(import_module(f"{__package__}.actions.{module}"), name)


if __name__ == "__main__":
    main()
