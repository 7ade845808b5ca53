"""What README says of a move to another host and of an upgrade, done: the state folder is copied,
and everything is known there as before."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.bus import PrivateBus
from tests.client import Client, Daemon, Row
from tests.driver.house import House, many, problems, uuid_of
from tests.driver.policies import with_definition
from tests.driver.test_retention import own

VM = uuid_of(0)
RAN = int(time.time()) - 86400
NIGHTLY = {
    "domains": ["vm-*"],
    "schedule": "30 2 * * *",
    "timezone": "UTC",
    "keep": {"last": 1},
}
STORE = Path(__file__).parents[1] / "data" / "store"


@pytest.fixture
def other(bus: PrivateBus, tmp_path: Path) -> Iterator[House]:
    """The new host."""
    folder = tmp_path / "other"
    folder.mkdir()
    made = House(bus.address, folder)
    try:
        yield made
    finally:
        print(made.daemon.log)
        made.close()


def known(client: Client) -> dict[str, Any]:
    """All that the store and the policies tell."""
    client.until("the VM", lambda: client.domain("vm-0"))
    policies = [
        {k: v for k, v in row.items() if k != "Health"} for row in client.rows("ListPolicies")
    ]
    rows: dict[str, list[Row]] = {
        member: client.rows(member, *words)
        for member, words in (
            ("ListHistory", ("",)),
            ("ListRuns", ("",)),
            ("ListJobs", ()),
            ("PreviewRetention", ("vm-0", "nightly")),
        )
    }
    (covered,) = client.rows("ListCoverage", "nightly")
    return {"snapshots": client.snapshots("vm-0"), "policies": policies, "of": covered, **rows}


def lived(house: House) -> dict[str, Any]:
    """A host that has been at work: snapshots of a policy and of others, a pin, a hold, a policy
    of the API, a slot, a run, a job; what is told of them."""
    house.host_of(1, snapshots=5)
    own(house, ["s-0", "s-1", "s-2"], "nightly", uuid=VM)
    with house.db() as db:
        ran = f"'nightly', ?, {RAN}, {RAN}, {RAN + 5}, '', '', 'vm-0', {RAN + 5}, 0"
        db.execute(
            "INSERT INTO slots (policy, domain, last_slot, last_run, last_success, error_name,"
            f" error_message, domain_name, last_ok, short_since) VALUES ({ran})",
            (VM,),
        )
        db.execute(
            f"INSERT INTO runs VALUES (1, 'nightly', ?, 'vm-0', {RAN}, {RAN}, {RAN + 5}, 'made',"
            " '', 's-2', 0)",
            (VM,),
        )
    client = house.start()
    client.call("Hold", "vm-0", "", 0, "moving")
    with_definition(client, "SetPolicy", "nightly", NIGHTLY)
    client.act("vm-0", "s-0", "Pin", "known good")
    client.delete("vm-0", "s-4")
    told = known(client)
    house.stop()
    return told


def test_moved_host_knows_everything_also_where_the_vms_come_later(
    house: House, other: House
) -> None:
    before = lived(house)
    assert before["snapshots"]["s-1"]["Origin"] == "policy"
    assert before["snapshots"]["s-3"]["Origin"] == "foreign"
    assert before["snapshots"]["s-0"]["PinReason"] == "known good"
    assert before["of"]["LastSuccess"] == RAN + 5
    assert [p["Name"] for p in before["policies"]] == ["nightly"]
    assert len(before["ListRuns"]) == 1
    acts = {(a["Verb"], a["SnapshotName"]) for a in before["ListHistory"]}
    assert acts >= {("pin", "s-0"), ("delete", "s-4")}
    assert [(r["Name"], r["Keep"]) for r in before["PreviewRetention"]] != []

    shutil.copytree(house.daemon.state, other.daemon.state, dirs_exist_ok=True)
    assert "held" not in problems(other.start())  # its VMs are still on the way
    other.stop()
    other.serve_text(many(1, 4))  # s-4 was deleted
    after = known(other.start())
    assert "held" in problems(other.client)
    assert after == before


def test_older_store_is_upgraded_and_every_daemon_after_it_starts(house: House) -> None:
    with closing(sqlite3.connect(house.store)) as db:
        db.executescript((STORE / "v3.sql").read_text())
    for client in (house.start(), house.again()):
        assert "store-lost" not in problems(client)
    house.stop()
    assert [p.name for p in house.daemon.state.glob("store-v*")] == ["store-v3.db"]
    with house.db() as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 4
        assert db.execute("SELECT reason FROM holds").fetchall()[0][0] == "moving the disks"


def test_store_that_cannot_be_upgraded_is_kept_and_nothing_is_pruned(house: House) -> None:
    with closing(sqlite3.connect(house.store)) as db:
        db.executescript((STORE / "v3.sql").read_text() + "CREATE TABLE rests (other);")
    (found,) = [r for r in house.start().rows("ListProblems") if r["Problem"] == "store-lost"]
    assert found["Severity"] == "critical"
    assert "nothing is pruned" in found["Message"]
    house.stop()
    (aside,) = [p for p in house.daemon.state.glob("*set-aside*") if p.name[-1].isdigit()]
    for path in (aside, house.daemon.state / "store-v3.db"):
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM snapshots").fetchone() == (3,)
            assert db.execute("PRAGMA user_version").fetchone() == (3,)


class Small(Daemon):
    """A daemon whose files cannot grow past 64 KiB."""

    def command(self) -> list[str]:
        return ["prlimit", "--fsize=65536", "--", *super().command()]


def test_store_without_room_to_be_upgraded_waits_for_it(house: House, tmp_path: Path) -> None:
    filled = f"INSERT INTO facts VALUES ('x', '{'x' * 300_000}');"
    with closing(sqlite3.connect(house.store)) as db:
        db.executescript((STORE / "v3.sql").read_text() + filled)
    before = house.store.read_bytes()
    small = Small(house.address, house.host, tmp_path)
    with pytest.raises(AssertionError, match="virtsnapd's own store cannot be"):
        small.start()
    assert [p.name for p in house.daemon.state.iterdir() if "store" in p.name] == ["store.sqlite"]
    assert house.store.read_bytes()[100:] == before[100:]  # but for the header, which says WAL now
    assert "store-lost" not in problems(house.start())
