"""What the answers of several commands have in common."""

from __future__ import annotations

from ..client import Row
from ..output.screen import Screen
from ..output.text import name


def incomplete(screen: Screen, info: Row) -> None:
    """Say which VMs could not be read for this list."""
    for row in info["Incomplete"]:
        screen.note(f"VM {name(row['DomainName'] or row['DomainUUID'])}: {row['ErrorMessage']}")
