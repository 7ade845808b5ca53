"""Hold and Unhold over D-Bus: policies that are kept off VMs, and what is said of it."""

from __future__ import annotations

import os
import time

import pytest

from snapd.errors import Protected, SnapdError
from snapd.wire import paths
from tests.client import Client, Row
from tests.driver.house import WEB1, WEB2, House, problems
from tests.driver.test_retention import FIRST, HOUR, behind, own, text

HOURLY = paths.policy("hourly")


def held(client: Client, policy: str = "hourly") -> list[Row]:
    """What the policy's object says."""
    return list(client.properties(paths.policy(policy), "Policy")["Holds"])


def run(client: Client, policy: str = "hourly") -> dict[str, tuple[str, str]]:
    """RunPolicy: VM -> (outcome, reason)."""
    rows = client.wait(client.call("RunPolicy", policy))["Domains"]
    return {row["DomainUUID"]: (row["Outcome"], row["Reason"]) for row in rows}


def refused(client: Client, member: str, *values: str | int) -> str:
    with pytest.raises(SnapdError) as error:
        client.call(member, *values)
    return error.value.name.rpartition(".")[2]


def test_hold_keeps_the_policy_off_that_vm_until_unhold(house: House) -> None:
    house.policy("hourly", text("web-*", "last = 2"))
    client = house.start()
    client.listen()
    client.call("Hold", "web-1", "hourly", 0, "moving")
    row = {"DomainUUID": WEB1, "Reason": "moving", "Until": 0}
    assert held(client) == [row]
    assert run(client) == {WEB1: ("skipped", "held: moving"), WEB2: ("made", "")}
    assert set(client.snapshots("web-1")) == {"by-hand"}
    (skipped,) = client.rows("ListRuns", "web-1")
    assert (skipped["Outcome"], skipped["Reason"]) == ("skipped", "held: moving")
    (problem,) = [r for r in client.rows("ListProblems") if r["Problem"] == "held"]
    assert (problem["DomainUUID"], problem["Policy"]) == (WEB1, "hourly")
    assert problem["Ways"] == ["unhold"] and "moving" in problem["Message"]
    client.create("web-1", "by-a-person")
    client.call("Unhold", "web-1", "hourly")
    assert held(client) == []
    assert "held" not in problems(client)
    assert run(client)[WEB1] == ("made", "")
    changed = [b[1]["Holds"] for b in client.signals("PropertiesChanged") if "Holds" in b[1]]
    assert changed == [[row], []]
    acts = [r for r in client.rows("ListHistory", "web-1") if r["Verb"] in ("hold", "unhold")]
    keys = ("Verb", "Policy", "OwnerUID", "Reason", "Result", "DomainName")
    assert [tuple(r[key] for key in keys) for r in acts[::-1]] == [
        ("hold", "hourly", os.getuid(), "moving", "done", "web-1"),
        ("unhold", "hourly", os.getuid(), "moving", "done", "web-1"),
    ]


def test_slot_while_held_is_one_skipped_row_and_not_made_up_for(house: House) -> None:
    house.policy("hourly", text("web-2", "last = 2"))
    house.start().call("Hold", "", "", 0, "storage")
    house.stop()
    slot = behind(house, 3)
    client = house.start()
    client.until("the slot", lambda: client.rows("ListRuns", "web-2"))
    client.call("Unhold", "", "")
    time.sleep(0.5)
    found = [(r["Outcome"], r["Slot"], r["Reason"]) for r in client.rows("ListRuns", "web-2")]
    missed = f"2 slots from {slot - 2 * HOUR} on were missed"
    assert found == [("skipped", slot, "held: storage"), ("skipped", slot - 2 * HOUR, missed)]
    assert client.snapshots("web-2") == {}


def test_hold_is_there_after_a_restart_and_ends_by_itself(house: House) -> None:
    house.policy("hourly", text("web-*", "last = 2"))
    client = house.start()
    until = int(time.time()) + 8
    client.call("Hold", "", "hourly", until, "for a while")
    client = house.again()
    client.listen()
    assert held(client) == [{"DomainUUID": "", "Reason": "for a while", "Until": until}]
    client.until("the end", lambda: client.signals("ProblemCleared"), timeout=15)
    assert time.time() >= until
    assert held(client) == []
    assert [b[1]["Holds"] for b in client.signals("PropertiesChanged") if "Holds" in b[1]] == [[]]


def test_held_policy_prunes_nothing_and_says_so(house: House) -> None:
    house.host_of(1, 4)
    own(house, ["s-0", "s-1", "s-2", "s-3"], "keep1")
    house.policy("keep1", text("vm-0", "last = 1"))
    client = house.start()
    plan = client.call("PreviewRetention", "vm-0", "keep1")[1]["Plan"]
    client.call("Hold", "vm-0", "keep1", 0, "audit")
    rows, info = client.call("PreviewRetention", FIRST, "keep1")
    assert {(row["Keep"], *row["Reasons"]) for row in rows} == {(True, "keep1: held")}
    assert info["Plan"] == ""
    job = client.call("ConfirmPrune", "vm-0", "keep1", plan)
    with pytest.raises(Protected, match="held"):
        client.wait(job)
    assert len(client.snapshots("vm-0")) == 4
    client.call("Unhold", "vm-0", "")
    client.wait(client.call("ConfirmPrune", "vm-0", "keep1", plan))
    assert set(client.snapshots("vm-0")) == {"s-3"}


def test_delete_own_snapshots_holds_every_policy_there(house: House) -> None:
    house.policy("hourly", text("web-*", "last = 2"))
    client = house.start()
    client.wait(client.call("DeleteOwnSnapshots", "web-1"))
    (row,) = held(client)
    assert (row["DomainUUID"], row["Until"]) == (WEB1, 0)
    assert run(client)[WEB1][0] == "skipped"


@pytest.fixture(scope="module")
def one(shared: House) -> Client:
    """A client of a daemon with a policy and a hold of it on all VMs."""
    shared.policy("hourly", text("web-*", "last = 2"))
    client = shared.client
    client.call("Reload")
    client.call("Hold", "", "hourly", 0, "all of them")
    return client


@pytest.mark.parametrize(
    ("member", "values", "error"),
    [
        ("Hold", ["absent", "", 0, ""], "NoSuchDomain"),
        ("Hold", ["", "absent", 0, ""], "NoSuchPolicy"),
        ("Hold", ["web-1", "hourly", 1700000000, ""], "InvalidArgument"),
        ("Hold", ["web-1", "hourly", -1, ""], "InvalidArgument"),
        ("Hold", ["web-1", "hourly", 0, "x" * 1025], "InvalidArgument"),
        ("Unhold", ["absent", ""], "NoSuchDomain"),
        ("Unhold", ["", "absent"], "NoSuchPolicy"),
        ("Unhold", ["web-1", "hourly"], "InvalidArgument"),
        ("Unhold", ["web-1", ""], "InvalidArgument"),
    ],
)
def test_hold_that_means_nothing_is_refused_and_changes_nothing(
    one: Client, member: str, values: list[str | int], error: str
) -> None:
    before = held(one)
    assert refused(one, member, *values) == error
    assert held(one) == before
    assert len(before) == 1


def test_unhold_where_nothing_is_held_is_done(running: House) -> None:
    running.client.call("Unhold", "web-1", "")
    running.client.call("Unhold", "", "")
    assert running.client.rows("ListHistory", "") == []
