"""What a line has and how it gets to the journal: fields, priorities, and that nobody waits."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapd import journal
from snapd.errors import NoSpace
from snapd.model import DomainInfo, Problem, State

UUID = "7b6f5bd8-7d9f-4e57-8a0d-5d0c7ad7e1a5"
INFO = DomainInfo(UUID, "web-1", State.RUNNING)


class Journald:
    """Stands for journald: a socket that is read when it is asked what was sent."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(1)

    def sent(self) -> list[dict[str, str]]:
        """All lines so far."""
        found = []
        with contextlib.suppress(TimeoutError):
            while True:
                found.append(fields_of(self._socket.recv(1 << 20)))
        return found

    def close(self) -> None:
        self._socket.close()


def fields_of(datagram: bytes) -> dict[str, str]:
    """A line of journald's protocol (systemd's JOURNAL_NATIVE_PROTOCOL)."""
    found = {}
    while datagram:
        head, _, datagram = datagram.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            size = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        assert name.decode() not in found
        found[name.decode()] = value.decode()
    return found


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    path = tmp_path / "socket"
    monkeypatch.setattr(journal, "SOCKET", str(path))
    monkeypatch.setattr(journal, "stderr_is_journal", lambda: True)
    found = Journald(path)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def root(journald: Journald) -> Iterator[logging.Logger]:
    """The root logger, set up as a daemon in the journal has it, and put back as it was."""
    found = logging.getLogger()
    handlers, level = found.handlers[:], found.level
    found.handlers = []
    try:
        assert journal.setup()
        yield found
    finally:
        journald.close()
        for handler in found.handlers:
            handler.close()
        found.handlers = handlers
        found.setLevel(level)


def test_fields_are_those_that_are_known() -> None:
    error = NoSpace("no room", reason="chain-limit")
    assert journal.about(INFO, policy="nightly", job=7, error=error) == {
        "VIRTSNAP_DOMAIN": "web-1",
        "VIRTSNAP_UUID": UUID,
        "VIRTSNAP_POLICY": "nightly",
        "VIRTSNAP_JOB": "7",
        "VIRTSNAP_ERROR": "org.virtsnap.Error.NoSpace",
        "VIRTSNAP_REASON": "chain-limit",
    }
    assert journal.about() == {}


def test_fields_that_an_event_always_has_are_unknown_where_they_are() -> None:
    event = journal.Event("0" * 32, "DOMAIN SNAPSHOT")
    assert journal.about("db1", event=event) == {
        "VIRTSNAP_DOMAIN": "db1",
        "VIRTSNAP_SNAPSHOT": "unknown",
        "MESSAGE_ID": "0" * 32,
    }


def test_fields_cannot_look_like_another_line() -> None:
    fields = journal.about(snapshot="a\nMESSAGE=b\x1b[31m\udc80", uuid="x" * 300)
    assert fields["VIRTSNAP_SNAPSHOT"] == "a MESSAGE=b [31m\N{REPLACEMENT CHARACTER}"
    assert fields["VIRTSNAP_UUID"] == "x" * 255 + "…"


def test_fields_of_a_problem_come_with_its_own_event() -> None:
    found = Problem("i", "overdue", "late", "critical", UUID, "web-1", "nightly")
    assert journal.of_problem(found) == {
        "VIRTSNAP_DOMAIN": "web-1",
        "VIRTSNAP_UUID": UUID,
        "VIRTSNAP_POLICY": "nightly",
        "VIRTSNAP_PROBLEM": "overdue",
        "MESSAGE_ID": "7b1c86c921ee43a8806609a7750bb7b9",
    }


def test_line_has_its_fields_and_nothing_else_of_the_record(
    root: logging.Logger, journald: Journald
) -> None:
    fields = journal.about(INFO, event=journal.NOT_THAWED)
    logging.getLogger("snapd.x").warning("VM %s: %s", "web-1", "a\nb", extra=fields)
    (line,) = journald.sent()
    assert line.pop("CODE_FILE").endswith("test_journal.py")
    assert line.pop("CODE_LINE").isdigit()
    assert line == {
        "MESSAGE": "VM web-1: a b",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "virtsnapd",
        "LOGGER": "snapd.x",
        "CODE_FUNC": "test_line_has_its_fields_and_nothing_else_of_the_record",
        "MESSAGE_ID": "735aaac6f2e0478eae00e9e37cd8cdc2",
        "VIRTSNAP_DOMAIN": "web-1",
        "VIRTSNAP_UUID": UUID,
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.INFO, "6"),
        (journal.NOTICE, "5"),
        (logging.WARNING, "4"),
        (logging.ERROR, "3"),
        (logging.CRITICAL, "2"),
    ],
)
def test_line_has_the_priority_of_its_level(
    level: int, priority: str, root: logging.Logger, journald: Journald
) -> None:
    logging.getLogger("snapd.x").log(level, "so")
    assert [line["PRIORITY"] for line in journald.sent()] == [priority]


def test_line_of_a_fault_has_its_traceback(root: logging.Logger, journald: Journald) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("snapd.x").exception("job %d", 7, extra=journal.about(job=7))
    (line,) = journald.sent()
    first, second, *_, last = line["MESSAGE"].splitlines()
    assert (first, second, last) == (
        "job 7",
        "Traceback (most recent call last):",
        "ValueError: why",
    )
    assert (line["VIRTSNAP_JOB"], line.get("EXCEPTION_INFO")) == ("7", None)


def test_debug_lines_are_not_sent_unless_systemd_asks(
    journald: Journald, monkeypatch: pytest.MonkeyPatch, root: logging.Logger
) -> None:
    assert root.level == logging.INFO
    monkeypatch.setenv("DEBUG_INVOCATION", "1")
    root.handlers[0].close()
    root.handlers = []
    journal.setup()
    assert root.level == logging.DEBUG


def test_log_call_does_not_wait_for_a_journal_that_does_not_read(
    root: logging.Logger, journald: Journald
) -> None:
    """Neither does any other thread: what blocks must not hold Python's lock meanwhile."""
    total = journal.WAITING_LINES + 3000  # more than a socket's queue takes beside ours
    for number in range(total):
        logging.getLogger("snapd.x").info("line %d", number)
    sent = journald.sent()
    lost = [line for line in sent if "are missing here" in line["MESSAGE"]]
    whole = [line for line in sent if line["MESSAGE"].startswith("line ")]
    count = sum(int(line["MESSAGE"].split()[0]) for line in lost)
    assert count > 0
    assert len(whole) + count == total
    assert lost[0]["PRIORITY"] == "4"


def test_leaving_does_not_wait_for_ever(
    root: logging.Logger, journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LEAVING_SECONDS", 0.05)
    for _ in range(3000):
        logging.getLogger("snapd.x").info("so")
    begun = time.monotonic()
    root.handlers[0].close()
    assert 0.05 <= time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("stream", "expected"),
    [("{dev}:{ino}", True), ("{dev}:1", False), ("{dev}", False), ("", False), (None, False)],
)
def test_stderr_is_the_journal_where_its_file_is_the_one_named(
    stream: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(2)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if stream is not None:
        named = stream.format(dev=found.st_dev, ino=found.st_ino)
        monkeypatch.setenv("JOURNAL_STREAM", named)
    assert journal.stderr_is_journal() is expected


SCRIPT = """
import sys
if sys.argv[1] == "without":
    sys.modules["systemd"] = None
import os, logging
from snapd import journal
found = os.fstat(2)
if sys.argv[1] != "elsewhere":
    os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
print(journal.setup())
logging.getLogger("snapd.x").warning("VM web-1 is odd", extra=journal.about("web-1"))
logging.getLogger("snapd.x").log(journal.NOTICE, "so")
logging.shutdown()
"""


@pytest.mark.parametrize("how", ["elsewhere", "without"])
def test_stderr_is_used_without_a_journal_or_without_systemd_python(how: str) -> None:
    top = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], cwd=top, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "WARNING: VM web-1 is odd\nNOTICE: so\n")
