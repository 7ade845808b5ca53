"""Commands about what is kept, and how it is called: pin, unpin, adopt, describe, hold, unhold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import (
    add_command,
    offer,
    policy_option,
    snapshot_argument,
    vm_argument,
    yes_option,
)
from .moments import coming

if TYPE_CHECKING:
    from .common import Commands, Parser


def add(commands: Commands) -> None:
    _describe(commands)
    _pin(commands)
    _unpin(commands)
    _adopt(commands)
    _hold(commands)
    _unhold(commands)


def _describe(commands: Commands) -> None:
    parser = add_command(
        commands,
        "describe",
        "keeping.describe",
        "give a snapshot another description; all else stays as it was",
        """virtsnap describe web-1 before-upgrade 'before the upgrade to 13'
        virtsnap describe web-1 before-upgrade ''    none at all""",
    )
    vm_argument(parser)
    snapshot_argument(parser)
    parser.add_argument("text", metavar="TEXT", help="free text, in place of what was there")


def _pin(commands: Commands) -> None:
    parser = add_command(
        commands,
        "pin",
        "keeping.pin",
        "keep a snapshot, whoever made it, from being deleted by anybody until it is unpinned",
        """virtsnap pin web-1 before-upgrade
        virtsnap pin web-1 before-upgrade --reason 'audit until June'""",
    )
    vm_argument(parser)
    snapshot_argument(parser)
    parser.add_argument("--reason", metavar="TEXT", default="", help="why; shown with it")


def _unpin(commands: Commands) -> None:
    parser = add_command(
        commands,
        "unpin",
        "keeping.unpin",
        "take the pin off a snapshot: it can be deleted again, and its policy counts it again",
        "virtsnap unpin web-1 before-upgrade",
    )
    vm_argument(parser)
    snapshot_argument(parser)


def _adopt(commands: Commands) -> None:
    parser = add_command(
        commands,
        "adopt",
        "keeping.adopt",
        "give foreign snapshots to a policy, whose retention may then delete them: for those that "
        "were ours before a move, a reinstall or a lost store; all of them or none",
        """virtsnap adopt web-1 nightly-20261124T013000Z --policy nightly
        virtsnap adopt web-1 one two three --policy nightly --yes""",
    )
    vm_argument(parser)
    foreign = parser.add_argument(
        "names", metavar="NAME", nargs="+", help="name of a foreign snapshot"
    )
    offer(foreign, "foreign")
    policy_option(parser, required=True, help="name of a policy in force")
    yes_option(parser)


def _hold(commands: Commands) -> None:
    parser = add_command(
        commands,
        "hold",
        "keeping.hold",
        "have policies leave a VM alone: no snapshot and no prune by them; what is done by hand "
        "(create, revert, delete) still works",
        """virtsnap hold web-1 --reason 'migration'
        virtsnap hold web-1 --policy nightly --until 2026-12-01T06:00Z
        virtsnap hold web-1 --until 3h                  for three hours
        virtsnap hold --reason 'storage is moved'       every policy, all VMs""",
    )
    _which(parser)
    parser.add_argument(
        "--until",
        metavar="TIME",
        type=coming,
        default=0,
        help="when it ends by itself, or how long from now: 3h, 2d, 1w (not before unhold)",
    )
    parser.add_argument("--reason", metavar="TEXT", default="", help="why; shown as a problem")


def _unhold(commands: Commands) -> None:
    parser = add_command(
        commands,
        "unhold",
        "keeping.unhold",
        "take holds back: policies go on with their next slot",
        """virtsnap unhold web-1
        virtsnap unhold web-1 --policy nightly
        virtsnap unhold                                 every hold that there is""",
    )
    _which(parser)


def _which(parser: Parser) -> None:
    vm_argument(parser, nargs="?", default="")
    policy_option(parser, default="", help="name of a policy (every one)")
