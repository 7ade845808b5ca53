"""Commands that look at VMs, snapshots and jobs and change nothing: list, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import add_command, snapshot_argument, vm_argument

if TYPE_CHECKING:
    from .common import Commands


def add(commands: Commands) -> None:
    _list(commands)
    _files(commands)


def _list(commands: Commands) -> None:
    parser = add_command(
        commands,
        "list",
        "listing.list_snapshots",
        "list snapshots, of all VMs or of one",
        """virtsnap list
        virtsnap list web-1
        virtsnap list web-1 --json""",
    )
    vm_argument(parser, nargs="?", default="")


def _files(commands: Commands) -> None:
    parser = add_command(
        commands,
        "files",
        "files.files",
        "show the files that an external snapshot keeps as they were, for a backup to copy",
        """virtsnap files web-1 backup
        virtsnap files web-1 backup --json""",
    )
    vm_argument(parser)
    snapshot_argument(parser)
