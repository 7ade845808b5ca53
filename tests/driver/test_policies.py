"""Policies end to end: made, pruned, caught up, and what they never touch."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing

from tests.client import Client, Row
from tests.driver.house import HOURLY, NODE, WEB1, House

KEEP_TWO = 'domains = ["web-1"]\nschedule = "0 0 1 1 *"\n[keep]\nlast = 2\n'


def run(client: Client, name: str) -> Row:
    """Run a policy, past the second that the last snapshot's name has; its one domain's row."""
    before = int(time.time())
    while int(time.time()) == before:
        time.sleep(0.05)
    rows: list[Row] = client.wait(client.call("RunPolicy", name))["Domains"]
    assert len(rows) == 1
    return rows[0]


def of_policy(client: Client, domain: str) -> list[str]:
    return [n for n, row in client.snapshots(domain).items() if row["Origin"] == "policy"]


def slots(house: House) -> int:
    """How many slots the store of a running daemon has."""
    with closing(sqlite3.connect(f"file:{house.store}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM slots").fetchone()[0])


def test_run_third_with_keep_two_prunes_the_first_alone(house: House) -> None:
    house.policy("two", KEEP_TWO)
    client = house.start()
    client.create("web-1", "mine")
    for _ in range(2):
        assert run(client, "two")["Outcome"] == "made"
    first, second = of_policy(client, "web-1")
    assert run(client, "two")["Outcome"] == "made"
    rows = client.snapshots("web-1")
    assert first not in rows
    assert of_policy(client, "web-1")[0] == second and len(of_policy(client, "web-1")) == 2
    assert rows["by-hand"]["Origin"] == "foreign" and rows["mine"]["Origin"] == "manual"
    assert all(rows[n]["Policies"] == ["two"] for n in of_policy(client, "web-1"))


def test_history_of_run_says_who_and_why(house: House) -> None:
    house.policy("two", KEEP_TWO)
    client = house.start()
    for _ in range(3):
        run(client, "two")
    rows = client.rows("ListHistory", "web-1", policy="two")
    assert [r["Verb"] for r in rows].count("create") == 3
    assert [r["Verb"] for r in rows].count("delete") == 1
    assert all(r["Reason"] for r in rows)
    assert {r["Result"] for r in rows} == {"done"}
    made = [r for r in rows if r["Verb"] == "create"]
    assert {r["OwnerUID"] for r in made} == {os.getuid()}
    assert {"two" in r["Reason"] for r in made} == {True}


def test_slot_missed_while_off_made_up_once(house: House) -> None:
    house.policy("hourly", HOURLY.replace('"web-*"', '"web-1"'))
    client = house.start()
    client.until("its slot", lambda: slots(house))
    house.stop()
    with house.db() as db:
        changed = db.execute("UPDATE slots SET last_slot = last_slot - 7200")
        assert changed.rowcount == 1
    client = house.start()
    client.until("the run made up", lambda: of_policy(client, "web-1"))
    client.until("its row", lambda: len(client.rows("ListRuns", "web-1")) >= 2)
    made = of_policy(client, "web-1")
    client = house.again()  # the test driver forgets its snapshots, the store forgets no run
    client.until_read()
    time.sleep(1)
    assert of_policy(client, "web-1") == []
    runs = client.rows("ListRuns", "web-1")
    assert len(made) == 1
    assert sorted(r["Outcome"] for r in runs) == ["caught-up", "made"]
    assert {(r["SnapshotName"], r["DomainUUID"]) for r in runs} == {(made[0], WEB1)}
    history = [r for r in client.rows("ListHistory", "web-1") if r["Verb"] == "create"]
    assert [r["OwnerUID"] for r in history] == [-1]


def test_run_create_fails_prunes_nothing(house: House) -> None:
    house.serve(f"test://{NODE}")
    house.policy("saved", KEEP_TWO.replace("web-1", "tdsaved").replace("last = 2", "last = 1"))
    client = house.start()
    before = client.snapshots("tdsaved")
    row = run(client, "saved")
    assert row["Outcome"] == "failed" and row["Reason"]
    assert client.snapshots("tdsaved") == before
    assert [r["Outcome"] for r in client.rows("ListRuns", "tdsaved")] == ["failed"]
    assert not [j for j in client.rows("ListJobs") if j["Verb"] == "prune"]
