"""What takes a VM's last revert back, told from its history."""

from __future__ import annotations

from typing import Any

import pytest

from snapd.cli.undoing import LastRevert, Row, last_revert, since, still_there


def act(verb: str, name: str, job: int, result: str = "done", **what: Any) -> Row:
    path = f"/org/virtsnap/Snapd1/jobs/{job}" if job else "/"
    return {
        "Verb": verb,
        "SnapshotName": name,
        "Created": 100,
        "Time": 1000 + job,
        "Result": result,
        "Job": path,
        **what,
    }


def snap(name: str, created: int = 100, **what: Any) -> Row:
    row = {"Name": name, "Created": created, "Origin": "manual", "TimeKnown": True}
    return {**row, "Current": False, **what}


# newest first, as ListHistory has them: the revert's job 4 made s in job 5
REVERTED = [act("revert", "one", 4), act("create", "s", 5), act("create", "one", 3)]


def found(history: list[Row]) -> tuple[str, str]:
    last = last_revert(history)
    assert last is not None
    return last.revert["SnapshotName"], last.safety["SnapshotName"] if last.safety else ""


def test_last_revert_has_the_snapshot_that_was_made_within_it() -> None:
    assert found(REVERTED) == ("one", "s")


def test_last_revert_without_safety_snapshot_takes_none_of_earlier_jobs() -> None:
    assert found([act("revert", "one", 4), act("create", "one", 3)]) == ("one", "")
    assert found([act("revert", "two", 9), *REVERTED]) == ("two", "")


def test_last_revert_acts_without_a_job_between_them_change_nothing() -> None:
    pinned = [act("pin", "one", 0), REVERTED[0], act("describe", "one", 0), *REVERTED[1:]]
    assert found(pinned) == ("one", "s")


def test_last_revert_two_jobs_within_it_are_told_apart() -> None:
    thrown_away = [REVERTED[0], act("delete", "one", 6), *REVERTED[1:]]
    assert found(thrown_away) == ("one", "s")


@pytest.mark.parametrize("error", ["Busy", "Protected", "LibvirtError", "Cancelled"])
def test_last_revert_one_that_did_nothing_is_none(error: str) -> None:
    failed = act("revert", "two", 7, f"org.virtsnap.Error.{error}: no")
    assert found([failed, act("create", "s2", 8), *REVERTED]) == ("one", "s")


@pytest.mark.parametrize("error", ["Partial", "Inconsistent", "OutcomeUnknown"])
def test_last_revert_that_broke_off_can_be_taken_back(error: str) -> None:
    failed = act("revert", "two", 7, f"org.virtsnap.Error.{error}: torn")
    assert found([failed, act("create", "s2", 8), *REVERTED]) == ("two", "s2")
    assert found([failed, *REVERTED]) == ("one", "s")


def test_last_revert_of_a_vm_that_was_never_reverted_is_none() -> None:
    assert last_revert([act("create", "one", 1)]) is None
    assert last_revert([]) is None


def test_still_there_is_that_very_safety_snapshot() -> None:
    made = act("create", "s", 5)
    here = snap("s", Origin="safety")
    assert still_there(made, [snap("one"), here]) is here
    assert still_there(made, [snap("s", 101, Origin="safety")]) is None
    assert still_there(made, [snap("s")]) is None


# --- since


def later(history: list[Row], snapshots: list[Row]) -> list[str]:
    last = last_revert([*history, *REVERTED])
    assert isinstance(last, LastRevert)
    return [each.rpartition(" 1970-")[0] or each for each in since(last, snapshots)]


ONE, SAFETY = snap("one", Current=True), snap("s", Origin="safety")


def test_since_nothing_is_nothing() -> None:
    assert later([], [ONE, SAFETY]) == []
    quiet = [act("delete", "x", 9), act("create", "y", 8, "org.virtsnap.Error.Busy: no")]
    assert later([*quiet, act("pin", "one", 0)], [ONE, SAFETY]) == []


def test_since_what_was_made_is_told_oldest_first() -> None:
    made = [act("create", "b", 9), act("create", "a\n", 8)]
    said = later(made, [snap("one"), snap("b", Current=True), SAFETY])
    assert said == ["snapshot a\\n was made", "snapshot b was made"]


def test_since_another_tools_snapshot_is_told_by_its_time() -> None:
    others = [snap("before", 1004, Origin="foreign"), snap("x", 1005, Origin="foreign")]
    odd = snap("odd", 9999, Origin="foreign", TimeKnown=False)
    assert later([], [ONE, SAFETY, *others, odd]) == ["another tool made snapshot x"]


def test_since_another_tools_revert_is_told_by_what_is_current() -> None:
    rows = [snap("one"), snap("two", Current=True), SAFETY]
    assert later([], rows) == ["another tool made snapshot two its current one"]
    assert later([], [snap("one"), SAFETY]) == ["another tool made no snapshot its current one"]
    assert later([], [SAFETY, snap("two", Current=True)]) == []
