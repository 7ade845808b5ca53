"""watch's lines, with names as others give them; what it does with more than is read; and what a
notification says."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from snapd.cli.backlog import Backlog
from snapd.cli.desktop import notification
from snapd.cli.output import happenings, times

NAMES = Path(__file__).parents[1] / "data" / "names"
WHEN = 1795573805  # 2026-11-25 02:30:05 UTC
SNAPSHOT = {
    "Event": "SnapshotCreated",
    "Time": WHEN,
    "DomainName": "web-1",
    "Name": "one",
    "Origin": "manual",
    "By": "ann",
    "Policy": "",
}
RUN = {
    "Event": "PolicyRunFinished",
    "Time": WHEN,
    "DomainName": "web-1",
    "Policy": "nightly",
    "SnapshotName": "",
    "Reason": "",
}
PROBLEM = {
    "Event": "ProblemRaised",
    "Time": WHEN,
    "ID": "overdue-1",
    "Severity": "critical",
    "DomainUUID": "22222222-2222-4222-8222-222222222201",
    "Policy": "nightly",
    "Message": "policy nightly is overdue on VM web-1",
    "Ways": ["policy-run"],
}
JOB = {
    "Event": "JobEnded",
    "Time": WHEN,
    "Path": "/org/virtsnap/Snapd1/jobs/12",
    "Verb": "revert",
    "DomainName": "web-1",
    "SnapshotName": "one",
    "State": "failed",
    "Policy": "",
    "By": "ann",
    "ErrorMessage": "VM web-1: it is in use",
}


@pytest.fixture(autouse=True)
def in_utc() -> Any:
    times.choose(utc=True, iso=False)
    yield
    times.choose(utc=False, iso=False)


def names(file: str) -> list[str]:
    return [row["name"] for row in json.loads((NAMES / file).read_text())]


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (SNAPSHOT, "web-1: snapshot one created by ann"),
        (
            {**SNAPSHOT, "By": "virtsnapd", "Policy": "nightly", "Origin": "policy"},
            "web-1: snapshot one created by virtsnapd for policy nightly",
        ),
        ({**SNAPSHOT, "Origin": "safety"}, "web-1: safety snapshot one created by ann"),
        (
            {**SNAPSHOT, "Event": "SnapshotDeleted", "By": "others"},
            "web-1: snapshot one deleted by others",
        ),
        (
            {**SNAPSHOT, "Event": "SnapshotReverted", "By": ""},
            "web-1: reverted to snapshot one",
        ),
        (
            {**RUN, "Outcome": "made", "SnapshotName": "n-1", "Reason": "policy nightly"},
            "web-1: policy nightly made snapshot n-1",
        ),
        (
            {**RUN, "Outcome": "skipped", "Reason": "nothing has changed"},
            "web-1: policy nightly skipped: nothing has changed",
        ),
        (
            {**RUN, "Outcome": "failed", "Reason": "VM web-1: no room"},
            "web-1: policy nightly failed: no room",
        ),
        (PROBLEM, "critical: policy nightly is overdue on VM web-1"),
        (
            {**PROBLEM, "Event": "ProblemCleared"},
            "over: policy nightly is overdue on VM web-1",
        ),
        (JOB, "web-1: job 12 (revert one) failed by ann: it is in use"),
        (
            {**JOB, "State": "cancelled", "ErrorMessage": "", "DomainName": "", "SnapshotName": ""},
            "job 12 (revert) cancelled by ann",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_line_says_when_what_of_which_vm_and_by_whom(event: dict[str, Any], wanted: str) -> None:
    line, _ = happenings.line(event)
    assert line == f"2026-11-25 02:30:05Z  {wanted}"


@pytest.mark.parametrize("hostile", ["two\nrows", "\x1b[31mred", "\u202egnp.exe", "c1\x9b", "\x00"])
def test_line_of_hostile_names_is_one_line_of_letters(hostile: str) -> None:
    events = [
        {**SNAPSHOT, "Name": hostile, "DomainName": hostile, "By": hostile, "Policy": hostile},
        {**RUN, "Outcome": hostile, "SnapshotName": hostile, "Reason": hostile},
        {**PROBLEM, "Message": hostile, "Severity": hostile},
        {**JOB, "SnapshotName": hostile, "ErrorMessage": hostile, "State": hostile},
    ]
    for event in events:
        line, _ = happenings.line(event)
        assert line.isprintable()
        assert hostile.encode("unicode_escape").decode() in line.replace("\\\\", "\\")


def test_line_of_every_name_that_is_known_differs_from_all_others() -> None:
    every = names("snapshot_names.json")
    lines = {happenings.line({**SNAPSHOT, "Name": each})[0] for each in every}
    assert len(lines) == len(set(every)) and all(line.isprintable() for line in lines)
    every = names("domain_names.json")
    lines = {happenings.line({**SNAPSHOT, "DomainName": each})[0] for each in every}
    assert len(lines) == len(set(every)) and all(line.isprintable() for line in lines)


def test_names_are_those_of_what_it_is_about() -> None:
    assert happenings.names(SNAPSHOT, of_one=False) == ["web-1/one"]
    assert happenings.names(SNAPSHOT, of_one=True) == ["one"]
    assert happenings.names({**RUN, "Outcome": "made"}, of_one=False) == ["nightly"]
    assert happenings.names(PROBLEM, of_one=False) == ["overdue-1"]
    assert happenings.names(JOB, of_one=True) == ["12"]
    assert happenings.names({"Event": "DaemonGone", "Time": WHEN}, of_one=False) == []


# --- more than is read


def test_backlog_gives_all_in_order() -> None:
    async def main() -> list[Any]:
        backlog: Backlog[str] = Backlog(3)
        for each in "abc":
            backlog.put(each)
        return [await backlog.get() for _ in range(3)]

    assert asyncio.run(main()) == ["a", "b", "c"]


def test_backlog_that_is_full_says_how_many_it_left_out_and_where() -> None:
    async def main() -> list[Any]:
        backlog: Backlog[str] = Backlog(2)
        for each in "abcd":
            backlog.put(each)
        first = [await backlog.get() for _ in range(2)]
        for each in "efg":
            backlog.put(each)
        return first + [await backlog.get() for _ in range(3)]

    # e stands behind the gap, which takes a place; f and g are left out again
    assert asyncio.run(main()) == ["a", "b", 2, "e", 2]


def test_backlog_never_leaves_out_what_has_to_be_told() -> None:
    async def main() -> list[Any]:
        backlog: Backlog[str] = Backlog(1)
        backlog.put("a")
        backlog.put("b")
        backlog.put("gone", always=True)
        return [await backlog.get() for _ in range(3)]

    assert asyncio.run(main()) == ["a", 1, "gone"]


def test_backlog_waits_for_the_next_one() -> None:
    async def main() -> Any:
        backlog: Backlog[str] = Backlog(1)
        asyncio.get_running_loop().call_later(0.05, backlog.put, "late")
        begun = time.monotonic()
        return await asyncio.wait_for(backlog.get(), 5), time.monotonic() - begun > 0.04

    assert asyncio.run(main()) == ("late", True)


# --- notifications


def test_notification_says_what_and_the_way_out() -> None:
    made = notification(PROBLEM, "system", markup=True)
    assert made.summary == "VM snapshots: critical problem"
    assert (made.urgency, made.icon) == (2, "dialog-error")
    assert made.body == (
        "policy nightly is overdue on VM web-1\n"
        "Way out: make it up now: virtsnap policy run nightly 22222222-2222-4222-8222-222222222201"
    )


def test_notification_of_a_severity_that_is_not_known_is_no_critical_one() -> None:
    made = notification({**PROBLEM, "Severity": "notice"}, "system", markup=True)
    assert (made.summary, made.urgency) == ("VM snapshots: problem", 1)


@pytest.mark.parametrize(
    ("markup", "wanted"),
    [(True, r"&lt;b&gt;VM&lt;/b&gt; &amp;lt;i&gt;\n\x1b"), (False, r"<b>VM</b> &lt;i>\n\x1b")],
)
def test_notification_shows_markup_of_others_as_text(markup: bool, wanted: str) -> None:
    message = "<b>VM</b> &lt;i>\n\x1b"
    made = notification({**PROBLEM, "Message": message, "Ways": []}, "system", markup=markup)
    assert made.body == wanted
