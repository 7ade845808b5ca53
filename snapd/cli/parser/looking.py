"""Commands that look at VMs, snapshots and jobs: list, show, domains, jobs, files."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from ...errors import InvalidArgument
from .common import (
    add_command,
    offer,
    policy_option,
    snapshot_argument,
    typed_name,
    vm_argument,
)
from .moments import past

if TYPE_CHECKING:
    from .common import Commands, Parser

COLUMNS = {
    "current": "* = the one that libvirt has as current",
    "vm": "its VM",
    "snapshot": "its name",
    "created": "when it was made",
    "age": "how long ago that was",
    "state": "what the VM did then",
    "consistency": "what was got",
    "kind": "internal or external",
    "origin": "who wanted it",
    "policies": "those that it counts for",
    "notes": "what is special about it",
    "description": "free text",
    "disks": "that it holds",
    "left-out": "disks that it does not hold",
    "parent": "what it was made on",
    "pause": "how long the VM stood still",
    "status": "ok, or what is wrong",
    "pin": "why it is pinned",
    "revert": "what is in the way of a revert",
    "delete": "what is in the way of its deletion",
    "uuid": "of its VM",
}
_OF_JSON = {
    "name": "snapshot",
    "domain": "vm",
    "domainname": "vm",
    "domainuuid": "uuid",
    "timeknown": "created",
    "disksleftout": "left-out",
    "pausemilliseconds": "pause",
    "pinned": "pin",
    "pinreason": "pin",
    "revertblocker": "revert",
    "deleteblocker": "delete",
}
"""Properties of a snapshot, where they have other names than their columns, in small letters."""
ORIGINS = ("manual", "policy", "event", "safety", "trial", "foreign")
KINDS = ("internal", "external")
STATES = ("running", "paused", "shutoff", "crashed", "suspended", "unknown")
JOB_STATES = ("queued", "running", "done", "failed", "cancelled", "unknown")


def add(commands: Commands) -> None:
    _list(commands)
    _show(commands)
    _domains(commands)
    _jobs(commands)
    _files(commands)


def _list(commands: Commands) -> None:
    parser = add_command(
        commands,
        "list",
        "listing.list_snapshots",
        "list snapshots, of all VMs or of one; * is the current one",
        """virtsnap list
        virtsnap list web-1
        virtsnap list web-1 --tree                   what each was made on
        virtsnap list --origin manual --older-than 30d
        virtsnap list web-1 --columns snapshot,created,disks
        virtsnap list web-1 --policy nightly -q      names only; of all VMs: VM/SNAPSHOT
        virtsnap list web-1 --json                   for scripts""",
    )
    vm_argument(parser, nargs="?", default="")
    parser.add_argument(
        "--tree",
        action="store_true",
        help="draw what each was made on, the current one marked; of those that are picked also "
        "the names of all that they were made on",
    )
    parser.add_argument(
        "--columns",
        metavar="A,B,C",
        type=columns,
        help="show these: " + "; ".join(f"{name} ({what})" for name, what in COLUMNS.items()),
    )
    _picked(parser)


def _picked(parser: Parser) -> None:
    """Which of the snapshots; all that are given have to hold."""
    group = parser.add_argument_group("which ones (all that is given has to hold)")
    group.add_argument("--origin", choices=ORIGINS, help="only those of that origin")
    policy_option(group, help="only what counts for it")
    group.add_argument("--kind", choices=KINDS, help="only those of that kind")
    group.add_argument("--pinned", action="store_true", help="only those that are pinned")
    group.add_argument("--current", action="store_true", help="only the current one of each VM")
    for option, made in (("--older-than", "before"), ("--newer-than", "after")):
        group.add_argument(
            option,
            metavar="AGE",
            type=past,
            help=f"only what was made {made} then: 12h, 30d, 4w, or a time; no unknown ones",
        )


def _show(commands: Commands) -> None:
    parser = add_command(
        commands,
        "show",
        "about.show",
        "show all that is known about a snapshot, also one that is gone, or about a VM; exit code "
        "3 = nothing is known",
        """virtsnap show web-1 before-upgrade   or who deleted it, when and why
        virtsnap show web-1
        virtsnap show web-1 before-upgrade --json
        virtsnap show web-1 before-upgrade -q   its name, where it is there""",
    )
    vm_argument(parser)
    snapshot_argument(parser, nargs="?", default="", help="name of a snapshot; none = the VM")


def _domains(commands: Commands) -> None:
    parser = add_command(
        commands,
        "domains",
        "domains.domains",
        "list the VMs: whether they can be snapshotted, by which policies they are, and when last",
        """virtsnap domains
        virtsnap domains --unprotected       no policy covers them
        virtsnap domains --unsupported       no snapshot of them can be made
        virtsnap domains --running --failed -q""",
    )
    group = parser.add_argument_group("which ones (all that is given has to hold)")
    group.add_argument("--unprotected", action="store_true", help="only those under no policy")
    group.add_argument(
        "--unsupported",
        action="store_true",
        help="only those of which no snapshot can be made, of whatever kind",
    )
    group.add_argument("--failed", action="store_true", help="only those whose last run failed")
    state = group.add_mutually_exclusive_group()
    state.add_argument("--state", choices=STATES, help="only those that do that now")
    state.add_argument(
        "--running", action="store_const", const="running", dest="state", help="as --state running"
    )


def _jobs(commands: Commands) -> None:
    parser = add_command(
        commands,
        "jobs",
        "jobs.jobs",
        "list what is at work, waits for its turn, or ended in the last 10 minutes; show a job, "
        "follow it or cancel it",
        """virtsnap jobs
        virtsnap jobs --vm web-1 --state failed
        virtsnap jobs 12
        virtsnap jobs 12 --wait      until its end, with its exit code
        virtsnap jobs 12 --cancel    where it has not begun""",
    )
    job = parser.add_argument(
        "job", metavar="JOB", nargs="?", type=job_path, help="number or D-Bus path of a job"
    )
    offer(job, "job")
    group = parser.add_argument_group("which ones, without JOB")
    offer(
        group.add_argument("--vm", metavar="VM", type=typed_name, help="only those of that VM"),
        "vm",
    )
    group.add_argument("--state", choices=JOB_STATES, help="only those in that state")
    act = parser.add_mutually_exclusive_group()
    act.add_argument("--wait", action="store_true", help="wait until it ends; Ctrl-C leaves it be")
    act.add_argument(
        "--cancel", action="store_true", help="cancel it, where it has not begun; else it is let be"
    )


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


def columns(text: str) -> list[str]:
    """Names of columns of `list`, one or more, in the order in which they are to stand; also as
    the table has them, in capitals, and as JSON has them."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("give the name of a column, as in snapshot,created,age")
    return list(dict.fromkeys(map(_column, names)))


def _column(typed: str) -> str:
    """Raises InvalidArgument with those that may have been meant."""
    name = typed.lower()
    column = _OF_JSON.get(name, name)
    if column in COLUMNS:
        return column
    from ..alike import near

    see = "'virtsnap list --help' lists them"
    error = InvalidArgument(f"--columns: there is no column {typed!r}; {see}", item=typed)
    found = near(name, [*COLUMNS, *_OF_JSON])
    error.near = tuple(dict.fromkeys(_OF_JSON.get(each, each) for each in found))
    raise error


def job_path(text: str) -> str:
    """A job's path, of its number or its path."""
    from ...wire import paths

    number = text.removeprefix(f"{paths.JOBS}/")
    if not re.fullmatch(r"[1-9][0-9]{0,18}", number):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no job; write its number, or its path {paths.JOBS}/NUMBER"
        )
    return f"{paths.JOBS}/{number}"
