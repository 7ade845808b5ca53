"""No change of a policy deletes a snapshot: what would go is shown, then waits for a person."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from tests.client import Client, options
from tests.driver.house import House, many, problems
from tests.driver.policies import with_definition
from tests.driver.test_retention import MADE, own, run

DAY = 86400
DAYS = 12
VM = {"domains": ["vm-0"], "schedule": "@yearly"}
KEEPS_ALL = VM | {"keep": {"daily": 30}}
KEEPS_ONE = VM | {"keep": {"last": 1}}
OLD = [f"s-{n}" for n in range(DAYS)]


@pytest.fixture
def client(house: House) -> Client:
    """Of a daemon with a VM of twelve snapshots, one a day, which policy `mine` has made."""

    def daily(found: re.Match[str]) -> str:
        return f">{MADE + (int(found[1]) - MADE) * DAY}<"

    house.serve_text(re.sub(r">(17\d{8})<", daily, many(1, DAYS)))
    own(house, OLD, "mine")
    with house.db() as db:
        db.execute("UPDATE snapshots SET created = ? + (created - ?) * ?", (MADE, MADE, DAY))
    return house.start()


def kept(client: Client) -> list[str]:
    return list(client.snapshots("vm-0"))


def gone(client: Client, **tried: Any) -> list[str]:
    """What the policy would let go, oldest first; a definition is tried without being set."""
    rows, info = client.call("PreviewRetention", "vm-0", "mine", **tried)
    going = [row["Name"] for row in reversed(rows) if not row["Keep"]]
    assert bool(info["Plan"]) == (bool(going) and not tried)
    return going


def test_policy_that_keeps_less_waits_for_a_person_before_its_first_prune(client: Client) -> None:
    with_definition(client, "SetPolicy", "mine", KEEPS_ALL)
    assert run(client, "mine")["Reason"] == ""
    assert kept(client)[:DAYS] == OLD
    assert gone(client) == []
    assert gone(client, definition=options(KEEPS_ONE)) == OLD

    with_definition(client, "SetPolicy", "mine", KEEPS_ONE)
    assert client.call("Reload") == []
    made = run(client, "mine")
    assert made["Outcome"] == "made"
    assert "ConfirmPrune" in made["Reason"]
    assert kept(client)[:DAYS] == OLD
    client.until("a problem", lambda: "prune-held" in problems(client))
    rows, info = client.call("PreviewRetention", "vm-0", "mine")
    victims = [row["Name"] for row in reversed(rows) if not row["Keep"]]
    assert victims[:DAYS] == OLD
    assert len(victims) == DAYS + 1

    result = client.wait(client.call("ConfirmPrune", "vm-0", "mine", info["Plan"]))
    assert result == {"Deleted": victims, "Stays": []}
    assert len(kept(client)) == 1
    client.until("no problem", lambda: "prune-held" not in problems(client))


def test_setting_removing_and_reloading_policies_deletes_nothing(
    house: House, client: Client
) -> None:
    client.listen()
    for definition in (KEEPS_ALL, KEEPS_ONE, KEEPS_ONE | {"limits": {"max_age": "1s"}}):
        with_definition(client, "SetPolicy", "mine", definition)
        client.call("Reload")
    client.call("RemovePolicy", "mine")
    house.policy("mine", 'domains = ["vm-0"]\nschedule = "@yearly"\nkeep.last = 1\n')
    client.call("Reload")
    house.policy("mine", "keep = 0")
    client.call("Reload")
    house.again()
    client.rows("ListDomains")
    assert kept(client) == OLD
    assert client.signals("SnapshotDeleted") == []
    history = client.rows("ListHistory", "vm-0")
    assert [row for row in history if row["Verb"] == "delete"] == []


def changes(client: Client) -> list[tuple[str, str, int]]:
    """What history has of changes of policies, oldest first: verb, policy, who."""
    rows = client.rows("ListHistory", "")
    return [
        (row["Verb"], row["Policy"], row["OwnerUID"])
        for row in reversed(rows)
        if row["Verb"].endswith("-policy")
    ]


def test_history_says_which_policy_was_changed_by_whom(house: House) -> None:
    me = os.getuid()
    file = house.policy("mine")
    client = house.start()
    with_definition(client, "SetPolicy", "theirs", KEEPS_ALL)
    with_definition(client, "SetPolicy", "theirs", KEEPS_ALL)  # no change
    client.until("both", lambda: len(changes(client)) == 2)
    client = house.again()
    file.write_text(file.read_text() + "daily = 3\n")
    client.call("Reload")
    file.write_text("broken")
    client.call("Reload")
    client.call("RemovePolicy", "theirs")
    client.until("all", lambda: len(changes(client)) == 4)
    client = house.again()  # of a file that can't be read it isn't known that it is gone
    file.unlink()
    client.call("Reload")
    client.until("the last", lambda: len(changes(client)) == 5)
    assert changes(client) == [
        ("set-policy", "mine", -1),
        ("set-policy", "theirs", me),
        ("set-policy", "mine", -1),
        ("remove-policy", "theirs", me),
        ("remove-policy", "mine", -1),
    ]
    rows = [r for r in client.rows("ListHistory", "", policy="theirs") if "policy" in r["Verb"]]
    (gone, made) = rows
    assert made["Reason"].endswith("by api")
    assert gone["Reason"].removeprefix("was ") in made["Reason"]
