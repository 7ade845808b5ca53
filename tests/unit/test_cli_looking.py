"""What `list`, `show`, `domains` and `jobs` pick and how they put it: trees, facts, words."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from snapd.cli.actions import about, about_snapshot, columns, domains, jobs, listing
from snapd.cli.output import facts, trees, words
from snapd.cli.parser import looking, parse
from snapd.errors import InvalidArgument
from snapd.wire import paths

TOP = Path(__file__).parents[2]
UUID = "22222222-2222-4222-8222-222222222201"


def snapshots(tree: dict[str, str], current: str = "") -> list[dict[str, Any]]:
    """Rows of snapshots, each on the one that is named."""
    return [
        {
            "Name": one,
            "Path": paths.snapshot(UUID, one),
            "Parent": paths.snapshot(UUID, on) if on else "/",
            "Current": one == current,
        }
        for one, on in tree.items()
    ]


def tree(rows: list[dict[str, Any]], marks: trees.Marks = trees.ASCII) -> str:
    drawn = trees.drawn(rows, marks)
    return "\n".join(before + row["Name"] if row else before for before, row in drawn)


# --- trees


def test_drawn_in_a_row_go_straight_down_with_a_bar_between() -> None:
    assert tree(snapshots({"a": "", "b": "a", "c": "b"}, "c")) == "o a\n|\no b\n|\n* c"


def test_drawn_branches_stand_to_the_right_and_the_last_goes_on() -> None:
    rows = snapshots({"a": "", "b": "a", "c": "b", "d": "a", "e": "d"})
    assert tree(rows) == "o a\n|-o b\n| |\n| o c\n|\no d\n|\no e"


def test_drawn_line_to_the_current_one_is_the_straight_one() -> None:
    rows = snapshots({"a": "", "b": "a", "c": "b", "d": "a", "e": "d"}, "c")
    assert tree(rows) == "o a\n|-o d\n| |\n| o e\n|\no b\n|\n* c"


def test_drawn_branches_of_branches_are_one_step_deeper_each() -> None:
    rows = snapshots({"a": "", "b": "a", "c": "b", "d": "b", "e": "a"})
    assert tree(rows, trees.UNICODE) == "○ a\n├─○ b\n│ ├─○ c\n│ │\n│ ○ d\n│\n○ e"


def test_drawn_several_first_ones_have_no_bar_between_them() -> None:
    rows = snapshots({"a": "", "b": "", "c": "b", "d": ""}, "a")
    assert tree(rows) == "* a\no b\n|\no c\no d"


def test_drawn_parent_that_is_not_there_is_none() -> None:
    assert tree(snapshots({"b": "gone", "c": "b"})) == "o b\n|\no c"


def test_drawn_ones_that_stand_on_themselves_are_there() -> None:
    assert tree(snapshots({"a": "", "b": "c", "c": "b"})) == "o a\no b\no c"


def test_drawn_ten_thousand_in_a_row_are_no_step_deep() -> None:
    rows = snapshots({f"s{n}": f"s{n - 1}" if n else "" for n in range(10_000)}, "s9999")
    assert {before for before, _ in trees.drawn(rows, trees.ASCII)} == {"o ", "* ", "|"}


def test_drawn_none_is_nothing() -> None:
    assert trees.drawn([], trees.ASCII) == []


# --- which ones


def picking(*typed: str) -> Namespace:
    return parse(["list", *typed])


@pytest.mark.parametrize(
    ("typed", "created", "known", "wanted"),
    [
        ("--older-than 1000", 999, True, True),
        ("--older-than 1000", 1000, True, False),
        ("--older-than 1000", 999, False, False),
        ("--newer-than 1000", 1001, True, True),
        ("--newer-than 1000", 1000, True, False),
        ("--newer-than 1000", 1001, False, False),
        ("--newer-than 1000 --older-than 1010", 1005, True, True),
        ("--newer-than 1000 --older-than 1010", 1011, True, False),
        ("--older-than 0", -5, True, True),
        ("", 5, False, True),
        ("--pinned", 5, True, False),
        ("--current", 5, True, True),
        ("--current --pinned", 5, True, False),
    ],
)
def test_picked_by_age_pin_and_mark(typed: str, created: int, known: bool, wanted: bool) -> None:
    row = {"Created": created, "TimeKnown": known, "Pinned": False, "Current": True}
    assert listing.picked(row, picking(*typed.split())) is wanted


def test_columns_that_are_explained_are_those_that_there_are() -> None:
    assert list(looking.COLUMNS) == list(columns.COLUMNS)
    assert picking("--columns", "uuid, snapshot,uuid").columns == ["uuid", "snapshot"]


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("snapshot,size", ()),
        ("", ()),
        (",", ()),
        ("snapshots", ("snapshot",)),
        ("Nam", ("snapshot",)),
        ("PinResn", ("pin",)),
    ],
)
def test_columns_that_there_are_not_is_wrong_usage_with_the_near_ones_only(
    typed: str, near: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidArgument) as error:
        picking("--columns", typed)
    assert error.value.near == near
    assert len(error.value.message) < 110


def test_columns_have_the_names_that_json_has_for_them_too() -> None:
    typed = "Name,DomainName,Created,DisksLeftOut,PinReason,NAME,LEFT-OUT"
    assert picking("--columns", typed).columns == ["snapshot", "vm", "created", "left-out", "pin"]


def test_titles_of_columns_by_name_can_not_be_spared() -> None:
    assert [one.spare for one in columns.titles(["kind", "created"], asked=True)] == [0, 0]
    assert all(one.spare for one in columns.titles(["kind", "created"], asked=False))


# --- VMs


SUPPORT = {"internal": "yes", "internal-memory": "yes", "external": "raw-disk"}


@pytest.mark.parametrize(
    ("support", "said"),
    [
        ({"internal": "yes", "internal-memory": "yes", "external": "x"}, "internal, with RAM"),
        ({"internal": "yes", "internal-memory": "unmigratable-device"}, "internal"),
        ({"internal": "yes", "external": "yes", "external-memory": "x"}, "internal; external"),
        ({"internal": "raw-disk"}, "unchecked"),
        ({"internal": "raw-disk", "external": "yes"}, "external"),
        ({"internal": "raw-disk", "external": "branching"}, "no: raw-disk, branching"),
        ({"internal": "no-disk", "external": "no-disk"}, "no: no-disk"),
        ({"internal": "unchecked", "external": "raw-disk"}, "unchecked"),
        ({}, "unchecked"),
    ],
)
def test_can_says_which_or_why_not(support: dict[str, str], said: str) -> None:
    assert domains.can(support) == said


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("", ["off", "raw", "web"]),
        ("--unprotected", ["off", "raw"]),
        ("--unsupported", ["raw"]),
        ("--failed", ["web"]),
        ("--state shutoff", ["off"]),
        ("--running", ["raw", "web"]),
        ("--running --unprotected", ["raw"]),
    ],
)
def test_picked_vms_are_those_asked_for(typed: str, wanted: list[str]) -> None:
    yes, no = {"internal": "unchecked", "external": "x"}, {"internal": "raw-disk", "external": "x"}
    rows = [
        {"Name": "off", "State": "shutoff", "Policies": [], "Support": yes, "LastErrorName": ""},
        {"Name": "raw", "State": "running", "Policies": [], "Support": no, "LastErrorName": ""},
        {
            "Name": "web",
            "State": "running",
            "Policies": ["p"],
            "Support": yes,
            "LastErrorName": "e",
        },
    ]
    args = parse(["domains", *typed.split()])
    assert [row["Name"] for row in rows if domains.picked(row, args)] == wanted


def test_made_puts_kinds_with_the_same_word_together() -> None:
    assert about.made(SUPPORT) == [
        "internal, internal-memory: yes",
        "external: raw-disk: a disk is raw",
    ]


def test_counted_says_of_which_origin_and_how_old() -> None:
    rows = [
        {"Origin": origin, "Created": 1_800_000_000 - age, "TimeKnown": True}
        for origin, age in (("policy", 90_000), ("manual", 50_000), ("policy", 7200))
    ]
    assert about.counted(rows, 1_800_000_000) == "3 (2 policy, 1 manual), the newest 2 h ago"
    assert about.counted([], 1_800_000_000) == "none"


def test_holds_on_a_vm_are_its_own_and_those_of_all() -> None:
    def held(uuid: str) -> dict[str, Any]:
        return {"DomainUUID": uuid, "Reason": "", "Until": 0}

    policies = [
        {"Name": "a", "Holds": [held(UUID), held("another")]},
        {"Name": "b", "Holds": [held("")]},
    ]
    assert about.holds_on(policies, UUID) == [
        {"Policy": "a", **held(UUID)},
        {"Policy": "b", **held("")},
    ]


# --- one that is gone


def act(verb: str, **values: Any) -> dict[str, Any]:
    about_it = {"Time": 100, "NotBefore": 0, "Created": 50, "Policy": "", "OwnerUID": 0}
    return {**about_it, "Verb": verb, "Reason": "", "Result": "done", "SnapshotName": "s", **values}


def test_gone_facts_are_who_deleted_it_when_and_why() -> None:
    acts = [
        act("delete", OwnerUID=-1, Policy="nightly", Reason="no rule matches"),
        act("delete", Time=90, Result="org.virtsnap.Error.Busy: why"),
        act("create", Time=60, OwnerUID=-1, Policy="nightly"),
        act("create", Time=10, Created=5, Reason="an older one of that name"),
    ]
    found = dict(about_snapshot.gone_facts(acts, 1000))
    assert found["by"] == "virtsnapd, policy nightly"
    assert found["why"] == "no rule matches"
    assert found["made by"] == "virtsnapd, policy nightly"


def test_gone_facts_of_what_others_removed_lie_between_two_times() -> None:
    acts = [act("delete", NotBefore=86400 * 365, Time=86400 * 366, Reason="removed outside")]
    found = dict(about_snapshot.gone_facts(acts, 86400 * 400))
    assert found["by"] == "others"
    assert str(found["deleted"]).startswith("after 1971-01-01 ")


def test_gone_facts_without_a_delete_say_so() -> None:
    (only,) = about_snapshot.gone_facts([act("delete", Result="org.x: it failed")], 1000)
    assert only == ("deleted", "history does not say by whom")


# --- jobs


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({}, []),
        (
            {"Name": "one", "Consistency": "crash", "Snapshot": paths.snapshot(UUID, "one")},
            ["snapshot one is made, crash-consistent"],
        ),
        (
            {"FinalState": "running", "SafetySnapshot": paths.snapshot(UUID, "s\n1")},
            ["the VM is running", "what it was before is in s\\n1"],
        ),
        ({"FinalState": "paused", "SafetySnapshot": "/"}, ["the VM is paused"]),
        (
            {"Deleted": ["a"], "Stays": [{"Name": "b", "Reason": "pinned"}]},
            ["deleted a", "b stays: pinned"],
        ),
        (
            {"Domains": [{"Outcome": "made"}, {"Outcome": "failed"}, {"Outcome": "made"}]},
            ["made on 2 VMs", "failed on 1 VM"],
        ),
        ({"Findings": []}, ["nothing is amiss"]),
        ({"Findings": [{}, {}]}, ["2 findings: 'virtsnap audit' shows them"]),
    ],
)
def test_came_of_says_what_a_job_did(result: dict[str, Any], said: list[str]) -> None:
    assert jobs.came_of(result, "system") == said


def test_came_of_names_a_command_for_the_same_bus() -> None:
    said = ["1 findings: 'virtsnap --session audit' shows them"]
    assert jobs.came_of({"Findings": [{}]}, "session") == said


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({}, 0),
        ({"Domains": [{"Outcome": "made"}, {"Outcome": "skipped"}]}, 0),
        ({"Domains": [{"Outcome": "made"}, {"Outcome": "failed"}]}, 1),
        ({"Findings": []}, 0),
        ({"Findings": [{}]}, 1),
    ],
)
def test_code_of_a_job_is_that_of_the_command_that_began_it(
    result: dict[str, Any], code: int
) -> None:
    assert jobs.code({"Result": result}) == code


@pytest.mark.parametrize("typed", ["7", "/org/virtsnap/Snapd1/jobs/7"])
def test_job_is_meant_by_number_or_path(typed: str) -> None:
    assert parse(["jobs", typed]).job == "/org/virtsnap/Snapd1/jobs/7"


@pytest.mark.parametrize("typed", ["0", "x", "7/8", "/org/virtsnap/Snapd1", "1\n", "٣"])
def test_job_of_another_form_is_wrong_usage(typed: str) -> None:
    with pytest.raises(InvalidArgument, match="is no job"):
        parse(["jobs", typed])


# --- words, lines


def explained(interface: str, title: str, end: str) -> dict[str, str]:
    """The words of a list in the contract with their meanings."""
    source = (TOP / f"dbus/org.virtsnap.Snapd1.{interface}.xml").read_text()
    part = source[source.index(title) :]
    items = re.findall(r"^ +- ([a-z-]+): (.*?)[;.]\n", part[: part.index(end)], re.M | re.S)
    return {word: " ".join(meaning.split()) for word, meaning in items}


def test_words_are_those_of_the_contract() -> None:
    reasons = explained("Manager", "Reason words (", "Loss and warning words")
    notes = explained("Snapshot", "Notes words;", "<property")
    assert len(reasons) > 40 and len(notes) > 5
    assert reasons == words.REASONS
    assert notes == words.NOTES
    assert words.reason("a-new-word") == words.note("a-new-word") == "a-new-word"


def test_lines_are_aligned_and_leave_out_what_has_no_value() -> None:
    told = facts.lines([("a", "1"), ("long", ["2", "", "3"]), ("none", ""), ("x", [])], width=0)
    assert told == ["  a     1", "  long  2", "        3"]


def test_lines_fold_at_words_and_never_within_one() -> None:
    told = facts.lines([("why", "aaaa bbbb " * 5 + "c" * 50)], width=40)
    assert told == [
        "  why  aaaa bbbb aaaa bbbb aaaa bbbb",
        "       aaaa bbbb aaaa bbbb",
        "       " + "c" * 50,
    ]


def test_lines_hostile_values_stay_on_one_line() -> None:
    assert facts.lines([("pinned", "a\nb\x1b[31m")], width=0) == ["  pinned  a\\nb\\x1b[31m"]
