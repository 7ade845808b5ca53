"""Commands about the whole: status, check, audit, history."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .common import (
    add_command,
    job_options,
    policy_option,
    seconds,
    snapshot_argument,
    vm_argument,
)
from .moments import past

if TYPE_CHECKING:
    from .common import Commands

VERBS = (
    *("create", "revert", "delete", "pin", "unpin", "adopt", "describe", "hold", "unhold"),
    *("set-policy", "remove-policy"),
)
"""What history has."""


def add(commands: Commands) -> None:
    add_command(
        commands,
        "status",
        "status.status",
        "show what is protected, what is next and what is wrong",
        """virtsnap
        virtsnap status --json""",
    )
    _check(commands)
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
        virtsnap history web-1 before-upgrade
        virtsnap history --since 2d --verb delete          what went since the day before yesterday
        virtsnap history --policy nightly --since 2026-11-01 --until 2026-11-08
        virtsnap history web-1 --verb delete -q            names of snapshots that are gone""",
    )
    vm_argument(history, nargs="?", default="")
    snapshot_argument(history, nargs="?", default="", help="of this one only, also if gone")
    policy_option(history, default="", help="what was done for this policy, or to it")
    verbs = f"this only: {', '.join(VERBS)}"
    history.add_argument("--verb", metavar="VERB", choices=VERBS, default="", help=verbs)
    ago = "a time, as 10:00 or yesterday, or how long ago: 3h, 2d, 1w"
    history.add_argument("--since", metavar="TIME", type=past, help=f"not what was before: {ago}")
    history.add_argument("--until", metavar="TIME", type=past, help="not what was after")


def _check(commands: Commands) -> None:
    check = add_command(
        commands,
        "check",
        "check.check",
        "tell monitoring whether all is well; never starts virtsnapd, which is CRITICAL when it is "
        "not running, as where there is no system bus; a bus that cannot be reached for another "
        "reason is UNKNOWN; exit code 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN",
        """virtsnap check
        virtsnap check web-1 --policy nightly    what is about this VM under this policy
        virtsnap check --timeout 10s
        virtsnap check --json
        virtsnap check --prometheus              for node_exporter's textfile collector""",
        daemon=False,
    )
    vm_argument(check, nargs="?", default="")
    policy_option(check, default="", help="what is about this policy only")
    check.add_argument(
        "--timeout",
        metavar="TIME",
        type=_patience,
        default=30,
        help="how long to wait for virtsnapd before it is CRITICAL (30s)",
    )
    check.add_argument(
        "--prometheus",
        action="store_true",
        help="metrics in Prometheus's text format; exit code 0 wherever there are some, also of a "
        "virtsnapd that is not running",
    )


def _patience(text: str) -> int:
    found = seconds(text)
    if not found:
        raise argparse.ArgumentTypeError("nobody answers within 0 s; write 10s or 1min")
    return found
