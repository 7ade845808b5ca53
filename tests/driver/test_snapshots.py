"""Create, list, revert, delete over D-Bus: results, history, signals and their order."""

from __future__ import annotations

import os
import time

import pytest

from snapd.errors import Changed, Unsupported
from snapd.wire import paths
from tests.client import Client
from tests.driver.house import DB1, HOST, WEB1, WEB2, House, heard

VMS = [
    ("web-1", "running", "memory"),
    ("db-1", "paused", "memory"),
    ("web-2", "shutoff", "offline"),
]
UUIDS = {"web-1": WEB1, "web-2": WEB2, "db-1": DB1}


def listening(house: House) -> Client:
    """A client that hears all that comes after the first reading."""
    client = house.client
    client.rows("ListDomains")
    client.listen()
    return client


@pytest.mark.parametrize(("vm", "state", "consistency"), VMS)
def test_create_snapshot_of_each_state_is_listed_as_it_was(
    running: House, vm: str, state: str, consistency: str
) -> None:
    client = running.client
    before = int(time.time())
    result = client.create(vm, "one", description="before\nthe upgrade")
    path = paths.snapshot(UUIDS[vm], "one")
    assert result == {"Snapshot": path, "Name": "one", "Consistency": consistency}
    row = client.snapshots(vm)["one"]
    assert before <= row["Created"] <= time.time()
    wanted = {
        "Description": "before\nthe upgrade",
        "Domain": paths.domain(UUIDS[vm]),
        "DomainUUID": UUIDS[vm],
        "DomainName": vm,
        "TimeKnown": True,
        "State": state,
        "Status": "ok",
        "Kind": "internal",
        "Consistency": consistency,
        "Current": True,
        "Origin": "manual",
        "Policies": [],
        "Pinned": False,
        "Path": path,
    }
    assert {key: row[key] for key in wanted} == wanted
    assert client.domain(vm)["CurrentSnapshot"] == path  # type: ignore[index]
    assert client.call("GetSnapshot", vm, "one") == path
    shown = client.properties(path, "Snapshot")
    assert shown == {key: value for key, value in row.items() if key != "Path"}


def test_create_snapshot_without_ram_of_running_vm_leads_back_to_running(running: House) -> None:
    client = running.client
    assert client.create("web-1", "disks", memory="no")["Consistency"] == "crash"
    row = client.snapshots("web-1")["disks"]
    assert (row["State"], row["Disks"]) == ("running", ["vda"])
    assert client.revert("web-1", "disks")["FinalState"] == "running"
    assert client.domain("web-1")["State"] == "running"  # type: ignore[index]


def test_create_snapshot_without_name_is_named_by_its_time(running: House) -> None:
    name = running.client.create("web-1")["Name"]
    stem, _, stamp = name.partition("-")
    assert stem == "manual"
    assert (
        abs(time.mktime(time.strptime(stamp + " UTC", "%Y%m%dT%H%M%SZ %Z")) - time.time()) < 86400
    )
    again = running.client.create("web-1")["Name"]  # within the same second, most likely
    assert again != name


def test_revert_snapshot_to_each_state_ends_in_it(running: House) -> None:
    client = running.client
    client.create("web-1", "up")
    for after, state in (("paused", "paused"), ("stopped", "shutoff"), ("running", "running")):
        result = client.revert("web-1", "up", after=after, safety_snapshot=False)
        assert result.pop("TimeSet", False) is False  # no agent there
        assert result == {"SafetySnapshot": "/", "FinalState": state}
        assert client.domain("web-1")["State"] == state  # type: ignore[index]


def test_revert_snapshot_of_vm_that_was_off_stops_it_and_marks_it_current(running: House) -> None:
    client = running.client
    client.create("web-2", "off")
    client.revert("web-2", "off", after="running")
    assert client.domain("web-2")["State"] == "running"  # type: ignore[index]
    client.create("web-2", "later")
    assert client.revert("web-2", "off")["FinalState"] == "shutoff"
    rows = client.snapshots("web-2")
    assert [name for name, row in rows.items() if row["Current"]] == ["off"]


def test_revert_snapshot_takes_safety_snapshot_that_leads_back(running: House) -> None:
    client = running.client
    client.create("web-1", "then")
    safety = client.revert("web-1", "then")["SafetySnapshot"]
    rows = {row["Path"]: row for row in client.snapshots("web-1").values()}
    assert rows[safety]["Origin"] == "safety"
    assert rows[safety]["Consistency"] == "memory"
    client.revert("web-1", rows[safety]["Name"], safety_snapshot=False)
    assert client.snapshots("web-1")[rows[safety]["Name"]]["Current"]


def test_revert_snapshot_whose_safety_snapshot_cannot_be_made_is_refused(house: House) -> None:
    """A raw disk has been added since the snapshot was made."""
    house.serve_text(HOST.read_text().replace("qcow2'/>", "raw'/>", 1))
    client = house.start()
    job = client.call("RevertSnapshot", "web-1", "by-hand")
    with pytest.raises(Unsupported) as refused:
        client.wait(job)
    assert "safety_snapshot=false" in refused.value.message
    assert client.domain("web-1")["State"] == "running"  # type: ignore[index]
    assert list(client.snapshots("web-1")) == ["by-hand"]
    rows = client.rows("ListHistory", "web-1")
    assert [row["Verb"] for row in rows] == ["revert", "create"]
    assert client.revert("web-1", "by-hand", safety_snapshot=False)["FinalState"] == "running"


def test_delete_snapshot_of_others_by_a_person_removes_it(running: House) -> None:
    client = running.client
    assert client.delete("web-1", "by-hand") == {"Deleted": ["by-hand"], "Stays": []}
    assert client.snapshots("web-1") == {}
    assert client.refused("DeleteSnapshot", "web-1", "by-hand") == ("NoSuchSnapshot", "")


def test_verbs_are_accounted_for_in_history(running: House) -> None:
    client = running.client
    client.create("web-1", "one")
    created = client.snapshots("web-1")["one"]["Created"]
    safety = client.revert("web-1", "one")["SafetySnapshot"].rpartition("/")[2]
    client.delete("web-1", "one")
    client.refused("CreateSnapshot", "web-1", "by-hand")
    rows = client.rows("ListHistory", "web-1")
    assert [row["Verb"] for row in rows] == ["create", "delete", "revert", "create", "create"]
    assert rows[0]["Result"].startswith("org.virtsnap.Error.AlreadyExists: ")
    assert {row["Result"] for row in rows[1:]} == {"done"}
    assert {row["OwnerUID"] for row in rows} == {os.getuid()}
    about_one = [row for row in rows if row["SnapshotName"] == "one"]
    assert [row["Created"] for row in about_one] == [created] * 3
    assert paths.encode(rows[2]["Reason"].removeprefix("safety snapshot ")) == safety
    only = client.rows("ListHistory", WEB1, snapshot="one", fields=["Verb"])
    assert only == [{"Verb": verb} for verb in ("delete", "revert", "create")]
    assert client.rows("ListHistory", "web-2") == []


def test_created_of_another_snapshot_is_changed(running: House) -> None:
    client = running.client
    client.create("web-1", "one")
    created = client.snapshots("web-1")["one"]["Created"]
    for verb in ("RevertSnapshot", "DeleteSnapshot", "PreviewRevert", "PreviewDelete"):
        with pytest.raises(Changed):
            client.call(verb, "web-1", "one", created=created - 1)
    for verb in ("PreviewRevert", "PreviewDelete"):
        assert client.call(verb, "web-1", "one", created=created)["Verdict"] == "yes"
    path = paths.snapshot(WEB1, "one")
    with pytest.raises(Changed):
        client.ask(path, "Snapshot", "Delete", opts={"created": created + 1})
    job = client.ask(path, "Snapshot", "Delete", opts={"created": created})
    assert client.wait(job)["Deleted"] == ["one"]


# ---- signals


def test_create_tells_object_change_and_signal_before_the_job_is_completed(running: House) -> None:
    client = listening(running)
    job = client.call("CreateSnapshot", "web-1", "one")
    client.wait(job)
    client.until("Completed", lambda: client.signals("Completed"))
    path, collection = paths.snapshot(WEB1, "one"), paths.snapshots_of(WEB1)
    row = client.snapshots("web-1")["one"]
    told = heard(client)
    (added,) = [body for at, what, body in told if what == "InterfacesAdded" and at == collection]
    assert added[0] == path
    assert added[1]["org.virtsnap.Snapd1.Snapshot"] == {k: v for k, v in row.items() if k != "Path"}
    (created,) = client.signals("SnapshotCreated")
    detail = {"Name": "one", "DomainName": "web-1", "Origin": "manual", "Job": job}
    assert created == [WEB1, path, detail | {"Created": row["Created"]}]
    jobs_own = [(what, body) for at, what, body in told if at == job]
    states = [b[1]["State"] for w, b in jobs_own if w == "PropertiesChanged" and "State" in b[1]]
    assert states[-1] == "done"
    assert jobs_own[-1] == ("Completed", ["done", "", "", {}])
    order = [what for _, what, body in told if what != "PropertiesChanged"]
    assert order[:1] == ["InterfacesAdded"]  # the job's own
    assert order.index("SnapshotCreated") < order.index("Completed")
    current = [
        b[1]["CurrentSnapshot"]
        for at, w, b in told
        if at == paths.domain(WEB1) and w == "PropertiesChanged" and "CurrentSnapshot" in b[1]
    ]
    assert current == [path]


def test_delete_tells_removal_and_signal(running: House) -> None:
    client = listening(running)
    job = client.call("DeleteSnapshot", "web-1", "by-hand")
    client.wait(job)
    client.until("Completed", lambda: client.signals("Completed"))
    path = paths.snapshot(WEB1, "by-hand")
    assert [
        paths.snapshots_of(WEB1),
        "InterfacesRemoved",
        [path, ["org.virtsnap.Snapd1.Snapshot"]],
    ] in [list(each) for each in heard(client)]
    (deleted,) = client.signals("SnapshotDeleted")
    assert deleted[:2] == [WEB1, path]
    assert deleted[2]["Job"] == job
    assert deleted[2]["Origin"] == "foreign"


def test_revert_tells_once_with_the_job(running: House) -> None:
    client = running.client
    client.create("web-1", "one")
    client.listen()
    job = client.call("RevertSnapshot", "web-1", "one")
    client.wait(job)
    client.until("Completed", lambda: len(client.signals("Completed")) == 2)
    time.sleep(0.3)  # libvirt's own events come by another way
    (reverted,) = client.signals("SnapshotReverted")
    assert reverted[:2] == [WEB1, paths.snapshot(WEB1, "one")]
    assert reverted[2]["Job"] == job
    assert len(client.signals("SnapshotCreated")) == 1  # the safety snapshot


def test_failed_create_tells_no_snapshot_and_completes_with_its_error(running: House) -> None:
    client = listening(running)
    job = client.call("CreateSnapshot", "web-1", "by-hand")
    client.until("Completed", lambda: client.signals("Completed"))
    ((state, name, message, detail),) = client.signals("Completed")
    assert (state, name) == ("failed", "org.virtsnap.Error.AlreadyExists")
    assert "web-1" in message
    assert detail["Ways"] == ["other-name"]
    assert client.signals("SnapshotCreated") == []
    assert client.job(job)["State"] == "failed"
