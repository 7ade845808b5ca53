"""check's answer as a plugin of Nagios, Icinga and their like prints it, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..verdict import MUTE, RUNNING, STOPPED, Finding, Seen, Status, status
from .text import safe


def lines(seen: Seen, found: Sequence[Finding], now: float) -> list[str]:
    """`VIRTSNAP STATUS - what | performance data`, then a line for each finding. now: seconds
    UTC."""
    data = performance(seen, found, now)
    first = f"VIRTSNAP {status(found).name} - {_text(summary(seen, found))}"
    rest = [f"{each.status.name.lower()}: {_text(each.message)}" for each in found]
    return [f"{first} | {data}" if data else first, *rest]


def summary(seen: Seen, found: Sequence[Finding]) -> str:
    """The worst finding and how many more there are, or that there is none."""
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return found[0].message + more
    vms = len({row["DomainUUID"] for row in seen.coverage})
    policies = len({row["Policy"] for row in seen.coverage})
    under = "policy" if policies == 1 else "policies"
    return f"{vms} {'VM' if vms == 1 else 'VMs'} under {policies} {under}, no problem"


def performance(seen: Seen, found: Sequence[Finding], now: float) -> str:
    """`'label'=value[unit];[warn];[crit];[min]`, "" where nothing was measured."""
    if seen.daemon != RUNNING:
        return ""
    critical, warning = (
        sum(each.status is which for each in found) for which in (Status.CRITICAL, Status.WARNING)
    )
    data = [
        f"problems_critical={critical};;0;0",
        f"problems_warning={warning};0;;0",
        f"covered={len(seen.coverage)};;;0",
        f"overdue={sum(row['Problem'] == 'overdue' for row in seen.problems)};;0;0",
        f"failed={sum(bool(row['LastErrorName']) for row in seen.coverage)};;0;0",
    ]
    if successes := [row["LastSuccess"] for row in seen.coverage if row["LastSuccess"]]:
        data.append(f"oldest_success={max(int(now) - min(successes), 0)}s;;;0")
    return " ".join(data)


def document(seen: Seen, found: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs. null = not known; rows as the bus has them."""
    code = status(found)
    return {
        "Status": code.name,
        "Code": int(code),
        "Message": summary(seen, found),
        "Running": {RUNNING: True, MUTE: True, STOPPED: False}.get(seen.daemon),
        "AtBoot": seen.at_boot,
        "UnitFileState": seen.unit_file or None,
        "Connected": seen.connected,
        "Loading": seen.loading,
        "Health": seen.health,
        "Findings": [
            {"Severity": each.status.name.lower(), "Message": each.message} for each in found
        ],
        "Problems": list(seen.problems),
        "Coverage": list(seen.coverage),
    }


def _text(message: str) -> str:
    """One line without the character that performance data begin with."""
    return safe(message).replace("|", "\\x7c")
