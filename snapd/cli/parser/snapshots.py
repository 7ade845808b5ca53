"""Commands that make, use and delete snapshots: create, revert, undo, delete."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .common import (
    add_command,
    job_options,
    new_name,
    offer,
    policy_option,
    preview_option,
    seconds,
    snapshot_argument,
    vm_argument,
    yes_option,
)
from .moments import past
from .optional import MEMORY, QUIESCE

if TYPE_CHECKING:
    from .common import Commands


def add(commands: Commands) -> None:
    _create(commands)
    _revert(commands)
    _undo(commands)
    _delete(commands)


def _create(commands: Commands) -> None:
    parser = add_command(
        commands,
        "create",
        "create.create",
        "take a snapshot of a VM",
        """virtsnap create web-1
        virtsnap create web-1 before-upgrade --description 'before the upgrade to 13'
        virtsnap create web-1 --memory           with RAM: the VM stands still while it is written
        virtsnap create web-1 --no-memory        disks only: milliseconds
        virtsnap create db-1 --quiesce           only if the guest agent can freeze it
        virtsnap create web-1 --trial            to try something: kept out of every policy
        virtsnap create web-1 broken --then restart   keep the broken state, and go on working
        virtsnap create web-1 --kind external    in files of its own, where libvirt can merge them
        virtsnap create web-1 --preview          what it would be, and what is in the way""",
    )
    vm_argument(parser)
    new_name(parser, "snapshot", nargs="?")
    parser.add_argument("--description", metavar="TEXT", help="free text")
    contents(parser)
    parser.add_argument("--trial", action="store_true", help="keep it out of every policy")
    parser.add_argument(
        "--then",
        choices=("continue", "stop", "restart"),
        help="what a running VM does once the snapshot is verified: continue (default); "
        "stop = its power is cut; restart = cut and on again",
    )
    preview_option(parser)
    job_options(parser)


def contents(parser: argparse.ArgumentParser) -> None:
    """What is to be in a new one, where, and how long that may take."""
    parser.add_argument(
        "--kind",
        choices=("auto", "internal", "external"),
        help="inside the images, or in overlay files: auto (default) = internal, where every disk "
        "allows it and the VM stands still for a second at most",
    )
    parser.add_argument(
        "--memory",
        choices=MEMORY,
        help="save RAM of a running VM: auto (default) = where it can be written within max-pause; "
        "bare = yes",
    )
    parser.add_argument("--no-memory", help="as --memory no", **_no("memory"))
    parser.add_argument(
        "--quiesce",
        choices=QUIESCE,
        help="freeze the guest's file systems by its agent: try (default); bare = require",
    )
    parser.add_argument("--no-quiesce", help="as --quiesce no", **_no("quiesce"))
    parser.add_argument(
        "--max-pause", metavar="TIME", type=seconds, help="longest standstill of the VM (60s)"
    )


def _no(option: str) -> dict[str, Any]:
    return {"action": "store_const", "const": "no", "dest": option, "default": argparse.SUPPRESS}


def _revert(commands: Commands) -> None:
    parser = add_command(
        commands,
        "revert",
        "revert.revert",
        "bring a VM back to a snapshot",
        """virtsnap revert web-1 before-upgrade
        virtsnap revert web-1 before-upgrade --after running
        virtsnap revert web-1 --latest                  to the newest: no safety one, no trial
        virtsnap revert web-1 --latest --policy nightly
        virtsnap revert web-1 --before 2026-11-24T02:30
        virtsnap revert web-1 --before 2h --preview     which, and what would be lost
        virtsnap revert web-1 before-upgrade --preview               what would be lost
        virtsnap revert web-1 tried --delete-after                   throw a trial away
        virtsnap revert web-1 before-upgrade --no-safety-snapshot    what it is now is lost""",
    )
    vm_argument(parser)
    _target(parser)
    way_back(parser)
    parser.add_argument(
        "--delete-after", action="store_true", help="delete the snapshot once the VM is back at it"
    )
    preview_option(parser)
    yes_option(parser)
    job_options(parser)


def _target(parser: argparse.ArgumentParser) -> None:
    """The snapshot to go back to, in exactly one way."""
    one = parser.add_mutually_exclusive_group(required=True)
    named = one.add_argument("snapshot", metavar="SNAPSHOT", nargs="?", help="name of a snapshot")
    offer(named, "snapshot")
    one.add_argument(
        "--latest",
        action="store_true",
        help="the newest; never a safety snapshot, a trial, one that is broken or half made, or "
        "one whose time is unknown or still to come",
    )
    one.add_argument(
        "--before",
        metavar="TIME",
        type=past,
        help="the newest of those from before that time, local, or so long ago: 90min, 2h, 3d, 1w",
    )
    policy_option(parser, help="with --latest or --before: only of those that this policy made")


def way_back(parser: argparse.ArgumentParser) -> None:
    """How a VM goes back to a snapshot."""
    parser.add_argument(
        "--no-safety-snapshot",
        "--no-safety",
        action="store_true",
        help="do not keep what the VM is now: the revert cannot be undone",
    )
    parser.add_argument(
        "--after",
        choices=("as-snapshot", "running", "paused", "stopped"),
        help="what the VM is to do then (as-snapshot)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="also where libvirt calls it risky, a TPM is newer, or a VM that may share a disk "
        "does not answer",
    )
    parser.add_argument(
        "--discard-saved-state",
        action="store_true",
        help="with --force: give up the RAM that the VM has in its managed save",
    )


def _undo(commands: Commands) -> None:
    parser = add_command(
        commands,
        "undo",
        "undo.undo",
        "take the last revert of a VM back",
        """virtsnap undo web-1
        virtsnap undo web-1 --preview    what it would do, and what would be lost
        virtsnap undo web-1 --yes        also where the VM was worked with since
        virtsnap undo web-1              the second one takes the first one back""",
    )
    vm_argument(parser)
    way_back(parser)
    parser.set_defaults(delete_after=False)
    preview_option(parser)
    yes_option(parser)
    job_options(parser)


def _delete(commands: Commands) -> None:
    parser = add_command(
        commands,
        "delete",
        "delete.delete",
        "delete snapshots, whoever made them; what the VM is now stays as it is",
        """virtsnap delete web-1 before-upgrade
        virtsnap delete web-1 one two three          one after the other, children first
        virtsnap delete web-1 'old-*'                all that fit; quoted for the shell
        virtsnap delete web-1 'old-*' --preview      which these are, and whether each can go
        virtsnap delete web-1 before-upgrade --yes
        virtsnap delete web-1 before-upgrade --children   with all that were made on top of it
        virtsnap delete web-1 --all-ours --dry-run   what would go, and what would stay
        virtsnap delete web-1 --all-ours             so that the VM can be undefined""",
    )
    vm_argument(parser)
    names = (
        "names of snapshots, or globs, which need --yes where nobody can be asked; one that is a "
        "name is no glob"
    )
    snapshot_argument(parser, dest="snapshots", nargs="*", help=names)
    parser.add_argument(
        "--children", action="store_true", help="with all snapshots that descend from it"
    )
    parser.add_argument(
        "--all-ours",
        action="store_true",
        help="all that virtsnapd made of itself, and hold all policies on the VM",
    )
    parser.add_argument(
        "--manual", action="store_true", help="with --all-ours: also those made by hand through it"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with --all-ours: only say what would go"
    )
    preview_option(parser)
    yes_option(parser)
    job_options(parser)
