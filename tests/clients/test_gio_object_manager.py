"""Gio's GDBusObjectManagerClient, by PyGObject."""

from __future__ import annotations

from typing import Any

from tests.clients.tools import (
    BY_HAND,
    JOBS,
    NIGHTLY,
    ONE,
    ROOT,
    VMS,
    WEB1,
    WEB1_UUID,
    in_order,
    script,
)
from tests.driver.house import House


def test_object_managers_follow_what_the_client_and_the_daemon_do(running: House) -> None:
    """At once after the start: what has not been read yet is waited for, or heard of later."""
    told = script("gio_object_manager.py", running.address)
    assert told["first"][BY_HAND]["Description"] == "made in virt-manager"
    assert told["first"][BY_HAND]["Created"] == 1700000000

    middle = told["middle"]
    vms = {path: middle[path] for path in VMS}
    assert {p: (v["Name"], v["State"], v["CurrentSnapshot"]) for p, v in vms.items()} == VMS
    assert (middle[ONE]["Consistency"], middle[ONE]["Parent"]) == ("crash", BY_HAND)
    assert [middle[path]["Current"] for path in (BY_HAND, ONE)] == [True, False]
    assert middle[f"{JOBS}/1"]["State"] == "done"
    assert middle[f"{JOBS}/1"]["Result"]["Snapshot"] == ONE
    assert set(told["last"]) == {*VMS, BY_HAND, f"{JOBS}/1", f"{JOBS}/2", f"{JOBS}/3"}

    heard = told["heard"]
    wanted: list[Any] = [
        [f"{JOBS}/1", "added"],
        [ONE, "added"],
        [ROOT, "SnapshotCreated", WEB1_UUID, ONE],
        [f"{JOBS}/1", "Completed", "done", "", "", {}],
        [f"{JOBS}/2", "added"],
        [ROOT, "SnapshotReverted", WEB1_UUID, BY_HAND],
        [f"{JOBS}/2", "Completed", "done", "", "", {}],
        [f"{JOBS}/3", "added"],
        [ONE, "removed"],
        [ROOT, "SnapshotDeleted", WEB1_UUID, ONE],
        [f"{JOBS}/3", "Completed", "done", "", "", {}],
        [NIGHTLY, "added"],
        [NIGHTLY, "removed"],
    ]
    in_order([each[:4] if each[0] == ROOT else each for each in heard], wanted)


def test_object_managers_hear_each_change_before_the_job_is_completed(running: House) -> None:
    heard = script("gio_object_manager.py", running.address)["heard"]
    ends = [n for n, each in enumerate(heard) if each[1] == "Completed"]
    made, reverted = heard[: ends[0]], heard[ends[0] : ends[1]]
    assert changes(made, BY_HAND, "Current") == [False]
    assert changes(made, WEB1, "CurrentSnapshot") == [ONE]
    assert changes(made, f"{JOBS}/1", "State") == ["running", "done"]
    assert changes(reverted, BY_HAND, "Current") == [True]
    assert changes(reverted, ONE, "Current") == [False]
    assert changes(reverted, WEB1, "CurrentSnapshot") == [BY_HAND]


def changes(heard: list[Any], path: str, name: str) -> list[Any]:
    """The values of a property that were announced."""
    told = [each[2] for each in heard if each[:2] == [path, "changed"]]
    return [values[name] for values in told if name in values]
