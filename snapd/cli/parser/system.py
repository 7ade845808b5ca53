"""Commands about the whole: status, audit, history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .common import add_command, job_options, vm_argument

if TYPE_CHECKING:
    from .common import Commands


def add(commands: Commands) -> None:
    add_command(
        commands,
        "status",
        "status.status",
        "show what is protected, what is next and what is wrong",
        """virtsnap
        virtsnap status --json""",
    )
    audit = add_command(
        commands,
        "audit",
        "upkeep.audit",
        "look for what is amiss with snapshots and images, with proof, and change nothing; "
        "exit code 0 nothing found, 1 something",
        """virtsnap audit
        virtsnap audit web-1
        virtsnap audit --json""",
    )
    vm_argument(audit, nargs="?", default="")
    job_options(audit)
    history = add_command(
        commands,
        "history",
        "history.history",
        "show who did what to which snapshot, why, and what came of it",
        """virtsnap history
        virtsnap history web-1
        virtsnap history web-1 before-upgrade""",
    )
    vm_argument(history, nargs="?", default="")
    history.add_argument(
        "snapshot", metavar="SNAPSHOT", nargs="?", default="", help="of this one only, also if gone"
    )
