"""dbus-next's own proxies, in a process that has none of our mends of it."""

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


def test_proxies_list_create_revert_delete_and_hear(running: House) -> None:
    told = script("dbus_next_proxies.py", running.address)
    assert told["rows"] == [{"Name": "by-hand", "DomainName": "web-1"}]
    assert (told["info"]["Total"], told["info"]["Next"]) == (1, "")
    assert told["objects"] == {path: name for path, (name, _state, _current) in VMS.items()}
    assert told["made"] == {"Snapshot": ONE, "Name": "one", "Consistency": "crash"}
    assert told["one"] == [BY_HAND, True, ["vda"]]
    assert told["reverted"]["FinalState"] == "running"
    assert (told["current"], told["support"]) == (BY_HAND, "yes")
    assert told["deleted"] == {"Deleted": ["one"], "Stays": []}
    assert told["refused"] == "org.virtsnap.Error.NoSuchSnapshot"
    assert told["set"] == "org.freedesktop.DBus.Error.PropertyReadOnly"

    wanted = [
        [JOBS, "InterfacesAdded", f"{JOBS}/1"],
        [TREE, "InterfacesAdded", ONE],
        [ROOT, "SnapshotCreated", WEB1_UUID],
        [WEB1, "PropertiesChanged", "org.virtsnap.Snapd1.Domain"],
        [JOBS, "InterfacesAdded", f"{JOBS}/2"],
        [ROOT, "SnapshotReverted", WEB1_UUID],
        [JOBS, "InterfacesAdded", f"{JOBS}/3"],
        [TREE, "InterfacesRemoved", ONE],
        [ROOT, "SnapshotDeleted", WEB1_UUID],
    ]
    in_order(told["heard"], wanted)
