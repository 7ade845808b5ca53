"""Create, list, revert and delete over the bus, with what is remembered and said of them."""

from __future__ import annotations

import os

from snapd.wire import paths
from tests.client import Client, Row
from tests.driver.house import DB1, WEB1, WEB2, House, heard

ME = os.getuid()


def history(client: Client, domain: str, verb: str = "") -> list[Row]:
    return [r for r in client.rows("ListHistory", domain) if verb in ("", r["Verb"])]


def test_create_running_vm_listed_and_current(running: House) -> None:
    client = running.client
    made = client.create("web-1", "first", description="before the upgrade")
    row = client.snapshots("web-1")["first"]
    assert made["Name"] == "first"
    assert made["Snapshot"] == row["Path"] == paths.snapshot(WEB1, "first")
    assert (row["Origin"], row["Description"]) == ("manual", "before the upgrade")
    assert (row["Status"], row["Current"], row["Kind"]) == ("ok", True, "internal")
    assert (row["DomainUUID"], row["DomainName"]) == (WEB1, "web-1")
    assert client.call("GetSnapshot", "web-1", "first") == row["Path"]
    domain = client.domain("web-1")
    assert domain is not None and domain["CurrentSnapshot"] == row["Path"]


def test_create_no_name_makes_one_up(running: House) -> None:
    made = running.client.create("web-2")
    assert set(running.client.snapshots("web-2")) == {made["Name"]}
    assert made["Name"]


def test_create_by_uuid_off_vm_offline(running: House) -> None:
    made = running.client.create(WEB2, "cold")
    assert made["Consistency"] == "offline"
    assert running.client.snapshots("web-2")["cold"]["State"] == "shutoff"


def test_create_twice_job_already_exists(running: House) -> None:
    client = running.client
    client.create("web-2", "once")
    before = client.snapshots("web-2")
    assert client.refused("CreateSnapshot", "web-2", "once")[0] == "AlreadyExists"
    assert client.snapshots("web-2") == before


def test_revert_leaves_safety_snapshot_and_goes_back(running: House) -> None:
    client = running.client
    client.create("web-2", "base")
    done = client.revert("web-2", "base")
    rows = client.snapshots("web-2")
    safety = [name for name, row in rows.items() if row["Origin"] == "safety"]
    assert len(safety) == 1 and len(rows) == 2
    assert done["SafetySnapshot"] == rows[safety[0]]["Path"]
    assert done["FinalState"] == "shutoff"
    assert rows["base"]["Current"] and not rows[safety[0]]["Current"]


def test_revert_safety_refused_makes_none(running: House) -> None:
    client = running.client
    client.create("web-2", "base")
    done = client.revert("web-2", "base", safety_snapshot=False)
    assert done["SafetySnapshot"] == "/"
    assert set(client.snapshots("web-2")) == {"base"}


def test_delete_own_snapshot_gone(running: House) -> None:
    client = running.client
    client.create("web-2", "stays")
    client.create("web-2", "goes")
    assert client.delete("web-2", "goes")["Deleted"] == ["goes"]
    assert set(client.snapshots("web-2")) == {"stays"}
    assert client.refused("DeleteSnapshot", "web-2", "goes") == ("NoSuchSnapshot", "")


def test_history_each_verb_says_who_and_what(running: House) -> None:
    client = running.client
    client.create("web-2", "one")
    client.revert("web-2", "one")
    client.delete("web-2", "one")
    client.refused("DeleteSnapshot", "web-2", "one")
    rows = history(client, "web-2")
    mine = [r for r in rows if r["SnapshotName"] == "one"]
    assert sorted(r["Verb"] for r in mine) == ["create", "delete", "revert"]
    assert {r["OwnerUID"] for r in mine} == {ME}
    assert {r["Result"] for r in mine} == {"done"}
    assert all(r["Job"].startswith(paths.ROOT + "/jobs/") for r in mine)


def test_verbs_created_of_another_changed(running: House) -> None:
    client = running.client
    client.create("web-2", "one")
    created = client.snapshots("web-2")["one"]["Created"]
    for member in ("RevertSnapshot", "DeleteSnapshot"):
        assert client.refused(member, "web-2", "one", created=created - 1) == ("Changed", "")
    assert set(client.snapshots("web-2")) == {"one"}
    assert client.delete("web-2", "one", created=created)["Deleted"] == ["one"]


def test_create_same_request_same_job(running: House) -> None:
    client = running.client
    job = client.call("CreateSnapshot", "web-2", "one", request="r-1")
    client.wait(job)
    assert client.call("CreateSnapshot", "web-2", "one", request="r-1") == job
    assert set(client.snapshots("web-2")) == {"one"}
    other = client.refused("CreateSnapshot", "web-2", "two", request="r-1")
    assert other == ("InvalidArgument", "")
    assert set(client.snapshots("web-2")) == {"one"}


def test_create_same_request_after_restart_same_job(running: House) -> None:
    client = running.client
    job = client.call("CreateSnapshot", "web-2", "one", request="r-1")
    client.wait(job)
    client = running.again()
    assert client.call("CreateSnapshot", "web-2", "one", request="r-1") == job


def test_signals_each_verb_heard_once(running: House) -> None:
    client = running.client
    client.listen()
    client.create("web-2", "one")
    client.revert("web-2", "one", safety_snapshot=False)
    client.delete("web-2", "one")
    client.until("the last signal", lambda: client.signals("SnapshotDeleted"))
    for member in ("SnapshotCreated", "SnapshotReverted", "SnapshotDeleted"):
        domain, path, detail = client.signals(member)[0]
        assert len(client.signals(member)) == 1
        assert domain == WEB2
        assert path == paths.snapshot(domain, "one")
        assert (detail["Name"], detail["DomainName"], detail["Origin"]) == (
            "one",
            "web-2",
            "manual",
        )


def test_signals_completed_after_last_change(running: House) -> None:
    client = running.client
    client.listen()
    job = client.call("CreateSnapshot", "db-1", "one")
    client.wait(job)
    client.until("Completed", lambda: client.signals("Completed"))
    mine = [(member, body) for path, member, body in heard(client) if path == job]
    assert mine[-1][0] == "Completed"
    assert mine[-1][1][:2] == ["done", ""]
    changes = [body[1] for member, body in mine if member == "PropertiesChanged"]
    assert changes[-1]["State"] == "done"


def test_signals_failed_job_completed_with_its_error(running: House) -> None:
    client = running.client
    client.create("web-2", "one")
    client.listen()
    assert client.refused("CreateSnapshot", "web-2", "one")[0] == "AlreadyExists"
    client.until("Completed", lambda: client.signals("Completed"))
    state, name, message, _detail = client.signals("Completed")[-1]
    assert (state, name) == ("failed", "org.virtsnap.Error.AlreadyExists")
    assert message and "\n" not in message


def test_list_foreign_snapshot_is_foreign(running: House) -> None:
    rows = running.client.snapshots("web-1")
    assert set(rows) == {"by-hand"}
    assert (rows["by-hand"]["Origin"], rows["by-hand"]["Created"]) == ("foreign", 1700000000)
    assert rows["by-hand"]["Description"] == "made in virt-manager"
    assert running.client.rows("ListSnapshots", "", origin="manual") == []


def test_create_paused_vm_stays_paused(running: House) -> None:
    client = running.client
    client.create("db-1", "one")
    domain = client.domain("db-1")
    assert domain is not None and (domain["UUID"], domain["State"]) == (DB1, "paused")
