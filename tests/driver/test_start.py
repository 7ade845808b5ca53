"""Starting: the first call, a name or a folder that is taken, no libvirt, broken files."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from snapd.errors import Unavailable
from snapd.wire import paths
from snapd.wire.fault import WireError
from tests.bus import private_bus
from tests.client import TOP, Client
from tests.driver.house import HOURLY, WEB1, House, problems

NOWHERE = "qemu:///system?socket=/nonexistent/libvirt-sock"


def run_another(house: House, state: str) -> subprocess.CompletedProcess[str]:
    """A second daemon, to its end."""
    command = [sys.executable, "-X", "dev", "-m", "snapd", "--bus-address", house.address]
    command += ["--connect", house.host, "--config", str(house.folder / "etc"), "--state", state]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=30, check=False)


def first_answer(ask: Callable[[], object]) -> object:
    """What is answered as soon as there is anybody to do it."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask()
        except WireError as e:
            assert e.name.endswith(("ServiceUnknown", "NameHasNoOwner")), e
            assert time.monotonic() < deadline


def is_locked(state: Path) -> bool:
    with (state / "lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_hangup_that_comes_before_files_can_be_read_again_ends_nothing(house: House) -> None:
    """systemd takes a service that ends by it for one that was to end, and starts it no more."""
    house.start()
    house.stop()
    with closing(sqlite3.connect(house.store, isolation_level=None)) as store:
        store.execute("PRAGMA locking_mode = EXCLUSIVE")
        store.execute("BEGIN EXCLUSIVE")
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(house.daemon.start)
            while not is_locked(house.daemon.state):  # by the daemon, which waits for the store now
                assert not started.done()
                time.sleep(0.01)
            os.kill(house.daemon.pid, signal.SIGHUP)
            store.close()
            started.result()
    assert len(house.client.rows("ListDomains")) == 3


@pytest.mark.parametrize("_again", range(3))
def test_call_that_comes_with_the_name_waits_for_the_first_reading(
    house: House, _again: int
) -> None:
    client = house.client
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(house.daemon.start)
        asked = first_answer(lambda: client.call("CreateSnapshot", "web-1", "one"))
        assert asked == f"{paths.JOBS}/1"
        started.result()


def test_object_that_is_not_read_yet_is_waited_for(house: House) -> None:
    client = house.client
    path = paths.snapshot(WEB1, "by-hand")
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(house.daemon.start)
        asked = first_answer(lambda: client.properties(path, "Snapshot")["Name"])
        assert asked == "by-hand"
        started.result()


def test_bus_name_taken_ends_with_1_and_a_sentence(running: House) -> None:
    ended = run_another(running, str(running.folder / "other"))
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert f"the bus name {paths.NAME} is taken" in ended.stderr
    assert running.client.create("web-1", "one")["Name"] == "one"


def test_state_folder_in_use_ends_with_1_and_changes_nothing(running: House) -> None:
    ended = run_another(running, str(running.daemon.state))
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "another virtsnapd uses" in ended.stderr
    assert running.client.create("web-1", "one")["Name"] == "one"


def test_no_libvirt_at_start_is_up_and_says_so(house: House) -> None:
    house.policy("nightly")
    house.serve(NOWHERE)
    client = house.start()
    assert client.rows("ListDomains") == []
    state = client.properties()
    assert (state["Connected"], state["LibvirtURI"], state["Health"]) == (
        False,
        NOWHERE,
        "critical",
    )
    assert problems(client) == {"not-connected"}
    assert [row["Name"] for row in client.rows("ListPolicies")] == ["nightly"]
    assert client.rows("ListSnapshots", "") == []
    assert [row["Verb"] for row in client.rows("ListHistory", "")] == ["set-policy"]
    begun = time.monotonic()
    for call in (
        ("CreateSnapshot", "web-1", "one"),
        ("RevertSnapshot", "web-1", "one"),
        ("DeleteSnapshot", "web-1", "one"),
        ("RunPolicy", "nightly"),
        ("PreviewCreate", "web-1", "one"),
        ("PreviewRetention", "web-1", ""),
        ("Audit", ""),
        ("Audit", "web-1"),
        ("DeleteOwnSnapshots", "web-1"),
        ("GetDomain", "web-1"),  # nobody knows that there is none
        ("GetSnapshot", "web-1", "one"),
        ("ListSnapshots", "web-1"),
    ):
        with pytest.raises(Unavailable):
            client.call(*call)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[libvirt]\nuri = 1\n", "libvirt.uri"),
        ("[limits]\nparalel = 4\n", "limits.paralel"),
        ("not toml at all [", "virtsnapd.toml"),
        ("[libvirt]\nmonitor = 'no'\n", "libvirt.monitor"),
    ],
)
def test_broken_settings_start_with_defaults_and_a_problem(
    house: House, text: str, named: str
) -> None:
    (house.daemon.config / "virtsnapd.toml").write_text(text)
    house.policy("nightly", HOURLY.replace("last = 2", "last = 1"))
    client = house.start()
    (found,) = [r for r in client.rows("ListProblems") if r["Problem"] == "settings-file"]
    assert named in found["Message"]
    assert found["Severity"] == "critical"
    assert pruned_nothing(client)


def test_broken_store_is_set_aside_and_nothing_is_pruned(house: House) -> None:
    house.tables()
    garbage = b"no database" * 1000
    house.store.write_bytes(garbage)
    house.policy("nightly", HOURLY.replace("last = 2", "last = 1"))
    client = house.start()
    assert "store-lost" in problems(client)
    assert pruned_nothing(client)
    (aside,) = [p for p in house.daemon.state.iterdir() if "set-aside" in p.name]
    assert aside.read_bytes() == garbage
    assert "store-lost" in problems(house.again())  # until an admin has looked at it


def test_store_of_a_newer_version_is_set_aside_whole(house: House) -> None:
    house.tables()
    with house.db() as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE future (x)")
    client = house.start()
    (found,) = [r for r in client.rows("ListProblems") if r["Problem"] == "store-lost"]
    assert found["Severity"] == "critical"
    house.stop()
    (aside,) = [p for p in house.daemon.state.iterdir() if p.name[-1].isdigit()]
    with sqlite3.connect(aside) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)
    db.close()


def test_store_with_rows_that_make_no_sense_is_set_aside(house: House) -> None:
    house.tables()
    with house.db() as db:
        db.execute(
            "INSERT INTO snapshots (domain, name, created, origin, state, consistency) "
            "VALUES ('x', 'y', 1, 'from-the-future', 'running', 'crash')"
        )
    assert "store-lost" in problems(house.start())


def test_store_with_an_open_job_that_makes_no_sense_is_set_aside(house: House) -> None:
    house.tables()
    with house.db() as db:
        db.execute(
            "INSERT INTO jobs (verb, domain, domain_name, snapshot, policy, owner, state, queued, "
            "intent) VALUES ('create', 'x', 'y', 'z', '', 0, 'running', 1, '{half')"
        )
    assert "store-lost" in problems(house.start())


def test_start_without_folders_makes_the_state_folder_private(house: House) -> None:
    house.daemon.state.rmdir()
    (house.daemon.config / "policies.d").rmdir()
    house.daemon.config.rmdir()
    assert len(house.start().rows("ListDomains")) == 3
    assert house.daemon.state.stat().st_mode & 0o777 == 0o700
    assert house.store.stat().st_mode & 0o777 == 0o600
    assert not house.daemon.config.exists()


def test_policies_folder_that_is_a_file_is_a_problem(house: House) -> None:
    (house.daemon.config / "policies.d").rmdir()
    (house.daemon.config / "policies.d").write_text("")
    client = house.start()
    assert "policy-file" in problems(client)
    assert len(client.rows("ListDomains")) == 3


def pruned_nothing(client: Client) -> bool:
    """Two runs of a policy that keeps one: both snapshots have to be there afterwards."""
    for _ in range(2):
        client.wait(client.call("RunPolicy", "nightly", domain="web-2"))
    rows = client.snapshots("web-2").values()
    return [row["Origin"] for row in rows] == ["policy", "policy"]


def test_bus_that_goes_ends_the_daemon_with_1_and_a_sentence(tmp_path: Path) -> None:
    """systemd starts it again; a daemon without a bus would be of no use to anybody."""
    with private_bus() as bus:
        house = House(bus.address, tmp_path)
        try:
            house.daemon.start()
            bus.process.kill()
            deadline = time.monotonic() + 10
            while house.daemon.running:
                assert time.monotonic() < deadline, house.daemon.log
                time.sleep(0.05)
            assert house.daemon.stop() == 1
            assert "virtsnapd: " in house.daemon.log
            assert "the bus is gone" in house.daemon.log
        finally:
            print(house.daemon.log)
            house.close()
