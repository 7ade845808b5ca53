"""try, accept, discard, and states that are switched: a VM is changed with a way back."""

from __future__ import annotations

import time

import pytest

from tests.driver.house import WEB1, House
from tests.driver.test_cli_previews import names, state
from tests.driver.virtsnap import cli, terminal


def origins(house: House) -> dict[str, str]:
    return {name: row["Origin"] for name, row in house.client.snapshots("web-1").items()}


def current(house: House) -> str:
    """The snapshot on which the VM stands, by the bus."""
    (name,) = (n for n, row in house.client.snapshots("web-1").items() if row["Current"])
    return name


def command(house: House, *words: str) -> str:
    return " ".join(["virtsnap --bus-address", house.address, *words])


# --- try


def test_try_takes_a_trial_and_says_how_it_ends(running: House) -> None:
    disks = ["--no-memory", "--no-quiesce"]
    done = cli(running, "try", "web-1", "kernel", *disks, "--description", "6.12")
    assert (done.code, done.err) == (0, "")
    made, keep, throw = done.out.splitlines()
    assert made == "VM web-1: trial kernel is made, internal, crash-consistent"
    assert keep == f"to keep what changes from now on: {command(running, 'accept', 'web-1')}"
    assert throw == f"to throw it away: {command(running, 'discard', 'web-1')}"
    row = running.client.snapshots("web-1")["kernel"]
    assert (row["Origin"], row["Description"], row["Policies"]) == ("trial", "6.12", [])


def test_try_json_is_the_row_of_its_job_and_quiet_the_name(running: House) -> None:
    row = cli(running, "try", "web-1", "one", "--json").json
    assert row == {"Path": row["Path"], **running.client.job(row["Path"])}
    assert cli(running, "try", "web-1", "two", "--yes", "--quiet").out == "two\n"
    assert origins(running) == {"by-hand": "foreign", "one": "trial", "two": "trial"}


def test_try_preview_does_nothing(running: House) -> None:
    done = cli(running, "try", "web-1", "one", "--preview", "--no-memory")
    assert (done.code, done.out.splitlines()[0]) == (0, "VM web-1: what a trial would be now:")
    assert names(running) == ["by-hand"]


def test_try_beside_a_trial_is_refused_unless_wanted(running: House) -> None:
    cli(running, "try", "web-1", "one")
    refused = cli(running, "try", "web-1", "two")
    assert (refused.code, refused.out) == (4, "")
    assert refused.err.startswith("virtsnap: VM web-1: a trial is under way; ")
    assert refused.err.splitlines()[1].startswith("  one (")
    for verb in ("accept", "discard"):
        assert command(running, verb, "web-1") in refused.err
    assert names(running) == ["by-hand", "one"]
    wanted = cli(running, "try", "web-1", "two", "--yes")
    assert wanted.code == 0
    # either could be meant now
    assert command(running, "discard", "web-1", "two") in wanted.out
    assert names(running) == ["by-hand", "one", "two"]


@pytest.mark.parametrize(("answer", "code", "there"), [("n", 1, ["one"]), ("y", 0, ["one", "two"])])
def test_try_beside_a_trial_on_a_terminal_asks(
    answer: str, code: int, there: list[str], running: House
) -> None:
    cli(running, "try", "web-1", "one")
    with terminal(running.address, "try", "web-1", "two") as seen:
        seen.until("Begin another one beside it? [y/N]")
        assert "VM web-1: a trial is under way:\r\n  one (" in seen.screen
        seen.type(f"{answer}\n")
        assert seen.end() == code
    assert names(running) == ["by-hand", *there]


# --- accept


def test_accept_deletes_the_trial_and_nothing_else(running: House) -> None:
    cli(running, "create", "web-1", "mine")
    cli(running, "try", "web-1", "one")
    done = cli(running, "accept", "web-1")
    assert (done.code, done.err) == (0, "")
    assert done.out == "VM web-1: what has changed is kept, trial one is deleted\n"
    assert origins(running) == {"by-hand": "foreign", "mine": "manual"}


def test_accept_on_a_terminal_asks_and_no_leaves_it(running: House) -> None:
    cli(running, "try", "web-1", "one")
    with terminal(running.address, "accept", WEB1) as seen:
        seen.until("[y/N]")
        seen.type("n\n")
        assert seen.end() == 1
    assert "delete from VM web-1: snapshot one (" in seen.screen
    assert names(running) == ["by-hand", "one"]
    with terminal(running.address, "accept", WEB1) as seen:
        seen.until("[y/N]")
        seen.type("y\n")
        assert seen.end() == 0
    assert names(running) == ["by-hand"]


def test_accept_of_another_snapshot_than_was_shown_is_refused(running: House) -> None:
    cli(running, "try", "web-1", "one")
    with terminal(running.address, "accept", "web-1") as seen:
        seen.until("[y/N]")
        running.client.delete("web-1", "one")
        time.sleep(1.1)  # libvirt's times are whole seconds
        running.client.create("web-1", "one", trial=True)
        seen.type("y\n")
        assert seen.end() == 4
    assert names(running) == ["by-hand", "one"]


def test_accept_pinned_trial_is_refused(running: House) -> None:
    cli(running, "try", "web-1", "one")
    running.client.act("web-1", "one", "Pin", "")
    assert cli(running, "accept", "web-1").code == 4
    assert names(running) == ["by-hand", "one"]


# --- discard


def test_discard_goes_back_deletes_the_trial_and_says_how_to_have_it_back(running: House) -> None:
    cli(running, "try", "web-1", "one")
    running.client.create("web-1", "in-between", then="stop")
    assert state(running) == "shutoff"
    done = cli(running, "discard", "web-1")
    assert (done.code, done.err) == (0, "")
    back, kept, undo = done.out.splitlines()
    assert (back, state(running)) == ("VM web-1 is back at one, running", "running")
    (safety,) = (name for name, origin in origins(running).items() if origin == "safety")
    assert kept == f"what it was before is in {safety}"
    assert undo == f"to undo: {command(running, 'revert', 'web-1', safety)}"
    assert origins(running) == {"by-hand": "foreign", "in-between": "manual", safety: "safety"}
    assert cli(running, *undo.split()[-3:]).code == 0
    assert state(running) == "shutoff"


def test_discard_without_safety_snapshot_leaves_nothing_of_it(running: House) -> None:
    cli(running, "try", "web-1", "one")
    done = cli(running, "discard", "web-1", "--no-safety-snapshot", "--after", "stopped")
    assert (done.code, done.out) == (0, "VM web-1 is back at one, shutoff\n")
    assert (names(running), state(running)) == (["by-hand"], "shutoff")


def test_discard_on_a_terminal_says_what_is_lost_and_asks(running: House) -> None:
    cli(running, "try", "web-1", "one")
    with terminal(running.address, "discard", "web-1") as seen:
        seen.until("[y/N]")
        seen.type("\n")
        assert seen.end() == 1
    assert "lost: what was written to disk vda" in seen.screen
    assert ", which is then deleted." in seen.screen
    assert "what it is now is kept in a safety snapshot" in seen.screen
    assert (names(running), state(running)) == (["by-hand", "one"], "running")


def test_discard_preview_json_is_what_the_call_answers(running: House) -> None:
    cli(running, "try", "web-1", "one")
    done = cli(running, "discard", "web-1", "--preview", "--json")
    answer = running.client.call("PreviewRevert", "web-1", "one", delete_after=True)
    assert (done.code, done.json) == (0, answer)
    assert names(running) == ["by-hand", "one"]


# --- which trial


@pytest.mark.parametrize("verb", ["accept", "discard"])
def test_end_without_a_trial_is_not_found_with_the_next_command(verb: str, running: House) -> None:
    cli(running, "create", "web-1", "mine")
    done = cli(running, verb, "web-1")
    assert (done.code, done.out) == (3, "")
    assert f"no trial is under way; to begin one: {command(running, 'try', 'web-1')}" in done.err
    assert cli(running, verb, "web-1", "nope").code == 3
    other = cli(running, verb, "web-1", "mine")
    assert other.code == 2 and command(running, "delete", "web-1", "mine") in other.err
    assert names(running) == ["by-hand", "mine"]


@pytest.mark.parametrize("verb", ["accept", "discard"])
def test_end_of_several_lists_them_and_takes_a_name_or_the_newest(
    verb: str, running: House
) -> None:
    for name in ("old", "middle", "new"):
        cli(running, "try", "web-1", name, "--yes", "--no-memory")
        time.sleep(1.1)  # libvirt's times are whole seconds
    done = cli(running, verb, "web-1")
    said, *listed = done.err.splitlines()
    assert done.code == 2 and "has 3 trials; name the one that you mean" in said
    assert [line.split(" (")[0] for line in listed] == ["  new", "  middle", "  old"]
    assert cli(running, verb, "web-1", "middle", "--latest").code == 2
    assert names(running) == ["by-hand", "old", "middle", "new"]
    assert cli(running, verb, "web-1", "middle").code == 0
    assert cli(running, verb, "web-1", "--latest").code == 0
    trials = [name for name, origin in origins(running).items() if origin == "trial"]
    assert trials == ["old"]


# --- the other uses


def test_broken_state_is_saved_and_work_goes_on(running: House) -> None:
    done = cli(running, "create", "web-1", "bug-123", "--memory", "--then", "restart")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("VM web-1: snapshot bug-123 is made, internal, with RAM")
    row = running.client.snapshots("web-1")["bug-123"]
    assert (row["Consistency"], row["State"]) == ("memory", "running")
    assert state(running) == "running"
    # and later, to look at it
    running.client.create("web-1", "off", then="stop")
    assert cli(running, "revert", "web-1", "bug-123").code == 0
    assert (state(running), current(running)) == ("running", "bug-123")


def test_states_are_switched_by_revert_and_the_current_one_is_told(running: House) -> None:
    cli(running, "create", "web-1", "up", "--no-memory")
    cli(running, "create", "web-1", "down", "--no-memory", "--then", "stop")
    cli(running, "create", "web-1", "off")
    assert current(running) == "off"
    for name, then in (("up", "running"), ("off", "shutoff"), ("down", "running")):
        assert cli(running, "revert", "web-1", name, "--no-safety-snapshot").code == 0
        assert (current(running), state(running)) == (name, then)
    assert cli(running, "revert", "web-1", "off").code == 0
    assert (current(running), state(running)) == ("off", "shutoff")
    (safety,) = set(names(running)) - {"by-hand", "up", "down", "off"}
    assert origins(running)[safety] == "safety"
