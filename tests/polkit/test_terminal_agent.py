"""virtsnap on a terminal without a desktop: polkit's own agent asks for root's password there."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.driver.virtsnap import Terminal
from tests.polkit.host import PASSWORD, Host

WHO = "asked"
DELETE = ("delete", "web-2", "mine", "--yes")
ASKS = "Authentication is required to delete snapshots of VM web-2: mine"


def agents(host: Host) -> list[str]:
    """The agents for terminals that this user has running."""
    found = subprocess.run(
        ["pgrep", "-x", "-u", str(host.uid(WHO)), "pkttyagent"], capture_output=True, text=True
    )
    return found.stdout.split()


def until(what: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def command(host: Host, *arguments: str) -> list[str]:
    """virtsnap by that user, from the copy of the checkout that he can read."""
    uid = host.uid(WHO)
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*user, "/usr/bin/python3", "-B", "-m", "snapd.cli", *arguments]


def environment(path: str = "/usr/bin:/bin") -> Mapping[str, str]:
    return {"PATH": path, "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


@contextmanager
def terminal(host: Host, *arguments: str, path: str = "/usr/bin:/bin") -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["/usr/bin/setsid", "--ctty", *command(host, *arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=host.daemon.cwd,
        env=environment(path),
    )
    try:
        yield Terminal(master, process)
        # nobody is left to see to it where all are killed; a shell does it then
        assert echoes(slave) or process.wait(10) == -signal.SIGKILL
    finally:
        os.close(slave)
        os.close(master)
        if process.poll() is None:
            process.kill()
        process.wait(10)


def echoes(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def end(seen: Terminal) -> int:
    """Its exit code; the terminal stays open at our end."""
    code = seen.process.wait(30)
    while seen._read(0.2):
        pass
    return code


def test_password_that_is_typed_lets_it_through(host: Host, snapshot: str) -> None:
    with terminal(host, *DELETE) as seen:
        seen.until(ASKS)
        seen.until_secret("Password: ")
        assert len(agents(host)) == 1
        seen.type(f"{PASSWORD}\n")
        seen.until("snapshot mine is deleted")
        assert end(seen) == 0
    assert host.root.snapshots("web-2") == {}
    assert PASSWORD not in seen.screen
    assert agents(host) == []


def test_wrong_password_is_no(host: Host, snapshot: str) -> None:
    with terminal(host, *DELETE) as seen:
        seen.until_secret("Password: ")
        seen.type("guess\n")
        seen.until("the password was wrong")
        assert end(seen) == 5
    assert snapshot in host.root.snapshots("web-2")
    assert agents(host) == []


def test_interrupted_at_the_question_does_nothing_and_leaves_the_terminal_well(
    host: Host, snapshot: str
) -> None:
    with terminal(host, *DELETE) as seen:
        seen.until_secret("Password: ")
        seen.type("\x03")
        assert end(seen) == 130
        until(lambda: agents(host) == [])
    assert snapshot in host.root.snapshots("web-2")


def test_killed_takes_its_agent_along(host: Host, snapshot: str) -> None:
    with terminal(host, *DELETE) as seen:
        seen.until_secret("Password: ")
        (agent,) = agents(host)
        seen.process.kill()
        until(lambda: agents(host) == [])
    assert not Path("/proc", agent).exists()
    assert snapshot in host.root.snapshots("web-2")


def test_no_ask_password_fails_at_once_and_says_who_may(host: Host, snapshot: str) -> None:
    with terminal(host, *DELETE, "--no-ask-password") as seen:
        seen.until("without --no-ask-password")
        assert end(seen) == 5
    assert "Password" not in seen.screen and "sudo virtsnap" in seen.screen
    assert snapshot in host.root.snapshots("web-2")


def test_agent_that_is_not_installed_leaves_the_error_and_who_may(
    host: Host, snapshot: str, tmp_path: Path
) -> None:
    folder = host.scratch / "path"
    folder.mkdir(mode=0o755)
    (folder / "setpriv").symlink_to(str(shutil.which("setpriv")))
    with terminal(host, *DELETE, path=str(folder)) as seen:
        seen.until("no agent is there to ask for it")
        seen.until("pkttyagent")
        assert end(seen) == 5
    assert snapshot in host.root.snapshots("web-2")


def test_without_a_terminal_nobody_is_asked(host: Host, snapshot: str) -> None:
    done = subprocess.run(
        ["setsid", *command(host, *DELETE)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=host.daemon.cwd,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, "")
    first, *ways = done.stderr.splitlines()
    assert first.startswith("virtsnap: ") and "no agent is there to ask for it" in first
    assert any("sudo virtsnap" in way for way in ways)


@pytest.mark.parametrize("arguments", [["list"], ["status"], ["preview", "web-1"]])
def test_what_only_reads_starts_no_agent(host: Host, arguments: list[str]) -> None:
    folder = host.scratch / f"spy-{arguments[0]}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    spy = folder / "pkttyagent"
    spy.write_text(f"#!/bin/sh\ntouch {folder}/started\n")
    spy.chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    with terminal(host, *arguments, path=path) as seen:
        assert end(seen) == 0
    assert not (folder / "started").exists()
    with terminal(host, "create", "web-1", "never", path=path) as seen:
        assert end(seen) == 5
    assert (folder / "started").exists()
