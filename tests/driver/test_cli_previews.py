"""virtsnap's previews, and the options of create, revert and delete that change what is done."""

from __future__ import annotations

import pytest

from tests.driver.house import HOST, House
from tests.driver.virtsnap import cli, terminal


def state(house: House, vm: str = "web-1") -> str:
    row = house.client.domain(vm)
    assert row is not None
    return str(row["State"])


def names(house: House) -> list[str]:
    return list(house.client.snapshots("web-1"))


def test_preview_of_a_foreign_snapshot_says_of_its_disks_what_show_says(house: House) -> None:
    """libvirt's test driver has no disks in what others made."""
    house.start()
    assert "holds        disks unknown" in cli(house, "show", "web-1", "by-hand").out
    for verb in ("revert", "delete"):
        done = cli(house, verb, "web-1", "by-hand", "--preview")
        assert "disks unknown" in done.out and "disks none" not in done.out


def test_times_in_the_daemons_sentences_are_shown_as_all_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """by-hand was made at 1700000000, as its XML says."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    house.policy("web")
    house.start()
    lost = "lost: what was written to disk vda of VM web-1 since"
    revert = ("revert", "web-1", "by-hand", "--preview")
    assert f"{lost} 2023-11-14 23:13:20\n" in cli(house, *revert).out
    assert f"{lost} 2023-11-14 22:13:20Z\n" in cli(house, *revert, "--utc").out
    assert f"{lost} 2023-11-14T23:13:20+01:00\n" in cli(house, *revert, "--iso").out
    preview = cli(house, *revert, "--json").json
    assert f"{lost[6:]} 2023-11-14 22:13:20 UTC" in {row["Message"] for row in preview["Loses"]}
    cli(house, "hold", "web-1", "--until", "2099-11-30 08:21")
    assert "held until 2099-11-30 08:21\n" in cli(house, "status").out
    assert "(until 2099-11-30 08:21)" in cli(house, "history", "web-1").out


# --- options


@pytest.mark.parametrize(("then", "after"), [("stop", "shutoff"), ("restart", "running")])
def test_create_then_option_decides_what_the_vm_does_next(
    then: str, after: str, running: House
) -> None:
    done = cli(running, "create", "web-1", "broken", "--then", then)
    assert (done.code, done.err) == (0, "")
    assert state(running) == after
    assert "broken" in names(running)


def test_revert_delete_after_throws_the_trial_away(running: House) -> None:
    cli(running, "create", "web-1", "tried", "--trial")
    done = cli(running, "revert", "web-1", "tried", "--delete-after", "--no-safety")
    assert (done.code, done.out) == (0, "VM web-1 is back at tried, running\n")
    assert names(running) == ["by-hand"]


def test_revert_over_saved_state_takes_both_options(house: House) -> None:
    runs = "<test:runstate>1</test:runstate>"
    saved = "<test:runstate>5</test:runstate><test:hasmanagedsave/>"
    house.serve_text(HOST.read_text().replace(runs, saved, 1))
    house.start()
    refused = cli(house, "revert", "web-1", "by-hand", "--force")
    assert refused.code == 4
    assert "way out: give up the RAM in it: --force --discard-saved-state" in refused.err
    done = cli(house, "revert", "web-1", "by-hand", "--force", "--discard-saved-state")
    assert (done.code, done.out.splitlines()[0]) == (0, "VM web-1 is back at by-hand, running")


def test_delete_children_takes_all_below_and_says_which(running: House) -> None:
    for name in ("top", "middle", "leaf"):
        cli(running, "create", "web-1", name, "--no-memory")
    done = cli(running, "delete", "web-1", "middle", "--children")
    assert done.out.splitlines() == [
        "VM web-1: snapshot leaf is deleted",
        "VM web-1: snapshot middle is deleted",
    ]
    assert names(running) == ["by-hand", "top"]
    assert cli(running, "delete", "web-1", "--all-ours", "--children").code == 2


# --- previews


@pytest.mark.parametrize(
    ("verb", "words", "options"),
    [
        ("Create", ["create", "web-1", "new", "--then", "stop"], {"then": "stop"}),
        ("Revert", ["revert", "web-1", "one", "--after", "paused"], {"after": "paused"}),
        ("Delete", ["delete", "web-1", "one", "--children"], {"children": True}),
    ],
)
def test_preview_json_is_what_the_call_answers_and_nothing_is_done(
    verb: str, words: list[str], options: dict[str, object], running: House
) -> None:
    cli(running, "create", "web-1", "one")
    cli(running, "create", "web-1", "two")
    answer = running.client.call(f"Preview{verb}", "web-1", words[2], **options)
    done = cli(running, *words, "--preview", "--json")
    assert (done.code, done.json) == (0, answer)
    assert answer["FinalState"] == {"Create": "shutoff", "Revert": "paused"}.get(verb, "running")
    assert (names(running), state(running)) == (["by-hand", "one", "two"], "running")


def test_preview_of_what_would_be_refused_names_it_with_the_way_out(running: House) -> None:
    done = cli(running, "create", "web-1", "by-hand", "--preview")
    assert (done.code, done.err) == (4, "")
    assert "refused now (name-taken)" in done.out
    assert done.out.splitlines()[-1] == "    way out: take another name"


def test_revert_on_a_terminal_says_what_is_lost_before_it_asks(running: House) -> None:
    cli(running, "create", "web-1", "one")
    with terminal(running.address, "revert", "web-1", "one") as seen:
        seen.until("[y/N]")
        before = seen.screen
        seen.type("n\n")
        assert seen.end() == 1
    assert "lost: what was written to disk vda of VM web-1 since" in before
    assert "the VM afterwards: running" in before
    assert "what it is now is kept in a safety snapshot" in before
    question = before.replace("\x1b[K", "").splitlines()[-1].strip()
    assert question == "Revert VM web-1 to one? [y/N]"
    assert names(running) == ["by-hand", "one"]


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (["revert", "web-1", "one", "--no-safety-snapshot"],
         "Revert VM web-1 to one, and lose what it is now? [y/N]"),
        (["revert", "web-1", "one", "--json"], "Revert VM web-1 to one? [y/N]"),
        (["delete", "web-1", "one"], "Delete one of VM web-1? [y/N]"),
        (["delete", "web-1", "one", "--children"],
         "Delete one of VM web-1 with all that descend from it? [y/N]"),
        (["delete", "web-1", "one", "by-hand"], "Delete these 2 snapshots of VM web-1? [y/N]"),
        (["accept", "web-1"], "Delete trial try-it of VM web-1? [y/N]"),
        (["discard", "web-1", "-q"], "Revert VM web-1 to try-it and delete that? [y/N]"),
        (["delete", "web-1", "--all-ours"],
         "Delete them from VM web-1, and hold all policies on it? [y/N]"),
        (["try", "web-1", "two"], "Begin another one beside it? [y/N]"),
    ],
)  # fmt: skip
def test_question_is_a_short_one_behind_its_facts(
    words: list[str], question: str, running: House
) -> None:
    cli(running, "create", "web-1", "one")
    cli(running, "try", "web-1", "try-it")
    with terminal(running.address, *words) as seen:
        seen.until("[y/N]")
        *facts, last = seen.screen.replace("\x1b[K", "").replace("\r", "").splitlines()
        seen.type("n\n")
        assert seen.end() == 1
    assert last.strip() == question
    assert facts and not any("?" in line for line in facts)


def test_delete_on_a_terminal_of_what_is_pinned_is_not_asked_for(running: House) -> None:
    cli(running, "create", "web-1", "one")
    running.client.act("web-1", "one", "Pin", "the last good one")
    with terminal(running.address, "delete", "web-1", "one") as seen:
        assert seen.end() == 4
    assert "[y/N]" not in seen.screen
    unpin = f"'virtsnap --bus-address {running.address} unpin VM SNAPSHOT'"
    assert "refused now (pinned)" in seen.screen and unpin in seen.screen
    assert names(running) == ["by-hand", "one"]


def test_delete_quiet_on_a_terminal_says_what_it_would_do_as_well(running: House) -> None:
    with terminal(running.address, "delete", "web-1", "by-hand", "-q") as seen:
        seen.until("[y/N]")
        assert "  snapshot: internal, " in seen.screen
        seen.type("n\n")
        assert seen.end() == 1
    running.client.act("web-1", "by-hand", "Pin", "the last good one")
    with terminal(running.address, "delete", "web-1", "by-hand", "-q") as seen:
        assert seen.end() == 4
    assert "refused now (pinned)" in seen.screen
