"""virtsnap revert --latest and --before, undo, and delete of several: as a process."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.driver.house import HOST, WEB1, House
from tests.driver.virtsnap import cli, terminal

AGES = {"old-1": 1700000100, "old-2": 1700000200, "keep": 1700000300, "old-*": 1700000400}


def names(house: House) -> set[str]:
    return set(house.client.snapshots("web-1"))


def current(house: House) -> str:
    rows = house.client.rows("ListSnapshots", "web-1")
    return str(next(row["Name"] for row in rows if row["Current"]))


def acts(house: House) -> list[dict[str, Any]]:
    """Newest first."""
    return house.client.rows("ListHistory", "web-1")


def served(house: House, ages: dict[str, int]) -> House:
    """A host whose web-1 has by-hand of 1700000000 and these, each standing on the one before."""
    template = HOST.read_text()
    begin = template.index("    <test:domainsnapshot>")
    end = template.index("</test:domainsnapshot>") + len("</test:domainsnapshot>\n")
    one = template[begin:end]
    more, parent = "", "by-hand"
    for name, created in ages.items():
        more += (
            one.replace("by-hand", name)
            .replace("1700000000", str(created))
            .replace("<active>1<", "<active>0<")
            .replace("<state>", f"<parent><name>{parent}</name></parent><state>", 1)
        )
        parent = name
    house.serve_text(template[:end] + more + template[end:])
    house.start()
    return house


@pytest.fixture
def aged(house: House) -> House:
    return served(house, AGES)


# --- revert --latest, --before


def test_revert_latest_names_its_pick_and_why_and_passes_safety_ones_over(aged: House) -> None:
    cli(aged, "create", "web-1", "newest", "--no-memory")
    time.sleep(1.1)  # libvirt's times are whole seconds
    first = cli(aged, "revert", "web-1", "--latest")
    assert first.code == 0
    assert first.err == "picked newest: the newest of 6\n"
    assert current(aged) == "newest"
    cli(aged, "create", "web-1", "tried", "--trial", "--no-memory")
    again = cli(aged, "revert", "web-1", "--latest")
    assert again.err.startswith("picked newest: the newest of 6; passed over: ")
    assert "1 safety" in again.err and "1 trial" in again.err


@pytest.mark.parametrize(
    ("before", "picked"),
    [("1700000300", "old-2"), ("1700000301", "keep"), ("2023-11-14T22:15:00Z", "by-hand")],
)
def test_revert_before_goes_to_the_newest_from_before_that_time(
    before: str, picked: str, aged: House
) -> None:
    """date -u -d 2023-11-14T22:15:00Z +%s = 1700000100, which is old-1's own second."""
    row = cli(aged, "revert", "web-1", "--before", before, "--json", "--no-safety").json
    assert (row["SnapshotName"], row["DomainUUID"]) == (picked, WEB1)
    assert current(aged) == picked


def test_revert_before_all_finds_nothing_and_says_what_there_is(aged: House) -> None:
    done = cli(aged, "revert", "web-1", "--before", "1700000000")
    assert (done.code, done.out) == (3, "")
    assert "5 made later" in done.err and "list web-1" in done.err
    assert cli(aged, "revert", "web-2", "--latest").code == 3
    assert acts(aged) == []


def test_revert_latest_of_a_policy_takes_only_its_own(house: House) -> None:
    house.policy("hourly")
    house.start()
    cli(house, "policy", "run", "hourly", "web-1")
    (made,) = names(house) - {"by-hand"}
    time.sleep(1.1)  # libvirt's times are whole seconds
    cli(house, "create", "web-1", "newer", "--no-memory")
    shown = cli(house, "revert", "web-1", "--latest", "--policy", "hourly", "--preview", "--json")
    assert shown.json["SnapshotName"] == made
    assert cli(house, "revert", "web-1", "--latest", "--preview", "--json").json[
        "SnapshotName"
    ] == ("newer")
    assert cli(house, "revert", "web-1", "--latest", "--policy", "other").code == 3
    assert cli(house, "revert", "web-1", "newer", "--policy", "hourly").code == 2


def test_revert_latest_asks_with_the_pick_and_reverts_to_nothing_else(running: House) -> None:
    """While the person thinks, the name comes to mean another snapshot."""
    cli(running, "create", "web-1", "one", "--no-memory")
    with terminal(running.address, "revert", "web-1", "--latest") as seen:
        seen.until("[y/N]")
        assert "picked one: the newest of 2" in seen.screen
        assert "the VM afterwards: running" in seen.screen
        running.client.delete("web-1", "one")
        time.sleep(1.1)  # libvirt's times are whole seconds
        running.client.create("web-1", "one", memory="no")
        seen.type("y\n")
        assert seen.end() == 4
    assert "revert" not in {row["Verb"] for row in acts(running) if row["Result"] == "done"}


def test_revert_and_create_quiet_answer_the_name_of_what_was_made(running: House) -> None:
    assert cli(running, "create", "web-1", "one", "-q", "--no-memory").out == "one\n"
    done = cli(running, "revert", "web-1", "one", "-0")
    assert done.code == 0
    assert done.out.removesuffix("\0") in names(running) - {"one", "by-hand"}
    path = cli(running, "create", "web-1", "two", "-q", "--no-wait", "--no-memory").out
    assert running.client.wait(path.removesuffix("\n"))["Name"] == "two"


# --- undo


def gone_back(house: House) -> str:
    """web-1 is reverted to one; the safety snapshot of that."""
    cli(house, "create", "web-1", "one", "--no-memory")
    return cli(house, "revert", "web-1", "one", "-q").out.strip()


def test_undo_goes_back_to_before_the_revert_and_twice_is_none(running: House) -> None:
    safety = gone_back(running)
    done = cli(running, "undo", "web-1")
    assert (done.code, current(running)) == (0, safety)
    first, second, third = done.out.splitlines()
    assert first == f"VM web-1 is back at {safety}, running"
    assert third == f"to undo: virtsnap --bus-address {running.address} undo web-1"
    again = cli(running, "undo", "web-1", "-q")
    assert again.code == 0
    (target, *_) = [row for row in acts(running) if row["Verb"] == "revert"]
    assert second == f"what it was before is in {target['SnapshotName']}"
    assert current(running) == target["SnapshotName"] != safety


def test_undo_takes_no_revert_that_was_refused_for_the_last_one(running: House) -> None:
    safety = gone_back(running)
    running.client.act("web-1", "one", "Pin", "the last good one")
    assert cli(running, "revert", "web-1", "one", "--delete-after").code == 4
    assert acts(running)[0]["Result"].startswith("org.virtsnap.Error.Protected: ")
    shown = cli(running, "undo", "web-1", "--preview", "--json").json
    assert (shown["SnapshotName"], shown["Since"]) == (safety, [])
    assert shown["Verdict"] == "yes"


def test_undo_without_a_way_back_is_refused_with_why(running: House) -> None:
    nothing = cli(running, "undo", "web-1", "--json")
    assert (nothing.code, nothing.error["error"]) == (3, "org.virtsnap.Error.NoSuchSnapshot")
    safety = gone_back(running)
    cli(running, "delete", "web-1", safety)
    gone = cli(running, "undo", "web-1")
    assert gone.code == 3 and f"{safety}, is not there any more" in gone.err
    cli(running, "revert", "web-1", "one", "--no-safety")
    none = cli(running, "undo", "web-1")
    assert none.code == 3 and "without a safety snapshot" in none.err
    assert cli(running, "undo", "nope").code == 3


def test_undo_after_more_was_done_takes_yes(running: House) -> None:
    safety = gone_back(running)
    cli(running, "create", "web-1", "later", "--no-memory")
    done = cli(running, "undo", "web-1", "--json")
    assert (done.code, done.error["error"]) == (4, "org.virtsnap.Error.Changed")
    assert "snapshot later was made" in done.error["message"]
    assert done.error["message"].endswith(" undo --yes web-1")
    assert cli(running, "undo", "web-1", "--yes").code == 0
    assert current(running) == safety


def test_undo_on_a_terminal_says_what_was_done_since_and_asks(running: House) -> None:
    safety = gone_back(running)
    cli(running, "create", "web-1", "later", "--no-memory")
    with terminal(running.address, "undo", "web-1") as seen:
        seen.until("[y/N]")
        seen.type("n\n")
        assert seen.end() == 1
    for part in ("Undo the revert to one", "snapshot later was made", safety, "lost: "):
        assert part in seen.screen
    assert current(running) == "later"


# --- delete


def test_delete_several_goes_from_the_leaves_up(aged: House) -> None:
    done = cli(aged, "delete", "web-1", "old-1", "keep", "old-2")
    assert done.code == 0
    assert done.out.splitlines() == [
        f"VM web-1: snapshot {name} is deleted" for name in ("keep", "old-2", "old-1")
    ]
    assert names(aged) == {"by-hand", "old-*"}


def test_delete_glob_is_a_name_first(aged: House) -> None:
    assert cli(aged, "delete", "web-1", "old-*", "-q").out == "old-*\n"
    assert names(aged) == {"by-hand", "keep", "old-1", "old-2"}
    assert cli(aged, "delete", "web-1", "old-*", "o*", "-q", "--yes").out == "old-2\nold-1\n"
    assert names(aged) == {"by-hand", "keep"}


def test_delete_glob_where_nobody_can_be_asked_needs_yes(aged: House) -> None:
    refused = cli(aged, "delete", "web-1", "o*")
    assert refused.code == 2 and "o* means 3 snapshots of VM web-1" in refused.err
    assert "k* means 1 snapshot of VM web-1, " in cli(aged, "delete", "web-1", "k*").err
    assert names(aged) == {"by-hand", *AGES}


def test_delete_one_refused_lets_the_others_go_and_says_so(aged: House) -> None:
    aged.client.act("web-1", "old-2", "Pin", "the last good one")
    done = cli(aged, "delete", "web-1", "old-1", "old-2", "keep", "--json")
    assert done.code == 4
    rows = done.json["rows"]
    assert [(row["Name"], row["Outcome"]) for row in rows] == [
        ("keep", "done"),
        ("old-2", "failed"),
        ("old-1", "done"),
    ]
    assert rows[1]["ErrorName"] == "org.virtsnap.Error.Protected"
    assert names(aged) == {"by-hand", "old-2", "old-*"}
    said = cli(aged, "delete", "web-1", "old-2", "old-[*]", "--yes")
    assert said.code == 4
    assert "VM web-1: snapshot old-* is deleted" in said.out
    assert "VM web-1: 1 of 2 snapshots are deleted" in said.err


@pytest.mark.parametrize("word", ["nope", "nope-*"])
def test_delete_word_that_means_nothing_deletes_nothing(word: str, aged: House) -> None:
    assert cli(aged, "delete", "web-1", "keep", word).code == 3
    assert names(aged) == {"by-hand", *AGES}


def test_delete_several_previewed_shows_each_in_turn_and_deletes_nothing(aged: House) -> None:
    done = cli(aged, "delete", "web-1", "o*", "by-hand", "--preview")
    assert (done.code, done.err) == (0, "")
    titles = [line for line in done.out.splitlines() if line[0] != " "]
    went = ["old-*", "old-2", "old-1", "by-hand"]
    assert [title.split(" (")[0] for title in titles] == [
        f"Delete from VM web-1: snapshot {name}" for name in went
    ]
    assert done.out.count("  snapshot: internal, ") == len(went)
    assert cli(aged, "delete", "web-1", "o*", "--preview", "-q").out == ""
    assert (names(aged), aged.client.rows("ListJobs")) == ({"by-hand", *AGES}, [])


def test_delete_several_previewed_of_which_one_is_pinned_is_refused(aged: House) -> None:
    aged.client.act("web-1", "old-1", "Pin", "the last good one")
    done = cli(aged, "delete", "web-1", "old-1", "old-2", "--preview", "--json")
    answers = {
        name: aged.client.call("PreviewDelete", "web-1", name) for name in ("old-2", "old-1")
    }
    about = {"DomainUUID": WEB1, "DomainName": "web-1"}
    assert (done.code, done.json["rows"]) == (
        4,
        [
            {**about, "Name": name, "Created": AGES[name], **answer}
            for name, answer in answers.items()
        ],
    )
    said = cli(aged, "delete", "web-1", "old-1", "old-2", "--preview")
    assert (said.code, said.out.count("refused now (pinned)")) == (4, 1)
    assert cli(aged, "delete", "web-1", "old-2", "keep", "--preview").code == 0
    assert names(aged) == {"by-hand", *AGES}


@pytest.mark.parametrize("option", ["--children", "--no-wait"])
def test_delete_several_with_an_option_for_one_is_wrong_usage(option: str, aged: House) -> None:
    assert cli(aged, "delete", "web-1", "keep", "old-1", option).code == 2
    assert cli(aged, "delete", "web-1", "keep", "old-1", option, "--preview").code == 2
    assert cli(aged, "delete", "web-1", option, "keep").code == 0


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("y\n", 0)])
def test_delete_several_asks_once_with_all_of_them(answer: str, code: int, aged: House) -> None:
    with terminal(aged.address, "delete", "web-1", "old-1", "keep") as seen:
        seen.until("[y/N]")
        for part in ("snapshot keep (2023-11-14", "snapshot old-1 (2023-11-14", "these 2"):
            assert part in seen.screen
        seen.type(answer)
        assert seen.end() == code
    assert seen.screen.count("[y/N]") == 1
    assert names(aged) & {"keep", "old-1"} == ({"keep", "old-1"} if code else set())


def test_delete_several_quiet_on_a_terminal_asks_with_their_names(aged: House) -> None:
    with terminal(aged.address, "delete", "web-1", "old-1", "keep", "-q") as seen:
        seen.until("[y/N]")
        assert "these 2 snapshots of VM web-1? [y/N]" in seen.screen
        assert seen.screen.index("snapshot keep (") < seen.screen.index("snapshot old-1 (")
        seen.type("\x03")
        assert seen.end() == 130
    assert names(aged) == {"by-hand", *AGES}


def test_delete_name_in_another_unicode_form_is_the_one_that_is_meant(house: House) -> None:
    served(house, {"cafe\u0301": 1700000100, "cafe": 1700000200})
    assert cli(house, "delete", "web-1", "caf\u00e9", "cafe", "-0").out == "cafe\0cafe\u0301\0"
    assert names(house) == {"by-hand"}


def test_delete_hostile_names_by_a_glob_reach_no_terminal_as_they_are(house: House) -> None:
    served(house, {"two&#10;rows": 1700000100, "&#x202e;gnp.exe": 1700000200, "-rf": 1700000300})
    with terminal(house.address, "delete", "web-1", "*") as seen:
        seen.until("[y/N]")
        shown = seen.screen.replace("\r", "").replace("\n", "").replace("\x1b[K", "")
        assert shown.isprintable()
        for part in ("snapshot two\\nrows (", "snapshot \\u202egnp.exe (", "these 4 snapshots"):
            assert part in seen.screen
        seen.type("y\n")
        assert seen.end() == 0
    assert names(house) == set()


def test_delete_all_ours_quiet_names_what_went(running: House) -> None:
    cli(running, "create", "web-1", "one", "--no-memory")
    assert cli(running, "delete", "web-1", "--all-ours", "-q").out == ""
    assert cli(running, "delete", "web-1", "--all-ours", "--manual", "-q").out == "one\n"
    assert cli(running, "delete", "web-1", "one", "--all-ours").code == 2
