"""Every slot is accounted for: asleep, killed at any moment, many VMs due together."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest

from tests.client import Client
from tests.driver.clock import MovedClock
from tests.driver.house import House, problems, uuid_of
from tests.driver.test_retention import behind, text

HOUR = 3600


def joined(client: Client) -> None:
    """Wait until the policy has taken notice of its VMs."""
    client.until("a next run", lambda: client.properties()["NextRun"])
    time.sleep(0.3)


@pytest.mark.slow
def test_daemon_asleep_through_three_slots_has_one_run_that_says_so(house: House) -> None:
    clock = MovedClock(house.folder)
    house.daemon.env.update(clock.env)
    house.policy("hourly", text("web-2", "last = 1"))
    while time.time() % HOUR > HOUR - 90:  # or a slot would come by itself
        time.sleep(1)
    client = house.start()
    joined(client)
    first = client.properties()["NextRun"]
    house.daemon.hang(on=True)
    clock.set(3 * HOUR)
    house.daemon.hang(on=False)
    client.until("both rows", lambda: len(client.rows("ListRuns", "")) == 2, timeout=90)
    made, caught = client.rows("ListRuns", "")
    assert (made["Outcome"], made["Slot"]) == ("made", first + 2 * HOUR)
    assert (caught["Outcome"], caught["Slot"]) == ("caught-up", first)
    assert caught["Reason"] == f"2 slots from {first} on, covered by one run"
    assert caught["Job"] == made["Job"]
    (snapshot,) = client.snapshots("web-2").values()
    assert snapshot["Name"] == time.strftime("hourly-%Y%m%dT%H%M%SZ", time.gmtime(made["Slot"]))
    (act,) = client.rows("ListHistory", "web-2")
    assert act["Reason"].endswith("caught up (2 missed before)")
    assert "clock" in problems(client)
    assert "the clock jumped by +10" in house.daemon.log


STAGES = {
    "begun": "SELECT count(*) FROM runs WHERE policy = :policy",
    "queued": "SELECT count(*) FROM jobs WHERE verb = 'create' AND id > :last",
    "acting": "SELECT count(*) FROM jobs WHERE verb = 'create' AND id > :last AND"
    " (intent IS NOT NULL OR state = 'done')",
    "done": "SELECT count(*) FROM jobs WHERE verb = 'create' AND id > :last AND state = 'done'",
    "settled": "SELECT count(*) FROM runs WHERE policy = :policy AND finished > 0",
}


def killed_at(house: House, stage: str, policy: str) -> None:
    """Kill the daemon as soon as its store says that it has come so far."""
    with closing(sqlite3.connect(f"file:{house.store}?mode=ro", uri=True)) as db:
        (last,) = db.execute("SELECT coalesce(max(id), 0) FROM jobs").fetchone()
        house.daemon.start()
        deadline = time.monotonic() + 30
        while not db.execute(STAGES[stage], {"policy": policy, "last": last}).fetchone()[0]:
            assert time.monotonic() < deadline, stage
    house.daemon.kill()


def test_daemon_killed_at_any_stage_of_a_run_accounts_for_each_slot_once(house: House) -> None:
    """One policy owes a slot at each start, so that what a killed daemon left meets a new one."""
    house.host_of(1)
    rounds = [(f"p{n}", stage) for n, stage in enumerate([*STAGES, *reversed(STAGES)])]
    for policy, _ in rounds:
        house.policy(policy, text("vm-0", "last = 50"))
    while time.time() % HOUR > HOUR - 180:  # or the next slot would come among them
        time.sleep(1)
    slot = behind(house, 0)
    for policy, stage in rounds:
        with house.db() as db:
            db.execute("UPDATE slots SET last_slot = ? WHERE policy = ?", (slot - HOUR, policy))
        killed_at(house, stage, policy)
    client = house.start()
    client.until("all rows", lambda: len(client.rows("ListRuns", "")) >= len(rounds), timeout=60)
    house.stop()
    with house.db() as db:
        runs = db.execute("SELECT * FROM runs").fetchall()
        jobs = db.execute("SELECT * FROM jobs WHERE verb = 'create'").fetchall()
        records = db.execute("SELECT name FROM snapshots WHERE origin = 'policy'").fetchall()
    assert sorted((r["policy"], r["slot"], r["outcome"]) for r in runs) == [
        (policy, slot, "made") for policy, _ in sorted(rounds)
    ]
    made = {(r["job"], r["snapshot"]) for r in runs}
    assert made == {(j["id"], j["snapshot"]) for j in jobs if j["state"] == "done"}
    assert {r["name"] for r in records} == {name for _, name in made}


def test_forty_vms_due_together_have_one_snapshot_each(house: House) -> None:
    house.host_of(40)
    house.policy("hourly", text("vm-*", "last = 3"))
    slot = behind(house, 1)
    client = house.start()
    client.until("all rows", lambda: len(client.rows("ListRuns", "")) >= 40, timeout=60)
    runs = client.rows("ListRuns", "")
    assert {r["DomainUUID"]: (r["Outcome"], r["Slot"]) for r in runs} == {
        uuid_of(n): ("made", slot) for n in range(40)
    }
    assert len(runs) == 40
    name = time.strftime("hourly-%Y%m%dT%H%M%SZ", time.gmtime(slot))
    snapshots = client.rows("ListSnapshots", "")
    assert sorted(r["DomainUUID"] for r in snapshots) == [uuid_of(n) for n in range(40)]
    assert {r["Name"] for r in snapshots} == {name}
