"""README's tour, as a newcomer follows it: every line, in its order, in bash on a terminal."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import TOP
from tests.driver.house import House
from tests.driver.virtsnap import Terminal

README = (TOP / "README.md").read_text()
QUESTION = "[y/N] "
CTRL_C = "\x03"
PROGRAMS = {
    "virtsnap": 'PYTHONPATH={top} exec {python} -m snapd.cli --bus-address {address} "$@"',
    # virtsnap of another host is this one; what the tour has a guest do is not done
    "ssh": '[ "$1" != -t ] || shift\nshift\ncase $1 in virtsnap) exec "$@" ;; esac',
    "editor": "sed -i 's/^last = 3/last = 5/' \"$1\"",
}
SAYS = {
    "virtsnap": "0 of 3 VMs under 0 policies",
    "virtsnap policy enable nightly": "policy nightly is in force",
    "virtsnap policy run nightly": "db-1   made",
    "virtsnap list": "nightly-",
    "virtsnap list web-1 --tree": "● nightly-",
    "virtsnap revert web-1 before-upgrade --preview": "lost: what was written",
    "virtsnap revert web-1 before-upgrade": "VM web-1 is back at before-upgrade",
    "virtsnap undo web-1": "VM web-1 is back at safety-",
    "virtsnap revert web-1 --latest --policy nightly": "VM web-1 is back at nightly-",
    "virtsnap revert web-1 --before 2h": "VM web-1 is back at by-hand",
    "virtsnap discard web-1": "VM web-1 is back at trial-",
    "virtsnap accept web-1": "trial new-kernel is deleted",
    "virtsnap delete web-1 'bug-*'": "snapshot bug-123 is deleted",
    "virtsnap policy edit nightly": "keep.last: 3 -> 5",
    "virtsnap policy list": "last 5, daily 14",
    "virtsnap jobs": "create  web-1  before-upgrade",
    "virtsnap history web-1": "before-upgrade",
    "virtsnap audit": "nothing is amiss",
    "virtsnap check": "VIRTSNAP OK",
    "virtsnap list web-1 -q": "before-upgrade\r\n",
    "ssh -t HOST virtsnap undo web-1": "VM web-1 is back at safety-",
    "virtsnap --session": "3 of 3 VMs under 1 policy",
}
"""What is to be read after a line."""


def lines() -> list[str]:
    """The commands of the tour, with what is said beside them."""
    tour = README.partition("\n## Using it\n")[2].partition("\n## ")[0]
    return re.findall(r"^    (\S.*)$", tour, re.MULTILINE)


@pytest.fixture
def environment(house: House, tmp_path: Path) -> dict[str, str]:
    """What finds virtsnap on the tests' bus."""
    home = tmp_path / "home"
    home.mkdir()
    parts = {"top": TOP, "python": sys.executable, "address": house.address}
    quoted = {key: shlex.quote(str(part)) for key, part in parts.items()}
    for name, text in PROGRAMS.items():
        path = home / name
        path.write_text(f"#!/bin/sh\n{text.format(**quoted)}\n")
        path.chmod(0o755)
    return {
        "PATH": f"{home}:/usr/bin:/bin",
        "HOME": str(home),
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "VISUAL": str(home / "editor"),
        "DBUS_SESSION_BUS_ADDRESS": house.address,
    }


def followed(line: str, env: dict[str, str]) -> tuple[int, str]:
    """Type it, answer with y whatever is asked; its exit code, and all that was on the screen."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, 200))
    process = subprocess.Popen(
        ["setsid", "--ctty", "bash", "-o", "pipefail", "-c", line],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=env["HOME"],
        env=env,
    )
    os.close(slave)
    try:
        seen = Terminal(master, process)
        if "Ctrl-C" in line:
            seen.until("watching")
            seen.type(CTRL_C)
        asked = 0
        while seen._read(60):
            if seen.screen.count(QUESTION) > asked:
                asked += 1
                seen.type("y\n")
        return seen.end(), seen.screen
    finally:
        process.kill()
        process.wait(10)
        os.close(master)


def wanted(line: str) -> int:
    """The exit code that the README gives it."""
    if found := re.search(r"# exit code (\d+):", line):
        return int(found[1])
    return 130 if "Ctrl-C" in line else 0


def typed(line: str) -> str:
    """It without the comment."""
    return re.sub(" +# .*", "", line)


def asks(line: str) -> bool:
    return bool(re.search(r"\basks?\b", line.removeprefix(typed(line))))


def cli_commands() -> Iterator[str]:
    from snapd.cli.parser import build

    for action in build()._actions:
        yield from getattr(action, "choices", None) or ()


@pytest.mark.timeout(600)
def test_tour_does_what_readme_says_line_by_line(house: House, environment: dict[str, str]) -> None:
    assert SAYS.keys() <= {typed(line) for line in lines()}
    house.start().rows("ListDomains")
    for line in lines():
        code, screen = followed(line, environment)
        assert code == wanted(line), f"{line}\n{screen}"
        assert SAYS.get(typed(line), "") in screen, f"{line}\n{screen}"
        if asks(line):
            assert QUESTION in screen, f"{line}\n{screen}"
    assert '"format": "list/1"' in (Path(environment["HOME"]) / "snapshots.json").read_text()
    assert "before-upgrade" in house.client.snapshots("web-1")
    assert house.client.rows("ListPolicies") == []


def test_tour_has_every_command_of_daily_use() -> None:
    tour = "\n".join(map(typed, lines()))
    left = {one for one in cli_commands() if f"virtsnap {one}" not in tour}
    assert left == {"status", "files"}  # status is what bare virtsnap does; files: a live backup's


def test_readme_links_to_what_is_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    assert any(path.endswith(".svg") for path in linked)
    assert [path for path in linked if not (TOP / path).exists()] == []
