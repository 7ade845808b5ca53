"""Commands that change a VM with a way back: try, accept, discard, with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import (
    add_command,
    job_options,
    new_name,
    offer,
    preview_option,
    snapshot_argument,
    vm_argument,
    yes_option,
)
from .snapshots import contents, way_back

if TYPE_CHECKING:
    from .common import Commands, Parser

WITH = "with"


def add(commands: Commands) -> None:
    _try(commands)
    _accept(commands)
    _discard(commands)
    _with(commands)


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """virtsnap's own arguments of a `with`, and the command behind the first `--`, in which
    nothing is ours, whatever its options are called."""
    begin = arguments.index(WITH)
    if "--" not in arguments[begin:]:
        return arguments, []
    dashes = arguments.index("--", begin)
    return arguments[:dashes], arguments[dashes + 1 :]


def _try(commands: Commands) -> None:
    parser = add_command(
        commands,
        "try",
        "trials.begin",
        "take a snapshot of a VM to try something: accept then keeps what has changed since, "
        "discard throws it away; no policy counts or deletes it",
        """virtsnap try web-1
        virtsnap try web-1 new-kernel --no-memory    disks only: milliseconds
        virtsnap accept web-1                        it works: keep the changes
        virtsnap discard web-1                       it does not: throw them away""",
    )
    vm_argument(parser)
    new_name(parser, "snapshot", nargs="?")
    parser.add_argument("--description", metavar="TEXT", help="free text")
    contents(parser)
    preview_option(parser)
    parser.add_argument(
        "--yes",
        "-y",
        action="store_true",
        help="also where a trial of the VM is under way, which else is asked, or refused without "
        "a terminal",
    )
    job_options(parser)


def _accept(commands: Commands) -> None:
    parser = add_command(
        commands,
        "accept",
        "trials.accept",
        "end a trial and keep what has changed since: delete its snapshot, what the VM is now "
        "stays as it is",
        """virtsnap accept web-1
        virtsnap accept web-1 new-kernel
        virtsnap accept web-1 --latest    of several trials the newest""",
    )
    _which(parser)
    preview_option(parser)
    yes_option(parser)
    job_options(parser)


def _discard(commands: Commands) -> None:
    parser = add_command(
        commands,
        "discard",
        "trials.discard",
        "end a trial and throw away what has changed since: go back to its snapshot, delete that; "
        "what the VM was is kept in a safety snapshot for a while",
        """virtsnap discard web-1
        virtsnap discard web-1 new-kernel
        virtsnap discard web-1 --latest --preview       what would be lost
        virtsnap discard web-1 --no-safety-snapshot     the changes are gone for good""",
    )
    _which(parser)
    way_back(parser)
    preview_option(parser)
    yes_option(parser)
    job_options(parser)
    parser.set_defaults(delete_after=True)


def _which(parser: Parser) -> None:
    vm_argument(parser)
    name = "name of the trial, where it has several"
    snapshot_argument(parser, kind="trial", nargs="?", default="", help=name)
    parser.add_argument("--latest", action="store_true", help="of several trials the newest")


def _with(commands: Commands) -> None:
    parser = add_command(
        commands,
        WITH,
        "with_command.run_with",
        "take a snapshot of a VM, run a command on this host (not in the guest), and delete the "
        "snapshot where it succeeded, else offer the way back",
        """virtsnap with web-1 -- ansible-playbook upgrade.yml
        virtsnap with web-1 --keep -- ssh root@web-1 apt-get -y full-upgrade
        virtsnap with web-1 --no-memory --name before-upgrade -- make upgrade""",
        daemon=False,
    )
    parser.description = (
        f"{parser.description} The exit code is the command's. The snapshot is a trial: no policy "
        "counts or deletes it. The command finds VIRTSNAP_VM and VIRTSNAP_SNAPSHOT in its "
        "environment; standard input and output are its own: what virtsnap says is on standard "
        "error, with --json as the last line there."
    )
    parser.usage = "%(prog)s [options] VM -- COMMAND [ARGUMENT ...]"
    vm_argument(parser)
    command = parser.add_argument(
        "command", metavar="-- COMMAND", nargs="*", help="what is run, with its arguments"
    )
    offer(command, "file")
    name = "the snapshot's name; one is made up if left out"
    new_name(parser, "--name", dest="snapshot", help=name)
    parser.add_argument(
        "--keep", action="store_true", help="keep the snapshot also where the command succeeded"
    )
    contents(parser)
