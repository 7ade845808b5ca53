"""Audit and DeleteOwnSnapshots, over the bus and by virtsnap; what is in real images is in qemu."""

from __future__ import annotations

import pytest

from snapd.errors import NoSuchDomain
from snapd.wire import paths
from tests.client import Client, Row
from tests.driver.house import HOURLY, WEB1, House, problems
from tests.driver.test_retention import own
from tests.driver.virtsnap import terminal, virtsnap


def audit(client: Client, vm: str = "") -> list[tuple[str, str, str]]:
    """Reason, VM and thing of each finding."""
    rows = client.wait(client.call("Audit", vm))["Findings"]
    return [(row["Reason"], row["DomainUUID"], row["Item"]) for row in rows]


def gone(house: House, name: str) -> None:
    """Have another tool have removed a snapshot of ours while the daemon was off."""
    own(house, [name], "p", WEB1)


# --- audit


def test_audit_where_nothing_is_amiss_finds_nothing(running: House) -> None:
    assert audit(running.client) == []
    assert audit(running.client, "web-1") == []


def test_audit_snapshot_of_ours_that_another_tool_removed_is_told_with_its_times(
    house: House,
) -> None:
    gone(house, "s-1")
    client = house.start()
    client.until("noted", lambda: client.rows("ListHistory", "web-1"))
    assert audit(client) == audit(client, WEB1) == [("removed-outside", WEB1, "s-1")]
    assert audit(client, "web-2") == []
    (row,) = client.wait(client.call("Audit", "web-1"))["Findings"]
    assert row["Proof"].startswith("made 2023-11-14 22:13:21 UTC by us, removed before 2")


def test_audit_job_that_left_something_half_made_is_told(running: House) -> None:
    running.client.refused("CreateSnapshot", "web-1", "by-hand")
    running.stop()
    with running.db() as db:
        db.execute(
            "UPDATE jobs SET error_message = 'half of it is there', error_name ="
            " 'org.virtsnap.Error.Partial', detail = '{\"reason\": \"half-made\"}'"
        )
    client = running.start()
    assert audit(client, "web-1") == [("half-made", WEB1, "by-hand")]
    assert audit(client, "web-2") == []


def test_audit_findings_are_in_no_property_and_no_signal(house: House) -> None:
    gone(house, "s-1")
    client = house.start()
    client.until("noted", lambda: client.rows("ListHistory", "web-1"))
    client.listen()
    job = client.call("Audit", "web-1")
    assert client.wait(job)["Findings"]
    row = client.job(job)
    assert (row["Verb"], row["State"], row["Result"]) == ("audit", "done", {})
    assert (row["Domain"], row["DomainName"]) == (paths.domain(WEB1), "web-1")
    assert next(r["Result"] for r in client.rows("ListJobs") if r["Path"] == job) == {}
    assert "removed" not in repr(client._signals)
    house.again()
    assert client.wait(job)["Findings"]


def test_audit_of_no_such_vm_makes_no_job(running: House) -> None:
    with pytest.raises(NoSuchDomain):
        running.client.call("Audit", "nobody")
    assert running.client.rows("ListJobs") == []


def test_audit_is_no_act_of_history(running: House) -> None:
    audit(running.client)
    assert running.client.rows("ListHistory", "") == []


# --- delete what is ours


def make(client: Client) -> None:
    """web-1 with one of each origin that can be had at once, besides by-hand of another tool."""
    client.create("web-1", "mine")
    client.create("web-1", "try", trial=True)
    client.revert("web-1", "mine")
    client.wait(client.call("RunPolicy", "hourly"))


def delete_own(client: Client, **opts: bool) -> tuple[Row, dict[str, str]]:
    """The job's result, and what stays: name -> reason."""
    result = client.wait(client.call("DeleteOwnSnapshots", "web-1", **opts))
    return result, {row["Name"]: row["Reason"] for row in result["Stays"]}


def test_delete_own_takes_all_but_foreign_and_hand_made_and_holds_the_policies(
    house: House,
) -> None:
    house.policy("hourly", HOURLY)
    client = house.start()
    make(client)
    before = client.snapshots("web-1")
    ours = {name for name, row in before.items() if row["Origin"] not in ("foreign", "manual")}
    assert {before[name]["Origin"] for name in ours} == {"trial", "safety", "policy"}

    would, stays = delete_own(client, dry_run=True)
    assert set(would["Deleted"]) == ours
    assert stays == {"by-hand": "foreign", "mine": "manual"}
    assert (client.snapshots("web-1"), problems(client) & {"held"}) == (before, set())

    done, stays = delete_own(client)
    assert done["Deleted"] == would["Deleted"]
    assert stays == {"by-hand": "foreign", "mine": "manual"}
    assert set(client.snapshots("web-1")) == {"by-hand", "mine"}
    (held,) = [row for row in client.rows("ListProblems") if row["Problem"] == "held"]
    assert (held["DomainUUID"], held["Policy"]) == (WEB1, "")
    acts = [r for r in client.rows("ListHistory", "web-1") if r["Verb"] == "delete"]
    assert {r["Reason"] for r in acts} == {"all of ours are deleted"}

    assert delete_own(client, manual=True)[1] == {"by-hand": "foreign"}
    assert set(client.snapshots("web-1")) == {"by-hand"}


def test_delete_own_leaves_a_pinned_one_and_takes_youngest_first(house: House) -> None:
    house.host_of(1, snapshots=4)
    own(house, ["s-0", "s-1", "s-2"], "p")
    with house.db() as db:
        db.execute("UPDATE snapshots SET pin_reason = 'mine' WHERE name = 's-1'")
    client = house.start()
    result = client.wait(client.call("DeleteOwnSnapshots", "vm-0"))
    assert result["Deleted"] == ["s-2", "s-0"]
    assert {r["Name"]: r["Reason"] for r in result["Stays"]} == {"s-1": "pinned", "s-3": "foreign"}
    assert set(client.snapshots("vm-0")) == {"s-1", "s-3"}


# --- virtsnap


def test_virtsnap_audit_finds_nothing_and_returns_0(running: House) -> None:
    done = virtsnap(running.address, "audit")
    assert (done.code, done.out, done.err) == (0, "nothing is amiss\n", "")
    assert virtsnap(running.address, "audit", "web-1", "--json").json == {"rows": []}


def test_virtsnap_audit_shows_what_it_finds_and_returns_1(house: House) -> None:
    gone(house, "s-1")
    client = house.start()
    client.until("noted", lambda: client.rows("ListHistory", "web-1"))
    done = virtsnap(house.address, "audit")
    assert done.code == 1
    assert done.out.splitlines()[1].split()[:3] == ["web-1", "removed-outside", "s-1"]
    done = virtsnap(house.address, "audit", "--json")
    (row,) = done.json["rows"]
    assert (done.code, row["DomainName"], row["Item"]) == (1, "web-1", "s-1")


def test_virtsnap_delete_all_ours_says_what_went_and_what_stays(running: House) -> None:
    client = running.client
    client.create("web-1", "mine")
    client.create("web-1", "try", trial=True)  # its child
    where = (running.address, "delete", "web-1", "--all-ours")
    would = virtsnap(*where, "--dry-run")
    assert (would.code, would.out.splitlines()) == (
        0,
        [
            "VM web-1: snapshot try would be deleted",
            "VM web-1: snapshot by-hand stays: another tool made it",
            "VM web-1: snapshot mine stays: made by hand; --manual takes it along",
        ],
    )
    done = virtsnap(*where, "--manual", "--json").json
    assert (done["Result"]["Deleted"], done["Verb"]) == (["try", "mine"], "delete-own")
    assert set(client.snapshots("web-1")) == {"by-hand"}


def test_virtsnap_delete_all_ours_asks_on_a_terminal_and_shows_first(running: House) -> None:
    running.client.create("web-1", "try", trial=True)
    with terminal(running.address, "delete", "web-1", "--all-ours") as shown:
        shown.until("[y/N]")
        assert "snapshot try would be deleted" in shown.screen
        assert "try" in running.client.snapshots("web-1")
        shown.type("n\n")
        assert shown.end() != 0
    assert "try" in running.client.snapshots("web-1")
    with terminal(running.address, "delete", "web-1", "--all-ours") as shown:
        shown.until("[y/N]")
        shown.type("y\n")
        assert shown.end() == 0
        assert "snapshot try is deleted" in shown.screen
    assert "try" not in running.client.snapshots("web-1")


def test_virtsnap_delete_of_nothing_or_of_both_is_wrong_usage(running: House) -> None:
    for words in ((), ("one", "--all-ours"), ("one", "--dry-run"), ("--manual",)):
        done = virtsnap(running.address, "delete", "web-1", *words)
        assert (done.code, done.out) == (2, ""), words
