"""try, accept, discard, with: what is typed, which trial is meant, how a command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snapd.cli.actions.trials import pick
from snapd.cli.child import cannot_run, run
from snapd.cli.output.screen import Screen
from snapd.cli.parser import parse
from snapd.errors import InvalidArgument, NoSuchSnapshot

AS_USUAL = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
"""Whoever runs the tests may have us ignore it, as nohup does."""


def trial(name: str, created: int = 1_700_000_000) -> dict[str, Any]:
    return {"Name": name, "Created": created, "DomainName": "web-1", "DomainUUID": "u"}


def picked(*trials: dict[str, Any], latest: bool = False) -> str:
    row = pick(trials, latest=latest, vm="web-1", screen=Screen(json=False))
    return str(row["Name"])


# --- which trial


def test_pick_the_only_trial_is_meant() -> None:
    assert picked(trial("one")) == "one"
    assert picked(trial("one"), latest=True) == "one"


def test_pick_none_says_how_to_begin_one() -> None:
    with pytest.raises(NoSuchSnapshot, match="virtsnap try web-1"):
        picked()


def test_pick_several_lists_them_and_latest_takes_the_newest() -> None:
    both = [trial("old", 1_700_000_000), trial("new", 1_700_000_100)]
    with pytest.raises(InvalidArgument, match=r"2 trials; .*--latest\nnew \(.*\)\nold \("):
        picked(*both)
    assert picked(*both, latest=True) == "new"


def test_pick_latest_of_one_second_is_not_guessed() -> None:
    with pytest.raises(InvalidArgument, match=r"of the same second; .*\na \(.*\nb \("):
        picked(trial("a", 5), trial("b", 5), trial("c", 4), latest=True)


# --- what is typed


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("with web-1 -- make", "make"),
        ("with web-1 -- make --json -q --keep --memory", "make --json -q --keep --memory"),
        ("with web-1 -- make -- --utc", "make -- --utc"),
        ("with web-1 -- -- x", "-- x"),
        ("with web-1 --memory -- no --memory no", "no --memory no"),
        ("--session with --keep web-1 --name x -- with b -- make", "with b -- make"),
        ("--bus-address with with web-1 -- a", "a"),
        ("with web-1", ""),
        ("with web-1 --", ""),
    ],
)
def test_parse_with_leaves_all_behind_the_dashes_to_the_command(typed: str, command: str) -> None:
    args = parse(typed.split())
    assert args.command == command.split()
    assert (args.vm, args.json, args.quiet, args.utc) == ("web-1", False, False, False)


def test_parse_with_takes_its_own_options_before_the_dashes() -> None:
    typed = "with --json web-1 --memory --keep --name n -- make --no-memory"
    args = parse(typed.split())
    assert (args.json, args.memory, args.keep, args.snapshot) == (True, "yes", True, "n")


def test_parse_with_command_of_any_bytes_is_taken_as_it_is() -> None:
    assert parse(["with", "web-1", "--", "echo", "\udcff"]).command == ["echo", "\udcff"]


@pytest.mark.parametrize("typed", ["with", "with -- make", "with web-1 make", "with a b -- make"])
def test_parse_with_without_vm_or_dashes_is_invalid_argument(typed: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(typed.split())


# --- a command


@contextmanager
def shell(
    script: str, first: str = "", words: Sequence[str] = ("sh", "-c")
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs a shell script as `with` would run it, and prints how that ended.
    first: Python that it runs before; words: those before the script."""
    code = (
        f"import os, signal, sys\n{AS_USUAL}\n{first}\nfrom snapd.cli.child import run\n"
        f"ended = run({[*words]} + sys.argv[1:], os.environ)\n"
        "print(ended.status, ended.signal, ended.told, ended)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes]) -> str:
    return process.communicate(timeout=20)[0].decode()


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("exit 0", "0 0 False failed with exit status 0"),
        ("exit 3", "3 0 False failed with exit status 3"),
        ("kill -KILL $$", "137 9 False was ended by signal 9 (SIGKILL)"),
        (
            "(sleep 0.3; kill -CONT $$) & kill -STOP $$; exit 4",
            "4 0 False failed with exit status 4",
        ),
    ],
)
def test_run_status_is_as_a_shell_has_it(script: str, ended: str) -> None:
    with shell(script) as process:
        assert said(process) == f"{ended}\n"


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_run_signal_of_a_process_is_passed_on_and_the_command_waited_for(name: str) -> None:
    script = (
        f"trap 'echo caught; sleep 0.3; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    )
    with shell(script) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert said(process) == "caught\n9 0 True failed with exit status 9\n"


def test_run_command_has_the_signals_that_we_had() -> None:
    """Python ignores SIGPIPE, and we hold others back: a command must find neither."""
    # a shell would clear its mask by itself
    with shell("/proc/self/status", words=("grep", "-E", "^Sig(Blk|Ign)")) as process:
        found = said(process).split()
    assert int(found[1], 16) == 0
    assert not int(found[3], 16) & 1 << (signal.SIGPIPE - 1)


def test_run_status_comes_also_where_our_parent_ignored_children() -> None:
    first = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    with shell("exit 3", first) as process:
        assert said(process) == "3 0 False failed with exit status 3\n"


@pytest.mark.parametrize(
    ("first", "name", "told"),
    [
        ("", "TERM", "interrupted [15]"),
        ("", "HUP", "interrupted [1]"),
        ("", "INT", "interrupted []"),
        # as after nohup, or of a job that a script has begun in the background
        ("signal.signal(signal.SIGHUP, signal.SIG_IGN)", "HUP", "undisturbed []"),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "INT", "undisturbed []"),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "TERM", "interrupted [15]"),
    ],
)
def test_interrupts_signals_end_our_work_unless_they_are_ignored(
    first: str, name: str, told: str
) -> None:
    code = (
        f"import os, signal, time\n{AS_USUAL}\n{first}\nfrom snapd.cli.child import interrupts\n"
        "with interrupts() as came:\n"
        f"  try: os.kill(os.getpid(), signal.SIG{name}); time.sleep(0.1); how = 'undisturbed'\n"
        "  except KeyboardInterrupt: how = 'interrupted'\n"
        "print(how, came)"
    )
    top = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=top, check=False)
    assert (done.stdout.decode().strip(), done.stderr) == (told, b"")


def test_run_what_is_no_program_says_so(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    assert (cannot_run(str(text)), run([str(text)], {}).status) == (126, 126)
    text.chmod(0o755)
    assert cannot_run(str(text)) == 0
    ended = run([str(text)], os.environ)
    assert (ended.status, ended.error) == (126, "Exec format error")
    assert (cannot_run("/no/such"), run(["/no/such"], {}).status) == (127, 127)
    assert cannot_run("no-such-command-of-this-name") == 127
    assert cannot_run("sh") == 0
