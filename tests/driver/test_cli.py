"""virtsnap as a process against the real daemon: what it prints, does and returns."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.bus import PrivateBus
from tests.client import TOP
from tests.driver.house import HOST, WEB1, House
from tests.driver.virtsnap import cli, columns, command, rows, terminal, virtsnap
from tests.schema import documents

ESCAPED = ["two\\nrows", "\\u202egnp.exe", "tab\\tstop", "del\\x7f", "c1\\x9b31m"]


# --- snapshots


def test_create_list_revert_delete_do_it_and_say_so(running: House) -> None:
    disks = ["--no-memory", "--no-quiesce"]
    made = cli(running, "create", "web-1", "one", "--description", "by hand", *disks)
    assert (made.code, made.err) == (0, "")
    assert made.out == "VM web-1: snapshot one is made, internal, crash-consistent\n"
    (row,) = [r for r in rows(running, "list", "web-1") if r["Name"] == "one"]
    assert (row["Description"], row["Origin"], row["Current"]) == ("by hand", "manual", True)

    reverted = cli(running, "revert", "web-1", "one")
    assert reverted.code == 0
    first, second, third = reverted.out.splitlines()
    assert first == "VM web-1 is back at one, running"
    safety = next(r["Name"] for r in rows(running, "list") if r["Origin"] == "safety")
    undo = f"virtsnap --bus-address {running.address} revert web-1 {safety}"
    assert (second, third) == (f"what it was before is in {safety}", f"to undo: {undo}")

    assert cli(running, "delete", "web-1", "one").out == "VM web-1: snapshot one is deleted\n"
    assert set(running.client.snapshots("web-1")) == {"by-hand", safety}


def test_revert_command_that_it_prints_undoes_it(running: House) -> None:
    cli(running, "create", "web-1", "one")
    undo = cli(running, "revert", "web-1", "one").out.rpartition("to undo: virtsnap ")[2].split()
    assert cli(running, *undo[2:]).code == 0
    (current,) = [r for r in running.client.rows("ListSnapshots", "web-1") if r["Current"]]
    assert current["Name"] == undo[-1]


def test_revert_without_safety_snapshot_makes_none(running: House) -> None:
    cli(running, "create", "web-1", "one")
    done = cli(running, "revert", "web-1", "one", "--no-safety-snapshot", "--after", "stopped")
    assert (done.code, done.out) == (0, "VM web-1 is back at one, shutoff\n")
    assert set(running.client.snapshots("web-1")) == {"by-hand", "one"}


@pytest.mark.parametrize(
    ("option", "consistency"), [("--memory", "memory"), ("--no-memory", "crash")]
)
def test_create_memory_option_decides_what_is_got(
    option: str, consistency: str, running: House
) -> None:
    row = cli(running, "create", option, "web-1", "--json").json
    assert row["Result"]["Consistency"] == consistency


def test_create_trial_is_of_origin_trial(running: House) -> None:
    assert cli(running, "create", "web-1", "--trial").code == 0
    assert [r["Origin"] for r in rows(running, "list", "web-1")] == ["foreign", "trial"]


def test_create_no_wait_prints_the_path_of_its_job(running: House) -> None:
    done = cli(running, "create", "web-1", "one", "--no-wait")
    assert done.out == "/org/virtsnap/Snapd1/jobs/1\n"
    assert running.client.wait(done.out.strip())["Name"] == "one"
    assert cli(running, "create", "web-1", "--no-wait", "--json").json == {
        "Path": "/org/virtsnap/Snapd1/jobs/2"
    }


def test_create_json_is_the_row_of_its_job(running: House) -> None:
    row = cli(running, "create", "web-1", "one", "--json").json
    job = running.client.job(row["Path"])
    assert row == {"Path": "/org/virtsnap/Snapd1/jobs/1", **job}


def test_list_json_is_what_the_call_answers(running: House) -> None:
    listed, info = running.client.call("ListSnapshots", "web-1")
    assert cli(running, "list", "web-1", "--json").json == {"rows": listed, "info": info}


def test_list_vm_by_uuid_shows_one_row_a_snapshot(running: House) -> None:
    heading, row = columns(cli(running, "list", WEB1))
    assert (heading[0].strip(), row[:2]) == ("SNAPSHOT", ["*", "by-hand"])
    assert "2023-11-14" in row[2] and "y ago" in row[3]


def test_list_vm_without_snapshots_says_how_to_take_one(running: House) -> None:
    done = cli(running, "list", "web-2")
    assert (done.code, done.out) == (0, "")
    assert "no snapshots" in done.err and "create web-2" in done.err


def test_list_more_than_a_page_shows_all(running: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        running.client.create("web-1", f"s{n}", memory="no")
    small = "import snapd.cli.client as c, snapd.cli.__main__ as m; c.PAGE = 2; m.main()"
    done = subprocess.run(
        [command("")[0], "-c", small, "--bus-address", running.address, "list", "--json"],
        capture_output=True,
        cwd=TOP,
        check=True,
    )
    names = [row["Name"] for row in documents(done.stdout)[0]["rows"]]
    assert names == ["by-hand", "s0", "s1", "s2", "s3", "s4"]


def test_delete_changed_snapshot_of_that_name_is_refused(running: House) -> None:
    """What was shown is what is deleted: the time goes with the name."""
    cli(running, "create", "web-1", "one")
    with terminal(running.address, "delete", "web-1", "one") as seen:
        seen.until("[y/N]")
        running.client.delete("web-1", "one")
        time.sleep(1.1)  # libvirt's times are whole seconds
        running.client.create("web-1", "one")
        seen.type("y\n")
        assert seen.end() == 4
    assert "one" in running.client.snapshots("web-1")


# --- others' names


def hostile(folder: Path) -> str:
    """A host whose snapshots have names that a terminal would obey; its URI."""
    names = ["two&#10;rows", "&#x202e;gnp.exe", "tab&#9;stop", "del&#127;", "c1&#x9b;31m", "-rf"]
    template = HOST.read_text()
    begin = template.index("    <test:domainsnapshot>")
    end = template.index("</test:domainsnapshot>") + len("</test:domainsnapshot>\n")
    one = template[begin:end].replace("<active>1<", "<active>0<")
    many = "".join(one.replace("by-hand", name) for name in names)
    path = folder / "hostile.xml"
    path.write_text(template[:begin] + many + template[end:])
    return f"test://{path}"


def test_list_hostile_names_are_one_escaped_row_each(house: House, tmp_path: Path) -> None:
    house.serve(hostile(tmp_path))
    house.start()
    done = cli(house, "list", "web-1")
    assert done.code == 0
    assert {row[0] for row in columns(done)[1:]} == {*ESCAPED, "-rf"}
    assert all(c.isprintable() or c == "\n" for c in done.out)
    assert {r["Name"] for r in rows(house, "list", "web-1")} == set(house.client.snapshots("web-1"))


def test_delete_names_like_options_and_with_newlines_are_taken_as_they_are(
    house: House, tmp_path: Path
) -> None:
    house.serve(hostile(tmp_path))
    house.start()
    assert cli(house, "delete", "web-1", "--", "-rf").code == 0
    assert cli(house, "delete", "web-1", "two\nrows").code == 0
    assert not {"-rf", "two\nrows"} & set(house.client.snapshots("web-1"))
    assert "two\\nrows" in cli(house, "history", "web-1").out


def test_create_bad_name_is_refused_with_a_name_that_works(running: House) -> None:
    done = cli(running, "create", "web-1", "two\nrows", "--json")
    assert (done.code, done.error["error"]) == (2, "org.virtsnap.Error.InvalidName")
    assert len(running.client.snapshots("web-1")) == 1


# --- errors


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["crate"], 2, "InvalidArgument"),
        (["list", "nope"], 3, "NoSuchDomain"),
        (["revert", "web-1", "nope"], 3, "NoSuchSnapshot"),
        (["delete", "nope", "by-hand"], 3, "NoSuchDomain"),
        (["create", "web-1", "by-hand"], 4, "AlreadyExists"),
        (["policy", "run", "nope"], 3, "NoSuchPolicy"),
        (["policy", "remove", "nope"], 3, "NoSuchPolicy"),
        (["policy", "show", "nope"], 3, "NoSuchPolicy"),
        (["policy", "enable", "nope"], 3, "NoSuchPolicy"),
        (["policy", "enable", "./nope.toml"], 2, "InvalidArgument"),
    ],
)
def test_run_error_has_its_code_and_one_line(
    arguments: list[str], code: int, error: str, running: House
) -> None:
    done = cli(running, *arguments, "--json")
    assert (done.code, done.error["error"]) == (code, f"org.virtsnap.Error.{error}")
    said = cli(running, *arguments)
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith("virtsnap: ") and done.error["message"] in said.err


def test_run_daemon_not_running_says_how_to_start_it(bus: PrivateBus) -> None:
    for arguments in ([], ["list"], ["create", "web-1"], ["policy", "list"]):
        done = virtsnap(bus.address, *arguments)
        assert (done.code, done.out) == (6, "")
        assert "virtsnapd is not running" in done.err and "start it:" in done.err
    error = virtsnap(bus.address, "--json").error["error"].rpartition(".")[2]
    assert error in ("ServiceUnknown", "NameHasNoOwner")


def test_run_no_bus_is_unavailable(tmp_path: Path) -> None:
    done = virtsnap(f"unix:path={tmp_path}/nothing", "list")
    assert done.code == 6 and "cannot be reached" in done.err


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (["--bus-address", ""], "that bus cannot be reached: its address is empty; give --bus-a"),
        (["--bus-address", "foo"], "that bus cannot be reached: foo: address did not contain a tr"),
        (["--session"], "the session bus cannot be reached: unix:path=/n/bus: No such file or d"),
        (["--system"], "the system bus cannot be reached: unix:path=/n/system: No such file or d"),
    ],
    ids=str,
)
def test_run_no_bus_says_which_and_why_in_words_for_people(
    where: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/n/system")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/n")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    done = virtsnap("unix:path=/n/other", "list", *where)
    assert done.code == 6 and done.err.startswith(f"virtsnap: {says}")
    assert not re.search("Errno|None|no bus", done.err) and len(done.err.splitlines()) == 1


def test_run_reader_that_closes_the_pipe_gets_no_complaint(running: House) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            command(running.address, "list"),
            stdout=write,
            stderr=subprocess.PIPE,
            cwd=TOP,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


# --- status


def test_status_without_policy_says_what_to_type(running: House) -> None:
    done = cli(running)
    assert done.code == 0
    assert "0 of 3 VMs under 0 policies" in done.out
    last = done.out.splitlines()[-1]
    assert last.startswith("next: virtsnap ") and "policy enable nightly" in last


def test_status_without_vm_says_so(house: House, tmp_path: Path) -> None:
    empty = tmp_path / "empty.xml"
    empty.write_text("<node/>")
    house.serve(f"test://{empty}")
    house.start()
    done = cli(house)
    assert done.code == 0 and "next: there is no VM here" in done.out


def test_status_libvirt_not_there_says_so(house: House, tmp_path: Path) -> None:
    house.serve(f"test://{tmp_path}/nothing.xml")
    house.start()
    done = cli(house)
    assert done.code == 0
    assert "NOT CONNECTED" in done.out and "next: start libvirt" in done.out
    assert cli(house, "create", "web-1").code == 6


def test_status_broken_policy_file_is_named_with_the_way_out(house: House) -> None:
    house.policy("hourly")
    house.policy("broken", "domains = 1")
    house.start()
    done = cli(house)
    assert "1 policy" in done.out and "health critical" in done.out
    assert "critical: broken.toml: " in done.out and "way out: correct the file" in done.out


def test_status_json_holds_everything_by_its_dbus_names(house: House) -> None:
    house.policy("hourly")
    client = house.start()
    answer = cli(house, "--json").json
    assert answer["Manager"] == client.properties()
    assert answer["Domains"] == client.rows("ListDomains")
    assert answer["Policies"] == client.rows("ListPolicies")
    assert [p["ID"] for p in answer["Problems"]] == [p["ID"] for p in client.rows("ListProblems")]
    assert answer["Jobs"] == []


def test_history_of_a_deleted_snapshot_says_who_and_what(running: House) -> None:
    cli(running, "create", "web-1", "one")
    cli(running, "delete", "web-1", "one")
    cli(running, "create", "web-1", "two")
    verbs = [(r["Verb"], r["SnapshotName"]) for r in rows(running, "history", "web-1", "one")]
    assert verbs == [("delete", "one"), ("create", "one")]
    _heading, *lines = columns(cli(running, "history", "web-1"))
    assert [line[2].strip() for line in lines] == ["create", "delete", "create"]


# --- questions


@pytest.mark.parametrize("verb", ["revert", "delete"])
def test_ask_answered_no_does_nothing(verb: str, running: House) -> None:
    with terminal(running.address, verb, "web-1", "by-hand") as seen:
        seen.until("[y/N]")
        for part in ("web-1", "by-hand", "2023-11-14", "y ago", "foreign"):
            assert part in seen.screen
        seen.type("n\n")
        assert seen.end() == 1
    assert set(running.client.snapshots("web-1")) == {"by-hand"}
    assert running.client.rows("ListJobs") == []


def test_ask_answered_yes_does_it(running: House) -> None:
    with terminal(running.address, "delete", "web-1", "by-hand") as seen:
        seen.until("[y/N]")
        seen.type("y\n")
        assert seen.end() == 0
    assert running.client.snapshots("web-1") == {}


def test_ask_interrupted_does_nothing(running: House) -> None:
    with terminal(running.address, "delete", "web-1", "by-hand") as seen:
        seen.until("[y/N]")
        seen.type("\x03")
        assert seen.end() == 130
    assert set(running.client.snapshots("web-1")) == {"by-hand"}


def test_ask_with_yes_is_not_asked(running: House) -> None:
    with terminal(running.address, "delete", "web-1", "by-hand", "--yes") as seen:
        assert seen.end() == 0
    assert "[y/N]" not in seen.screen
