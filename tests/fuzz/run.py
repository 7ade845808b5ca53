"""Calls sent by the hundred to a daemon, and what is wrong with its answers.

Looked at: each call is answered in time, by a result or a named error of one line that tells
nothing of our source; the daemon lives, its log has no exception, its memory stays, its jobs end.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from snapd.bus import contract
from snapd.errors import Internal, SnapdError
from snapd.wire import paths
from snapd.wire.fault import WireError
from snapd.wire.marshal import MarshalError
from snapd.wire.transport import Transport
from snapd.wire.values import unwrap
from tests.fuzz.calls import Call, Generator

IN_FLIGHT = 120
"""Over a sender's 64, so that some always wait for their turn."""
DEADLINE = 60.0
STANDARD = "org.freedesktop.DBus.Error."
NAMED = {
    f"{STANDARD}{word}"
    for word in (
        "InvalidArgs",
        "UnknownObject",
        "UnknownInterface",
        "UnknownMethod",
        "UnknownProperty",
        "PropertyReadOnly",
    )
}
LEAK = re.compile(r"Traceback|\.py\b|line \d+, in |/snapd/|<[a-z_]+ object at 0x|Error\(")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
FAULT = re.compile(r"Traceback|was never|Warning:|^CRITICAL", re.MULTILINE)


@dataclass(slots=True)
class Report:
    """What a run has found. faults: sentences, empty = none; sizes: of the daemon's memory, KiB."""

    calls: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    def fault(self, call: Call, what: str) -> None:
        self.faults.append(f"{what}; {call}")

    @property
    def grown(self) -> int:
        """KiB that the second half has added."""
        return self.sizes[-1] - self.sizes[len(self.sizes) // 2]

    def __str__(self) -> str:
        words = "".join(f"\n  {count:8} {word}" for word, count in self.outcomes.most_common())
        rate = self.calls / self.seconds
        return (
            f"{self.calls} calls in {self.seconds:.1f} s, {rate:.0f} a second\n"
            f"slowest {self.slowest[0]:.1f} s: {self.slowest[1]}\n"
            f"memory {self.sizes} KiB, {self.grown} in the second half{words}"
        )


def resident(pid: int) -> int:
    """A process's memory in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def fuzz(address: str, pid: int, seed: int, count: int) -> Report:
    """Send so many calls of the seed to the daemon on that bus."""
    report = Report(calls=count)
    calls = islice(Generator(contract.load(), seed), count)
    begun = time.monotonic()
    clients = [await Transport.connect(address) for _ in range(2)]
    try:
        report.sizes.append(resident(pid))
        watch = asyncio.create_task(_weigh(report, pid, count))
        workers = [_worker(clients[n % len(clients)], calls, report) for n in range(IN_FLIGHT)]
        await asyncio.gather(*workers)
        watch.cancel()
        report.seconds = time.monotonic() - begun
        await _jobs_end(clients[0], report)
        report.sizes.append(resident(pid))
    finally:
        for client in clients:
            await client.close()
    return report


async def _weigh(report: Report, pid: int, count: int) -> None:
    """Note the memory at every eighth of the calls."""
    for part in range(1, 8):
        while sum(report.outcomes.values()) < count * part // 8:
            await asyncio.sleep(0.05)
        report.sizes.append(resident(pid))


async def _worker(client: Transport, calls: Iterator[Call], report: Report) -> None:
    for call in calls:
        begun = time.monotonic()
        report.outcomes[await _outcome(client, call, report)] += 1
        took = time.monotonic() - begun
        report.slowest = max(report.slowest, (took, str(call)[:120]))


async def _outcome(client: Transport, call: Call, report: Report) -> str:
    """Make the call; the last word of its error's name, or "answered"."""
    try:
        await client.call(
            paths.NAME,
            call.path,
            call.interface,
            call.member,
            call.signature,
            *call.body,
            timeout=DEADLINE,
        )
    except (SnapdError, WireError) as error:
        text = error.text if isinstance(error, WireError) else error.message
        if not _is_named(error):
            report.fault(call, f"answered by {error.name}: {text}")
        if LEAK.search(text):
            report.fault(call, f"told of our source: {text}")
        if not text or CONTROL.search(text):
            report.fault(call, f"said no line: {text!r}")
        return error.name.rpartition(".")[2]
    except MarshalError as error:
        report.fault(call, f"could not be sent, the generator's fault: {error}")
        return "unsent"
    if not call.fitting:
        report.fault(call, "answered despite its signature")
    return "answered"


def _is_named(error: SnapdError | WireError) -> bool:
    if isinstance(error, WireError):
        return error.name in NAMED
    return not isinstance(error, Internal)


async def _jobs_end(client: Transport, report: Report) -> None:
    """Wait until no job is open; one that stays so is a fault."""
    call: tuple[Any, ...] = (
        paths.NAME,
        paths.ROOT,
        "org.virtsnap.Snapd1.Manager",
        "ListJobs",
        "a{sv}",
        {},
    )
    for _ in range(300):
        rows, _info = unwrap(await client.call(*call))
        left = [row for row in rows if row["State"] in ("queued", "running")]
        if not left:
            report.faults += [
                f"a job ended with {row['ErrorName']}: {row['ErrorMessage']}; {row}"
                for row in rows
                if row["ErrorName"].endswith(".Internal") or LEAK.search(row["ErrorMessage"])
            ]
            return
        await asyncio.sleep(0.2)
    short = ("Path", "Verb", "State", "Phase", "Parent", "DomainName", "SnapshotName", "Policy")
    report.faults += [f"no end: { {key: row[key] for key in short} }" for row in left]
