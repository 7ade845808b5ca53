"""Policies that run by the clock, and what they may delete: only what is ours, and not too much."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import pytest

from snapd.errors import Changed, Protected
from tests.client import Client, Row
from tests.driver.house import WEB1, House, problems, uuid_of

HOUR = 3600
MADE = 1700000000
FIRST = uuid_of(0)


def text(domains: str, keep: str, schedule: str = "0 * * * *", more: str = "") -> str:
    return f'domains = ["{domains}"]\nschedule = "{schedule}"\n{more}\n[keep]\n{keep}\n'


def run(client: Client, policy: str) -> Row:
    """RunPolicy on a policy of one VM; that VM's row, once past the second of the last one."""
    begun = int(time.time())
    while int(time.time()) == begun:
        time.sleep(0.02)
    (row,) = client.wait(client.call("RunPolicy", policy))["Domains"]
    return dict(row)


def labelled(client: Client, vm: str, policy: str) -> list[str]:
    return [name for name, row in client.snapshots(vm).items() if policy in row["Policies"]]


def own(
    house: House, names: Iterable[str], policy: str, uuid: str = FIRST, origin: str = "policy"
) -> None:
    """Have the store know snapshots s-0, s-1, ... of the first VM as made by a policy."""
    house.tables()
    with house.db() as db:
        for name in names:
            db.execute(
                "INSERT INTO snapshots (domain, name, created, origin, policies, state,"
                " consistency) VALUES (?, ?, ?, ?, ?, 'running', 'crash')",
                (uuid, name, MADE + int(name[2:]), origin, json.dumps([policy])),
            )


def behind(house: House, hours: int) -> int:
    """Have the daemon been off over that many full hours; the last one's slot."""
    client = house.start()
    client.until("slots", lambda: all(row["NextRun"] for row in client.rows("ListPolicies")))
    time.sleep(0.3)
    house.stop()
    last = int(time.time()) // HOUR * HOUR
    with house.db() as db:
        assert db.execute("UPDATE slots SET last_slot = ?", (last - hours * HOUR,)).rowcount
    return last


# ---- by the clock


@pytest.mark.slow
def test_every_minute_with_last_2_makes_the_third_and_prunes_the_first(house: House) -> None:
    house.policy("minute", text("web-1", "last = 2", "* * * * *"))
    while time.time() % 60 > 50:  # or the slot would come among the runs
        time.sleep(1)
    client = house.start()
    client.listen()
    first, second = (run(client, "minute")["Snapshot"] for _ in range(2))
    slot = client.properties()["NextRun"]
    assert slot % 60 == 0
    assert 0 <= slot - time.time() <= 60
    before = set(client.snapshots("web-1"))
    client.until("the slot", lambda: len(client.rows("ListRuns", "")) == 3, timeout=70)
    client.until("the prune", lambda: client.signals("SnapshotDeleted"))
    rows = client.snapshots("web-1")
    stamp = time.strftime("minute-%Y%m%dT%H%M%SZ", time.gmtime(slot))
    assert {row["Path"] for row in rows.values()} >= {second, rows[stamp]["Path"]}
    assert first not in {row["Path"] for row in rows.values()}
    assert set(rows) - before == {stamp}
    assert len(before - set(rows)) == 1
    assert (rows[stamp]["Origin"], rows[stamp]["Policies"]) == ("policy", ["minute"])
    assert rows[stamp]["State"] == "running"
    assert rows["by-hand"]["Origin"] == "foreign"
    newest = client.rows("ListRuns", "web-1")[0]
    assert (newest["Slot"], newest["Outcome"], newest["SnapshotName"]) == (slot, "made", stamp)
    deleted = client.rows("ListHistory", "web-1")[0]
    assert (deleted["Verb"], deleted["OwnerUID"], deleted["Policy"]) == ("delete", -1, "minute")
    assert deleted["Reason"].startswith("retention: ")


def test_slots_missed_while_off_are_one_run_that_says_how_many(house: House) -> None:
    house.policy("hourly", text("web-2", "last = 3"))
    slot = behind(house, 3)
    client = house.start()
    client.until("both rows", lambda: len(client.rows("ListRuns", "")) == 2)
    made, caught = client.rows("ListRuns", "")
    assert (made["Outcome"], made["Slot"]) == ("made", slot)
    assert (caught["Outcome"], caught["Slot"]) == ("caught-up", slot - 2 * HOUR)
    assert made["Job"] == caught["Job"]
    assert caught["Reason"].startswith("2 slots")
    stamp = time.strftime("hourly-%Y%m%dT%H%M%SZ", time.gmtime(slot))
    assert list(client.snapshots("web-2")) == [stamp]


@pytest.mark.parametrize("more", ['catch_up = "skip"', 'max_lateness = "1s"'])
def test_slots_missed_that_are_not_to_be_made_up_are_skipped(house: House, more: str) -> None:
    house.policy("hourly", text("web-2", "last = 3", more=more))
    behind(house, 3)
    time.sleep(max(0, 65 - time.time() % HOUR))  # within a minute the slot would be on time
    client = house.start()
    client.until("the row", lambda: client.rows("ListRuns", ""))
    skipped, missed = client.rows("ListRuns", "")
    assert (skipped["Outcome"], missed["Outcome"]) == ("skipped", "skipped")
    assert missed["Slot"] == skipped["Slot"] - 2 * HOUR
    assert missed["Reason"].startswith("2 slots")
    assert client.snapshots("web-2") == {}


def test_policies_due_together_make_one_snapshot_with_both_labels(house: House) -> None:
    house.policy("b-hourly", text("web-2", "last = 3"))
    house.policy("a-hourly", text("web-*", "last = 3"))
    slot = behind(house, 1)
    client = house.start()
    client.until("all rows", lambda: len(client.rows("ListRuns", "")) == 3)
    (row,) = client.snapshots("web-2").values()
    assert row["Name"] == time.strftime("a-hourly-%Y%m%dT%H%M%SZ", time.gmtime(slot))
    assert row["Policies"] == ["a-hourly", "b-hourly"]


def test_new_policy_owes_nothing_for_the_past(house: House) -> None:
    house.policy("hourly", text("web-2", "last = 3"))
    client = house.start()
    client.rows("ListDomains")
    time.sleep(1)
    assert client.rows("ListRuns", "") == []
    assert client.snapshots("web-2") == {}


# ---- what may go


def test_prune_deletes_what_the_policy_made_and_nothing_else(house: House) -> None:
    house.host_of(2, 6)
    house.policy("p", text("vm-0", "last = 1"))
    own(house, ["s-0", "s-1"], "p")
    own(house, ["s-2"], "another")
    own(house, ["s-3"], "p", origin="manual")
    own(house, ["s-4"], "p", uuid=WEB1)
    with house.db() as db:
        db.execute("UPDATE snapshots SET pin_reason = 'mine' WHERE name = 's-1'")
    client = house.start()
    client.create("vm-0", "p-20200101T000000Z")
    made = run(client, "p")
    assert (made["Outcome"], made["Reason"]) == ("made", "")
    new = made["Snapshot"]
    rows = client.snapshots("vm-0")
    assert "s-0" not in rows
    assert set(rows) >= {"s-1", "s-2", "s-3", "s-4", "s-5", "p-20200101T000000Z"}
    assert new in {row["Path"] for row in rows.values()}
    assert set(client.snapshots("vm-1")) == {f"s-{n}" for n in range(6)}


def test_record_of_the_same_name_and_another_time_is_no_proof(house: House) -> None:
    house.host_of(1, 3)
    house.policy("p", text("vm-0", "last = 1"))
    own(house, ["s-0", "s-1"], "p")
    with house.db() as db:
        db.execute("UPDATE snapshots SET created = created + 50")
    client = house.start()
    run(client, "p")
    run(client, "p")
    assert set(client.snapshots("vm-0")) >= {"s-0", "s-1", "s-2"}
    assert len(labelled(client, "vm-0", "p")) == 1


def test_plan_that_deletes_most_waits_for_a_person(house: House) -> None:
    house.host_of(1, 12)
    house.policy("p", text("vm-0", "last = 2"))
    own(house, [f"s-{n}" for n in range(12)], "p")
    client = house.start()
    assert "ConfirmPrune" in run(client, "p")["Reason"]
    assert len(client.snapshots("vm-0")) == 13
    client.until("a problem", lambda: "prune-held" in problems(client))
    rows, info = client.call("PreviewRetention", "vm-0", "p")
    assert [row["Name"] for row in rows if not row["Keep"]] == [f"s-{n}" for n in range(10, -1, -1)]
    with pytest.raises(Changed):
        client.wait(client.call("ConfirmPrune", "vm-0", "p", "another plan"))
    result = client.wait(client.call("ConfirmPrune", "vm-0", "p", info["Plan"]))
    assert result == {"Deleted": [f"s-{n}" for n in range(11)], "Stays": []}
    assert len(client.snapshots("vm-0")) == 2
    client.until("no problem", lambda: "prune-held" not in problems(client))


def test_clock_far_before_a_time_that_it_had_prunes_nothing(house: House) -> None:
    house.host_of(1, 3)
    house.policy("p", text("vm-0", "last = 1"))
    own(house, ["s-0", "s-1", "s-2"], "p")
    with house.db() as db:
        db.execute("REPLACE INTO facts VALUES ('clock', ?)", (str(int(time.time()) + 3 * 86400),))
    client = house.start()
    row = run(client, "p")
    assert row["Outcome"] == "made"
    assert "clock" in row["Reason"]
    assert len(client.snapshots("vm-0")) == 4


def test_safety_snapshots_go_by_their_own_rule(house: House) -> None:
    (house.daemon.config / "virtsnapd.toml").write_text("[safety]\nlast = 2\n")
    house.policy("p", text("web-1", "last = 5"))
    client = house.start()
    made = []
    for pause in (0, 0, 1.1, 1.1):  # libvirt's times are whole seconds: all of the last one stay
        time.sleep(pause)
        made.append(client.revert("web-1", "by-hand")["SafetySnapshot"])
    run(client, "p")

    def safety() -> list[dict[str, Any]]:
        found = client.snapshots("web-1").values()
        return [row for row in found if row["Origin"] == "safety"]

    client.until("two are left", lambda: len(safety()) == 2)
    assert {row["Path"] for row in safety()} == set(made[2:])
    gone = client.rows("ListHistory", "web-1")
    assert [row["Reason"] for row in gone if row["Verb"] == "delete"] == [
        "retention: safety-last"
    ] * 2


def test_pinned_snapshot_is_protected_from_a_person_too(house: House) -> None:
    house.host_of(1, 1)
    own(house, ["s-0"], "p")
    with house.db() as db:
        db.execute("UPDATE snapshots SET pin_reason = 'the audit'")
    client = house.start()
    with pytest.raises(Protected):
        client.delete("vm-0", "s-0")
