"""virtsnapd's command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from . import daemon, options
from .errors import SnapdError
from .store import StoreInUse
from .wire.fault import WireError

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
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s: %(message)s")

    async def run_and_leave() -> None:
        code = 1
        try:
            await daemon.run(place)
            code = 0
        except (WireError, StoreInUse) as e:
            _say(str(e))
        except OSError as e:
            what = Path(e.filename).name if e.filename else place.state.name
            _say(f"cannot use {what}: {e.strerror}")
        except SnapdError as e:
            _say(e.message)
        except Exception:
            logging.getLogger(__name__).exception("a fault of virtsnapd")
        daemon.leave(code)

    asyncio.run(run_and_leave())


def _say(text: str) -> None:
    sys.stderr.write(f"virtsnapd: {text}\n")


if __name__ == "__main__":
    main()
