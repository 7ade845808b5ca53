"""check's verdict: the status of every combination of what can be seen, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snapd.cli.verdict import Finding, Seen, Status, findings, of_word, part, status
from tests.unit.checks import VM1, VM2, covered, problem

# health of virtsnapd -> its problems, as the daemon has them
PROBLEMS: dict[str, list[dict[str, Any]]] = {
    "ok": [],
    "warning": [problem("warning", "one")],
    "critical": [problem("warning", "one"), problem("critical", "two")],
}


@pytest.mark.parametrize(
    ("loading", "health", "unit_file", "expected"),
    [
        (False, "ok", "enabled", "OK"),
        (False, "ok", "", "OK"),
        (False, "ok", "disabled", "WARNING"),
        (False, "warning", "enabled", "WARNING"),
        (False, "warning", "", "WARNING"),
        (False, "warning", "disabled", "WARNING"),
        (False, "critical", "enabled", "CRITICAL"),
        (False, "critical", "", "CRITICAL"),
        (False, "critical", "disabled", "CRITICAL"),
        (True, "ok", "enabled", "UNKNOWN"),
        (True, "ok", "", "UNKNOWN"),
        (True, "ok", "disabled", "UNKNOWN"),
        (True, "warning", "enabled", "UNKNOWN"),
        (True, "warning", "", "UNKNOWN"),
        (True, "warning", "disabled", "UNKNOWN"),
        (True, "critical", "enabled", "CRITICAL"),
        (True, "critical", "", "CRITICAL"),
        (True, "critical", "disabled", "CRITICAL"),
    ],
)
def test_status_of_a_running_daemon(
    loading: bool, health: str, unit_file: str, expected: str
) -> None:
    seen = Seen(
        "running", loading=loading, health=health, unit_file=unit_file, problems=PROBLEMS[health]
    )
    assert status(findings(seen)).name == expected


@pytest.mark.parametrize("unit_file", ["enabled", "disabled", ""])
@pytest.mark.parametrize(
    ("daemon", "expected"), [("stopped", "CRITICAL"), ("mute", "CRITICAL"), ("unknown", "UNKNOWN")]
)
def test_status_of_a_daemon_that_says_nothing(daemon: str, expected: str, unit_file: str) -> None:
    found = findings(Seen(daemon, "it is so", unit_file))
    assert status(found).name == expected
    assert (found[0].status.name, found[0].message) == (expected, "it is so")


def test_status_is_the_exit_code_of_a_plugin() -> None:
    assert {each.name: int(each) for each in Status} == {
        "OK": 0,
        "WARNING": 1,
        "CRITICAL": 2,
        "UNKNOWN": 3,
    }


@pytest.mark.parametrize(
    ("health", "problems", "expected"),
    [
        ("critical", [], "CRITICAL"),
        ("warning", [], "WARNING"),
        ("ok", [problem("critical", "two")], "CRITICAL"),
        ("warning", [problem("critical", "two")], "CRITICAL"),
        ("critical", [problem("warning", "one")], "CRITICAL"),
        ("splendid", [], "UNKNOWN"),
        ("ok", [problem("odd", "one")], "UNKNOWN"),
        (None, [], "OK"),
        (None, [problem("warning", "one")], "WARNING"),
    ],
)
def test_status_neither_health_nor_problems_hide_the_other(
    health: str | None, problems: list[dict[str, Any]], expected: str
) -> None:
    assert status(findings(Seen("running", health=health, problems=problems))).name == expected


def test_status_of_a_daemon_that_has_not_tried_to_connect_yet_is_unknown() -> None:
    """It tells of no problem then, and knows of no VM."""
    trying = Seen("running", connected=False, loading=False, health="ok")
    (found,) = findings(trying)
    assert (found.status.name, "not connected" in found.message) == ("UNKNOWN", True)
    assert findings(replace(trying, connected=True)) == []
    lost = problem("critical", "no connection", "not-connected")
    assert [f.message for f in findings(replace(trying, problems=[lost]))] == ["no connection"]


def test_findings_stand_with_the_worst_first_and_else_in_the_daemons_order() -> None:
    rows = [problem("warning", "a"), problem("critical", "b"), problem("critical", "c")]
    seen = Seen(
        "running",
        unit_file="masked",
        enable="systemctl enable virtsnapd",
        loading=True,
        health="critical",
        problems=rows,
    )
    assert [(each.status.name, each.message) for each in findings(seen)] == [
        ("CRITICAL", "b"),
        ("CRITICAL", "c"),
        ("UNKNOWN", "virtsnapd is still reading the VMs: more may be wrong"),
        (
            "WARNING",
            "virtsnapd.service is masked: it is not started at boot; systemctl enable virtsnapd",
        ),
        ("WARNING", "a"),
    ]


def test_status_of_nothing_is_ok() -> None:
    assert status([]) is Status.OK
    assert status([Finding(Status.WARNING, "")]) is Status.WARNING


@pytest.mark.parametrize(
    ("word", "at_boot"),
    [
        ("enabled", True),
        ("alias", True),
        ("static", True),
        ("indirect", True),
        ("generated", True),
        ("transient", True),
        ("enabled-runtime", False),
        ("disabled", False),
        ("masked", False),
        ("masked-runtime", False),
        ("linked", False),
        ("linked-runtime", False),
        ("bad", False),
        ("", None),
    ],
)
def test_at_boot_by_systemds_word(word: str, at_boot: bool | None) -> None:
    assert Seen("running", unit_file=word).at_boot is at_boot


def test_of_word_knows_the_contracts() -> None:
    words = ("ok", "warning", "critical", "")
    assert [of_word(word).name for word in words] == ["OK", "WARNING", "CRITICAL", "UNKNOWN"]


# --- a part


@pytest.mark.parametrize(
    ("uuid", "policy", "messages"),
    [
        (VM1, "", ["everybody", "policy p", "vm 1", "p on vm 1", "q on vm 1"]),
        (VM2, "", ["everybody", "policy p", "p on vm 2"]),
        ("", "p", ["everybody", "policy p", "vm 1", "p on vm 1", "p on vm 2"]),
        (VM1, "q", ["everybody", "vm 1", "q on vm 1"]),
    ],
)
def test_part_has_what_is_of_it_and_of_all(uuid: str, policy: str, messages: list[str]) -> None:
    rows = [
        problem("critical", "everybody"),
        problem("warning", "policy p", policy="p"),
        problem("warning", "vm 1", uuid=VM1),
        problem("warning", "p on vm 1", uuid=VM1, policy="p"),
        problem("warning", "q on vm 1", uuid=VM1, policy="q"),
        problem("warning", "p on vm 2", uuid=VM2, policy="p"),
    ]
    coverage = [covered("p", "one", VM1), covered("q", "one", VM1), covered("p", "two", VM2)]
    whole = Seen("running", loading=False, health="critical", problems=rows, coverage=coverage)
    found = part(whole, uuid, policy)
    assert [row["Message"] for row in found.problems] == messages
    on = {(row["DomainUUID"], row["Policy"]) for row in found.coverage}
    assert on == {
        (row["DomainUUID"], row["Policy"])
        for row in rows
        if row["Message"] in messages and row["DomainUUID"] and row["Policy"]
    }


def test_part_goes_by_its_own_problems_and_not_by_the_whole_health() -> None:
    rows = [problem("critical", "of two", uuid=VM2, policy="p")]
    whole = Seen("running", health="critical", unit_file="enabled", problems=rows)
    assert status(findings(whole)) is Status.CRITICAL
    assert status(findings(part(whole, VM1, ""))) is Status.OK
