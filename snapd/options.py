"""What can be typed after virtsnapd; apart from what it starts, for the manual page's sake."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import __version__

EPILOG = """\
examples:
  virtsnapd                       the system bus, qemu:///system
  virtsnapd --session             the session bus, qemu:///session
  virtsnapd --bus-address unix:path=/tmp/bus --connect test:///default \\
      --config /tmp/etc --state /tmp/state
"""


def build() -> argparse.ArgumentParser:
    """The parser of the daemon's command line."""
    parser = argparse.ArgumentParser(
        prog="virtsnapd",
        description="Take scheduled snapshots of libvirt VMs and offer them on D-Bus.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bus = parser.add_mutually_exclusive_group()
    bus.add_argument("--system", action="store_true", help="the system bus (the default)")
    bus.add_argument("--session", action="store_true", help="the session bus")
    bus.add_argument("--bus-address", metavar="ADDR", help="a bus of that D-Bus address")
    parser.add_argument("--connect", metavar="URI", help="libvirt's URI")
    parser.add_argument("--config", metavar="DIR", type=Path, help="virtsnapd.toml, policies.d/")
    parser.add_argument("--state", metavar="DIR", type=Path, help="the store, the API's policies")
    parser.add_argument("--version", action="version", version=f"virtsnapd {__version__}")
    return parser
