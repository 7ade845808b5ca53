"""dbus-python, with its GLib loop."""

from __future__ import annotations

from tests.clients.tools import (
    BY_HAND,
    JOBS,
    ONE,
    ROOT,
    TREE,
    VMS,
    WEB1,
    WEB1_UUID,
    in_order,
    script,
)
from tests.driver.house import House


def test_dbus_python_lists_creates_reverts_deletes_and_hears(running: House) -> None:
    told = script("dbus_python.py", running.address)
    assert told["rows"] == [{"Name": "by-hand", "Created": 1700000000}]
    assert told["total"] == 1
    assert told["objects"] == {path: name for path, (name, _state, _current) in VMS.items()}
    assert told["made"] == {"Snapshot": ONE, "Name": "one", "Consistency": "crash"}
    assert told["one"]["Description"] == "by dbus-python"
    assert (told["one"]["Parent"], told["one"]["Disks"]) == (BY_HAND, ["vda"])
    assert told["type"] == "Int64"
    assert told["reverted"]["FinalState"] == "running"
    assert told["current"] == BY_HAND
    assert told["deleted"] == {"Deleted": ["one"], "Stays": []}
    assert told["revision"]
    assert told["refused"][0] == "org.virtsnap.Error.NoSuchSnapshot"
    assert told["set"] == ["org.freedesktop.DBus.Error.PropertyReadOnly", "Name is read-only"]

    wanted = [
        [f"{JOBS}", "InterfacesAdded", f"{JOBS}/1"],
        [TREE, "InterfacesAdded", ONE],
        [ROOT, "SnapshotCreated", WEB1_UUID],
        [WEB1, "PropertiesChanged", "org.virtsnap.Snapd1.Domain"],
        [f"{JOBS}/1", "Completed", "done"],
        [BY_HAND, "PropertiesChanged", "org.virtsnap.Snapd1.Snapshot"],
        [ROOT, "SnapshotReverted", WEB1_UUID],
        [f"{JOBS}/2", "Completed", "done"],
        [TREE, "InterfacesRemoved", ONE],
        [ROOT, "SnapshotDeleted", WEB1_UUID],
        [f"{JOBS}/3", "Completed", "done"],
    ]
    in_order([each[:3] for each in told["heard"]], wanted)
