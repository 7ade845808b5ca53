"""What is said beside "no such": names that may have been meant, and where else the VM is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bus import private_bus
from tests.client import TOP
from tests.driver.house import HOST, NODE, House
from tests.driver.virtsnap import Done, virtsnap


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        (["list", "web1"], ["web-1", "web-2"]),
        (["create", "dbb-1"], ["db-1"]),
        (["domains", "qqqq"], []),
        (["jobs", "--vm", "Web-2"], ["web-2", "web-1"]),
        (["delete", "web-1", "by-hnd"], ["by-hand"]),
        (["delete", "web-1", "by-hnd", "byhand"], ["by-hand"]),
        (["show", "web-1", "by_hand"], ["by-hand"]),
        (["adopt", "web-1", "by-hnd", "--policy", "hourly"], ["by-hand"]),
        (["policy", "show", "hurly"], ["hourly"]),
        (["policy", "run", "hourly", "db1"], ["db-1"]),
        (["policy", "enable", "nigthly"], ["nightly"]),
        (["delte", "web-1"], ["delete"]),
        (["policy", "lst"], ["list", "set"]),
    ],
)
def test_unknown_name_suggests_near_ones(shared: House, typed: list[str], near: list[str]) -> None:
    shared.policy("hourly")
    shared.client.call("Reload")
    failed = virtsnap(shared.address, *typed, "--json").error
    assert failed["detail"].get("Near", []) == near
    said = virtsnap(shared.address, *typed, "-q")
    question = [line for line in said.err.splitlines() if "did you mean" in line]
    assert said.err.startswith("virtsnap: ")
    assert len(question) == bool(near)
    assert all(each in question[0] for each in near)


def test_history_of_no_vm_is_not_found_with_the_near_ones(shared: House) -> None:
    for more in ([], ["--verb", "revert"], ["by-hand"]):
        done = virtsnap(shared.address, "history", "wbe-1", *more)
        assert (done.code, done.out) == (3, ""), more
        assert "did you mean web-1" in done.err
    known = virtsnap(shared.address, "history", "web-1", "by-hand", "--verb", "revert")
    assert (known.code, known.err) == (0, "history of VM web-1 has nothing like that\n")


def test_history_of_no_snapshot_says_so_with_the_near_ones(shared: House) -> None:
    done = virtsnap(shared.address, "history", "web-1", "by-hnd")
    said, near, see = done.err.splitlines()
    assert (done.code, done.out) == (0, "")
    assert said == "VM web-1 has no snapshot by-hnd, and history knows of none"
    assert near == "  did you mean by-hand?"
    assert see.endswith(f"virtsnap --bus-address {shared.address} list web-1")
    assert virtsnap(shared.address, "history", "web-1", "by-hnd", "--json").json["rows"] == []


def test_history_of_what_is_gone_is_no_slip(house: House) -> None:
    client = house.start()
    client.create("web-2", "mine")
    client.delete("web-2", "mine")
    assert virtsnap(house.address, "history", "web-2", "mine", "-q").out == "mine\n"
    none = virtsnap(house.address, "history", "web-2", "mine", "--verb", "revert")
    assert (none.code, none.err) == (0, "history of VM web-2 has nothing like that\n")


def test_unknown_snapshot_says_how_to_see_those_that_there_are(shared: House) -> None:
    done = virtsnap(shared.address, "pin", "web-1", "qqqq")
    assert done.code == 3
    seen = f"what it has: virtsnap --bus-address {shared.address} list web-1"
    assert done.err.splitlines()[-1].strip() == seen


def test_error_of_the_daemon_names_a_command_that_is_typed_on_the_same_bus(
    shared: House, two: tuple[House, House]
) -> None:
    with_bus = f"'virtsnap --bus-address {shared.address} status' lists them"
    assert with_bus in virtsnap(shared.address, "list", "qqqq").err
    assert with_bus in virtsnap(shared.address, "list", "qqqq", "--json").error["message"]
    no_policy = virtsnap(shared.address, "policy", "show", "qqqq").err
    assert f"'virtsnap --bus-address {shared.address} policy list' shows" in no_policy
    assert "; 'virtsnap --session status' lists them" in run("list", "--session", "qqqq").err
    assert "; 'virtsnap status' lists them" in run("list", "qqqq").err
    command = no_policy.split("'")[3].split()
    assert run(*command[1:]).code == 0


def test_hostile_names_are_safe_and_no_markup(house: House) -> None:
    text = HOST.read_text().replace("<name>web-2</name>", "<name>[red]web&#x202e;2{}</name>")
    house.serve_text(text)
    house.start()
    done = virtsnap(house.address, "list", "[red]web2{}")
    assert r"did you mean [red]web\u202e2{}?" in done.err
    near = virtsnap(house.address, "list", "[red]web2{}", "--json").error["detail"]["Near"]
    assert near == ["[red]web\u202e2{}"]


# --- elsewhere


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[House, House]]:
    """A daemon of the system's with web-1 and others, one of the session's with tdrun."""
    with (
        daemon(tmp_path / "a", f"test://{HOST}") as system,
        daemon(tmp_path / "b", f"test://{NODE}") as session,
    ):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system.address)
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", session.address)
        yield system, session


@contextmanager
def daemon(folder: Path, host: str) -> Iterator[House]:
    folder.mkdir()
    with private_bus() as bus:
        made = House(bus.address, folder, host)
        try:
            made.start().rows("ListDomains")
            yield made
        finally:
            made.close()


def run(*arguments: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "snapd.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=TOP,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def test_vm_that_is_only_on_the_other_bus_is_pointed_out(two: tuple[House, House]) -> None:
    done = run("create", "tdrun", "one")
    assert done.code == 3
    assert "it is one of your session's: virtsnap --session create tdrun one\n" in done.err
    assert run("--session", "list", "tdrun").code == 0
    done = run("list", "--session", "web-1")
    assert "it is one of the system's: virtsnap --system list web-1\n" in done.err
    assert "it is one of" not in run("list", "nowhere").err


def test_vm_on_a_bus_without_a_daemon_is_not_looked_for(two: tuple[House, House]) -> None:
    _, session = two
    session.stop()
    assert "it is one of" not in run("list", "tdrun").err
    assert not session.daemon.running


def test_vm_of_a_flatpak_is_said_to_be_out_of_reach(
    shared: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".var/app/org.gnome.Boxes/config/libvirt/qemu"
    folder.mkdir(parents=True)
    (folder / "win11.xml").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    done = virtsnap(shared.address, "create", "win11")
    assert done.code == 3
    assert "the Flatpak of GNOME Boxes has a VM of that name" in done.err
    assert "Flatpak" not in virtsnap(shared.address, "create", "win12").err
