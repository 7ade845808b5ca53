"""virtsnapd's command line."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import sys
from pathlib import Path

from . import daemon, journal, options
from .errors import SnapdError
from .store import StoreInUse
from .wire.fault import WireError

log = logging.getLogger(__name__)

SESSION_LINGER = 60.0
"""Seconds that a session's daemon stays when nobody needs it; the next call starts it again."""


def _place(parser: argparse.ArgumentParser, arguments: list[str]) -> daemon.Place:
    args = parser.parse_args(arguments)
    # A libvirt that we spawned would have the user's VMs in our unit, and they would end with it.
    os.environ["LIBVIRT_AUTOSTART"] = "0"
    if args.bus_address and not (args.connect and args.config and args.state):
        parser.error("--bus-address needs --connect, --config and --state")
    if args.session:
        config = _xdg("XDG_CONFIG_HOME", ".config")
        state = _xdg("XDG_STATE_HOME", ".local/state")
        bus, uri = "session", "qemu:///session"
    else:
        config, state = Path("/etc/virtsnapd"), Path("/var/lib/virtsnapd")
        bus, uri = args.bus_address or "system", "qemu:///system"
    linger = SESSION_LINGER if args.session else 0.0
    return daemon.Place(bus, args.connect, uri, args.config or config, args.state or state, linger)


def _xdg(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "virtsnapd"


def main(arguments: list[str] | None = None) -> None:
    """Run the daemon; the exit status is 0 after SIGTERM, 1 after anything else."""
    place = _place(options.build(), sys.argv[1:] if arguments is None else arguments)
    faulthandler.enable()  # the watchdog of systemd ends us with SIGABRT: what was being done then?
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # to systemd, an end by it would be a clean one
    say = _journal if journal.setup() else _say

    async def run_and_leave() -> None:
        code = 1
        try:
            await daemon.run(place)
            code = 0
        except (WireError, StoreInUse) as e:
            say(str(e))
        except OSError as e:
            what = Path(e.filename).name if e.filename else place.state.name
            say(f"cannot use {what}: {e.strerror}")
        except SnapdError as e:
            say(e.message)
        except Exception:
            log.exception("a fault of virtsnapd", extra=journal.about(event=journal.FAILED))
        daemon.leave(code)

    asyncio.run(run_and_leave())


def _say(text: str) -> None:
    """Why it cannot be run, to whoever has typed the command."""
    sys.stderr.write(f"virtsnapd: {text}\n")


def _journal(text: str) -> None:
    log.error("%s", text, extra=journal.about(event=journal.FAILED))


if __name__ == "__main__":
    main()
