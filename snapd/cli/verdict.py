"""check's verdict, as monitoring has it: from what was seen to one status. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

Row = dict[str, Any]
RUNNING, STOPPED, MUTE, UNKNOWN = "running", "stopped", "mute", "unknown"
AT_BOOT = ("enabled", "alias", "static", "indirect", "generated", "transient")
"""What systemd calls a unit file that is, or may well be, started by itself."""


class Status(IntEnum):
    """A plugin's exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_RISING = (Status.OK, Status.WARNING, Status.UNKNOWN, Status.CRITICAL)
_OF_WORD = {"ok": Status.OK, "warning": Status.WARNING, "critical": Status.CRITICAL}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What check came to know.

    daemon: running, stopped, mute (it runs and does not answer) or unknown, and `why` it is so;
    unit_file: systemd's word for the unit file, "" = unknown; enable: the command that changes it.
    The rest is a running daemon's: connected, loading, health (None = not known, or not asked for
    since only a part was wanted), and rows of ListProblems and ListCoverage.
    """

    daemon: str
    why: str = ""
    unit_file: str = ""
    enable: str = ""
    connected: bool | None = None
    loading: bool | None = None
    health: str | None = None
    problems: Sequence[Row] = field(default=())
    coverage: Sequence[Row] = field(default=())

    @property
    def at_boot(self) -> bool | None:
        """Whether it is started when the host (the session) is; None = unknown."""
        return self.unit_file in AT_BOOT if self.unit_file else None


def findings(seen: Seen) -> list[Finding]:
    """All that is wrong, the worst first, else in the daemon's order."""
    return sorted(_found(seen), key=lambda found: -_RISING.index(found.status))


def status(found: Sequence[Finding]) -> Status:
    """The worst. An unknown counts for more than a warning: a critical may be behind it."""
    return max((each.status for each in found), key=_RISING.index, default=Status.OK)


def of_word(word: str) -> Status:
    """Of a severity or health of the daemon's; a word of a newer one's is UNKNOWN."""
    return _OF_WORD.get(word, Status.UNKNOWN)


def _found(seen: Seen) -> Iterator[Finding]:
    if seen.daemon == UNKNOWN:
        yield Finding(Status.UNKNOWN, seen.why)
    elif seen.daemon != RUNNING:
        yield Finding(Status.CRITICAL, seen.why)
    if seen.at_boot is False:
        what = f"virtsnapd.service is {seen.unit_file}: it is not started at boot; {seen.enable}"
        yield Finding(Status.WARNING, what)
    if seen.loading:
        yield Finding(Status.UNKNOWN, "virtsnapd is still reading the VMs: more may be wrong")
    told = any(row["Problem"] == "not-connected" for row in seen.problems)
    if seen.connected is False and not told:  # its first try still goes on
        yield Finding(Status.UNKNOWN, "virtsnapd is not connected to libvirt yet")
    listed = [Finding(of_word(row["Severity"]), row["Message"]) for row in seen.problems]
    yield from listed
    # asked for a moment apart: neither may hide the other
    health = of_word(seen.health) if seen.health is not None else Status.OK
    if _RISING.index(health) > _RISING.index(status(listed)):
        yield Finding(health, f"virtsnapd's health is {seen.health}")


def part(seen: Seen, uuid: str, policy: str) -> Seen:
    """What is about one VM, one policy, or a VM under a policy ("" = all), and what is about
    none: no connection is everybody's problem."""

    def wanted(row: Row) -> bool:
        of_vm = not uuid or row["DomainUUID"] in ("", uuid)
        return of_vm and (not policy or row["Policy"] in ("", policy))

    problems, coverage = (list(filter(wanted, rows)) for rows in (seen.problems, seen.coverage))
    return replace(seen, health=None, problems=problems, coverage=coverage)
