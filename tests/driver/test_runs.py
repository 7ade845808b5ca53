"""ListRuns and PolicyRunFinished: what became of each slot, found again by what it was about."""

from __future__ import annotations

import time

from tests.client import Client, Row
from tests.driver.house import HOURLY, WEB1, WEB2, House

DAY = 86400
RUN = (
    "INSERT INTO runs (policy, domain, domain_name, slot, started, finished, outcome, reason, "
    "snapshot, job) VALUES (?, ?, ?, ?, ?, ?, ?, '', ?, 0)"
)


def note(house: House, *runs: tuple[str, str, str, int, str, str]) -> None:
    """Have the store hold runs: (policy, UUID, VM, finished, outcome, snapshot)."""
    house.tables()
    with house.db() as db:
        for policy, uuid, vm, at, outcome, snapshot in runs:
            db.execute(RUN, (policy, uuid, vm, at - 60, at - 30, at, outcome, snapshot))


def found(client: Client, domain: str = "", **options: object) -> list[tuple[str, str]]:
    rows: list[Row] = client.rows("ListRuns", domain, **options)
    return [(row["Policy"], row["SnapshotName"]) for row in rows]


def test_runs_are_found_by_domain_policy_snapshot_and_time(house: House) -> None:
    now = int(time.time())
    gone = "44444444-4444-4444-8444-444444444401"
    note(
        house,
        ("web", gone, "old-1", now - 300, "made", "g"),
        ("web", WEB1, "web-1", now - 200, "made", "a"),
        ("all", WEB1, "web-1", now - 100, "made", "b"),
        ("all", WEB2, "web-2", now - 50, "failed", ""),
    )
    client = house.start()
    everything = [("all", ""), ("all", "b"), ("web", "a"), ("web", "g")]
    assert found(client) == everything
    for domain in ("web-1", WEB1):
        assert found(client, domain) == [("all", "b"), ("web", "a")]
    for domain in ("old-1", gone):  # libvirt has it no more
        assert found(client, domain) == [("web", "g")]
    assert found(client, "never-was") == []
    assert found(client, policy="web") == [("web", "a"), ("web", "g")]
    assert found(client, "web-1", policy="web") == [("web", "a")]
    assert found(client, snapshot="b") == [("all", "b")]
    assert found(client, since=now - 200) == everything[:3]
    assert found(client, until=now - 200) == everything[2:]
    assert found(client, since=now - 200, until=now - 100) == everything[1:3]
    first, info = client.call("ListRuns", "", limit=3)
    assert (len(first), info["Total"]) == (3, 4)
    rest, info = client.call("ListRuns", "", **{"from": info["Next"]})
    assert [(r["Policy"], r["SnapshotName"]) for r in rest] == everything[3:]
    assert info["Next"] == ""


def test_runs_and_history_are_kept_for_400_days_and_no_longer(house: House) -> None:
    now = int(time.time())
    note(
        house,
        ("web", WEB1, "web-1", now - 399 * DAY, "made", "kept"),
        ("web", WEB1, "web-1", now - 401 * DAY, "made", "gone"),
    )
    act = (
        "INSERT INTO history (time, not_before, verb, domain, domain_name, snapshot, created, "
        "policy, owner, reason, result, job) VALUES (?, 0, 'create', ?, 'web-1', ?, 0, 'web', -1, "
        "'', 'done', 0)"
    )
    with house.db() as db:
        for days, snapshot in ((399, "kept"), (401, "gone")):
            db.execute(act, (now - days * DAY, WEB1, snapshot))
    client = house.start()
    client.until("the old ones go", lambda: found(client) == [("web", "kept")])
    assert [r["SnapshotName"] for r in client.rows("ListHistory", "")] == ["kept"]


def test_run_that_ends_is_told_as_the_row_that_stays(house: House) -> None:
    house.policy("web", HOURLY)
    client = house.start()
    client.listen()
    client.wait(client.call("RunPolicy", "web"))
    client.until("both are told", lambda: len(client.signals("PolicyRunFinished")) == 2)
    rows = {row["DomainUUID"]: row for row in client.rows("ListRuns", "")}
    for uuid, policy, detail in client.signals("PolicyRunFinished"):
        assert (policy, detail) == ("web", rows[uuid])
    assert {row["Outcome"] for row in rows.values()} == {"made"}
    assert rows.keys() == {WEB1, WEB2}
