"""What the journal is told: events with ids that stay, fields to search by, and the way there."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass
from logging.handlers import QueueHandler
from typing import Protocol

from .errors import SnapdError
from .model import DomainInfo, Problem

try:
    from systemd import journal as _systemd
except ImportError:  # a venv without systemd-python: stderr, which systemd takes as well
    _systemd = None

IDENTIFIER = "virtsnapd"
NOTICE = 25
"""syslog's level between logging's INFO and WARNING."""
logging.addLevelName(NOTICE, "NOTICE")
VALUE_CHARS = 256
MESSAGE_CHARS = 4096
TEXT_CHARS = 32_768
"""A message with its traceback: a datagram holds 200 KiB."""
SOCKET = "/run/systemd/journal/socket"
WAITING_LINES = 10_000
LEAVING_SECONDS = 2.0
UNKNOWN = "unknown"
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_SURROGATES = re.compile("[\ud800-\udfff]")
_OURS = re.compile(r"MESSAGE_ID|VIRTSNAP_[A-Z]+")
_PLAIN = {"PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER", "CODE_FILE", "CODE_LINE", "CODE_FUNC"}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that an admin may search for or be told of. id: its MESSAGE_ID, which never
    changes: systemd/virtsnapd.catalog explains it. always: the fields that each such line has,
    without their VIRTSNAP_; a value that is not known is `unknown`."""

    id: str
    always: str = ""


STARTED = Event("0568ad60a256487f8e3760310ab78876")
STOPPED = Event("f7093305b46141649c014ea938038a79")
FAILED = Event("15aec8aad0a646fe81bceb73cdac616b")
SNAPSHOT_MADE = Event("c423358983224f24a7f8bfe0c0f13138", "DOMAIN UUID SNAPSHOT JOB")
SNAPSHOT_DELETED = Event("4b63c3436611453e85644e83d655bdfd", "DOMAIN UUID SNAPSHOT JOB")
REVERTED = Event("0943c178f24541be958c5a23981247d8", "DOMAIN UUID SNAPSHOT JOB")
RUN_FAILED = Event("f4ef82666af443b1aef9c56761ce4302", "DOMAIN UUID POLICY")
JOB_FAILED = Event("c25931ed89074c8cbb991978cabd1d95", "JOB ERROR")
JOB_UNSURE = Event("555cc7252224481292d10f55a9b82689", "DOMAIN UUID JOB ERROR")
REVERT_BROKE_OFF = Event("46e3de12207e4507b0d498a552eee72d", "DOMAIN UUID SNAPSHOT JOB ERROR")
FREEZE_TOO_LONG = Event("260c939e78fe433c9002c7d7f98bdc2c", "DOMAIN UUID")
NOT_THAWED = Event("735aaac6f2e0478eae00e9e37cd8cdc2", "DOMAIN UUID")
CLOCK_JUMPED = Event("d7cf6e02526e4053a9e095a83664f4af")
CONNECTION_LOST = Event("4ca2ba039b3c47fe806097d2433766d6")
NOT_WRITTEN = Event("6582f068aeac4a578ad22e3cd2a297c8")
PROBLEM_GONE = Event("e19d7d8c0714416fa28a262b53ad5a25", "PROBLEM")
PROBLEMS = {
    "cannot-prune": Event("c70badf2121147b88f5f23936bf07d26", "DOMAIN UUID PROBLEM"),
    "cannot-work": Event("3505a0d1f97646798f489109a7b0dba3", "DOMAIN UUID POLICY PROBLEM"),
    "clock": Event("5675322fd4d34b82b029e3912ff03517", "PROBLEM"),
    "frozen": Event("71a0df2313ea49989408e9978a9ccf8e", "DOMAIN UUID PROBLEM"),
    "held": Event("b72bfb765c394e4c9a662fc97032e784", "PROBLEM"),
    "io-error": Event("204ef2a2598246cfb284c7124a13ffa3", "DOMAIN UUID PROBLEM"),
    "needs-attention": Event("ae7143a9ae2b43e7b642e72ed212e9fa", "DOMAIN UUID PROBLEM"),
    "no-policy": Event("b38b33b12e364ee4b6ec81cc9f6d0abe", "PROBLEM"),
    "not-connected": Event("f4bc792c4ea444a78ec28524a9cc34d3", "PROBLEM"),
    "overdue": Event("7b1c86c921ee43a8806609a7750bb7b9", "DOMAIN UUID POLICY PROBLEM"),
    "policy-file": Event("59f219a34ea64287a715489929b18cbc", "PROBLEM"),
    "policy-matches-nothing": Event("f1db41f52d0e49ccbfa03ba17cd17f8f", "POLICY PROBLEM"),
    "policy-shadowed": Event("3099530a813d44728ef41f6c42b99b53", "POLICY PROBLEM"),
    "prune-held": Event("b7a0db620da74ba5b253b1e09b95bab5", "DOMAIN UUID PROBLEM"),
    "redefined": Event("38812cb14ccd4c1382b80f355cabf38f", "DOMAIN UUID PROBLEM"),
    "run-failed": Event("7610e5458386417b9700732a952aadc2", "DOMAIN UUID POLICY PROBLEM"),
    "settings-file": Event("545d73b5b9a64dc78c0b815d2e338dcc", "PROBLEM"),
    "storage-hangs": Event("99debbcfcb40459c87043cddc43db472", "PROBLEM"),
    "store-lost": Event("f8ef4665afe744eebe621621274747e4", "PROBLEM"),
    "uncovered": Event("f81cb9e1e6df43bbb9c05ef22b9e5200", "DOMAIN UUID PROBLEM"),
    "unread": Event("743282a2effa43999509eeca057ea66b", "DOMAIN UUID PROBLEM"),
}
"""A problem's own event, by its word."""


class JobLike(Protocol):
    """A job's row, as the store has it."""

    @property
    def id(self) -> int: ...
    @property
    def domain(self) -> str: ...
    @property
    def domain_name(self) -> str: ...
    @property
    def snapshot(self) -> str: ...
    @property
    def policy(self) -> str: ...


def about(
    vm: DomainInfo | str = "",
    *,
    uuid: str = "",
    snapshot: str = "",
    policy: str = "",
    job: int = 0,
    error: SnapdError | str | None = None,
    reason: str = "",
    problem: str = "",
    event: Event | None = None,
) -> dict[str, str]:
    """What a line is about, as logging's `extra`. vm: a domain, or its name; error: or its D-Bus
    name; reason: a reason word, else the error's own; problem: a problem word."""
    info = vm if isinstance(vm, DomainInfo) else None
    told = {
        "DOMAIN": info.name if info else str(vm),
        "UUID": info.uuid if info else uuid,
        "SNAPSHOT": snapshot,
        "POLICY": policy,
        "JOB": str(job) if job else "",
        "ERROR": error.name if isinstance(error, SnapdError) else error or "",
        "REASON": reason or (error.reason if isinstance(error, SnapdError) else ""),
        "PROBLEM": problem,
    }
    fields = {f"VIRTSNAP_{name}": _clean(v, VALUE_CHARS) for name, v in told.items() if v}
    if event:
        fields["MESSAGE_ID"] = event.id
        for name in event.always.split():
            fields.setdefault(f"VIRTSNAP_{name}", UNKNOWN)
    return fields


def of_job(
    row: JobLike, error: SnapdError | None = None, event: Event | None = None
) -> dict[str, str]:
    """The same for a job, by its row."""
    return about(
        row.domain_name,
        uuid=row.domain,
        snapshot=row.snapshot,
        policy=row.policy,
        job=row.id,
        error=error,
        event=event,
    )


def of_problem(found: Problem, event: Event | None = None) -> dict[str, str]:
    """The same for a problem, with its own event unless there is another."""
    return about(
        found.domain_name,
        uuid=found.domain,
        policy=found.policy,
        problem=found.problem,
        event=event or PROBLEMS.get(found.problem),
    )


def _clean(text: str, limit: int) -> str:
    """One line that is UTF-8: what others have named must not look like another line or field."""
    text = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", _CONTROL.sub(" ", text)).strip()
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


# --- the way there


def setup() -> bool:
    """Have all lines go to the journal where stderr does, else to stderr; whether to the journal.

    DEBUG_INVOCATION is systemd's word for a service that is to tell more (RestartMode=debug).
    """
    level = logging.DEBUG if os.environ.get("DEBUG_INVOCATION") else logging.INFO
    handler: logging.Handler
    if _systemd is not None and stderr_is_journal():
        lines = _systemd.JournalHandler(
            sender_function=_Socket().send, SYSLOG_IDENTIFIER=IDENTIFIER
        )
        handler = Unhurried(lines)
        handler.setFormatter(_Line("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Line("%(levelname)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    return isinstance(handler, Unhurried)


def stderr_is_journal() -> bool:
    """Whether $JOURNAL_STREAM names the very file that stderr is: a child whose stderr was sent
    elsewhere inherits the variable, too."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _Line(logging.Formatter):
    """The message as one line; a traceback follows it as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = _clean(record.message, MESSAGE_CHARS)
        return super().formatMessage(record)


class _Socket:
    """Journald's, in place of systemd-python's send: that holds Python's lock while it blocks, so
    that no thread goes on (measured: the watchdog ended us)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def send(self, text: str, /, **fields: object) -> None:
        """Send a line; blocks while journald does not read. JournalHandler passes
        all that a record has, its arguments, too, and knows no level between info and warning."""
        if fields.get("levelno") == NOTICE:
            fields["PRIORITY"] = "5"
        kept = {n: v for n, v in fields.items() if n in _PLAIN or _OURS.fullmatch(n)}
        line = {"MESSAGE": text[:TEXT_CHARS], **kept}
        with contextlib.suppress(OSError):  # no journald: nobody is there to be told
            self._socket.sendto(b"".join(_field(n, v) for n, v in line.items()), SOCKET)


def _field(name: str, value: object) -> bytes:
    """A field in journald's own protocol: a value of several lines comes with its length."""
    content = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", str(value)).encode()
    if b"\n" not in content:
        return b"%s=%s\n" % (name.encode(), content)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(content)), content)


class Unhurried(QueueHandler):
    """Has a thread pass the lines on to a handler: while journald does not read (its disk hangs, it
    was stopped) a send blocks, and the loop must not. Lines that find no room are counted, and that
    is said."""

    def __init__(self, target: logging.Handler, most: int = WAITING_LINES) -> None:
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue(most)
        super().__init__(self._lines)
        self._target, self._lost, self._count = target, 0, threading.Lock()
        threading.Thread(target=self._pass_on, name="journal", daemon=True).start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            with self._count:
                self._lost += 1

    def _pass_on(self) -> None:
        while True:
            record = self._lines.get()
            try:
                self._target.handle(record)
                if self._lost:
                    with self._count:
                        lost, self._lost = self._lost, 0
                    self._target.handle(_lost(lost))
            finally:
                self._lines.task_done()

    def close(self) -> None:
        """Wait for what is on its way, for a while."""
        until = time.monotonic() + LEAVING_SECONDS
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.005)
        super().close()


def _lost(count: int) -> logging.LogRecord:
    what = "%d lines are missing here: the journal did not take them in time"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, what, (count,), None)
