"""A call of every method of the contract, and what comes of it where it is let through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOO_LONG = {"request": "r" * 65}
"""An option that the method itself refuses: it shows that the call got there, and does nothing."""
DEFINITION = {"domains": ["db-*"], "schedule": "@yearly", "keep": {"last": 2}}
NO_POLICY = "none"
LONG = "r" * 1025


@dataclass(frozen=True)
class Row:
    """args: before the options; outcome: the last word of the error's name, "" = none; about: the
    domain, snapshot and policy that polkit is told of."""

    args: tuple[Any, ...] = ()
    opts: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = ""
    about: tuple[str, str, str] = ("", "", "")


VM, BY_HAND = ("web-1",), ("web-1", "by-hand")
ON_VM = ("web-1", "", "")
ON_SNAPSHOT = ("web-1", "by-hand", "")

ACTS = {
    "Manager": {
        "CreateSnapshot": Row(("web-1", ""), TOO_LONG, "InvalidArgument", ON_VM),
        "RevertSnapshot": Row(BY_HAND, TOO_LONG, "InvalidArgument", ON_SNAPSHOT),
        "DeleteSnapshot": Row(BY_HAND, TOO_LONG, "InvalidArgument", ON_SNAPSHOT),
        "DeleteOwnSnapshots": Row(VM, {"dry_run": True}, "", ON_VM),
        "Audit": Row(VM, {}, "", ON_VM),
        "Adopt": Row(
            ("web-1", ["by-hand"], NO_POLICY), {}, "NoSuchPolicy", ("web-1", "by-hand", NO_POLICY)
        ),
        "Hold": Row(("web-1", NO_POLICY, 0, "why"), {}, "NoSuchPolicy", ("web-1", "", NO_POLICY)),
        "Unhold": Row(("web-1", NO_POLICY), {}, "NoSuchPolicy", ("web-1", "", NO_POLICY)),
        "SetPolicy": Row((NO_POLICY, {}), {}, "InvalidArgument", ("", "", NO_POLICY)),
        "RemovePolicy": Row((NO_POLICY,), {}, "NoSuchPolicy", ("", "", NO_POLICY)),
        "RunPolicy": Row((NO_POLICY,), {"domain": "db-1"}, "NoSuchPolicy", ("db-1", "", NO_POLICY)),
        "ConfirmPrune": Row(
            ("web-1", NO_POLICY, "plan"), {}, "NoSuchPolicy", ("web-1", "", NO_POLICY)
        ),
        "Reload": Row(),
    },
    "Snapshot": {
        "Revert": Row((), TOO_LONG, "InvalidArgument", ON_SNAPSHOT),
        "Delete": Row((), TOO_LONG, "InvalidArgument", ON_SNAPSHOT),
        "Pin": Row((LONG,), {}, "InvalidArgument", ON_SNAPSHOT),
        "Unpin": Row((), {}, "", ON_SNAPSHOT),
        "SetDescription": Row(("\x01",), {}, "InvalidArgument", ON_SNAPSHOT),
        "GetXML": Row((), {}, "", ON_SNAPSHOT),
    },
    "Job": {"Cancel": Row((), {}, "Busy", ON_VM)},
}
"""What polkit is asked about."""

READS = {
    "Manager": {
        "ListDomains": Row(),
        "ListSnapshots": Row(("",)),
        "ListPolicies": Row(),
        "ListProblems": Row(),
        "ListJobs": Row(),
        "ListCoverage": Row(("",)),
        "ListRuns": Row(("",)),
        "ListHistory": Row(("",)),
        "GetDomain": Row(VM),
        "GetPolicy": Row(("yearly",)),
        "GetSnapshot": Row(BY_HAND),
        "PreviewCreate": Row(("web-1", "")),
        "PreviewRevert": Row(BY_HAND),
        "PreviewDelete": Row(BY_HAND),
        "ValidatePolicy": Row((NO_POLICY, DEFINITION)),
        "PreviewSchedule": Row(("yearly",)),
        "PreviewRetention": Row(("db-1", "yearly")),
    },
    "Job": {"Wait": Row((), {}, "AlreadyExists")},  # of a job that ended so
}
"""What is open to everybody whom the bus lets call. To be added to only where nothing is changed
and nothing shown that `inspect` is for."""
