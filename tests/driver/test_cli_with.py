"""with: a command of this host between a snapshot and its end, by process and by terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bus import PrivateBus
from tests.client import TOP
from tests.driver.house import House
from tests.driver.test_cli_jobs import Play
from tests.driver.test_cli_previews import names, state
from tests.driver.virtsnap import cli, command, terminal, virtsnap
from tests.schema import documents

QUICK = ["--no-memory", "--no-quiesce"]


def sh(house: House, script: str, *options: str) -> Any:
    return cli(house, "with", "web-1", *QUICK, *options, "--", "sh", "-c", script)


def typed(house: House, *words: str) -> str:
    return " ".join(["virtsnap --bus-address", house.address, *words])


def trial(house: House) -> str:
    """The snapshot that is there for the command."""
    rows = house.client.snapshots("web-1").items()
    (found,) = (name for name, row in rows if row["Origin"] == "trial")
    return found


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def started(
    house: House, script: str, ready: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """It, with a script that makes the file when it is ready."""
    process = subprocess.Popen(
        command(house.address, "with", "web-1", *QUICK, *options, "--", "sh", "-c", script),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=TOP,
    )
    with process:
        try:
            until(ready.exists)
            yield process
        finally:
            process.kill()


# --- the command


def test_with_command_that_succeeds_leaves_no_snapshot(running: House) -> None:
    done = sh(running, "echo out; echo err >&2; cat")
    assert (done.code, done.out) == (0, "out\n")
    first, err, last = done.err.splitlines()
    name = first.split()[3]
    assert first.startswith("VM web-1: snapshot trial-")
    assert first.endswith(" is made, internal, crash-consistent")
    assert (err, last) == ("err", f"VM web-1: snapshot {name} is deleted")
    assert names(running) == ["by-hand"]


def test_with_snapshot_is_a_trial_while_the_command_runs_and_named_to_it(running: House) -> None:
    listing = " ".join(command(running.address, "list", "$VIRTSNAP_VM", "--json"))
    done = sh(running, f'echo "$VIRTSNAP_SNAPSHOT"; {listing}', "--name", "before")
    name, _, rest = done.out.partition("\n")
    row = {one["Name"]: one for one in documents(rest)[0]["rows"]}["before"]
    assert (done.code, name) == (0, "before")
    assert (row["DomainName"], row["Origin"], row["Policies"]) == ("web-1", "trial", [])
    assert row["Description"] == "before sh"  # its arguments may be secret


def test_with_standard_input_and_output_are_the_commands(running: House) -> None:
    data = bytes(range(256)) * 1000
    done = subprocess.run(
        command(running.address, "with", "web-1", *QUICK, "--", "cat"),
        input=data,
        capture_output=True,
        cwd=TOP,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, data)


def test_with_options_behind_the_dashes_are_the_commands(running: House) -> None:
    words = ["--json", "-q", "--keep", "--memory", "--", "--utc", "-0", "--name", "x"]
    done = cli(running, "with", "web-1", *QUICK, "--", "printf", "%s\n", *words)
    assert (done.code, done.out.splitlines()) == (0, words)
    assert names(running) == ["by-hand"]


@pytest.mark.parametrize(
    ("script", "code", "how"),
    [
        ("exit 3", 3, "failed with exit status 3"),
        ("exit 125", 125, "failed with exit status 125"),
        ("exit 127", 127, "failed with exit status 127"),
        ("kill -9 $$", 137, "was ended by signal 9 (SIGKILL)"),
    ],
)
def test_with_command_that_fails_keeps_its_status_and_the_snapshot(
    script: str, code: int, how: str, running: House
) -> None:
    done = sh(running, script)
    name = trial(running)
    assert (done.code, done.out) == (code, "")
    _made, what, back, keep = done.err.splitlines()
    assert what == f"virtsnap: sh {how}; VM web-1 as it was before is in snapshot {name}"
    assert back.endswith(f"to go back to it: {typed(running, 'discard', 'web-1', name)}")
    assert keep.endswith(f"is now: {typed(running, 'accept', 'web-1', name)}")


def test_with_ways_that_it_prints_work(running: House) -> None:
    for verb, there in (("accept", 1), ("discard", 2)):
        done = sh(running, "exit 1")
        (way,) = (line for line in done.err.splitlines() if f" {verb} " in line)
        assert cli(running, *way.split("virtsnap --bus-address ")[1].split()[1:]).code == 0
        origins = [row["Origin"] for row in running.client.snapshots("web-1").values()]
        assert "trial" not in origins and len(origins) == there


def test_with_keep_keeps_it_and_says_how_it_goes(running: House) -> None:
    done = sh(running, "true", "--keep", "--name", "before")
    assert done.code == 0
    assert "VM web-1: snapshot before is kept\n" in done.err
    assert typed(running, "accept", "web-1", "before") in done.err
    assert trial(running) == "before"


# --- what cannot be run


@pytest.mark.parametrize(
    ("word", "code"), [("no-such-command-of-this-name", 127), ("/etc/passwd", 126), ("/etc", 126)]
)
def test_with_what_cannot_be_run_takes_no_snapshot(word: str, code: int, running: House) -> None:
    done = cli(running, "with", "web-1", "--", word)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(f"virtsnap: {word} is not ")
    assert "no snapshot was taken" in done.err
    assert running.client.rows("ListHistory", "web-1") == []


def test_with_what_turns_out_to_be_no_program_leaves_no_snapshot(
    running: House, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    done = cli(running, "with", "web-1", "--", str(text))
    assert done.code == 126
    assert f"virtsnap: {text} cannot be run: Exec format error" in done.err
    assert names(running) == ["by-hand"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nope", "--", "true"], "NoSuchDomain"),
        (["web-1", "--name", "by-hand", "--", "true"], "AlreadyExists"),
        (["web-1", "--name", "a b", "--", "true"], "InvalidName"),
        (["web-1", "--"], "InvalidArgument"),
        (["web-1", "true"], "InvalidArgument"),
        (["web-1", "--nope", "--", "true"], "InvalidArgument"),
        (["--", "true"], "InvalidArgument"),
    ],
)
def test_with_own_failure_runs_nothing_and_has_125(
    words: list[str], error: str, running: House, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    words = [str(ran) if word == "true" else word for word in words]
    ran.write_text(f"#!/bin/sh\ntouch {ran}.it\n")
    ran.chmod(0o755)
    done = cli(running, "--json", "with", *words)
    assert (done.code, done.error["error"]) == (125, f"org.virtsnap.Error.{error}")
    assert not Path(f"{ran}.it").exists() and names(running) == ["by-hand"]


def test_with_daemon_not_running_runs_nothing(bus: PrivateBus) -> None:
    done = virtsnap(bus.address, "with", "web-1", "--", "echo", "ran")
    assert (done.code, done.out) == (125, "")
    assert "virtsnapd is not running" in done.err


# --- what becomes of the snapshot


def test_with_snapshot_that_cannot_be_deleted_is_told_and_the_status_stays(running: House) -> None:
    script = " ".join(command(running.address, "pin", "web-1", "$VIRTSNAP_SNAPSHOT"))
    done = sh(running, script)
    name = trial(running)
    assert done.code == 0
    assert f"VM web-1: snapshot {name} is still there" in done.err
    assert typed(running, "accept", "web-1", name) in done.err


def test_with_daemon_gone_meanwhile_says_where_the_snapshot_is(
    running: House, tmp_path: Path
) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    script = f"touch {ready}; while [ ! -e {go} ]; do sleep 0.1; done"
    with started(running, script, ready) as process:
        name = trial(running)
        running.stop()
        go.touch()
        _out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "virtsnapd is not running" in err.decode()
    assert f"snapshot {name} is still there" in err.decode()
    assert typed(running, "accept", "web-1", name) in err.decode()


def test_with_snapshot_that_the_command_ended_itself_is_no_failure(running: House) -> None:
    done = sh(running, " ".join(command(running.address, "accept", "web-1")))
    assert done.code == 0 and "has gone meanwhile" in done.err


@pytest.mark.parametrize(
    ("script", "options", "status", "outcome"),
    [("true", [], 0, "deleted"), ("true", ["--keep"], 0, "kept"), ("exit 7", [], 7, "kept")],
)
def test_with_json_is_the_last_line_of_standard_error(
    script: str, options: list[str], status: int, outcome: str, running: House
) -> None:
    done = sh(running, f"echo out; echo err >&2; {script}", "--json", "--name", "n", *options)
    assert (done.code, done.out) == (status, "out\n")
    err, last = done.err.splitlines()
    (document,) = documents(last)
    assert err == "err" and document.pop("Created") > 1_700_000_000
    assert document == {
        "format": "with/1",
        "DomainName": "web-1",
        "DomainUUID": "22222222-2222-4222-8222-222222222201",
        "SnapshotName": "n",
        "Status": status,
        "Outcome": outcome,
    }


def test_with_nobody_who_reads_what_we_say_keeps_the_status(running: House) -> None:
    read, write = os.pipe()
    os.close(read)
    words = ["with", "web-1", *QUICK, "--", "sh", "-c", "echo ran; exit 5"]
    try:
        done = subprocess.run(
            command(running.address, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=write,
            cwd=TOP,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stdout) == (5, b"ran\n")


# --- signals


def test_with_terminated_passes_it_on_waits_and_says_what_is_there(
    running: House, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    script = (
        f"trap 'sleep 0.5; echo cleaned; exit 4' TERM; touch {ready}; while :; do sleep 0.1; done"
    )
    with started(running, script, ready) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (4, b"cleaned\n")
    assert f"is in snapshot {trial(running)}" in err.decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_with_interrupted_before_the_command_says_how_the_snapshot_goes(
    number: signal.Signals, code: int, bus: PrivateBus, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    play = Play(bus.address)
    try:
        process = subprocess.Popen(
            command(bus.address, "with", "web-1", "--name", "n", "--", "touch", str(ran)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=TOP,
        )
        with process:
            until(lambda: play.count("Wait") > 0)
            process.send_signal(number)
            err = process.communicate(timeout=20)[1].decode()
        assert play.count("Cancel") == 0
    finally:
        play.close()
    assert (process.returncode, ran.exists()) == (code, False)
    first, _wait, last = err.splitlines()
    assert first.startswith("virtsnap: job 7 goes on")
    way = f"virtsnap --bus-address {bus.address} accept web-1 n"
    made = "to delete the snapshot, if it is made all the same"
    assert last == f"virtsnap: touch was not run; {made}: {way}"


# --- on a terminal


def in_terminal(house: House, script: str, *options: str) -> Any:
    words = ["with", "web-1", *QUICK, *options, "--", "sh", "-c", script]
    return terminal(house.address, *words)


@pytest.mark.parametrize("answer", ["y\n", "n\n", "\n", "\x03"])
def test_with_failed_on_a_terminal_asks_whether_to_go_back(answer: str, running: House) -> None:
    with in_terminal(running, "exit 3") as seen:
        seen.until(" and delete that? [y/N]")
        assert "sh failed with exit status 3" in seen.screen
        assert "lost: what was written to disk vda" in seen.screen
        seen.type(answer)
        assert seen.end() == 3
    origins = [row["Origin"] for row in running.client.snapshots("web-1").values()]
    if answer == "y\n":
        assert "VM web-1 is back at trial-" in seen.screen
        assert origins == ["foreign", "safety"]
    else:
        assert typed(running, "discard", "web-1", trial(running)) in seen.screen.replace("\r\n", "")
        assert origins == ["foreign", "trial"]


def test_with_terminated_on_a_terminal_does_not_ask(running: House) -> None:
    with in_terminal(
        running, "trap 'exit 4' TERM; kill $PPID; while :; do sleep 0.1; done"
    ) as seen:
        assert seen.end() == 4
    assert "[y/N]" not in seen.screen
    assert trial(running) in seen.screen


def test_with_typed_ahead_is_no_answer(running: House, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with in_terminal(
        running, f"echo wait; while [ ! -e {go} ]; do sleep 0.1; done; exit 1"
    ) as seen:
        seen.until("wait")
        seen.type("y\n")
        go.touch()
        seen.until("[y/N]")
        seen.type("n\n")
        assert seen.end() == 1
    assert trial(running)


def test_with_ctrl_c_is_the_commands_and_is_waited_for(running: House) -> None:
    script = "trap 'sleep 0.5; echo cleaned; exit 0' INT; echo ready; while :; do sleep 0.1; done"
    with in_terminal(running, script) as seen:
        seen.until("ready")
        seen.type("\x03")
        assert seen.end() == 0
    assert "cleaned" in seen.screen and "is deleted" in seen.screen
    assert names(running) == ["by-hand"]


def test_with_ctrl_c_that_ends_the_command_offers_the_way_back(running: House) -> None:
    with in_terminal(running, "echo ready; exec sleep 60") as seen:
        seen.until("ready")
        seen.type("\x03")
        seen.until("[y/N]")
        assert "was ended by signal 2 (SIGINT)" in seen.screen
        seen.type("n\n")
        assert seen.end() == 130


def test_with_terminal_that_goes_away_keeps_the_snapshot(running: House, tmp_path: Path) -> None:
    ready, left = tmp_path / "ready", tmp_path / "left"
    script = f"trap 'touch {left}; exit 1' HUP; touch {ready}; while :; do sleep 0.1; done"
    with in_terminal(running, script):
        until(ready.exists)
    until(left.exists)
    assert trial(running)
    assert state(running) == "running"
