"""GLib's gdbus."""

from __future__ import annotations

import re

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
    ROOT,
    SNAPSHOT,
    TREE,
    WEB1,
    WEB1_UUID,
    WEB2,
    in_order,
    listener,
    run,
)
from tests.driver.house import House

SAID = re.compile(r"(/\S+): (\S+)\.(\w+) \((?:objectpath )?'([^']*)'")


def gdbus(house: House, command: str, *arguments: str, fails: bool = False) -> str:
    return run("gdbus", command, "--address", house.address, *arguments, fails=fails)


def call(
    house: House, path: str, interface: str, method: str, *arguments: str, fails: bool = False
) -> str:
    where = ("--dest", NAME, "--object-path", path, "--method", f"{interface}.{method}")
    return gdbus(house, "call", *where, "--", *arguments, fails=fails).strip()


def job_of(answer: str) -> str:
    found = re.fullmatch(r"\(objectpath '(/\S+)',\)", answer)
    assert found is not None, answer
    return found[1]


def said(lines: list[str]) -> list[tuple[str, str, str]]:
    """(path, member, first argument) of each signal."""
    found = [SAID.match(line) for line in lines]
    return [(m[1], m[3], m[4]) for m in found if m]


def test_introspect_finds_every_object_with_its_values(running: House) -> None:
    text = gdbus(running, "introspect", "--recurse", "--dest", NAME, "--object-path", "/")
    nodes = set(re.findall(r"node (\S+) \{", text))
    assert {ROOT, WEB1, WEB2, DB1, TREE, BY_HAND, JOBS, POLICIES, f"{ROOT}/domains"} <= nodes
    assert "readonly s Name = 'web-1';" in text
    assert f"readonly o CurrentSnapshot = '{BY_HAND}';" in text
    assert "readonly x Created = 1700000000;" in text


def test_wait_returns_when_the_service_is_there(house: House) -> None:
    command = ("gdbus", "wait", "--address", house.address, "--timeout", "30", NAME)
    with listener(*command) as waiting:
        house.start()
        assert waiting.ended() == 0


def test_verbs_and_what_the_monitor_shows_of_them(running: House) -> None:
    command = ("gdbus", "monitor", "--address", running.address, "--dest", NAME)
    with listener(*command) as monitor:
        monitor.until("the owner", lambda lines: any("is owned by" in line for line in lines))
        assert "'Name': <'by-hand'>" in call(running, ROOT, MANAGER, "ListSnapshots", "web-1", "{}")
        what = ("web-1", "one", "{'memory': <'no'>, 'max_wait': <20>}")
        job = job_of(call(running, ROOT, MANAGER, "CreateSnapshot", *what))
        made = call(running, job, JOB, "Wait", "{}")
        assert f"'Snapshot': <objectpath '{ONE}'>" in made
        what = ("web-1", "by-hand", "{'safety_snapshot': <false>, 'created': <int64 1700000000>}")
        job = job_of(call(running, ROOT, MANAGER, "RevertSnapshot", *what))
        assert "'FinalState': <'running'>" in call(running, job, JOB, "Wait", "{}")
        job = job_of(call(running, ONE, SNAPSHOT, "Delete", "{}"))
        assert "'Deleted': <['one']>" in call(running, job, JOB, "Wait", "{}")
        policy = (
            "nightly",
            "{'domains': <['*']>, 'schedule': <'@daily'>, 'keep': <{'last': <3>}>}",
        )
        call(running, ROOT, MANAGER, "SetPolicy", *policy, "{}")
        call(running, ROOT, MANAGER, "RemovePolicy", "nightly", "{}")
        gone = (POLICIES, "InterfacesRemoved", NIGHTLY)
        monitor.until("the end", lambda lines: gone in said(lines))
    wanted = [
        (JOBS, "InterfacesAdded", f"{JOBS}/1"),
        (TREE, "InterfacesAdded", ONE),
        (ROOT, "SnapshotCreated", WEB1_UUID),
        (WEB1, "PropertiesChanged", DOMAIN),
        (f"{JOBS}/1", "Completed", "done"),
        (BY_HAND, "PropertiesChanged", SNAPSHOT),
        (ROOT, "SnapshotReverted", WEB1_UUID),
        (f"{JOBS}/2", "Completed", "done"),
        (TREE, "InterfacesRemoved", ONE),
        (ROOT, "SnapshotDeleted", WEB1_UUID),
        (f"{JOBS}/3", "Completed", "done"),
        (POLICIES, "InterfacesAdded", NIGHTLY),
        gone,
    ]
    in_order(said(monitor.lines), wanted)


def test_call_that_is_refused_shows_the_errors_name_and_its_sentence(running: House) -> None:
    told = call(running, ROOT, MANAGER, "GetSnapshot", "web-1", "one", "{}", fails=True)
    assert "org.virtsnap.Error.NoSuchSnapshot: " in told
    told = call(running, ROOT, MANAGER, "CreateSnapshot", "web-1", "x", "{'a': <1>}", fails=True)
    assert "org.virtsnap.Error.InvalidArgument: " in told
    what = ("web-1", "by-hand", "{'created': <int64 1>}")
    told = call(running, ROOT, MANAGER, "DeleteSnapshot", *what, fails=True)
    assert "org.virtsnap.Error.Changed: " in told
    setting = ("org.freedesktop.DBus.Properties", "Set", DOMAIN, "Name", "<'other'>")
    told = call(running, WEB1, *setting, fails=True)
    assert "org.freedesktop.DBus.Error.PropertyReadOnly: " in told
