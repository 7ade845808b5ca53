"""What the journal is told of a job's end: by its event, and no louder than it is."""

from __future__ import annotations

import logging

import pytest

from snapd import journal
from snapd.errors import Busy, Cancelled, Inconsistent, OutcomeUnknown, SnapdError
from snapd.journal import Event
from snapd.model import JobState, Verb
from snapd.operations.ending import last_row
from snapd.operations.job import Outcome, Request

PERSON = 1000
DAEMON = -1


@pytest.mark.parametrize(
    ("verb", "policy", "owner", "error", "level", "event"),
    [
        (Verb.CREATE, "", PERSON, Busy("x"), "WARNING", journal.JOB_FAILED),
        (Verb.CREATE, "nightly", DAEMON, Busy("x"), "INFO", journal.JOB_FAILED),
        (Verb.RUN, "nightly", PERSON, Busy("x"), "WARNING", journal.JOB_FAILED),
        (Verb.CREATE, "", PERSON, Cancelled("x"), "INFO", journal.JOB_FAILED),
        (Verb.CREATE, "nightly", DAEMON, Inconsistent("x"), "ERROR", journal.JOB_UNSURE),
        (Verb.DELETE, "", DAEMON, OutcomeUnknown("x"), "ERROR", journal.JOB_UNSURE),
        (Verb.REVERT, "", PERSON, Inconsistent("x"), "ERROR", journal.REVERT_BROKE_OFF),
        (Verb.REVERT, "", PERSON, Busy("x"), "WARNING", journal.JOB_FAILED),
    ],
)
def test_failure_is_as_loud_as_it_is_grave(
    verb: Verb,
    policy: str,
    owner: int,
    error: SnapdError,
    level: str,
    event: Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    asked = Request(verb, "u-1", "web-1", "s1", policy=policy, owner=owner)
    last_row(asked.row(JobState.RUNNING, 1), JobState.FAILED, 2, Outcome(), error)
    (line,) = caplog.records
    assert line.levelname == level
    expected = {"MESSAGE_ID": event.id, "VIRTSNAP_ERROR": error.name, "VIRTSNAP_DOMAIN": "web-1"}
    assert vars(line).items() >= (expected | {"VIRTSNAP_SNAPSHOT": "s1"}).items()
    assert ("VIRTSNAP_POLICY" in vars(line)) is bool(policy)


def test_success_is_not_told_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asked = Request(Verb.CREATE, "u-1", "web-1", "s1")
    last_row(asked.row(JobState.RUNNING, 1), JobState.DONE, 2, Outcome(), None)
    assert caplog.records == []
