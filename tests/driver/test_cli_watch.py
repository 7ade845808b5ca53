"""virtsnap watch: the lines of what is done, as they come, also across a restart."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snapd.wire import paths
from tests.bus import PrivateBus, private_bus
from tests.driver.house import DB1, HOURLY, WEB1, House, heard
from tests.driver.virtsnap import cli, command, terminal, virtsnap
from tests.driver.watcher import TIME, Played, watching

START = "watching all VMs: snapshots, runs of policies, problems, and jobs that fail"
GONE = "virtsnapd is not running: nothing is heard until it is; it is not started for this"
BY_HAND = ("--no-memory", "--no-quiesce")
EVERY = HOURLY.replace('"web-*"', '"*"')


@pytest.fixture
def played(bus: PrivateBus) -> Iterator[Played]:
    made = Played(bus.address)
    try:
        yield made
    finally:
        made.close()


def problem(identity: str, message: str, uuid: str = "", **more: Any) -> dict[str, Any]:
    about = {"ID": identity, "Severity": "warning", "Problem": "uncovered", "DomainUUID": uuid}
    row = {**about, "DomainName": "web-1" if uuid else "", "Policy": "", "Since": 1700000000}
    return {**row, "Message": message, "Ways": [], **more}


# --- the lines


def test_watch_tells_a_line_for_each_thing_that_is_done(house: House) -> None:
    house.policy("all", EVERY)
    house.start().rows("ListDomains")
    with watching(house.address) as seen:
        assert seen.err == [START]
        cli(house, "create", "web-1", "one", *BY_HAND)
        seen.says("one created")
        cli(house, "revert", "web-1", "one", "--yes")
        seen.says("reverted")
        cli(house, "delete", "web-1", "one", "--yes")
        seen.says("one deleted")
        cli(house, "try", "db-1")
        cli(house, "create", "web-1", "by-hand", *BY_HAND)
        seen.says("failed")
        cli(house, "hold", "web-1", "--reason", "moving")
        seen.says("held")
        cli(house, "unhold", "web-1")
        seen.says("over: ")
        (safety,) = [n for n in house.client.snapshots("web-1") if n.startswith("safety-")]
        (trial,) = [n for n, r in house.client.snapshots("db-1").items() if r["Origin"] == "trial"]
        assert seen.interrupt() == 130
    held = (
        "every policy is kept from VM web-1, nothing is made and nothing pruned there: held: moving"
    )
    assert seen.told == [
        "web-1: snapshot one created by root",
        f"web-1: safety snapshot {safety} created by root",
        "web-1: reverted to snapshot one by root",
        "web-1: snapshot one deleted by root",
        f"db-1: trial snapshot {trial} created by root",
        "web-1: job 6 (create by-hand) failed by root: cannot snapshot VM web-1: it has a snapshot "
        "'by-hand' already; take another name",
        f"warning: {held}",
        f"over: {held}",
    ]
    assert seen.err == [START]


def test_watch_tells_runs_and_what_retention_deletes_and_for_which_policy(house: House) -> None:
    house.policy("hourly", HOURLY)
    client = house.start()
    names: list[str] = []
    with watching(house.address, "web-1") as seen:
        assert seen.err == [START.replace("all VMs", "VM web-1")]
        for count in range(1, 4):
            client.wait(client.call("RunPolicy", "hourly"))
            seen.says("policy hourly made", count)
            made = set(client.snapshots("web-1")) - {"by-hand", *names}
            names.append(made.pop())
            time.sleep(1.1)  # names have seconds
        seen.says("deleted")
        assert seen.interrupt() == 130
    runs = [
        line
        for name in names
        for line in (
            f"web-1: snapshot {name} created by root for policy hourly",
            f"web-1: policy hourly made snapshot {name}",
        )
    ]
    gone = f"web-1: snapshot {names[0]} deleted by root for policy hourly"
    assert seen.told == [*runs, gone]


def test_watch_json_has_what_the_bus_has(house: House) -> None:
    house.policy("all", EVERY)
    client = house.start()
    client.rows("ListDomains")
    client.listen()
    with watching(house.address, "--json") as seen:
        cli(house, "create", "web-1", "one", *BY_HAND)
        cli(house, "policy", "run", "all", "db-1")
        cli(house, "hold", "db-1")
        seen.says("ProblemRaised")
        assert (seen.interrupt(), seen.err) == (130, [])
    events = seen.events
    signals = [each for each in heard(client) if each[0] == paths.ROOT]
    expected = [
        {"Event": member, **body[2]}
        for _, member, body in signals
        if member.startswith(("Snapshot", "Policy", "Problem"))
    ]
    added = {"Time", "Path", "DomainUUID", "By", "OwnerUID"}
    for event, wanted in zip(events, expected, strict=True):
        assert {key: event[key] for key in wanted} == wanted
        assert event.keys() - wanted.keys() <= {*added, "Policy"}
        assert abs(event["Time"] - time.time()) < 60
    first = events[0]
    assert (first["Event"], first["DomainUUID"]) == ("SnapshotCreated", WEB1)
    assert first["Path"] == paths.snapshot(WEB1, "one")
    assert (first["By"], first["OwnerUID"], first["Policy"]) == ("root", 0, "")
    assert {event["Event"] for event in events} == {
        "SnapshotCreated",
        "PolicyRunFinished",
        "ProblemRaised",
    }


def test_watch_names_alone_with_quiet(running: House) -> None:
    running.client.rows("ListDomains")
    with watching(running.address, "-q", read=False) as seen:
        seen.read()
        deadline = time.monotonic() + 20
        while not seen.out and time.monotonic() < deadline:
            cli(running, "create", "web-1", "one", *BY_HAND)
            cli(running, "delete", "web-1", "one", "--yes")
        assert seen.interrupt() == 130
    assert set(seen.out) == {"web-1/one"} and seen.err == []


def test_watch_of_one_vm_is_told_of_it_and_of_what_is_of_no_vm(played: Played) -> None:
    row = {"Name": "one", "Origin": "manual", "Created": 1, "Job": "/"}
    with watching(played.address, WEB1) as seen:
        for uuid, vm in ((DB1, "db-1"), (WEB1, "web-1")):
            path = paths.snapshot(uuid, "one")
            played.tell("SnapshotDeleted", uuid, path, detail={**row, "DomainName": vm})
        played.problem("ProblemRaised", problem("a", "of db-1", DB1))
        played.problem("ProblemRaised", problem("b", "no connection to libvirt"))
        seen.says("libvirt")
        assert seen.interrupt() == 130
    assert seen.told == [
        "web-1: snapshot one deleted by others",
        "warning: no connection to libvirt",
    ]


# --- problems


def test_watch_problems_tells_those_that_there_are_first_and_nothing_else(house: House) -> None:
    house.policy("hourly", HOURLY)
    client = house.start()
    (row,) = client.rows("ListProblems")
    with watching(house.address, "--problems") as seen:
        seen.says("db-1")
        cli(house, "create", "web-1", "one", *BY_HAND)
        cli(house, "hold", "web-1", "--reason", "moving")
        seen.says("moving")
        assert seen.interrupt() == 130
    first, second = seen.told
    assert first == f"warning: {row['Message']}"
    assert second.startswith("warning: every policy is kept from VM web-1")
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["Since"]))
    assert seen.out[0].startswith(since)


# --- the daemon that comes and goes


def test_watch_goes_on_when_the_daemon_is_back_and_tells_no_problem_twice(house: House) -> None:
    house.policy("hourly", HOURLY)
    house.start()
    with watching(house.address, "--problems") as seen:
        seen.says("db-1")
        cli(house, "hold", "web-1", "--reason", "moving")
        seen.says("moving")
        house.again()
        seen.notes("running again")
        cli(house, "unhold", "web-1")
        seen.says("over: ")
        house.stop()
        seen.notes("is not running", 2)
        house.policy("all", EVERY)
        house.start()
        seen.says("over: ", 2)
        assert seen.interrupt() == 130
    assert [line.partition(": ")[0] for line in seen.told] == ["warning", "warning", "over", "over"]
    assert "db-1" in seen.told[0] and "db-1" in seen.told[3]
    history = f"virtsnap --bus-address {house.address} history"
    back = f"virtsnapd is running again; {history} has what was done"
    assert [TIME.sub("", line) for line in seen.err[1:]] == [GONE, back, GONE, back]


def test_watch_tells_what_is_over_before_a_new_daemon_has_told_of_it(house: House) -> None:
    client = house.start()
    with watching(house.address, "--problems") as seen:
        seen.says("no policy is in force")
        for time_ in range(1, 4):
            client.call("Hold", "web-1", "", 0, "moving")
            seen.says("warning: every policy is kept", time_)
            house.again()
            seen.notes("running again", time_)
            client.call("Unhold", "web-1", "")  # such a one raises no signal
            seen.says("over: every policy is kept", time_)
        assert seen.interrupt() == 130
    assert len(seen.told) == 7


def test_watch_compares_again_once_a_new_daemon_has_looked_at_its_problems(played: Played) -> None:
    played.problems = [problem("a", "first"), problem("b", "second")]
    with watching(played.address, "--problems") as seen:
        seen.says("second")
        played.close()
        seen.notes("is not running")
        again = Played(played.address, played.problems)
        seen.notes("running again")
        again.problems = [problem("b", "second"), problem("c", "third")]
        again.changed(Health="warning", NextRun=0)
        seen.says("over: first")
        seen.says("third")
        again.problems = [problem("b", "second")]
        again.changed(Health="warning", NextRun=0)
        seen.says("over: third")
        assert seen.interrupt() == 130
        again.close()
    assert len(seen.told) == 5


def test_watch_compares_again_in_a_while_where_a_new_daemon_tells_nothing(played: Played) -> None:
    played.problems = [problem("a", "first")]
    with watching(played.address, "--problems") as seen:
        seen.says("first")
        played.close()
        again = Played(played.address, played.problems)
        seen.notes("running again")
        again.problems = []
        seen.says("over: first")
        assert seen.interrupt() == 130
        again.close()


def test_watch_never_starts_a_daemon_that_was_stopped(tmp_path: Path) -> None:
    services = tmp_path / "services"
    services.mkdir()
    told = tmp_path / "started"
    (services / "org.virtsnap.Snapd1.service").write_text(
        f"[D-BUS Service]\nName=org.virtsnap.Snapd1\nExec=/bin/sh -c 'touch {told}; exit 1'\n"
    )
    with private_bus(services=services) as bus:
        played = Played(bus.address)
        played.problems = [problem("a", "first")]
        with watching(bus.address, "--problems", "--json") as seen:
            seen.says("first")
            played.close()
            seen.says("DaemonGone")
            time.sleep(1)
            assert not told.exists()
            again = Played(bus.address, [problem("b", "second")])
            seen.says("ProblemCleared")
            seen.says("second")
            assert seen.interrupt() == 130
            again.close()
        assert [event["Event"] for event in seen.events] == [
            "ProblemRaised",
            "DaemonGone",
            "DaemonBack",
            "ProblemCleared",
            "ProblemRaised",
        ]
        virtsnap(bus.address, "list")
        assert told.exists()  # so it could have been


def test_watch_clears_nothing_while_vms_are_still_being_read(played: Played) -> None:
    played.problems = [problem("a", "first")]
    with watching(played.address, "--problems") as seen:
        seen.says("first")
        played.close()
        seen.notes("is not running")
        again = Played(played.address, [problem("b", "not all is read")], whole=False)
        seen.says("not all is read")
        again.problems = [problem("a", "first")]
        again.whole = True
        again.changed(Loading=False, Connected=True)
        seen.says("over: not all is read")
        assert seen.interrupt() == 130
        again.close()
    assert seen.told == ["warning: first", "warning: not all is read", "over: not all is read"]


def test_watch_without_a_daemon_fails_as_every_command(bus: PrivateBus) -> None:
    done = virtsnap(bus.address, "watch")
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith("virtsnap: virtsnapd is not running on that bus")


def test_watch_of_a_vm_that_there_is_not_is_not_found(running: House) -> None:
    done = cli(running, "watch", "nope")
    assert (done.code, done.out) == (3, "") and "nope" in done.err


def test_watch_ends_when_the_bus_does(played: Played, bus: PrivateBus) -> None:
    with watching(bus.address) as seen:
        bus.process.kill()
        assert seen.end() == 6
    assert "the bus is gone" in seen.err[-1]


# --- whoever reads


def test_watch_on_a_terminal_ends_with_ctrl_c(running: House) -> None:
    with terminal(running.address, "watch") as seen:
        seen.until(START)
        seen.type("\x03")
        assert seen.end() == 130
    assert seen.screen.replace("^C", "").strip() == START


def test_watch_ends_quietly_when_nobody_reads_any_more_though_nothing_happens(
    running: House,
) -> None:
    with subprocess.Popen(
        command(running.address, "watch"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        assert process.stderr.readline().decode().startswith("watching")
        process.stdout.close()
        assert (process.wait(20), process.stderr.read()) == (141, b"")


def test_watch_loses_nothing_of_what_is_read_late(played: Played) -> None:
    count = 3000
    with watching(played.address, "--problems", read=False) as seen:
        assert seen.process.stderr
        seen.process.stderr.readline()
        time.sleep(0.5)
        for number in range(count):
            played.problem("ProblemRaised", problem(str(number), f"{number} " + "x" * 200))
        time.sleep(2)
        assert seen.process.poll() is None
        seen.read()
        seen.says("warning", count)
        assert seen.interrupt() == 130
    assert [line.split()[1] for line in seen.told] == [str(number) for number in range(count)]


def test_watch_that_nobody_reads_can_be_interrupted(played: Played) -> None:
    with watching(played.address, "--problems", read=False) as seen:
        assert seen.process.stderr
        seen.process.stderr.readline()
        for number in range(1000):
            played.problem("ProblemRaised", problem(str(number), "x" * 200))
        time.sleep(2)
        assert seen.interrupt() == 130


def test_watch_writes_to_a_file_as_well(played: Played, tmp_path: Path) -> None:
    path = tmp_path / "out"
    played.problems = [problem("a", "one of them")]
    with path.open("wb") as file:
        process = subprocess.Popen(
            command(played.address, "watch", "--problems"), stdout=file, stderr=file
        )
    deadline = time.monotonic() + 20
    while "one of them" not in path.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(2)
    assert process.wait(20) == 130
    assert path.read_text().splitlines()[1].endswith("  warning: one of them")
