"""The command that goes on: watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import add_command, vm_argument

if TYPE_CHECKING:
    from .common import Commands


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "watch",
        "watch.watch",
        "tell what happens while it happens, a line each: snapshots that are created, deleted and "
        "reverted to, runs of policies, problems, jobs that fail; Ctrl-C ends it",
        """virtsnap watch
        virtsnap watch web-1
        virtsnap watch --problems     what there is to act on, now and from now on
        virtsnap watch --json         a JSON document a line, for programs
        virtsnap watch --notify       each problem as a notification on the desktop""",
    )
    vm_argument(parser, nargs="?", default="")
    parser.add_argument(
        "--problems",
        action="store_true",
        help="problems only: first those that there are, then each that comes or is over",
    )
    parser.add_argument(
        "--notify",
        action="store_true",
        help="as --problems, and show each on the desktop of your session until it is over; "
        "the user unit virtsnap-notify.service does it in the background",
    )
