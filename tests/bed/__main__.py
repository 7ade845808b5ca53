"""The bed for shell scripts, from the top of the checkout, as root.

python3 -m tests.bed run -- CMD...     run CMD where qemu:///system is a private libvirt
in it:
python3 -m tests.bed guest NAME [--disks N] [--memory MIB]   make a guest, boot it, wait for it
python3 -m tests.bed tell NAME COMMAND...                    see guest-init for the commands
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.bed import recipe
from tests.bed.guest import Guest
from tests.bed.private import PrivateLibvirt
from tests.bed.talk import GuestError

_IMAGES = "VIRTSNAPD_BED_IMAGES"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("run").add_argument("command", nargs=argparse.REMAINDER)
    guest = verbs.add_parser("guest")
    guest.add_argument("name")
    guest.add_argument("--disks", type=int, default=1)
    guest.add_argument("--memory", type=int, default=160)
    tell = verbs.add_parser("tell")
    tell.add_argument("name")
    tell.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.verb == "run":
        return run(options.command[options.command[:1] == ["--"] :])
    if options.verb == "guest":
        hardware = recipe.Hardware(memory=options.memory)
        images = Path(os.environ[_IMAGES])
        Guest.make(options.name, images, disks=options.disks, hardware=hardware).up()
    else:
        try:
            print(Guest(options.name, Path(), (), recipe.Hardware()).cmd(*options.command))
        except GuestError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def run(command: list[str]) -> int:
    """Run the command inside; return its exit status."""
    recipe.accelerator()
    bed = PrivateLibvirt()
    try:
        bed.start()
        return subprocess.run(command, env={**os.environ, _IMAGES: str(bed.images)}).returncode
    finally:
        bed.close()


if __name__ == "__main__":
    sys.exit(main())
