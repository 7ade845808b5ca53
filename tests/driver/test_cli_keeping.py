"""virtsnap pin, unpin, adopt, describe, hold, unhold against the real daemon."""

from __future__ import annotations

import pytest

from tests.driver.house import WEB1, House, uuid_of
from tests.driver.test_retention import own, text
from tests.driver.virtsnap import cli, rows


def test_describe_pin_and_unpin_do_it_and_say_so(running: House) -> None:
    done = cli(running, "describe", "web-1", "by-hand", "two words")
    assert (done.code, done.out) == (0, "VM web-1: snapshot by-hand has its description\n")
    never = cli(running, "unpin", "web-1", "by-hand")
    assert (never.code, never.out) == (0, "VM web-1: snapshot by-hand was not pinned\n")
    pinned = cli(running, "pin", WEB1, "by-hand", "--reason", "audit")
    said = "VM web-1: snapshot by-hand is pinned: nobody deletes it\n"
    assert (pinned.code, pinned.out, pinned.err) == (0, said, "")
    shown = cli(running, "list", "web-1").out
    assert "pinned: audit" in shown and "two words" in shown
    refused = cli(running, "delete", "web-1", "by-hand")
    assert refused.code == 4
    assert "audit" in refused.err and refused.err.endswith(" unpin web-1 by-hand\n")
    unpinned = cli(running, "unpin", "web-1", "by-hand", "--json").json
    (row,) = rows(running, "list", "web-1")
    assert unpinned == row
    assert (row["Pinned"], row["Description"]) == (False, "two words")
    verbs = [row["Verb"] for row in rows(running, "history", "web-1", "by-hand")]
    assert verbs == ["unpin", "delete", "pin", "describe"]
    none = cli(running, "describe", "web-1", "by-hand", "")
    assert none.out == "VM web-1: the description of snapshot by-hand is removed\n"


def test_pin_without_reason_is_shown_as_pinned(running: House) -> None:
    cli(running, "pin", "web-1", "by-hand")
    (line,) = [x for x in cli(running, "list", "web-1").out.splitlines() if "by-hand" in x]
    assert "pinned" in line and "pinned:" not in line


def test_unpin_says_that_the_next_prune_deletes_it(house: House) -> None:
    house.host_of(1, 2)
    own(house, ["s-0", "s-1"], "keep1")
    house.policy("keep1", text("vm-0", "last = 1"))
    house.start().act(uuid_of(0), "s-0", "Pin", "")
    done = cli(house, "unpin", "vm-0", "s-0")
    assert done.out == "VM vm-0: snapshot s-0 is not pinned any more\n"
    assert "next prune deletes s-0 (keep1: no rule keeps it)" in done.err
    assert cli(house, "unpin", "vm-0", "s-1").err == ""


def test_adopt_gives_it_to_the_policy_and_says_what_goes(house: House) -> None:
    house.host_of(1, 2)
    house.policy("keep1", text("vm-0", "last = 1"))
    house.start()
    done = cli(house, "adopt", "vm-0", "s-0", "s-1", "--policy", "keep1")
    assert (done.code, done.out) == (0, "VM vm-0: 2 snapshots count for policy keep1 now\n")
    assert "next prune deletes s-0" in done.err and "s-1" not in done.err
    assert {row["Origin"] for row in rows(house, "list", "vm-0")} == {"policy"}
    again = cli(house, "adopt", "vm-0", "s-0", "--policy", "keep1", "--json")
    assert again.code == 4
    assert again.error["error"] == "org.virtsnap.Error.AlreadyExists"


def test_hold_is_shown_with_the_command_that_takes_it_back(house: House) -> None:
    house.policy("hourly", text("web-*", "last = 1"))
    house.start().rows("ListDomains")
    done = cli(house, "hold", "web-1", "--policy", "hourly", "--reason", "moving")
    undo = f"virtsnap --bus-address {house.address} unhold"
    assert done.code == 0
    assert done.out.endswith(f"to take it back: {undo} --policy hourly web-1\n")
    status = cli(house, "status").out
    assert "moving" in status
    assert f"{undo} --policy hourly web-1" in status
    until = {"VM": "", "Policy": "", "Until": 4102444800, "Reason": ""}
    assert cli(house, "hold", "--until", "2100-01-01", "--json").json == until
    assert (
        len(house.client.properties("/org/virtsnap/Snapd1/policies/hourly", "Policy")["Holds"]) == 2
    )
    assert cli(house, "unhold", "web-2").code == 2, "all VMs are held"
    assert cli(house, "unhold").out == "nothing is held any more\n"
    assert cli(house, "unhold").out == "nothing was held\n"
    never = cli(house, "unhold", "web-1", "--policy", "hourly")
    assert never.out == "VM web-1, by policy hourly, was not held\n"
    cli(house, "hold", WEB1, "--policy", "hourly")
    taken = cli(house, "unhold", "web-1", "--policy", "hourly")
    assert taken.out == "VM web-1, by policy hourly, is not held any more\n"
    assert "moving" not in cli(house, "status").out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["pin", "web-1", "absent"], 3),
        (["describe", "web-1", "by-hand", "bell\x07"], 2),
        (["adopt", "web-1", "by-hand"], 2),
        (["adopt", "web-1", "by-hand", "--policy", "absent"], 3),
        (["hold", "absent"], 3),
        (["hold", "--until", "2001-01-01"], 2),
    ],
)
def test_keeping_refused_has_the_exit_code_of_its_error(
    shared: House, arguments: list[str], code: int
) -> None:
    assert cli(shared, *arguments).code == code


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (["describe", "web-1", "by-hand"], "snapshot by-hand of VM web-1"),
        (["create", "web-1", "new", "--description"], "snapshot new of VM web-1"),
        (["create", "web-1", "--preview", "--description"], "a snapshot of VM web-1"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("y\x1b[31m", "has '\\x1b', which XML cannot hold; leave it out"),
        ("\ufffe", "has '\\ufffe', which XML cannot hold; leave it out"),
        ("ä" * 2049, "has 4098 bytes, at most 4096; shorten it"),
    ],
    ids=ascii,
)
def test_description_that_cannot_be_kept_says_of_which_snapshot_and_what_is_wrong(
    shared: House, words: list[str], which: str, text: str, says: str
) -> None:
    done = cli(shared, *words, text)
    assert (done.code, done.err) == (2, f"virtsnap: {which}: the description {says}\n")


def test_quiet_is_the_names_of_what_it_was_done_to(running: House) -> None:
    def quiet(*words: str) -> tuple[str, str]:
        done = cli(running, *words, "-q")
        assert done.code == 0, done.err
        return done.out, done.err

    assert quiet("pin", "web-1", "by-hand") == ("by-hand\n", "")
    assert quiet("unpin", "web-1", "by-hand") == ("by-hand\n", "")
    assert quiet("describe", "web-1", "by-hand", "text") == ("by-hand\n", "")
    assert quiet("hold", "web-1") == ("web-1\n", "")
    assert quiet("unhold", "web-1") == ("web-1\n", "")
    assert quiet("hold") == ("", "")
