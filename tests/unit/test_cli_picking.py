"""Which snapshots virtsnap takes a command line to mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from snapd.cli.output.text import name as shown
from snapd.cli.picking import Row, Wanted, leaves_first, named, pick
from snapd.errors import InvalidArgument, NoSuchSnapshot

DATA = Path(__file__).parents[1] / "data" / "names" / "snapshot_names.json"
HOSTILE = [case["name"] for case in json.loads(DATA.read_text("utf-8"))]
NOW = 1_800_000_000.0


def snap(name: str, created: int, parent: str = "", **what: Any) -> Row:
    return {
        "Path": f"/{name}",
        "Name": name,
        "Created": created,
        "TimeKnown": True,
        "Status": "ok",
        "Origin": "manual",
        "Policies": [],
        "Parent": f"/{parent}" if parent else "/",
        **what,
    }


def picked(rows: list[Row], policy: str = "", before: int | None = None) -> tuple[str, str]:
    found = pick(rows, Wanted(policy, before), vm="web-1", now=NOW, see="virtsnap list web-1")
    return found.row["Name"], found.why


# --- the newest


def test_pick_latest_is_the_newest_in_whatever_order() -> None:
    rows = [snap("b", 200), snap("c", 300), snap("a", 100)]
    assert picked(rows) == ("c", "the newest of 3")
    assert picked(rows[::-1])[0] == "c"


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ({"Origin": "safety"}, "safety"),
        ({"Origin": "trial"}, "trial"),
        ({"Status": "broken"}, "broken"),
        ({"Status": "creating"}, "creating"),
        ({"Status": "deleting"}, "deleting"),
        ({"Status": "needs-attention"}, "needs-attention"),
        ({"TimeKnown": False}, "of unknown time"),
        ({"Created": 1_800_000_061}, "of a time to come"),
    ],
)
def test_pick_latest_passes_over_what_is_not_to_be_gone_back_to(
    what: dict[str, Any], word: str
) -> None:
    rows = [snap("good", 100), {**snap("newer", 200), **what}]
    assert picked(rows) == ("good", f"the newest of 1; passed over: 1 {word}")
    with pytest.raises(NoSuchSnapshot, match=f"there are only 1 {word}"):
        picked(rows[1:])


def test_pick_takes_one_that_cannot_be_reverted_to_rather_than_an_older_one() -> None:
    """Going back further than was asked for would lose more; the preview says what is wrong."""
    rows = [snap("a", 100), snap("b", 200, RevertBlocker="branching", Pinned=True)]
    assert picked(rows)[0] == "b"


def test_pick_tells_nothing_of_older_ones_that_it_passed_over() -> None:
    assert picked([snap("a", 100, Origin="safety"), snap("b", 200)]) == ("b", "the newest of 1")


def test_pick_tells_of_unknown_times_whatever_they_say() -> None:
    rows = [snap("a", 0, TimeKnown=False), snap("b", 200)]
    assert picked(rows) == ("b", "the newest of 1; passed over: 1 of unknown time")


def test_pick_a_clock_set_back_a_little_hides_no_snapshot() -> None:
    assert picked([snap("a", 100), snap("b", 1_800_000_059)])[0] == "b"


def test_pick_times_before_1970_have_their_order() -> None:
    assert picked([snap("a", -200), snap("b", -100)], before=0)[0] == "b"


# --- equal times


def test_pick_of_one_second_is_the_one_that_stands_on_the_others() -> None:
    rows = [snap("c", 100, "b"), snap("a", 100), snap("b", 100, "a")]
    assert picked(rows)[0] == "c"
    between = [snap("c", 100, "x"), snap("x", 50, "a"), snap("a", 100)]
    assert picked(between)[0] == "c"


def test_pick_of_no_snapshots_says_that_there_is_none() -> None:
    with pytest.raises(NoSuchSnapshot, match="there is none at all"):
        picked([])


def test_pick_of_one_second_on_two_branches_is_not_guessed() -> None:
    rows = [snap("a", 50), snap("c", 100, "a"), snap("b", 100, "a")]
    with pytest.raises(InvalidArgument, match="b, c are the newest, of the same second"):
        picked(rows)


def test_pick_parents_in_a_circle_end() -> None:
    rows = [snap("a", 100, "b"), snap("b", 100, "a")]
    with pytest.raises(InvalidArgument, match="a, b, c are the newest"):
        picked([*rows, snap("c", 100)])
    assert picked([*rows, snap("c", 100, "a")])[0] == "c"
    assert [row["Name"] for row in leaves_first(rows, rows)] == ["a", "b"]


# --- before, policy


@pytest.mark.parametrize(("before", "name"), [(201, "b"), (200, "a"), (10**12, "c")])
def test_pick_before_is_from_before_that_very_second(before: int, name: str) -> None:
    rows = [snap("a", 100), snap("b", 200), snap("c", 300)]
    assert picked(rows, before=before)[0] == name


def test_pick_before_never_takes_a_time_to_come_however_late_the_time() -> None:
    rows = [snap("a", 100), snap("future", 1_900_000_000)]
    name, why = picked(rows, before=2_000_000_000)
    assert name == "a" and why.endswith("passed over: 1 of a time to come")


def test_pick_nothing_before_counts_what_there_is() -> None:
    rows = [snap("a", 100), snap("b", 200), snap("s", 10, Origin="safety")]
    with pytest.raises(
        NoSuchSnapshot, match=r"only 2 made later, 1 safety; .* virtsnap list web-1"
    ):
        picked(rows, before=100)


def test_pick_of_a_policy_takes_no_other_ones() -> None:
    rows = [snap("n", 100, Policies=["weekly", "nightly"]), snap("m", 200)]
    assert picked(rows, "nightly") == ("n", "the newest of 1 of policy nightly")
    with pytest.raises(
        NoSuchSnapshot, match=r"no snapshot of policy hourly .* 2 of no such policy"
    ):
        picked(rows, "hourly")


# --- words


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_named_every_name_is_itself_and_no_glob(name: str) -> None:
    rows = [snap(each, n) for n, each in enumerate(HOSTILE)]
    assert [row["Name"] for row in named(rows, name) or []] == [name]
    globs = [snap(f"*{name}", 1), snap(f"x{name}", 2)]
    assert [row["Name"] for row in named(globs, f"*{name}") or []] == [f"*{name}"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_named_glob_fits_whole_hostile_names(name: str) -> None:
    rows = [snap("old-", 1), snap(f"old-{name}", 2), snap(f"{name}old-", 3)]
    found = {row["Name"] for row in named(rows, "old-?*") or []}
    assert found == {f"old-{name}"}
    assert {row["Name"] for row in named(rows, "*") or []} == {row["Name"] for row in rows}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_pick_error_of_hostile_names_is_one_safe_line(name: str) -> None:
    rows = [snap(name, 100), snap("other", 100)]
    with pytest.raises(InvalidArgument) as caught:
        picked(rows)
    assert caught.value.message.isprintable() and shown(name) in caught.value.message


def test_named_word_without_glob_letters_is_left_to_the_daemon() -> None:
    assert named([snap("caf\u00e9", 1)], "cafe\u0301") is None
    assert named([snap("one", 1)], "on*e?") == []


def test_named_glob_takes_case_as_it_is_and_nothing_half_made() -> None:
    rows = [snap("Old", 1), snap("old", 2), snap("older", 3, Status="creating")]
    assert [row["Name"] for row in named(rows, "o*") or []] == ["old"]
    assert [row["Name"] for row in named(rows, "older") or []] == ["older"]


# --- order


def test_leaves_first_has_children_before_parents_whatever_their_times() -> None:
    tree = [snap("a", 400), snap("b", 300, "a"), snap("c", 0, "b"), snap("d", 500)]
    order = [row["Name"] for row in leaves_first([*tree, tree[1]], tree)]
    assert order == ["c", "b", "d", "a"]


def test_leaves_first_counts_parents_that_stay() -> None:
    tree = [snap("a", 1), snap("b", 9, "a"), snap("c", 2, "b"), snap("d", 8, "a")]
    assert [row["Name"] for row in leaves_first([tree[1], tree[2], tree[3]], tree)] == [
        "c",
        "b",
        "d",
    ]
