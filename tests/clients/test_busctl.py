"""systemd's busctl."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.clients.tools import (
    BY_HAND,
    DB1,
    DOMAIN,
    JOB,
    JOBS,
    MANAGER,
    NAME,
    NIGHTLY,
    ONE,
    POLICIES,
    POLICY,
    ROOT,
    SNAPSHOT,
    TREE,
    VMS,
    WEB1,
    WEB1_UUID,
    WEB2,
    Listener,
    in_order,
    listener,
    run,
)
from tests.driver.house import House

SNAPSHOTS = "/org/virtsnap/Snapd1/snapshots"
PARENTS = ["/", "/org", "/org/virtsnap"]
FIRST_TREE = [
    *PARENTS,
    ROOT,
    f"{ROOT}/domains",
    WEB1,
    WEB2,
    DB1,
    JOBS,
    POLICIES,
    SNAPSHOTS,
    TREE,
    TREE.replace("222201", "222202"),
    TREE.replace("222201", "222203"),
    BY_HAND,
]
SCHEDULE = ("schedule", "s", "@daily")
KEEP = ("keep", "a{sv}", "1", "last", "x", "3")
# Everything else is announced when it changes.
FLAGS: dict[str, dict[str, str]] = {
    DOMAIN: {},
    JOB: {},
    MANAGER: {"Version": "const", "LibvirtURI": "const"},
    POLICY: {},
    SNAPSHOT: {"RevertBlocker": "-", "DeleteBlocker": "-"},
}


def busctl(house: House, *arguments: str, fails: bool = False) -> str:
    return run("busctl", f"--address={house.address}", *arguments, fails=fails)


def call(house: House, path: str, interface: str, method: str, *arguments: str) -> Any:
    """The out arguments of a call, in busctl's JSON."""
    command = ("--json=short", "call", NAME, path, interface, method, *arguments)
    return json.loads(busctl(house, *command))["data"]


def finished(house: House, job: str) -> Any:
    """The result of a job, waited for."""
    (result,) = call(house, job, JOB, "Wait", "a{sv}", "0")
    return {key: value["data"] for key, value in result.items()}


def tree(house: House) -> list[str]:
    return busctl(house, "tree", "--list", NAME).split()


def set_nightly(house: House) -> None:
    definition = ("3", "domains", "as", "1", "*", *SCHEDULE, *KEEP)
    call(house, ROOT, MANAGER, "SetPolicy", "sa{sv}a{sv}", "nightly", *definition, "0")


def test_tree_shows_every_object_below_its_parents(running: House) -> None:
    assert sorted(tree(running)) == sorted(FIRST_TREE)
    set_nightly(running)
    (job,) = call(running, ROOT, MANAGER, "CreateSnapshot", "ssa{sv}", "web-1", "one", "0")
    finished(running, job)
    assert job == f"{JOBS}/1"
    assert sorted(tree(running)) == sorted([*FIRST_TREE, NIGHTLY, ONE, job])


def test_introspect_of_each_object_shows_values_and_says_what_is_announced(running: House) -> None:
    set_nightly(running)
    (job,) = call(running, ROOT, MANAGER, "CreateSnapshot", "ssa{sv}", "web-2", "one", "0")
    finished(running, job)
    objects = {ROOT: MANAGER, WEB1: DOMAIN, BY_HAND: SNAPSHOT, NIGHTLY: POLICY, job: JOB}
    shown = {}
    for path, interface in objects.items():
        lines = [row.split() for row in busctl(running, "introspect", NAME, path).splitlines()]
        rows = {row[0].lstrip("."): row for row in lines if row[1] == "property"}
        others = {name: row[-1] for name, row in rows.items() if row[-1] != "emits-change"}
        assert others == FLAGS[interface]
        shown[interface] = rows
    assert shown[DOMAIN]["Name"] == [".Name", "property", "s", '"web-1"', "emits-change"]
    assert shown[SNAPSHOT]["Created"][2:4] == ["x", "1700000000"]
    assert shown[JOB]["State"][2:4] == ["s", '"done"']


@pytest.mark.parametrize("path", [f"{ROOT}/domains", JOBS, POLICIES, TREE])
def test_introspect_of_each_collection_shows_an_object_manager(running: House, path: str) -> None:
    text = busctl(running, "introspect", NAME, path)
    assert "org.freedesktop.DBus.ObjectManager" in text
    assert ".GetManagedObjects" in text


def test_get_property_answers_and_set_property_is_refused(running: House) -> None:
    for path, (name, state, current) in VMS.items():
        told = busctl(
            running, "get-property", NAME, path, DOMAIN, "Name", "State", "CurrentSnapshot"
        )
        assert told.splitlines() == [f's "{name}"', f's "{state}"', f'o "{current}"']
    command = ("set-property", NAME, WEB1, DOMAIN, "Name", "s", "other")
    assert "read-only" in busctl(running, *command, fails=True)
    assert busctl(running, "get-property", NAME, WEB1, DOMAIN, "Name") == 's "web-1"\n'
    told = busctl(running, "get-property", NAME, WEB1, DOMAIN, "Nme", fails=True)
    assert "Nme" in told


def listening(house: House, monitor: Listener) -> None:
    """Return once the monitor shows what passes."""
    deadline = time.monotonic() + 20
    while not monitor.lines:
        assert time.monotonic() < deadline
        busctl(house, "call", NAME, ROOT, "org.freedesktop.DBus.Peer", "Ping")


def test_verbs_and_what_the_monitor_shows_of_them(running: House) -> None:
    command = ("busctl", f"--address={running.address}", "--json=short", "monitor", NAME)
    with listener(*command) as monitor:
        listening(running, monitor)
        rows, info = call(running, ROOT, MANAGER, "ListSnapshots", "sa{sv}", "web-1", "0")
        assert [row["Path"] for row in rows] == [{"type": "o", "data": BY_HAND}]
        assert info["Total"] == {"type": "t", "data": 1}
        what = ("web-1", "one", "2", "memory", "s", "no", "max_wait", "u", "20")
        (job,) = call(running, ROOT, MANAGER, "CreateSnapshot", "ssa{sv}", *what)
        made = finished(running, job)
        assert made == {"Snapshot": ONE, "Name": "one", "Consistency": "crash"}
        arguments = ("a{sv}", "1", "safety_snapshot", "b", "false")
        (job,) = call(running, BY_HAND, SNAPSHOT, "Revert", *arguments)
        assert finished(running, job)["FinalState"] == "running"
        told = busctl(running, "get-property", NAME, WEB1, DOMAIN, "CurrentSnapshot")
        assert told == f'o "{BY_HAND}"\n'
        (job,) = call(running, ROOT, MANAGER, "DeleteSnapshot", "ssa{sv}", "web-1", "one", "0")
        assert finished(running, job) == {"Deleted": ["one"], "Stays": []}
        told = busctl(running, "call", NAME, ONE, SNAPSHOT, "Delete", "a{sv}", "0", fails=True)
        assert ONE in told
        look = ("call", NAME, ROOT, MANAGER, "GetSnapshot", "ssa{sv}", "web-1", "one", "0")
        assert "'one'" in busctl(running, *look, fails=True)

        wanted: list[Any] = [
            (JOBS, "InterfacesAdded", f"{JOBS}/1"),
            (TREE, "InterfacesAdded", ONE),
            (ROOT, "SnapshotCreated", WEB1_UUID),
            (f"{JOBS}/1", "Completed", "done"),
            (BY_HAND, "PropertiesChanged", SNAPSHOT),
            (ROOT, "SnapshotReverted", WEB1_UUID),
            (f"{JOBS}/2", "Completed", "done"),
            (f"{JOBS}/3", "PropertiesChanged", JOB),
            (TREE, "InterfacesRemoved", ONE),
            (ROOT, "SnapshotDeleted", WEB1_UUID),
            (f"{JOBS}/3", "Completed", "done"),
        ]
        monitor.until("the end", lambda lines: (f"{JOBS}/3", "Completed", "done") in signals(lines))
    in_order(signals(monitor.lines), wanted)


def signals(lines: list[str]) -> list[tuple[str, str, Any]]:
    """(path, member, first argument) of each signal."""
    messages = [json.loads(line) for line in lines]
    return [
        (m["path"], m["member"], m["payload"]["data"][0])
        for m in messages
        if m["type"] == "signal" and m["path"].startswith(ROOT)
    ]
