"""How a policy fares on a VM: verdict, pause, RAM, overdue, health; and what is said of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from snapd.errors import Unsupported
from snapd.hypervisor import ChainFacts
from snapd.inventory import DomainPicture
from snapd.model import (
    Consistency,
    DomainInfo,
    Keep,
    Origin,
    Policy,
    Record,
    SnapshotKey,
    State,
)
from snapd.operations import Outlook
from snapd.policy import problems
from snapd.policy.coverage import Coverage, coverage, outlook_of, overdue, ram_kept, worst
from snapd.store import SlotRow
from tests.unit.vms import BEFORE, EXTERNAL, OFF, ON, UUID, VDA

GIB = 1 << 30
DAY = 86400
NIGHTLY = Policy(
    "nightly", "admin", "1", ("*",), Keep(last=3, daily=7), "Europe/Berlin", "30 2 * * *"
)
WORKS = Outlook(None, "internal", 40)
RAW = replace(ON, disks=(replace(VDA, format="raw"),))


def at(text: str) -> int:
    """A time written as UTC, in seconds."""
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


# --- overdue


@pytest.mark.parametrize(
    ("last_ok", "second"),
    [
        ("2026-06-10 00:31:05", "2026-06-12 00:30"),  # 02:30 is 00:30 UTC in summer
        ("2026-06-10 00:29:59", "2026-06-11 00:30"),  # just before a slot: that one is the first
        ("2026-03-28 01:30:40", "2026-03-30 00:30"),  # 02:30 does not exist on the 29th
        ("2026-10-24 00:30:40", "2026-10-26 01:30"),  # 02:30 comes twice on the 25th and runs once
    ],
)
def test_overdue_from_a_minute_past_the_second_slot_on(last_ok: str, second: str) -> None:
    begun, slot = at(last_ok), at(second)
    assert overdue(NIGHTLY, begun, slot + 60) == 0
    assert overdue(NIGHTLY, begun, slot + 61) == slot
    assert overdue(NIGHTLY, begun, slot + 400 * DAY) == slot  # nobody has to have been there


def test_overdue_waits_as_long_as_a_start_may_be_put_off() -> None:
    spread = replace(NIGHTLY, randomized_delay=3600)
    begun, slot = at("2026-06-10 00:31"), at("2026-06-12 00:30")
    assert overdue(spread, begun, slot + 3660) == 0
    assert overdue(spread, begun, slot + 3661) == slot


def test_overdue_never_without_schedule_or_a_time_that_has_been() -> None:
    now = at("2026-06-12 12:00")
    assert overdue(replace(NIGHTLY, schedule="", on=("start",)), now - 30 * DAY, now) == 0
    assert overdue(NIGHTLY, 0, now) == 0
    assert overdue(NIGHTLY, now + 30 * DAY, now) == 0


@pytest.mark.parametrize("order", ["up", "down", "mixed"])
def test_overdue_of_many_vms_is_told_for_each_as_if_alone(order: str) -> None:
    midnight = replace(NIGHTLY, schedule="0 0 * * *", timezone="UTC", name=order)
    begun = at("2026-06-01 00:00") - at("2026-06-01 00:00") % DAY
    times = sorted([*range(begun, begun + 60 * DAY, 4999), *range(begun, begun + 60 * DAY, DAY)])
    if order == "down":
        times.reverse()
    elif order == "mixed":
        random.Random(7).shuffle(times)
    for time in times:
        second = (time // DAY + 2) * DAY
        assert overdue(midnight, time, begun + 90 * DAY) == second
        assert overdue(midnight, time, second + 60) == 0


# --- will it work


def prospect(info: DomainInfo, *records: Record, monitor: bool = True, **changes: Any) -> Outlook:
    picture = DomainPicture(info, {"before": BEFORE})
    policy = replace(NIGHTLY, **changes)
    return outlook_of(policy, picture, records, monitor=monitor, has_images=True)


@pytest.mark.parametrize(
    ("info", "changes", "word"),
    [
        (ON, {}, "yes"),
        (OFF, {}, "yes"),
        (RAW, {}, "raw-disk"),
        (replace(OFF, managed_save=True), {}, "managed-save"),
        (replace(ON, persistent=False), {}, "transient"),
        (replace(ON, unmigratable="hostdev (pci)"), {}, "yes"),
        (replace(ON, unmigratable="hostdev (pci)"), {"memory": True}, "unmigratable-device"),
        (replace(OFF, unmigratable="hostdev (pci)"), {"memory": True}, "yes"),
        (OFF, {"memory": True}, "yes"),
        (ON, {"quiesce": "try"}, "yes"),
        (ON, {"quiesce": "require"}, "agent-unavailable"),
        (replace(ON, agent=True), {"quiesce": "require"}, "yes"),
        (replace(ON, memory=16 * GIB), {"memory": True}, "pause-too-long"),
        (replace(ON, memory=16 * GIB), {"memory": True, "max_pause": 600}, "yes"),
        (replace(ON, memory=16 * GIB), {}, "yes"),
    ],
)
def test_verdict_is_of_what_the_policy_asks_for(
    info: DomainInfo, changes: dict[str, Any], word: str
) -> None:
    found = prospect(info, **changes)
    assert found.verdict == word
    assert found.kind == ("internal" if word == "yes" else "")


def test_verdict_without_monitor_needs_ram_while_it_runs() -> None:
    assert prospect(ON, monitor=False).verdict == "monitor-off"
    assert prospect(ON, monitor=False, memory=True).verdict == "yes"
    assert prospect(OFF, monitor=False).verdict == "yes"


TRIXIE: dict[str, Any] = {"chains": ChainFacts(capable=True), "version": (11, 3, 0)}


@pytest.mark.parametrize(
    ("info", "kind", "host", "found"),
    [
        (ON, "auto", TRIXIE, ("yes", "internal")),
        (RAW, "auto", TRIXIE, ("yes", "external")),
        (replace(RAW, state=State.SHUTOFF), "auto", TRIXIE, ("yes", "external")),
        (replace(ON, disks=(VDA,)), "external", TRIXIE, ("yes", "external")),
        (RAW, "internal", TRIXIE, ("raw-disk", "")),
        (RAW, "auto", {}, ("raw-disk", "")),  # Debian 12
        (ON, "external", {}, ("external-unsupported", "")),
        (
            RAW,
            "external",
            {**TRIXIE, "chains": ChainFacts(capable=True, security=frozenset({"apparmor"}))},
            ("apparmor-commit", ""),
        ),
    ],
)
def test_kind_is_told_for_each_vm_by_what_it_and_its_host_are(
    info: DomainInfo, kind: str, host: dict[str, Any], found: tuple[str, str]
) -> None:
    policy, picture = replace(NIGHTLY, kind=kind), DomainPicture(info)
    told = outlook_of(policy, picture, monitor=True, has_images=True, **host)
    assert (told.verdict, told.kind) == found
    row = coverage(policy, info, told, None, 0)
    assert (row.verdict, row.kind) == found
    by_choice = (info, kind) == (RAW, "auto") or info.state is State.SHUTOFF
    assert bool(row.why) == (found[0] != "yes" or by_choice)
    if by_choice and found[0] == "yes":
        assert "vda" in row.why


def test_policy_that_saves_ram_becomes_no_external_one() -> None:
    policy = replace(NIGHTLY, memory=True)
    told = outlook_of(policy, DomainPicture(RAW), monitor=True, has_images=True, **TRIXIE)
    assert (told.verdict, told.kind) == ("raw-disk", "")


def test_verdict_tree_of_the_other_kind() -> None:
    picture = DomainPicture(ON, {"outside": EXTERNAL})
    found = outlook_of(NIGHTLY, picture, monitor=True, has_images=True)
    assert (found.verdict, found.kind) == ("mixed-tree", "")


def measured(pause: int, consistency: Consistency, created: int = 1700000000) -> Record:
    key = SnapshotKey(UUID, f"s{created}", created)
    return Record(key, Origin.POLICY, ("nightly",), State.RUNNING, consistency, pause)


def test_pause_is_the_last_one_measured_of_its_sort() -> None:
    records = [
        measured(41, Consistency.CRASH, 1700000000),
        measured(52, Consistency.QUIESCED, 1700000300),
        measured(-1, Consistency.CRASH, 1700000400),
        measured(7100, Consistency.MEMORY, 1700000500),
    ]
    assert prospect(ON, *records).pause_ms == 52
    assert prospect(ON, *records, memory=True).pause_ms == 7100
    assert prospect(OFF, *records).pause_ms == 0
    assert prospect(OFF, *records, memory=True).pause_ms == 0


def test_pause_never_measured_is_unknown_and_guessed_only_from_ram() -> None:
    assert prospect(ON).pause_ms == -1
    assert prospect(replace(ON, memory=GIB), memory=True).pause_ms == 8000


def test_pause_measured_too_long_is_against_it() -> None:
    slow = measured(90_000, Consistency.CRASH)
    assert prospect(ON, slow).verdict == "pause-too-long"
    assert prospect(ON, slow, max_pause=100).verdict == "yes"


# --- how it fares

NOW = at("2026-06-12 12:00")
RECENT = SlotRow("nightly", UUID, 0, NOW - 9000, NOW - 9000, last_ok=NOW - 9000)


def row(slot: SlotRow | None, found: Outlook = WORKS, **how: Any) -> Coverage:
    return coverage(NIGHTLY, ON, found, slot, NOW, **how)


def test_coverage_of_a_good_run_is_ok() -> None:
    found = row(RECENT, next_run=NOW + 100)
    assert (found.policy, found.domain, found.domain_name) == ("nightly", UUID, "web-1")
    assert (found.verdict, found.kind, found.pause_ms) == ("yes", "internal", 40)
    assert (found.next_run, found.last_run, found.last_success) == (
        NOW + 100,
        NOW - 9000,
        NOW - 9000,
    )
    assert (found.health, found.overdue) == ("ok", 0)


def test_coverage_not_begun_yet_is_ok() -> None:
    assert (row(None).health, row(None).last_run) == ("ok", 0)


def test_coverage_that_has_not_run_when_it_should_is_a_warning_and_then_overdue() -> None:
    joined = SlotRow("nightly", UUID, 0, last_ok=at("2026-06-11 22:00"))
    assert row(joined).health == "warning"  # the slot of 00:30 came to nothing
    assert row(replace(joined, last_run=NOW - DAY)).health == "ok"  # of a run under way, say
    assert row(replace(joined, last_ok=at("2026-06-12 10:00"))).health == "ok"
    found = row(replace(joined, last_ok=at("2026-06-10 22:00")))
    assert (found.health, found.overdue) == ("critical", at("2026-06-12 00:30"))


def test_coverage_failed_is_critical_with_its_error() -> None:
    failed = replace(RECENT, error_name="org.virtsnap.Error.NoSpace", error_message="full")
    found = row(failed)
    assert (found.health, found.overdue) == ("critical", 0)
    assert (found.error_name, found.error_message) == ("org.virtsnap.Error.NoSpace", "full")


def test_coverage_held_is_a_warning_and_not_overdue() -> None:
    old = replace(RECENT, last_ok=NOW - 9 * DAY)
    assert row(old).health == "critical"
    held = row(old, held=True)
    assert (held.health, held.overdue) == ("warning", 0)


def test_coverage_that_cannot_work_is_a_warning_with_why_and_ways() -> None:
    found = row(RECENT, prospect(RAW))
    assert (found.verdict, found.kind, found.health) == ("raw-disk", "", "warning")
    assert "vda is raw" in found.why and "convert-to-qcow2" in found.ways


def test_coverage_says_what_a_run_came_upon() -> None:
    refused = Unsupported("image vda is encrypted", reason="encrypted-disk")
    found = row(RECENT, refused=refused)
    assert (found.verdict, found.kind, found.why) == (
        "encrypted-disk",
        "",
        "image vda is encrypted",
    )
    assert row(RECENT, refused=Unsupported("odd")).verdict == "unchecked"


@pytest.mark.parametrize(
    ("healths", "word"),
    [(["ok", "critical", "warning"], "critical"), (["ok", "warning"], "warning"), (["ok"], "ok")],
)
def test_worst_of_several(healths: Sequence[str], word: str) -> None:
    assert worst(healths) == word
    assert worst([]) == "warning"


@pytest.mark.parametrize(
    ("changes", "snapshots"),
    [
        ({}, 10),
        ({"keep": Keep(last=2, hourly=3, daily=4, weekly=5, monthly=6, yearly=7)}, 27),
        ({"max_count": 4}, 4),
        ({"keep": Keep(within=6 * 3600), "schedule": "0 * * * *"}, 7),
        ({"keep": Keep(within=3600), "schedule": "", "on": ("start",), "min_gap": 600}, 7),
    ],
)
def test_ram_kept_is_of_all_snapshots_that_stay(changes: dict[str, Any], snapshots: int) -> None:
    vm = replace(OFF, memory=4 * GIB)
    assert ram_kept(replace(NIGHTLY, memory=True, **changes), vm) == snapshots * 4 * GIB
    assert ram_kept(replace(NIGHTLY, **changes), vm) == 0


# --- what is said


def test_problem_cannot_work_names_policy_vm_and_way_out() -> None:
    found = problems.cannot_work(row(RECENT, prospect(RAW)), ON)
    assert found and (found.problem, found.severity) == ("cannot-work", "warning")
    assert (found.policy, found.domain, found.domain_name) == ("nightly", UUID, "web-1")
    assert "nightly" in found.message and "web-1" in found.message and "raw" in found.message
    assert "convert-to-qcow2" in found.ways
    assert problems.cannot_work(row(RECENT), ON) is None


def test_problem_of_what_a_run_came_upon_is_told_once() -> None:
    refused = Unsupported("image vda is encrypted", reason="encrypted-disk")
    failed = replace(RECENT, error_name=refused.name, error_message=refused.message)
    found = row(failed, refused=refused)
    assert problems.cannot_work(found, ON) is None
    told = problems.run_failed(found, ON, refused, NOW + 60)
    assert told and "not tried again until the VM or the policy changes" in told.message
    assert problems.cannot_work(row(RECENT, refused=refused), ON)


def test_problem_run_failed_says_when_it_is_tried_again() -> None:
    failed = row(replace(RECENT, error_name="org.virtsnap.Error.Busy", error_message="a backup"))
    found = problems.run_failed(failed, ON, None, at("2026-06-12 12:34"))
    assert found and (found.problem, found.severity) == ("run-failed", "critical")
    assert "a backup; it is tried again at 2026-06-12 12:34 UTC" in found.message
    last = problems.run_failed(failed, ON, None, 0)
    assert last and last.message.endswith("a backup")
    assert problems.run_failed(row(RECENT), ON, None, 0) is None


def test_problem_names_its_vm_once_where_the_error_named_it_first() -> None:
    slot = replace(RECENT, last_ok=NOW - 9 * DAY, error_name="x", error_message="VM web-1: no room")
    failed = row(slot)
    told = (problems.run_failed(failed, ON, None, 0), problems.overdue(failed, ON, NOW))
    for found in (*told, problems.cannot_work(replace(failed, verdict="x", why="VM web-1: y"), ON)):
        assert found and found.message.count("web-1") == 1
    other = problems.run_failed(row(replace(slot, error_message="VM web-10: x")), ON, None, 0)
    assert other and other.message.endswith("web-1: VM web-10: x")


def test_problem_overdue_says_since_when_by_how_much_and_the_last_error() -> None:
    old = replace(RECENT, last_success=at("2026-06-07 00:30"), last_ok=at("2026-06-07 00:30"))
    found = problems.overdue(row(old), ON, NOW)
    assert found and (found.problem, found.severity) == ("overdue", "critical")
    assert found.since == at("2026-06-09 00:30")
    for word in ("nightly", "web-1", "for 3 d", "2026-06-09 00:30 UTC", "2026-06-07 00:30 UTC"):
        assert word in found.message
    assert "error" not in found.message and found.ways == ("policy-run",)
    failed = replace(old, error_name="x", error_message="the file system is full")
    told = problems.overdue(row(failed), ON, NOW)
    assert told and told.message.endswith("its last error: the file system is full")
    never = problems.overdue(row(replace(old, last_success=0)), ON, NOW)
    assert never and "none there yet" in never.message
    assert problems.overdue(row(RECENT), ON, NOW) is None


WEB = replace(NIGHTLY, domains=("web-*",))


def under(name: str) -> SlotRow:
    return SlotRow("nightly", UUID, NOW, domain_name=name)


def left_out(name: str, policy: Policy, *slots: SlotRow) -> str:
    """What is said of a VM of that name; "" = nothing."""
    found = problems.uncovered(replace(ON, name=name), [policy], slots)
    assert not found or (found.problem, found.domain) == ("uncovered", UUID)
    return found.message if found else ""


def test_problem_uncovered_unless_covered_or_excluded() -> None:
    assert left_out("web-1", WEB) == ""
    assert "by no policy, and excluded by none" in left_out("db-1", WEB)
    assert left_out("db-1", replace(WEB, exclude=("db-*",))) == ""
    assert left_out("db-1", replace(WEB, exclude=(f"uuid:{UUID}",))) == ""


def test_problem_uncovered_by_a_rename_names_what_was_left() -> None:
    for policy in (WEB, replace(WEB, domains=("*",), exclude=("old-*",))):
        message = left_out("old-1", policy, under("web-1"))
        assert "nightly" in message and "renamed from web-1" in message
        assert f"uuid:{UUID}" in message


def test_problem_uncovered_by_a_rename_is_no_more_once_it_is_meant() -> None:
    by_uuid = replace(WEB, name="other", exclude=(f"uuid:{UUID.upper()}",))
    vm, slots = replace(ON, name="old-1"), [under("web-1")]
    assert problems.uncovered(vm, [WEB, replace(by_uuid, exclude=("old-*",))], slots)
    assert problems.uncovered(vm, [WEB, by_uuid], slots) is None


def test_problem_uncovered_since_the_policy_changed_is_no_rename() -> None:
    message = left_out("db-1", WEB, under("db-1"))
    assert "by no policy, and excluded by none" in message
    assert "renamed" not in left_out("db-2", WEB, under("db-1"))  # it never covered that name
