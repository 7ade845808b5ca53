"""The written cases of tests/data/planning, each with its verdict, and none left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from snapd.inventory import DomainPicture, Inventory
from snapd.model import DomainInfo, Keep, Origin, Record, SnapshotInfo, SnapshotKey, State
from snapd.operations import Catalog, Jobs
from snapd.planning import schedule
from snapd.planning.retention import Candidate, Rules, candidate, plan_labels
from snapd.policy import ClockGuard
from snapd.store import Store
from tests.unit.histories import DAY, ids
from tests.unit.jobs_on_store import play

TESTS = Path(__file__).parents[1]
DATA = TESTS / "data" / "planning"
Case = dict[str, Any]
RETENTION: list[Case] = json.loads((DATA / "retention_cases.json").read_text())
SCHEDULE: list[Case] = json.loads((DATA / "schedule_cases.json").read_text())
VALUES: list[dict[str, str]] = json.loads((DATA / "policy_values.json").read_text())

# What a case may say of a verdict, and which tests hold us to it.
HERE = Path(__file__).name
VERDICTS = {
    "must_keep": [f"unit/{HERE}::test_plan_written_case"],
    "must_delete": [f"unit/{HERE}::test_plan_written_case"],
    "deferred": [  # what the plan lets go and libvirt can't delete: tried, kept, and no other goes
        f"unit/{HERE}::test_plan_written_case",
        "unit/test_prune.py::test_prune_that_fails_at_one_takes_no_other_for_it",
    ],
    "deferred_reason": ["unit/test_plan.py::test_plan_impossible_unsupported"],
    "policy_must_be": ["unit/test_settings_policies.py::test_policy_that_keeps_nothing_is_refused"],
    "must_warn": [f"unit/{HERE}::test_clock_of_written_case_is_not_believed"],
    "must_create_next": [f"unit/{HERE}::test_due_written_case_goes_on_after_the_clock_went_back"],
    "create_result": ["driver/test_policies.py::test_run_create_fails_prunes_nothing"],
    "action": [f"unit/{HERE}::test_plan_written_case_safety_snapshot_does_not_push_out_the_target"],
    "domain_uuid": [f"unit/{HERE}::test_plan_written_case_records_are_of_the_vm_that_was"],
    "expect_utc": ["unit/test_schedule.py::test_fires_and_due_written_case"],
    "must": [
        f"unit/{HERE}::test_spread_written_case_starts_differ",
        "unit/test_jobs_queue.py::test_submit_more_domains_than_parallel_waits",
    ],
    "accept": ["unit/test_settings_policies.py::test_load_policy_written_value"],
    "refuse": [
        "unit/test_settings_policies.py::test_load_policy_written_value",
        "unit/test_settings_policies.py::test_load_policy_not_utf8_names_file_and_byte",
    ],
    "treat as glob": ["unit/test_settings_policies.py::test_matches_glob_or_uuid"],
    "per-run Unsupported": [
        "unit/test_preflight_create.py"
        "::test_create_blockers_unmigratable_device_matters_only_with_memory"
    ],
}
# What a case is made of, and what is for a reader only.
FACTS = {"id", "why", "note", "now", "tz", "policy", "snapshots", "local", "vm_state", "rule",
         "from_utc", "to_utc", "off", "vms"}  # fmt: skip


def said(case: Case) -> set[str]:
    return {key for key, value in case.items() if key not in FACTS and value is not None}


@pytest.mark.parametrize("case", [*RETENTION, *SCHEDULE], ids=lambda c: c["id"])
def test_written_case_says_nothing_that_no_test_holds_us_to(case: Case) -> None:
    assert said(case)
    assert said(case) <= VERDICTS.keys()


@pytest.mark.parametrize("value", VALUES, ids=lambda v: v["text"])
def test_written_value_has_no_verdict_that_no_test_holds_us_to(value: dict[str, str]) -> None:
    assert value["verdict"] in VERDICTS


def test_written_verdicts_all_occur_and_their_tests_are_there() -> None:
    occurring = set().union(*map(said, [*RETENTION, *SCHEDULE])) | {v["verdict"] for v in VALUES}
    assert occurring == VERDICTS.keys()
    for test in [test for tests in VERDICTS.values() for test in tests]:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (TESTS / file).read_text(), test


# --- retention


def candidates_of(case: Case) -> list[Candidate]:
    return [
        Candidate(
            s["name"],
            s["created"] or 0,
            pinned=s["pinned"],
            state=s.get("state", "ok"),
            time_known=s["created"] is not None,
            labels=tuple(s["owner"].removeprefix("policy:").split(",")),
        )
        for s in case["snapshots"]
    ]


def keep_of(policy: dict[str, Any]) -> Keep:
    counts = {k.removeprefix("keep_"): v for k, v in policy.items() if k.startswith("keep_")}
    if within := counts.pop("within", None):
        counts["within"] = int(within.removesuffix("d")) * DAY
    return Keep(**counts)


def rules_of(case: Case) -> dict[str, Rules]:
    policies = case["policy"] if "p1" in case["policy"] else {"p1": case["policy"]}
    zone = ZoneInfo(case["tz"])
    return {label: Rules(keep_of(policy), zone) for label, policy in policies.items()}


ELSEWHERE = {"policy_must_be", "create_result", "action", "domain_uuid"}
PLANNED = [c for c in RETENTION if not ELSEWHERE & c.keys()]


def that_say(key: str) -> list[Case]:
    return [c for c in RETENTION if key in c]


@pytest.mark.parametrize("case", PLANNED, ids=lambda c: c["id"])
def test_plan_written_case(case: Case) -> None:
    decisions = plan_labels(candidates_of(case), rules_of(case), case["now"])
    goes, deferred = ids(decisions, keep=False), set(case.get("deferred", []))
    assert goes == set(case["must_delete"]) | deferred
    assert set(case["must_keep"]) <= ids(decisions) | deferred
    assert all(d.reasons for d in decisions)


@pytest.mark.parametrize("case", that_say("action"), ids=lambda c: c["id"])
def test_plan_written_case_safety_snapshot_does_not_push_out_the_target(case: Case) -> None:
    safety = Candidate(case["action"]["safety_snapshot"], case["now"])
    decisions = plan_labels([*candidates_of(case), safety], rules_of(case), case["now"])
    assert ids(decisions) == set(case["must_keep"])
    assert case["action"]["revert_to"] in ids(decisions)


@pytest.mark.parametrize("case", that_say("domain_uuid"), ids=lambda c: c["id"])
def test_plan_written_case_records_are_of_the_vm_that_was(case: Case, tmp_path: Path) -> None:
    """The new one has snapshots of the same names and times, as a copy of its disks has."""
    old, new = case["policy"]["domain_uuid"], case["domain_uuid"]
    infos = [SnapshotInfo(s["name"], s["created"], State.RUNNING) for s in case["snapshots"]]
    goes: dict[str, set[str]] = {}

    async def body(jobs: Jobs, store: Store) -> None:
        keys = [SnapshotKey(old, info.name, info.created) for info in infos]
        await store.change_records([Record(key, Origin.POLICY, ("p1",)) for key in keys])
        catalog = Catalog(cast(Inventory, None), store, jobs)
        for uuid in (old, new):
            info = DomainInfo(uuid, "web-1", State.RUNNING)
            found = catalog.of(DomainPicture(info, {i.name: i for i in infos}))
            decisions = plan_labels(map(candidate, found), rules_of(case), case["now"])
            goes[uuid] = ids(decisions, keep=False)

    play(tmp_path, body)
    assert goes[new] == set(case["must_delete"]) == set()
    assert len(goes[old]) == len(infos) - case["policy"]["keep_last"]


@pytest.mark.parametrize("case", that_say("must_warn"), ids=lambda c: c["id"])
def test_clock_of_written_case_is_not_believed(case: Case) -> None:
    """An hour after the newest snapshot the clock steps to where the case has it."""
    seen = max(s["created"] for s in case["snapshots"]) + 3600
    clock = {"wall": seen, "boot": 5000}
    guard = ClockGuard(wall=lambda: clock["wall"], boot=lambda: clock["boot"])
    assert guard.distrust() == ""
    clock.update(wall=case["now"], boot=5060)
    assert case["must_warn"] in guard.distrust()
    if case["now"] < seen:  # and after a restart, too
        assert case["must_warn"] in ClockGuard(seen, lambda: case["now"], lambda: 5).distrust()


@pytest.mark.parametrize("case", that_say("must_create_next"), ids=lambda c: c["id"])
def test_due_written_case_goes_on_after_the_clock_went_back(case: Case) -> None:
    hourly, zone = schedule.parse("@hourly"), ZoneInfo(case["tz"])
    newest = max(s["created"] for s in case["snapshots"])
    last = schedule.clamp(newest, case["now"])
    due = schedule.due(hourly, last, case["now"] + 3600, zone)
    assert due is not None
    assert due.run


# --- schedule


@pytest.mark.parametrize("case", [c for c in SCHEDULE if "vms" in c], ids=lambda c: c["id"])
def test_spread_written_case_starts_differ(case: Case) -> None:
    starts = [schedule.spread("m", f"uuid-{n}", "hourly", 3600) for n in range(case["vms"])]
    assert len(set(starts)) > len(starts) * 3 / 4
    assert max(starts) - min(starts) > 1800
