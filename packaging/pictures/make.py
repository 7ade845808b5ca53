"""README's pictures of the terminal: `.venv/bin/python packaging/pictures/make.py`, from the top.

virtsnap as a process in a terminal of a fixed size, with a daemon in front of libvirt's test driver
(shown as qemu:///system) that has a clock of its own: made again, they differ where virtsnap does.
Needs what `packaging/check --setup` sets up.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import sleep

HERE = Path(__file__).parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP))

from rich._export_format import CONSOLE_SVG_FORMAT  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402

from tests.bus import private_bus  # noqa: E402
from tests.client import Client  # noqa: E402
from tests.driver.house import House  # noqa: E402
from tests.driver.virtsnap import Terminal  # noqa: E402

COLUMNS, LINES = 100, 40
QUESTION = "[y/N] "
WIPED = "\r\x1b[K"
FONT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""What the pictures are made of, without a font that would have to be fetched."""


class Stage:
    """A host whose clock stands still: VMs of the test driver, a daemon, and virtsnap, whose clock
    may be ahead: it says how long ago something was, and the daemon sees no jump."""

    def __init__(self, house: House, folder: Path) -> None:
        self._house, self._host, self._ours = house, folder / "daemon.clock", folder / "cli.clock"

    def start(self) -> Client:
        self._house.daemon.env |= _moved(self._host)
        return self._house.start()

    def at(self, time: str) -> None:
        """Have it be that time for both."""
        self.seen_at(time)
        self._host.write_text(f"{time}\n")
        sleep(1.2)  # it is read once a second

    def seen_at(self, time: str) -> None:
        """Have it be that time for virtsnap."""
        self._ours.write_text(f"{time}\n")

    def shows(self, *words: str) -> str:
        """What is on the terminal after that virtsnap command, asked questions answered by y."""
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (LINES, COLUMNS))
        process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "snapd.cli", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=TOP,
            env={**self._terminal(), **_moved(self._ours)},
        )
        os.close(slave)
        seen = Terminal(master, process)
        if words[0] == "revert":
            seen.until(QUESTION)
            seen.type("y\n")
        if seen.end():
            sys.exit(f"virtsnap {' '.join(words)}: {seen.screen}")
        os.close(master)
        return seen.screen

    def _terminal(self) -> Mapping[str, str]:
        """A person's, on a system whose bus is that of the daemon."""
        given = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        return {**given, "DBUS_SYSTEM_BUS_ADDRESS": self._house.address}


def _moved(clock: Path) -> dict[str, str]:
    """What has a process go by that clock."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # as in tests/driver/clock.py
        "NO_FAKE_STAT": "1",
        "TZ": "UTC",
    }


def picture(name: str, typed: str, screen: str) -> None:
    """Draw NAME.svg: what was typed, and what came of it."""
    # what was drawn over is not to be seen, as while a job is at work
    plain = re.sub(f"[^\n]*{re.escape(WIPED)}", "", screen.replace("\r\n", "\n")).rstrip()
    plain = re.sub(r"test://\S+", "qemu:///system", plain)
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
    )
    console.print(Text.assemble(("$ ", "bold green"), (typed, "bold")))
    console.print(Text.from_ansi(plain))
    path = HERE / f"{name}.svg"
    path.write_text(console.export_svg(title=typed, code_format=FONT, unique_id=name))
    print(path.relative_to(TOP))


def play(stage: Stage) -> None:
    """Some nights of three VMs, an upgrade, and the way back."""
    stage.at("2026-11-22 02:29:57")
    client = stage.start()
    stage.shows("policy", "enable", "nightly", "--yes")
    night(stage, client, "2026-11-22")
    stage.seen_at("2026-11-22 11:40:00")
    picture("status", "virtsnap", stage.shows("status"))
    night(stage, client, "2026-11-23")
    night(stage, client, "2026-11-24")
    stage.at("2026-11-24 09:10:00")
    why = ("--description", "before the upgrade to 13")
    stage.shows("create", "web-1", "before-upgrade", "--memory", *why)
    stage.at("2026-11-24 11:40:00")
    revert = ("revert", "web-1", "before-upgrade")
    picture("revert", f"virtsnap {' '.join(revert)}", stage.shows(*revert))
    stage.at("2026-11-24 12:05:00")
    what = ("--description", "nginx in place of apache")
    stage.shows("create", "web-1", "with-nginx", "--memory", *what)
    stage.seen_at("2026-11-24 12:30:00")
    tree = ("list", "web-1", "--tree", "--columns", "age,state,origin,policies,description")
    picture("tree", f"virtsnap {' '.join(tree)}", stage.shows(*tree))


def night(stage: Stage, client: Client, date: str) -> None:
    """Have it be that night, until the policy has run."""
    stage.at(f"{date} 02:30:02")
    name = f"nightly-{date.replace('-', '')}T023000Z"
    for vm in ("web-1", "web-2", "db-1"):
        client.until(f"{name} of {vm}", partial(made, client, vm, name), 90)


def made(client: Client, vm: str, name: str) -> bool:
    return name in client.snapshots(vm)


def main() -> None:
    with private_bus() as bus, tempfile.TemporaryDirectory() as folder:
        house = House(bus.address, Path(folder))
        try:
            play(Stage(house, Path(folder)))
        finally:
            house.close()


if __name__ == "__main__":
    main()
