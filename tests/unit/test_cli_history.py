"""What `history` tells of an act, in how many letters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from snapd.cli.actions import history
from snapd.cli.output import tables
from snapd.cli.output.screen import Screen

NIGHTLY = "nightly-20261121T013000Z"


def act(verb: str, snapshot: str, **how: Any) -> dict[str, Any]:
    """A row of ListHistory, of web-1."""
    row = {"Time": 1_795_000_000, "NotBefore": 0, "Verb": verb, "SnapshotName": snapshot}
    vm = {"DomainUUID": "22222222-2222-4222-8222-222222222201", "DomainName": "web-1"}
    by = {"Policy": "", "OwnerUID": 0, "Reason": "", "Result": "done"}
    return {**row, **vm, **by, **how}


def told(*rows: dict[str, Any], width: int = 80) -> list[str]:
    screen = cast(Screen, SimpleNamespace(now=1_795_010_800))
    cells = [history.cells(row, screen) for row in rows]
    lines, _gone = tables.lines(history.COLUMNS, cells, width=width, colour=False)
    return lines


def test_history_in_80_letters_says_who_and_why() -> None:
    gone = act("delete", NIGHTLY, Policy="nightly", OwnerUID=-1, Reason="no rule keeps it")
    heading, *lines = told(gone, act("create", "by-hand"))
    assert heading.split() == ["AGE", "VERB", "VM", "SNAPSHOT", "BY", "REASON"]
    assert lines[0].split("  ")[-2:] == ["nightly", "no rule keeps it"]
    assert lines[1].split()[-1] == "root"


def test_history_result_is_told_where_it_is_not_what_was_wanted() -> None:
    failed = act("revert", "by-hand", Result="org.virtsnap.Error.Busy: a backup is at work")
    heading, *lines = told(failed, act("create", "by-hand"), width=0)
    assert heading.split()[-1] == "RESULT"
    assert lines[0].endswith("Busy: a backup is at work")
    assert "done" not in lines[1]


def test_history_act_on_a_policy_says_on_which_and_whose_it_was() -> None:
    policy = {"Policy": "nightly", "DomainUUID": "", "DomainName": "", "OwnerUID": -1}
    row = act("set-policy", "", Reason="revision ba84, by admin", **policy)
    _heading, line = told(row, width=0)
    assert line.split("  ")[-3:] == ["policy nightly", "virtsnapd", "revision ba84, by admin"]


def test_history_act_for_a_policy_by_a_person_says_both() -> None:
    _heading, line = told(act("adopt", "by-hand", Policy="nightly"), width=0)
    assert line.endswith("root, policy nightly")


@pytest.mark.parametrize(
    ("verb", "reason", "words"),
    [
        ("delete", "retention: nightly: no-rule-matches", "no rule keeps it"),
        (
            "delete",
            "retention: nightly: no-rule-matches, weekly: max-age",
            "no rule keeps it; weekly: older than limits.max_age",
        ),
        ("delete", "retention: safety-last", "more safety snapshots than safety.last"),
        ("delete", "retention: half-deleted", "it was half deleted"),
        (
            "delete",
            "room: nightly: max-count",
            "to make room: more than limits.max_count",
        ),
        ("delete", "delete_after: a trial that was thrown away", "a trial that was thrown away"),
        ("delete", "child of before-upgrade", "child of before-upgrade"),
        ("pin", "retention: newest", "retention: newest"),
    ],
)
def test_history_reason_of_what_the_daemon_let_go_is_told_in_words(
    verb: str, reason: str, words: str
) -> None:
    _heading, line = told(act(verb, NIGHTLY, Reason=reason, Policy="nightly"), width=0)
    assert line.endswith(f"nightly  {words}")
